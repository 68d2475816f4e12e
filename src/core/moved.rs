//! What a move remembers on the workload: the pod template that it wrote, so that a later roll-out by somebody else is
//! never taken for ours.
//!
//! Two signs, because each of them alone can be lost: the generation (any annotation and any scaling raises it) and the hash of
//! the pod template (an admission webhook may rewrite it). The deployment controller's revision is no such sign: a team that
//! changes the template before the controller has looked at ours gets the same number. But a revision beyond the next one says
//! that somebody rolled out since, even if it is our template again, as after `kubectl rollout undo`. Anyone who may edit the
//! workload may write the annotation: it decides about that workload only, and the record names the object that was written, so
//! that a copy of it is none of ours.

use super::{digest::Digest, template::TemplateHash};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// One write of ours to a pod template: a move, or the rollback of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// When, by our clock. For people and for the order of a move and a soak; no deadline counts from it.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub at: Timestamp,
    /// The plan that ordered it, `namespace/name`.
    pub plan: String,
    /// UID of the run that ordered it: one that was made anew has the name of the old one, and has moved nothing yet. A
    /// version before this field wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_uid: Option<String>,
    /// The target of the run.
    pub digest: Digest,
    /// The place of that release in the order of releases; a version before this field wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Whether it gave the old images back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rolled_back: bool,
    /// `metadata.generation` before the write, which tested the resourceVersion: the write itself made the next one.
    pub generation: i64,
    /// The template that was written.
    pub template: TemplateHash,
    /// The deployment controller's revision before the write: the roll-out of the write has the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// UID of the object that was written: a copy of it has our annotations and is none of ours. A version before this field
    /// wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// When the roll-out before the write had timed out, as its condition says, if it had: that one says nothing about ours.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_some_time",
        deserialize_with = "read_some_time"
    )]
    pub timed_out: Option<Timestamp>,
}

/// A text that is no time of a write of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a time such as 2026-01-31T12:00:00Z, found {0:?}: leave the annotation to Repave")]
pub struct InvalidTime(String);

/// The first time that is read, 1000-01-01T00:00:00Z.
const FIRST: Timestamp = Timestamp::constant(-30_610_224_000, 0);

/// The time of a write, as it stands on a workload. It can become one of a status, and Kubernetes knows only years from 0 to 9999;
/// a clock that was never set may be before 1970.
pub fn time_of(text: &str) -> Result<Timestamp, InvalidTime> {
    let time = text.parse().ok().filter(|time| *time >= FIRST);
    time.ok_or_else(|| InvalidTime(text.chars().take(40).collect()))
}

/// Serde decides the signature.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn write_time<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    time_of(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Serde decides the signature.
#[allow(clippy::ref_option)]
fn write_some_time<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(|at| at.to_string()).serialize(serializer)
}

fn read_some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| time_of(&text).map_err(D::Error::custom)).transpose()
}

/// What is known of our last write to a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastWrite {
    /// The whole record.
    Recorded(Moved),
    /// Only its time: a version before the record wrote it. Its roll-out cannot be told from a later one.
    TimeOnly(Timestamp),
}

impl LastWrite {
    /// When it was, by our clock.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Recorded(moved) => moved.at,
            Self::TimeOnly(at) => *at,
        }
    }

    /// The record, if there is one.
    pub fn record(&self) -> Option<&Moved> {
        match self {
            Self::Recorded(moved) => Some(moved),
            Self::TimeOnly(_) => None,
        }
    }
}

/// Whose roll-out the present one of a workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The one that our last write caused.
    Ours,
    /// A later one: somebody changed the template after us. In doubt it is theirs.
    Others,
}

impl Moved {
    /// Whether it was about this release. The same digest can be released again; then it is another one.
    pub fn is_of(&self, digest: &Digest, sequence: u64) -> bool {
        self.digest == *digest && self.sequence.is_none_or(|own| own == sequence)
    }

    /// Whether it was written to the object with this UID.
    pub fn is_about(&self, uid: &str) -> bool {
        self.uid.as_deref().is_none_or(|own| own == uid)
    }

    /// Whether a roll-out that timed out at this time is one from before the write: only the very condition that was seen then
    /// is. Its time is the clock of the cluster, and ours may be ahead of that, so the two are not compared.
    ///
    /// A version that wrote no UID did not write what it had seen either. Of such a record the times are compared all the same: a
    /// timeout from before it must take nothing back, one after it must stay repairable, and our own deadline holds in any case.
    pub fn is_after_timeout(&self, timed_out: Timestamp) -> bool {
        match &self.uid {
            Some(_) => self.timed_out == Some(timed_out),
            None => timed_out < self.at,
        }
    }

    /// Whether it was ordered by the run with this UID, as far as the record says.
    pub fn is_of_run(&self, uid: Option<&str>) -> bool {
        self.run_uid.as_deref().zip(uid).is_none_or(|(own, run)| own == run)
    }

