//! Our annotations on a workload: which run moved it, when, what it ran before, and whether it is held.
//!
//! Anyone who may edit the workload may write these, so nothing here is trusted: what cannot be read holds the workload
//! or is taken as absent, whichever touches less.

use super::{
    digest::Digest,
    image_ref::ImageRef,
    moved::{self, LastWrite},
};
use crate::annotations::{ANNOTATION_HOLD, ANNOTATION_MOVED, ANNOTATION_MOVED_AT, ANNOTATION_PREVIOUS, ANNOTATION_RUN};
use jiff::{Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who put a hold that Repave itself put after a failure.
pub const HELD_BY_REPAVE: &str = "repave";

/// Longest annotation that is read.
const MAX_LENGTH: usize = 4096;

/// All our annotations on one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadAnnotations {
    /// The run that moved it, `namespace/name`.
    pub run: Option<String>,
    /// Our last write to its pod template; `None` when there was none, or the record cannot be read.
    pub last_write: Option<Box<LastWrite>>,
    /// Whether it has the annotation that an older version wrote, which the next write takes off.
    pub has_moved_at: bool,
    /// What it ran before, per container, always with a digest.
    pub previous: BTreeMap<String, Box<ImageRef>>,
    /// The hold, if there is one.
    pub hold: Option<Box<HoldAnnotation>>,
}

/// A hold as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldAnnotation {
    /// One that can be read.
    Valid(Hold),
    /// Something that cannot: it holds until a person removes or repairs it.
    Unreadable,
}

/// "Do not touch this workload."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Who put it: `repave`, or a person.
    #[serde(default)]
    pub by: String,
    /// The digest that did not work, when Repave put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Since when, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Until when: RFC 3339, or a date (its first second in UTC). Without it, until a person removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl WorkloadAnnotations {
    /// Reads the annotations of a workload.
    pub fn parse(annotations: &BTreeMap<String, String>) -> Self {
        let get = |key: &str| annotations.get(key).filter(|value| value.len() <= MAX_LENGTH);
        let previous = get(ANNOTATION_PREVIOUS)
            .and_then(|text| serde_json::from_str::<BTreeMap<String, Box<ImageRef>>>(text).ok())
            .unwrap_or_default();
        Self {
            run: get(ANNOTATION_RUN).cloned(),
            last_write: last_write(get(ANNOTATION_MOVED), get(ANNOTATION_MOVED_AT)).map(Box::new),
            has_moved_at: annotations.contains_key(ANNOTATION_MOVED_AT),
            previous: previous
                .into_iter()
                .filter(|(_, image)| image.digest.is_some())
                .collect(),
            hold: annotations
                .get(ANNOTATION_HOLD)
                .map(|text| Box::new(HoldAnnotation::parse(text))),
        }
    }

    /// The hold that is in force now against a move to this digest. One that Repave put after a failure binds only the digest
    /// that failed; one of a person binds every digest.
    pub fn hold_for(&self, digest: &Digest, now: Timestamp) -> Option<&HoldAnnotation> {
        self.hold_now(now).filter(|mark| match mark {
            HoldAnnotation::Unreadable => true,
            HoldAnnotation::Valid(hold) => !hold.is_for_another(digest),
        })
    }

    /// The hold that is in force now: expired ones are not.
    pub fn hold_now(&self, now: Timestamp) -> Option<&HoldAnnotation> {
        self.hold.as_deref().filter(|mark| match mark {
            HoldAnnotation::Unreadable => true,
            HoldAnnotation::Valid(hold) => hold.until.as_deref().and_then(end).is_none_or(|until| until > now),
        })
    }
}

/// A record that is there and cannot be read is no reason to believe the older annotation.
fn last_write(record: Option<&String>, moved_at: Option<&String>) -> Option<LastWrite> {
    match record {
        Some(text) => serde_json::from_str(text).ok().map(LastWrite::Recorded),
        None => moved_at
            .and_then(|text| moved::time_of(text).ok())
            .map(LastWrite::TimeOnly),
    }
}

impl Hold {
    /// Whether Repave put it after a failure of another digest.
    pub fn is_for_another(&self, digest: &Digest) -> bool {
        self.by == HELD_BY_REPAVE && self.digest.as_ref().is_some_and(|failed| failed != digest)
    }
}

