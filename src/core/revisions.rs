//! What the ReplicaSets of a Deployment still know of it when its own annotations are gone: whether it was moved to a release
//! and then set back by somebody.
//!
//! `kubectl rollout undo` gives a Deployment the annotations of the ReplicaSet that it goes back to, and `kubectl replace`
//! those of a file; our record goes with them. The deployment controller copied that record to the ReplicaSet of our move, and
//! there it stays. Kubernetes keeps as many ReplicaSets as `revisionHistoryLimit` says. Must not decide what is done.

use super::{
    digest::Digest, image_ref::ImageRef, moved::LastWrite, moved::Moved, workload::REVISION_ANNOTATION,
    workload_annotations::WorkloadAnnotations,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// One template that a Deployment had, or has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// UID of the Deployment.
    workload: String,
    number: i64,
    digests: Vec<Digest>,
    /// The last write of ours that its ReplicaSet knows of.
    record: Option<Moved>,
}

impl Revision {
    /// What a ReplicaSet with these images tells of its Deployment; nothing if it has none, or was never numbered.
    pub fn read(metadata: &ObjectMeta, images: &[String]) -> Option<Self> {
        let mut owners = metadata.owner_references.iter().flatten();
        // Labels can be put on anything.
        let owner = owners.find(|owner| owner.controller == Some(true))?;
        let none = BTreeMap::new();
        let annotations = metadata.annotations.as_ref().unwrap_or(&none);
        let images = images.iter().filter_map(|image| image.parse::<ImageRef>().ok());
        Some(Self {
            workload: owner.uid.clone(),
            number: annotations.get(REVISION_ANNOTATION)?.parse().ok()?,
            digests: images.filter_map(|image| image.digest).collect(),
            record: WorkloadAnnotations::parse(annotations)
                .last_write
                .as_deref()
                .and_then(LastWrite::record)
                .cloned(),
        })
    }

    /// UID of the Deployment that it is about.
    pub fn workload(&self) -> &str {
        &self.workload
    }

    /// Whether a write of ours made this revision. A ReplicaSet that is used again gets a new number, and keeps old records.
    fn is_ours(&self) -> bool {
        self.record.as_ref().is_some_and(|record| match record.revision {
            Some(before) => before.checked_add(1) == Some(self.number),
            // A version before wrote no revision; only a rollback is certain to have led away from a target.
            None => record.rolled_back,
        })
    }
}

/// The revisions of several Deployments: by the UID of each, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revisions(BTreeMap<String, Vec<Revision>>);

impl FromIterator<Revision> for Revisions {
    fn from_iter<I: IntoIterator<Item = Revision>>(all: I) -> Self {
        let mut by_workload: BTreeMap<String, Vec<Revision>> = BTreeMap::new();
        for revision in all {
            by_workload.entry(revision.workload.clone()).or_default().push(revision);
        }
        for revisions in by_workload.values_mut() {
            revisions.sort_by_key(|revision| revision.number);
        }
        Self(by_workload)
    }
}

impl Revisions {
    /// From which move of ours to this release somebody else led the workload with this UID away, which is not on it now.
    pub fn led_away_from(&self, workload: &str, digest: &Digest, sequence: u64) -> Option<Moved> {
        let revisions = self.0.get(workload)?;
        let on_target = |revision: &Revision| {
            let moved = revision.record.as_ref();
            revision.digests.contains(digest)
                && moved.is_some_and(|moved| !moved.rolled_back && moved.is_of(digest, sequence))
        };
        let last = revisions.iter().rposition(on_target)?;
        // Without a next one the deployment controller has not seen yet what led away from it; a rollback of ours would be on
        // record in the workload itself.
        let is_theirs = revisions.get(last + 1).is_none_or(|next| !next.is_ours());
        revisions[last].record.clone().filter(|_| is_theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn moved(digest: &str, sequence: u64, rolled_back: bool, revision: Option<i64>) -> Value {
        let mut record = json!({"at": "2026-01-01T00:00:00Z", "plan": "p/all", "digest": Digest::of(digest.as_bytes()),
            "sequence": sequence, "rolledBack": rolled_back, "generation": 1, "template": "0000000000000000"});
        if let Some(revision) = revision {
            record["revision"] = json!(revision);
        }
        json!(record.to_string())
    }

    fn set(number: i64, image: &str, record: &Value) -> Value {
        let mut annotations = json!({REVISION_ANNOTATION: number.to_string()});
        if !record.is_null() {
            annotations["repave.dev/moved"] = record.clone();
        }
        json!({"metadata": {"name": format!("web-{number}"), "annotations": annotations,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "web", "controller": true}]},
            "spec": {"selector": {}, "template": {"spec": {"containers": [
                {"name": "app", "image": format!("r.test/base@{}", Digest::of(image.as_bytes()))}]}}}})
    }

