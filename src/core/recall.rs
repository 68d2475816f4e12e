//! What of a revoked release no build may bring again by accident. Pure; must not know how a release was taken back.

use super::{
    digest::Digest,
    history::History,
    promotion::{Promotion, Revocation, Revoked},
};
use std::fmt;

/// A build, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build<'a> {
    /// The base image that it is for.
    pub base_image: &'a str,
    /// Hash over all that decides its outcome; candidates are named by it.
    pub inputs: &'a Digest,
    /// The upstream digest that it is made from.
    pub source: &'a Digest,
    /// Its image, once it is built.
    pub built: Option<&'a Digest>,
}

/// Why a build counts as one that was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// It is that very image.
    Image,
    /// It is made from that very image.
    Upstream,
    /// It is made from the same upstream digest with the same inputs.
    Inputs,
}

/// A release that was taken back, and that a build would bring again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled {
    /// Its immutable tag.
    pub tag: String,
    /// Who took it back, when and why.
    pub revocation: Revocation,
    /// What of it the build has.
    pub same: Same,
}

impl fmt::Display for Recalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tag, revocation, same } = self;
        let same = match same {
            Same::Image => "this build is that very image",
            Same::Upstream => "its upstream is that very image",
            Same::Inputs => "this is made of the same upstream digest with the same inputs",
        };
        write!(f, "{same}: {tag} was revoked at {}", revocation.at)?;
        if let Some(by) = &revocation.by {
            write!(f, " by {by}")?;
        }
        write!(f, " ({})", revocation.reason)
    }
}

/// The release that was taken back and would come again with this build. Another policy or customisation that leads to
/// another image is another release.
pub fn recalled(history: &History, build: &Build<'_>) -> Option<Recalled> {
    let made_of_the_same = format!("{}-{}", build.base_image, build.inputs.short());
    let made_so = |one: &Promotion| *build.source == one.source_digest && one.candidate.starts_with(&made_of_the_same);
    let same = |one: &Revoked<'_>| {
        if build.built == Some(one.digest) {
            Some(Same::Image)
        } else if build.source == one.digest {
            Some(Same::Upstream)
        } else if one.promotion.is_some_and(made_so) {
            Some(Same::Inputs)
        } else {
            None
        }
    };
    let mut revoked = history.revoked();
    revoked.find_map(|one| {
        Some(Recalled {
            same: same(&one)?,
            tag: one.tag.to_owned(),
            revocation: one.revocation.clone(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{history::Shown, promotion::UnlistedRevocation};
    use jiff::Timestamp;

    #[test]
    fn a_build_of_what_was_taken_back_is_told_by_its_image_its_upstream_or_its_inputs() {
        let (bad, upstream, inputs) = (Digest::of(b"bad"), Digest::of(b"up"), Digest::of(b"inputs"));
        let promotion = Promotion {
            sequence: 1,
            digest: bad.clone(),
            source_digest: upstream.clone(),
            chain_id: Some(Digest::of(b"c")),
            layers: 1,
            repository: "r.test/debian".parse().unwrap(),
            tag: "12-1".into(),
            candidate: format!("debian-12-{}", inputs.short()),
            promoted_at: Timestamp::UNIX_EPOCH,
        };
        let out = History::begin(vec![promotion.clone()], [], Shown::default()).0;
        let revocation = Revocation {
            at: Timestamp::UNIX_EPOCH,
            by: Some("ann".into()),
            reason: "CVE-1".into(),
        };
        let shown = Shown {
            revoked: vec![UnlistedRevocation {
                digest: bad.clone(),
                repository: None,
                tag: "12-1".into(),
                revocation,
            }],
            ..Shown::default()
        };
        let revoked = History::begin(vec![promotion], [], shown.clone()).0;
        let unlisted = History::begin(Vec::new(), [], shown).0;
        let (other, good) = (Digest::of(b"other"), Digest::of(b"good"));
        for (source, inputs, built, same) in [
            (&upstream, &other, None, None),
            (&upstream, &other, Some(&good), None),
            (&upstream, &other, Some(&bad), Some(Same::Image)),
            (&other, &other, Some(&bad), Some(Same::Image)),
            (&bad, &other, None, Some(Same::Upstream)),
            (&upstream, &inputs, None, Some(Same::Inputs)),
            (&upstream, &inputs, Some(&good), Some(Same::Inputs)),
            (&other, &inputs, None, None),
        ] {
            let build = Build {
                base_image: "debian-12",
                inputs,
                source,
                built,
            };
            assert_eq!(recalled(&revoked, &build).map(|found| found.same), same, "{build:?}");
            assert_eq!(recalled(&out, &build), None, "nothing is revoked");
            let by_digest = same.filter(|same| *same != Same::Inputs);
            assert_eq!(
                recalled(&unlisted, &build).map(|found| found.same),
                by_digest,
                "{build:?}"
            );
        }
        let again = Build {
            base_image: "debian-12",
            inputs: &other,
            source: &other,
            built: Some(&bad),
        };
        assert_eq!(
            recalled(&revoked, &again).unwrap().to_string(),
            "this build is that very image: 12-1 was revoked at 1970-01-01T00:00:00Z by ann (CVE-1)"
        );
        let elsewhere = Build {
            base_image: "debian",
            inputs: &inputs,
            source: &upstream,
            built: None,
        };
        assert_eq!(recalled(&revoked, &elsewhere), None);
    }
}
