//! Our annotations on a workload: which run moved it, when, what it ran before, and whether it is held.
//!
//! Anyone who may edit the workload may write these, so nothing here is trusted: what cannot be read holds the workload
//! or is taken as absent, whichever touches less.

use super::{digest::Digest, image_ref::ImageRef};
use crate::annotations::{ANNOTATION_HOLD, ANNOTATION_MOVED_AT, ANNOTATION_PREVIOUS, ANNOTATION_RUN};
use jiff::{Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who put a hold that Repave itself put after a failure.
pub const HELD_BY_REPAVE: &str = "repave";

/// Longest annotation that is read.
const MAX_LENGTH: usize = 4096;

/// All our annotations on one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// The run that moved it, `namespace/name`.
    pub run: Option<String>,
    /// When it was moved.
    pub moved_at: Option<Timestamp>,
    /// What it ran before, per container, always with a digest.
    pub previous: BTreeMap<String, ImageRef>,
    /// The hold, if there is one.
    pub hold: Option<HoldMark>,
}

/// A hold as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldMark {
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

impl Marks {
    /// Reads the annotations of a workload.
    pub fn parse(annotations: &BTreeMap<String, String>) -> Self {
        let get = |key: &str| annotations.get(key).filter(|value| value.len() <= MAX_LENGTH);
        let previous = get(ANNOTATION_PREVIOUS)
            .and_then(|text| serde_json::from_str::<BTreeMap<String, ImageRef>>(text).ok())
            .unwrap_or_default();
        Self {
            run: get(ANNOTATION_RUN).cloned(),
            moved_at: get(ANNOTATION_MOVED_AT).and_then(|text| text.parse().ok()),
            previous: previous
                .into_iter()
                .filter(|(_, image)| image.digest.is_some())
                .collect(),
            hold: annotations.get(ANNOTATION_HOLD).map(|text| HoldMark::parse(text)),
        }
    }

    /// The hold that is in force now: expired ones are not.
    pub fn hold_now(&self, now: Timestamp) -> Option<&HoldMark> {
        self.hold.as_ref().filter(|mark| match mark {
            HoldMark::Unreadable => true,
            HoldMark::Valid(hold) => hold.until.as_deref().and_then(end).is_none_or(|until| until > now),
        })
    }
}

impl HoldMark {
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

    fn marks(key: &str, value: &str) -> Marks {
        Marks::parse(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
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
            assert_eq!(marks(ANNOTATION_HOLD, text).hold, Some(HoldMark::Unreadable), "{text}");
        }
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