    /// Whose roll-out the present one is, by `metadata.generation`, the template and the revision now. Scaling, pausing and
    /// annotating raise the generation and leave the others.
    pub fn whose(&self, generation: i64, template: TemplateHash, revision: Option<i64>) -> Whose {
        let one_more_since = self
            .revision
            .zip(revision)
            .is_some_and(|(before, now)| now > before.saturating_add(1));
        let sign = generation == self.generation.saturating_add(1) || template == self.template;
        if sign && !one_more_since {
            Whose::Ours
        } else {
            Whose::Others
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> TemplateHash {
        format!("{number:016x}").parse().unwrap()
    }

    fn moved() -> Moved {
        Moved {
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            plan: "platform/all".to_owned(),
            run_uid: Some("run".to_owned()),
            digest: Digest::of(b"v3"),
            rolled_back: false,
            sequence: Some(3),
            generation: 4,
            template: hash(7),
            revision: Some(2),
            uid: Some("u".to_owned()),
            timed_out: Some("2025-12-31T00:00:00Z".parse().unwrap()),
        }
    }

    #[test]
    fn our_rollout_is_known_by_its_generation_or_its_template_and_by_nothing_else() {
        for (name, generation, template, revision, expected) in [
            ("the write itself", 5, 7, Some(2), Whose::Ours),
            ("seen by the controller", 5, 7, Some(3), Whose::Ours),
            ("rewritten by admission", 5, 9, Some(3), Whose::Ours),
            ("scaled after it", 8, 7, Some(3), Whose::Ours),
            ("its revision taken away", 8, 7, None, Whose::Ours),
            ("restarted by its team", 6, 9, Some(4), Whose::Others),
            ("restored from before it", 4, 9, Some(3), Whose::Others),
            ("undone and done again", 9, 7, Some(5), Whose::Others),
        ] {
            assert_eq!(moved().whose(generation, hash(template), revision), expected, "{name}");
        }
        let older = Moved {
            revision: None,
            ..moved()
        };
        assert_eq!(
            older.whose(9, hash(7), Some(5)),
            Whose::Ours,
            "a version before wrote none"
        );
    }

    #[test]
    fn the_same_digest_released_again_is_another_release() {
        let (v2, v3) = (Digest::of(b"v2"), Digest::of(b"v3"));
        assert!(moved().is_of(&v3, 3) && !moved().is_of(&v3, 5) && !moved().is_of(&v2, 3));
        let older = Moved {
            sequence: None,
            ..moved()
        };
        assert!(older.is_of(&v3, 5), "a version before wrote none");
    }

    #[test]
    fn a_record_is_about_one_object_and_a_timeout_from_before_it_is_none_of_its_own() {
        assert!(moved().is_about("u") && !moved().is_about("copy"));
        let older = Moved {
            uid: None,
            timed_out: None,
            ..moved()
        };
        assert!(older.is_about("copy"), "a version before wrote none");
        let text = serde_json::to_string(&older).unwrap();
        assert_eq!(serde_json::from_str::<Moved>(&text).unwrap(), older);
        let at = |text: &str| text.parse().unwrap();
        let seen = Moved {
            timed_out: Some(at("2026-01-01T00:09:00Z")),
            ..moved()
        };
        assert!(
            seen.is_after_timeout(at("2026-01-01T00:09:00Z")),
            "the clock of the cluster is ahead"
        );
        assert!(!seen.is_after_timeout(at("2026-01-01T00:09:01Z")));
        assert!(
            !seen.is_after_timeout(at("2025-12-31T23:59:59Z")),
            "our clock is ahead of that of the cluster"
        );
        let none_seen = Moved {
            timed_out: None,
            ..moved()
        };
        assert!(!none_seen.is_after_timeout(at("2025-12-31T23:59:59Z")));
        assert!(older.is_after_timeout(at("2025-12-31T23:59:59Z")));
        assert!(!older.is_after_timeout(at("2026-01-01T00:10:00Z")));
    }

    #[test]
    fn a_run_that_was_made_anew_ordered_nothing_that_the_old_one_did() {
        assert!(moved().is_of_run(Some("run")) && !moved().is_of_run(Some("anew")));
        let older = Moved {
            run_uid: None,
            ..moved()
        };
        assert!(older.is_of_run(Some("anew")), "a version before wrote none");
    }

    #[test]
    fn the_record_is_read_as_it_was_written_and_nothing_else_is_a_record() {
        let text = serde_json::to_string(&moved()).unwrap();
        assert_eq!(serde_json::from_str::<Moved>(&text).unwrap(), moved());
        for wrong in [
            text.replace("0000000000000007", "7"),
            text.replace("0000000000000007", "+000000000000007"),
            text.replace("2026-", "later-"),
            text.replace("2026-", "-005000-"),
            text.replace("2026-", "-000001-"),
            text.replace("2026-", "0000-"),
            text.replace("2026-", "+010000-"),
            text.replace("sha256:", "md5:"),
            text.replace("\"generation\":4,", ""),
        ] {
            assert!(serde_json::from_str::<Moved>(&wrong).is_err(), "{wrong}");
        }
        assert_eq!(time_of("1000-01-01T00:00:00Z").unwrap(), FIRST);
        assert!(time_of("0999-12-31T23:59:59Z").is_err() && time_of("1969-12-31T00:00:00Z").is_ok());
        let error = "xyz".parse::<TemplateHash>().unwrap_err().to_string();
        assert_eq!(
            error,
            "expected 16 hex digits, found \"xyz\": leave the annotation to Repave"
        );
    }
}
