//! The next history of a base image, what is released by it, and what people are told. Pure.
//!
//! Must not take anything back out of a revocation but by an order to lift it, and must not forget what the status knows
//! when the history is lost.

use super::{convert, rebuild::Rebuild, store::Stored};
use crate::{
    api::{
        BaseImage, BaseImageStatus, ImageCandidate,
        base_image::{Release, RevokedRelease},
        refs::ANNOTATION_REVOKE,
        release_history::ReleaseHistorySpec,
    },
    controllers::{
        conditions::{ConditionStatus, Conditions},
        driver::EventRecord,
    },
    domain::{
        digest::Digest,
        history::{Change, History},
        image_ref::Repository,
        orders::{self, Order},
        promotion::Promotion,
    },
};
use jiff::Timestamp;
use kube::ResourceExt as _;

/// Condition, only while it is so: the annotation `repave.dev/revoke` orders something that cannot be done.
pub const REVOCATION_UNREADABLE: &str = "RevocationUnreadable";
/// Condition: whether the production repository could be looked through for earlier releases.
pub const HISTORY_REBUILT: &str = "HistoryRebuilt";
/// Condition, only while it is so: the newest build was taken back.
pub const RELEASE_REVOKED: &str = "ReleaseRevoked";

/// What is added where an order about an unknown release cannot be followed yet.
const LOST: &str = ". The history of this BaseImage is lost and not rebuilt yet (condition HistoryRebuilt): older releases are known again then, and the order is followed if it is still there";

/// What a decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The BaseImage.
    pub base: &'a BaseImage,
    /// Its history, if there is one.
    pub stored: Option<&'a Stored>,
    /// What the production repository says.
    pub rebuild: &'a Rebuild,
    /// All its candidates.
    pub candidates: &'a [ImageCandidate],
    /// Its production repository.
    pub production: &'a Repository,
}

/// The decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// What is written before anything else, if it differs from what is stored.
    pub write: Option<ReleaseHistorySpec>,
    /// What is released.
    pub released: Option<Release>,
    /// What was taken back: the newest 20.
    pub revoked: Vec<RevokedRelease>,
    /// The history after it.
    pub history: History,
    /// The newest build, if it was taken back.
    pub newest_revoked: Option<RevokedRelease>,
    /// What people should hear of, once it is written.
    pub events: Vec<EventRecord>,
    problem: Option<(&'static str, String)>,
}

/// Decides.
pub fn decide(known: Known<'_>, now: Timestamp) -> Decided {
    let status = known.base.status.clone().unwrap_or_default();
    let promotions: Vec<Promotion> = known.candidates.iter().filter_map(convert::promotion).collect();
    let found = match known.rebuild {
        Rebuild::Done { entries, .. } => entries.clone(),
        Rebuild::NotNeeded | Rebuild::Refused { .. } | Rebuild::Failed { .. } => Vec::new(),
    };
    let (history, found) = match known.stored {
        Some(stored) => {
            let mut history = stored.history.clone();
            let found = history.learn(found);
            (history, found)
        }
        None => History::begin(promotions.clone(), found, convert::shown(&status, known.production)),
    };
    let (orders, unreadable) = orders(known.base);
    let advanced = history.advance(&promotions, &orders, known.production, now);
    let searched = match known.rebuild {
        Rebuild::Done { .. } => Some(known.production),
        Rebuild::NotNeeded | Rebuild::Refused { .. } | Rebuild::Failed { .. } => {
            known.stored.and_then(|stored| stored.searched.as_ref())
        }
    };
    let same = known
        .stored
        .is_some_and(|stored| stored.history == advanced.history && stored.searched.as_ref() == searched);
    let waits = waits(known, &status, &advanced.history);
    let lost = if waits { LOST } else { "" };
    let refused = advanced.refused.first().map(|why| ("NotDone", format!("{why}{lost}")));
    let newest = promotions.iter().max_by_key(|promotion| promotion.sequence);
    let revoked = convert::revoked(&advanced.history);
    let newest_revoked = newest.and_then(|newest| {
        let mut all = advanced.history.revoked();
        all.find(|one| *one.digest == newest.digest).map(RevokedRelease::of)
    });
    Decided {
        write: (!same && !waits).then(|| ReleaseHistorySpec::of(&advanced.history, searched)),
        released: released(&advanced.history, &status, known.production),
        newest_revoked,
        events: events(&advanced.changes, &advanced.history, known.rebuild, found),
        problem: unreadable.or(refused),
        revoked,
        history: advanced.history,
    }
}

/// Whether the history is not written yet: it is lost, and the production repository, which knows more than the status, cannot be
/// looked through at the moment. Until then the status is the record: what is decided goes into it, and the next look begins with
/// it. No candidate goes on without a written history.
fn waits(known: Known<'_>, status: &BaseImageStatus, history: &History) -> bool {
    let away = match known.rebuild {
        Rebuild::Failed { .. } => known.stored.is_none(),
        Rebuild::NotNeeded | Rebuild::Refused { .. } | Rebuild::Done { .. } => false,
    };
    let shows_releases = status.released.is_some() || !status.revoked.is_empty();
    // What does not fit into the status must be kept somewhere.
    away && shows_releases && convert::shows_all(history)
}