impl HoldAnnotation {
    fn parse(text: &str) -> Self {
        let hold = (text.len() <= MAX_LENGTH)
            .then(|| serde_json::from_str::<Hold>(text).ok())
            .flatten();
        match hold {
            // An end that cannot be read must not become "no hold".
            Some(hold) if hold.until.as_deref().is_none_or(|until| end(until).is_some()) => Self::Valid(hold),
            Some(_) | None => Self::Unreadable,
        }
    }
}

impl Hold {
    /// When it ends by itself; `None` when it does not.
    pub fn ends(&self) -> Option<Timestamp> {
        self.until.as_deref().and_then(end)
    }
}

/// The moment that an `until` names.
fn end(until: &str) -> Option<Timestamp> {
    until.parse().ok().or_else(|| {
        let date: civil::Date = until.parse().ok()?;
        date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(key: &str, value: &str) -> WorkloadAnnotations {
        WorkloadAnnotations::parse(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    fn held(value: &str, now: &str) -> bool {
        marks(ANNOTATION_HOLD, value).hold_now(now.parse().unwrap()).is_some()
    }

    #[test]
    fn a_hold_is_in_force_until_its_end_and_for_ever_without_one() {
        let now = "2026-06-01T00:00:00Z";
        for (text, expected) in [
            (r#"{"reason": "freeze"}"#, true),
            ("{}", true),
            (r#"{"until": "2026-05-31T23:59:59Z"}"#, false),
            (r#"{"until": "2026-06-01T00:00:01+00:00"}"#, true),
            (r#"{"until": "2026-06-01"}"#, false),
            (r#"{"until": "2026-06-02"}"#, true),
        ] {
            assert_eq!(held(text, now), expected, "{text}");
        }
    }

    #[test]
    fn a_hold_after_a_failure_binds_only_the_digest_that_failed() {
        let (failed, next) = (Digest::of(b"v2"), Digest::of(b"v3"));
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        for (by, of_failed, of_next) in [("repave", true, false), ("ann", true, true), ("", true, true)] {
            let text = serde_json::json!({"by": by, "digest": failed}).to_string();
            let marks = marks(ANNOTATION_HOLD, &text);
            assert_eq!(marks.hold_for(&failed, now).is_some(), of_failed, "{by}");
            assert_eq!(marks.hold_for(&next, now).is_some(), of_next, "{by}");
        }
        assert!(
            marks(ANNOTATION_HOLD, r#"{"by": "repave"}"#)
                .hold_for(&next, now)
                .is_some()
        );
    }

    #[test]
    fn a_hold_that_cannot_be_read_holds() {
        let long = format!(r#"{{"reason": "{}", "until": "2000-01-01"}}"#, "x".repeat(5000));
        for text in [
            "",
            "yes",
            "7",
            r#"{"until": "soon"}"#,
            r#"{"until": 5}"#,
            r#"{"digest": "x"}"#,
            &long,
        ] {
            assert_eq!(
                marks(ANNOTATION_HOLD, text).hold,
                Some(Box::new(HoldAnnotation::Unreadable)),
                "{text}"
            );
        }
    }

    #[test]
    fn the_record_of_a_move_comes_before_the_time_that_an_older_version_wrote() {
        let time = ("repave.dev/moved-at".to_owned(), "2026-01-01T00:00:00Z".to_owned());
        let only_time = WorkloadAnnotations::parse(&BTreeMap::from([time.clone()]));
        assert!(matches!(only_time.last_write.as_deref(), Some(LastWrite::TimeOnly(_))));
        assert!(only_time.has_moved_at);
        let odd = marks("repave.dev/moved-at", "-005000-01-01T00:00:00Z");
        assert!(odd.last_write.is_none() && odd.has_moved_at, "no API server takes it");
        let broken = ("repave.dev/moved".to_owned(), "{}".to_owned());
        assert_eq!(
            WorkloadAnnotations::parse(&BTreeMap::from([time, broken])).last_write,
            None
        );
        assert_eq!(WorkloadAnnotations::parse(&BTreeMap::new()).last_write, None);
    }

    #[test]
    fn only_an_image_with_a_digest_is_something_to_go_back_to() {
        let digest = Digest::of(b"a");
        let text = format!(r#"{{"app": "r.test/a@{digest}", "log": "r.test/a:1"}}"#);
        let previous = marks(ANNOTATION_PREVIOUS, &text).previous;
        assert_eq!(previous.keys().collect::<Vec<_>>(), ["app"]);
        assert!(marks(ANNOTATION_PREVIOUS, "{\"app\": \"../x\"}").previous.is_empty());
    }
}