    fn v3_was_set_back(sets: &[Value]) -> bool {
        let read = |set: &Value| {
            let metadata = serde_json::from_value(set["metadata"].clone()).unwrap();
            let image = set["spec"]["template"]["spec"]["containers"][0]["image"]
                .as_str()
                .unwrap();
            Revision::read(&metadata, &[image.to_owned()])
        };
        let revisions: Revisions = sets.iter().filter_map(read).collect();
        revisions.led_away_from("web", &Digest::of(b"v3"), 3).is_some()
    }

    #[test]
    fn one_that_was_set_back_is_known_by_the_replica_sets_alone() {
        let none = json!(null);
        let v3 = moved("v3", 3, false, Some(2));
        let old_v3 = set(3, "v3", &v3);
        for (name, sets, expected) in [
            ("never moved", vec![set(1, "v1", &none), set(2, "v1", &none)], false),
            ("undone", vec![set(4, "v1", &none), old_v3.clone()], true),
            (
                "set back by hand, where the record stays and is copied",
                vec![set(1, "v1", &none), old_v3.clone(), set(4, "v1", &v3)],
                true,
            ),
            (
                "undone, and changed since",
                vec![set(6, "v1", &none), set(4, "v1", &none), old_v3.clone()],
                true,
            ),
            (
                "undone to what an earlier run of ours had made",
                vec![set(4, "v2", &moved("v2", 2, false, Some(1))), old_v3.clone()],
                true,
            ),
            (
                "not seen by its controller",
                vec![set(1, "v1", &none), old_v3.clone()],
                true,
            ),
            (
                "rolled back by us, and its hold taken off",
                vec![set(4, "v1", &moved("v3", 3, true, Some(3))), old_v3.clone()],
                false,
            ),
            (
                "rolled back by a version before",
                vec![set(4, "v1", &moved("v3", 3, true, None)), old_v3.clone()],
                false,
            ),
            (
                "rolled back by us, moved again, and undone",
                vec![
                    set(6, "v1", &moved("v3", 3, true, Some(3))),
                    set(5, "v3", &moved("v3", 3, false, Some(4))),
                ],
                true,
            ),
            (
                "moved on by us to a later release",
                vec![old_v3.clone(), set(4, "v4", &moved("v4", 4, false, Some(3)))],
                false,
            ),
            (
                "the same digest of an earlier release",
                vec![set(2, "v3", &moved("v3", 1, false, Some(1))), set(3, "v2", &none)],
                false,
            ),
            (
                "brought there by its team",
                vec![set(2, "v3", &none), set(3, "v1", &none)],
                false,
            ),
        ] {
            assert_eq!(v3_was_set_back(&sets), expected, "{name}");
        }
    }

    #[test]
    fn a_replica_set_of_another_workload_says_nothing() {
        let mut foreign = set(3, "v3", &moved("v3", 3, false, Some(2)));
        foreign["metadata"]["ownerReferences"][0]["uid"] = json!("other");
        assert!(!v3_was_set_back(&[set(4, "v1", &json!(null)), foreign]));
    }
}