fn orders(base: &BaseImage) -> (Vec<Order>, Option<(&'static str, String)>) {
    let Some(text) = base.annotations().get(ANNOTATION_REVOKE) else {
        return (Vec::new(), None);
    };
    match orders::orders(text) {
        Ok(orders) => (orders, None),
        Err(error) => {
            let message = format!(
                "annotation {ANNOTATION_REVOKE}: {error}. Nothing in it is followed; what was revoked before stays revoked"
            );
            (Vec::new(), Some(("Unreadable", message)))
        }
    }
}

/// What the status says is released. A base image that was made again with another production repository starts without.
fn released(history: &History, status: &BaseImageStatus, production: &Repository) -> Option<Release> {
    let entry = history.released()?;
    let here = entry.promotion.repository == *production;
    (here || status.released.is_some()).then(|| convert::released(entry))
}

impl Decided {
    /// Whether this digest was taken back.
    pub fn is_revoked(&self, digest: &Digest) -> bool {
        self.history.revocation(digest).is_some() || self.revoked.iter().any(|one| one.digest == *digest)
    }

    /// Says it in the conditions.
    pub fn report(&self, conditions: &mut Conditions, rebuild: &Rebuild, production: &Repository) {
        match &self.problem {
            Some((reason, message)) => {
                conditions.set(REVOCATION_UNREADABLE, ConditionStatus::True, reason, message.clone());
            }
            None => conditions.clear(REVOCATION_UNREADABLE),
        }
        match self.instead() {
            Some(instead) => {
                let message = format!("{instead} {HOW_TO_LIFT}");
                conditions.set(RELEASE_REVOKED, ConditionStatus::True, "Revoked", message);
            }
            None => conditions.clear(RELEASE_REVOKED),
        }
        match rebuild {
            Rebuild::NotNeeded => {}
            Rebuild::Done { entries, .. } if entries.is_empty() => conditions.clear(HISTORY_REBUILT),
            Rebuild::Done { entries, unproven, cut } => {
                let message = found(entries.len(), *unproven, *cut, production);
                conditions.set(HISTORY_REBUILT, ConditionStatus::True, "Found", message);
            }
            Rebuild::Refused { reason, message } => {
                let message = format!(
                    "earlier releases at {production} are not known, because its registry does not let it be looked through: nothing waits for them, and what was promoted or taken back from now on is kept. {message}"
                );
                conditions.set(HISTORY_REBUILT, ConditionStatus::False, reason, message);
            }
            Rebuild::Failed { reason, message } => {
                let message = format!(
                    "earlier releases at {production} are not known, because it could not be looked through; it is tried again. {message}"
                );
                conditions.set(HISTORY_REBUILT, ConditionStatus::False, reason, message);
            }
        }
    }

    /// What is so after the newest build was taken back; `None` if it was not.
    pub fn instead(&self) -> Option<String> {
        let revoked = self.newest_revoked.as_ref()?;
        let by = revoked.by.as_ref().map_or(String::new(), |by| format!(" by {by}"));
        let now = match &self.released {
            Some(release) => format!("{} is released instead.", release.tag),
            None => "No good release is left, so nothing is released.".to_owned(),
        };
        Some(format!("{} was revoked{by}: {}. {now}", revoked.tag, revoked.reason))
    }
}

const HOW_TO_LIFT: &str = "The next good build is released as usual; kubectl repave revoke --lift ends the revocation.";

fn found(count: usize, unproven: usize, cut: bool, production: &Repository) -> String {
    let more = if cut {
        "; there are more tags, or attachments of an image, than could be looked at"
    } else {
        ""
    };
    let ignored = match unproven {
        0 => String::new(),
        more => format!("; {more} more tags have no signed summary of this BaseImage and were left out"),
    };
    format!("{count} releases are proven by signed summaries at {production}{ignored}{more}")
}

fn events(changes: &[Change], history: &History, rebuild: &Rebuild, learned: usize) -> Vec<EventRecord> {
    let tag = |digest: &Digest| {
        let entry = history.entries().iter().find(|one| one.promotion.digest == *digest);
        entry.map_or_else(|| digest.short().to_owned(), |one| one.promotion.tag.clone())
    };
    let notice = |warning, reason, message| EventRecord {
        warning,
        reason,
        message,
    };
    let mut events = Vec::new();
    if let (Rebuild::Done { .. }, 1..) = (rebuild, learned) {
        let message = format!("{learned} earlier releases were found again at the production repository");
        events.push(notice(false, HISTORY_REBUILT, message));
    }
    events.extend(changes.iter().map(|change| match change {
        Change::Released(digest) => notice(false, "Released", format!("{} is released", tag(digest))),
        Change::Revoked { digest, reason } => {
            let message = format!("{} is revoked: {reason}. Nothing is moved or rolled back to it", tag(digest));
            notice(true, "Revoked", message)
        }
        Change::Lifted(digest) => notice(false, "RevocationLifted", format!("{} is not revoked any more", tag(digest))),
        Change::ReleasedAgain(digest) => {
            let message = format!("{} is released again: workloads go back to it, wave by wave", tag(digest));
            notice(true, "ReleasedAgain", message)
        }
        Change::NothingLeft => notice(
            true,
            "NothingLeft",
            "what was released is revoked and no good release is left: the channel tag stays, and nothing is rolled out".to_owned(),
        ),
    }));
    events
}

#[cfg(test)]
mod tests;
