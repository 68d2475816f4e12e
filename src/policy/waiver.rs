//! Parses a Waiver: from when to when it has an effect, and what it takes out. Pure.

use jiff::Timestamp;
use kube::ResourceExt;
use repave_api::Waiver;
use repave_core::{
    digest::Digest,
    waiver::{EXPIRING, HORIZON, Kind, Pattern, Suppression},
};

/// When a waiver has an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// From when, unless at once.
    pub not_before: Option<Timestamp>,
    /// Until when.
    pub expires: Timestamp,
}

/// How a waiver stands at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It begins later.
    NotYet,
    /// It has an effect.
    Active,
    /// It has an effect and ends within a week.
    ExpiringSoon,
    /// It is over.
    Expired,
}

/// It would last longer than an exception may: it has no effect at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected spec.expiresAt at most {} days after the creation of the Waiver ({latest}), found {found}: it has no effect. Write an earlier date; a longer exception is a new Waiver",
    HORIZON.as_hours() / 24
)]
pub struct TooLong {
    /// The latest that it may be.
    pub latest: Timestamp,
    /// What it is.
    pub found: Timestamp,
}

impl Period {
    /// How it stands.
    pub fn phase(&self, now: Timestamp) -> Phase {
        if now >= self.expires {
            Phase::Expired
        } else if self.not_before.is_some_and(|start| start > now) {
            Phase::NotYet
        } else if self.expires.duration_since(now) <= EXPIRING {
            Phase::ExpiringSoon
        } else {
            Phase::Active
        }
    }

    /// When the phase changes next.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let expiring = self.expires.checked_sub(EXPIRING).ok();
        let changes = [self.not_before, expiring, Some(self.expires)];
        changes.into_iter().flatten().filter(|change| *change > now).min()
    }
}

/// The period of a waiver.
pub fn period(waiver: &Waiver) -> Result<Period, TooLong> {
    let expires = waiver.spec.expires_at.0;
    // An object without a creation time was not read from the API server: it gets none.
    let created = waiver.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let latest = created.checked_add(HORIZON).unwrap_or(created);
    if expires > latest {
        let found = expires;
        return Err(TooLong { latest, found });
    }
    Ok(Period {
        not_before: waiver.spec.not_before.as_ref().map(|time| time.0),
        expires,
    })
}

/// What a waiver takes out of the reports of an image, given by its base image and its digests; nothing if it is not about it.
pub fn suppressions(waiver: &Waiver, base_image: &str, digests: &[&Digest]) -> Vec<Suppression> {
    let (scope, images) = (&waiver.spec.scope, &waiver.spec.scope.images);
    let everything = images.base_images.is_empty() && images.digests.is_empty();
    let named = images.base_images.iter().any(|name| name == base_image);
    let pinned = images
        .digests
        .iter()
        .any(|d| digests.iter().any(|digest| digest.as_str() == d));
    let Ok(period) = period(waiver) else {
        return Vec::new();
    };
    if !(everything || named || pinned) {
        return Vec::new();
    }
    let glob = |text: &Option<String>| text.as_deref().map(Pattern::glob);
    let findings = scope.findings.iter().map(|finding| Suppression {
        id: Pattern::glob(&finding.id),
        aliases: Vec::new(),
        package: glob(&finding.package),
        subject: glob(&finding.subject),
        checks: scope.checks.clone(),
        maximum_severity: scope.maximum_severity,
        kind: Kind::Waiver {
            name: waiver.name_any(),
            not_before: period.not_before,
            expires: period.expires,
        },
    });
    findings.collect()
}
