//! Which Jobs count against the limits: those that run for a candidate that exists, and our own self-tests.

use super::Slots;
use crate::api::{ImageCandidate, refs::LABEL_SELF_TEST};
use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};

/// The longest deadline of a Job of ours, in seconds: a check of an hour and what its pod takes.
const LONGEST_JOB: i64 = 3_600 + 300;

impl Slots {
    pub(super) fn counts(&self, job: &Job) -> bool {
        if is_finished(job) || is_suspended(job) || !ends_in_time(job) {
            return false;
        }
        if job.namespace().as_deref() == Some(self.own_namespace.as_str()) && job.labels().contains_key(LABEL_SELF_TEST)
        {
            return true;
        }
        let mut owners = job.owner_references().iter();
        let (kind, version) = (ImageCandidate::kind(&()), ImageCandidate::api_version(&()));
        let ours = |owner: &&OwnerReference| {
            owner.controller == Some(true) && owner.kind == kind && owner.api_version == version
        };
        let Some(owner) = owners.find(ours) else {
            return false;
        };
        let Some(candidates) = self.candidates.get() else {
            return true;
        };
        let at = ObjectRef::new(&owner.name).within(&job.namespace().unwrap_or_default());
        candidates
            .get(&at)
            .is_some_and(|live| live.meta().uid.as_ref() == Some(&owner.uid))
    }
}

/// Whether a Job has ended, well or badly.
pub fn is_finished(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter()
            .any(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")
    })
}

/// Whether a Job has a deadline as ours have: one that may run for ever is none of ours, and would take a slot for ever.
fn ends_in_time(job: &Job) -> bool {
    let deadline = job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
    deadline.is_some_and(|seconds| seconds <= LONGEST_JOB)
}

/// Whether a Job is held back: it has no pod and gets none.
pub fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true)
}
