//! Follows the attempts at a Job and reads what its pod delivered. Reads only.
//!
//! A name or a label proves nothing: a Job is the candidate's by the UID of its controller, and a pod is the Job's by the
//! same rule. Whatever else has the name is foreign, and nothing it says counts.

use super::{Error, JobRef, JobState, MAX_ATTEMPTS, pod, self_tests::SelfTest};
use crate::controllers::named::Named as _;
use crate::{
    api::{
        ImageCandidate,
        refs::{LABEL_CANDIDATE, LABEL_SELF_TEST},
    },
    controllers::{
        candidate::{
            jobs::{attempt_name, difference, difference_of_pod, is_self_test},
            validate::ValidatedCandidate,
        },
        context::Context,
        paging, slots, writes,
    },
    readable::Guarded,
    runner::frame::{self, Termination},
};
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api,
    api::{ListParams, LogParams},
};

/// Most Jobs of one candidate that are looked at: its checks, its build and their attempts are far fewer.
const MAX_JOBS: usize = 500;
/// Jobs or pods in one page: they are read whole, and whoever may make them there may make large ones.
const PAGE: u32 = 4;

/// The candidate's own Jobs, without self-tests: those are read by other candidates too.
pub(super) async fn own(validated: &ValidatedCandidate, ctx: &Context) -> Result<Vec<JobRef>, Error> {
    let label = format!("{LABEL_CANDIDATE}={},!{LABEL_SELF_TEST}", validated.name);
    let params = ListParams::default().labels(&label).limit(PAGE);
    let api = Api::<Guarded<Job>>::namespaced(ctx.client.clone(), &validated.namespace);
    // One that cannot be read is none of ours.
    let mine = |job: Guarded<Job>| {
        let job = job.0.ok()?;
        let ours = is_owned(&job, validated);
        let (name, uid) = (job.metadata.name?, job.metadata.uid?);
        ours.then_some(JobRef { name, uid })
    };
    Ok(paging::list(&api, params, MAX_JOBS, mine).await?)
}

/// Follows the attempts at one Job of this candidate to the newest and reads what its main container delivered.
pub(super) async fn job<T>(
    ctx: &Context,
    validated: &ValidatedCandidate,
    (name, container): (&str, &str),
    asked: impl Fn(u32) -> Job,
    read: impl Fn(&[u8], Termination) -> Result<T, String>,
) -> Result<JobState<T>, Error> {
    let stranger = |job: &Job, attempt| {
        if !is_owned(job, validated) {
            return Some(not_ours(job));
        }
        // Of another version of Repave, or forged: it is as if it were not there, and is replaced when it is made.
        let difference = difference(&asked(attempt), job)?;
        tracing::warn!(
            job = job.metadata.name,
            difference,
            "a Job runs something else than was asked for"
        );
        Some(JobState::Absent(attempt))
    };
    follow(ctx, &validated.namespace, name, container, stranger, read).await
}

/// The same for a self-test, which several candidates share and which runs in our own namespace.
pub(super) async fn self_test_job<T>(
    ctx: &Context,
    test: &SelfTest,
    name: &str,
    read: impl Fn(&[u8], Termination) -> Result<T, String>,
) -> Result<JobState<T>, Error> {
    let stranger = |job: &Job, _: u32| {
        (!is_self_test(job, test.tool, &ctx.settings))
            .then(|| foreign(job.metadata.name.as_deref().unwrap_or_default()))
    };
    follow(ctx, &ctx.settings.namespace, name, "check", stranger, read).await
}

async fn follow<T>(
    ctx: &Context,
    namespace: &str,
    name: &str,
    container: &str,
    stranger: impl Fn(&Job, u32) -> Option<JobState<T>>,
    read: impl Fn(&[u8], Termination) -> Result<T, String>,
) -> Result<JobState<T>, Error> {
    let jobs = Api::<Guarded<Job>>::namespaced(ctx.client.clone(), namespace);
    let mut newest = None;
    for attempt in 1..=MAX_ATTEMPTS {
        match jobs.named(&attempt_name(name, attempt)).await? {
            Some(job) => newest = Some((attempt, job)),
            None => break,
        }
    }
    let Some((attempt, job)) = newest else {
        return Ok(JobState::Absent(1));
    };
    let Ok(job) = job.0 else {
        return Ok(foreign(&attempt_name(name, attempt)));
    };
    if let Some(state) = stranger(&job, attempt) {
        return Ok(state);
    }
    if slots::is_suspended(&job) {
        // It was created, and what comes after that was not done: it is done when it is created again.
        return Ok(JobState::Absent(attempt));
    }
    let pods = pods_of(ctx, namespace, &job).await?;
    if !slots::is_finished(&job) {
        return Ok(JobState::Running(pods.waiting()));
    }
    match delivered(ctx, namespace, &pods, container, read).await? {
        Ok(delivery) => Ok(JobState::Delivered(delivery)),
        // The next attempt is decided elsewhere; here it is only said that this one is over.
        Err(message) => Ok(JobState::Broken { attempt, message }),
    }
}

/// What to say about a Job that has the name and is not this candidate's.
fn not_ours<T>(job: &Job) -> JobState<T> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let owner = controller(job.metadata.owner_references.as_ref());
    // Either a candidate of the same name was deleted: its Jobs say nothing about this one and are collected soon. Or
    // another candidate examines the same image: its report is taken over when it is judged.
    if let Some(owner) = owner.filter(|owner| owner.kind == "ImageCandidate") {
        return JobState::Running(format!(
            "ImageCandidate {} examines the same with Job {name}: its report is taken over, or this one starts when that is gone",
            owner.name
        ));
    }
    foreign(name)
}

/// A Job that has the name of one of ours and is none.
fn foreign<T>(name: &str) -> JobState<T> {
    JobState::Foreign(format!(
        "Job {name} was not made by Repave, and nothing it reports counts: delete it, and this goes on by itself"
    ))
}

fn controller(owners: Option<&Vec<OwnerReference>>) -> Option<&OwnerReference> {
    owners
        .into_iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// Whether this candidate, and not one of the same name, controls the Job.
fn is_owned(job: &Job, validated: &ValidatedCandidate) -> bool {
    writes::is_controlled_by::<ImageCandidate>(job, &validated.uid)
}

/// Pods with the label of a Job.
#[derive(Debug, Default)]
struct Pods {
    /// The one that the Job made.
    own: Option<Pod>,
    /// More than one says to be it: a Job of ours has one, so that nobody knows which.
    several: bool,
    /// How many others carry its label.
    foreign: usize,
    /// What is not as it must be with the first of them that is the Job's by its owner.
    difference: Option<String>,
}

impl Pods {
    /// The Job's own is controlled by its UID and runs its template. The controller of Jobs takes in every pod with the right
    /// labels that has no owner, so the owner alone proves nothing.
    fn add(&mut self, job: &Job, pod: Pod) {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        if !writes::is_controlled_by::<Job>(&pod, uid) {
            self.foreign += 1;
        } else if let Some(difference) = difference_of_pod(&pod, job) {
            self.foreign += 1;
            self.difference.get_or_insert(difference);
        } else if self.own.is_some() || self.several {
            self.own = None;
            self.several = true;
        } else {
            self.own = Some(pod);
        }
    }

    fn waiting(&self) -> String {
        let own = self.own.as_ref();
        own.map_or_else(|| format!("waiting for its pod{}", self.others()), pod::describe)
    }

    fn others(&self) -> String {
        let several = if self.several {
            "; several pods are as its own would be, and none is believed: look who makes pods here"
        } else {
            ""
        };
        if self.foreign == 0 {
            return several.to_owned();
        }
        let why = self
            .difference
            .as_ref()
            .map(|why| format!(" ({why})"))
            .unwrap_or_default();
        format!(
            "{several}; {} pods carry its label and are not its own{why}: nothing they report counts",
            self.foreign
        )
    }
}

/// Most pods with the label of a Job; a Job of ours has one. With more it is not known which is its own.
const MAX_PODS: usize = 500;

async fn pods_of(ctx: &Context, namespace: &str, job: &Job) -> Result<Pods, Error> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let label = format!("batch.kubernetes.io/job-name={name}");
    let params = ListParams::default().labels(&label).limit(PAGE);
    let api = Api::<Guarded<Pod>>::namespaced(ctx.client.clone(), namespace);
    let mut pods = Pods::default();
    paging::list(&api, params, MAX_PODS, |pod| {
        if let Ok(pod) = pod.0 {
            pods.add(job, pod);
        }
        None::<()>
    })
    .await?;
    Ok(pods)
}

async fn delivered<T>(
    ctx: &Context,
    namespace: &str,
    pods: &Pods,
    container: &str,
    read: impl Fn(&[u8], Termination) -> Result<T, String>,
) -> Result<Result<T, String>, Error> {
    let pod = pods.own.as_ref();
    let termination = match pod::ended(pod, container) {
        Ok(termination) => termination,
        Err(message) => return Ok(Err(format!("{message}{}", pods.others()))),
    };
    let log = match &termination {
        Termination::Reported(_) => match pod {
            Some(pod) => log_of(ctx, namespace, pod, container).await?,
            None => Vec::new(),
        },
        Termination::Pulled { .. }
        | Termination::Pushed { .. }
        | Termination::Built { .. }
        | Termination::Installed { .. }
        | Termination::Copied { .. }
        | Termination::Failed(_) => Vec::new(),
    };
    Ok(read(&log, termination))
}

async fn log_of(ctx: &Context, namespace: &str, pod: &Pod, container: &str) -> Result<Vec<u8>, Error> {
    let limit = i64::try_from(frame::MAX_LOG).unwrap_or(i64::MAX);
    let params = LogParams {
        container: Some(container.to_owned()),
        limit_bytes: Some(limit),
        ..LogParams::default()
    };
    let name = pod.metadata.name.clone().unwrap_or_default();
    let api = Api::<Pod>::namespaced(ctx.client.clone(), namespace);
    match api.logs(&name, &params).await {
        Ok(log) => Ok(log.into_bytes()),
        // A log that was collected with its pod reads as empty: the report is then torn, never passed.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn validated() -> ValidatedCandidate {
        let candidate = crate::controllers::candidate::tests::candidate();
        crate::controllers::candidate::validate::validate(&candidate).unwrap()
    }

    fn owner(kind: &str, uid: &str, controller: bool) -> Value {
        let version = match kind {
            "ImageCandidate" => "repave.dev/v1alpha1",
            "Job" => "batch/v1",
            _ => "v1",
        };
        json!({"apiVersion": version, "kind": kind, "name": "one", "uid": uid, "controller": controller})
    }

    fn job_of(owner: &Value) -> Job {
        serde_json::from_value(
            json!({"metadata": {"name": "check", "uid": "job", "ownerReferences": [owner]},
            "spec": {"template": {"spec": {"containers": [{"name": "check", "image": "r.test/tools:1"}]}}}}),
        )
        .unwrap()
    }

    fn pod_of(name: &str, owner: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name, "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "check", "image": "r.test/tools:1"}]}}))
        .unwrap()
    }

    #[test]
    fn a_job_is_the_candidates_only_by_the_uid_of_its_controller() {
        assert!(is_owned(&job_of(&owner("ImageCandidate", "u", true)), &validated()));
        for (other, waits) in [
            (owner("ImageCandidate", "another", true), true),
            (owner("ImageCandidate", "u", false), false),
            (owner("CronJob", "c", true), false),
        ] {
            let job = job_of(&other);
            assert!(!is_owned(&job, &validated()), "{other}");
            match not_ours::<()>(&job) {
                JobState::Running(why) => assert!(waits && why.contains("ImageCandidate one"), "{why}"),
                JobState::Foreign(why) => assert!(!waits && why.contains("delete it"), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_pod_with_the_label_of_the_job_and_another_owner_is_counted_and_not_believed() {
        let job = job_of(&owner("ImageCandidate", "u", true));
        let forged = pod_of("a-forged", &owner("Job", "another", true));
        let of = |pods: &[Pod]| {
            let mut sorted = Pods::default();
            for pod in pods {
                sorted.add(&job, pod.clone());
            }
            sorted
        };
        let alone = of(std::slice::from_ref(&forged));
        assert_eq!((alone.own.is_none(), alone.foreign), (true, 1));
        assert!(alone.waiting().contains("are not its own"), "{}", alone.waiting());
        let own = pod_of("own", &owner("Job", "job", true));
        let both = of(&[forged, own.clone()]);
        assert_eq!((both.own, both.foreign), (Some(own.clone()), 1));
        let twice = of(&[own.clone(), own.clone(), own]);
        assert!(
            twice.own.is_none() && twice.waiting().contains("several pods"),
            "{}",
            twice.waiting()
        );
    }

    #[test]
    fn a_job_that_somebody_else_made_with_the_uid_of_the_candidate_is_not_believed() {
        let mut forged = job_of(&owner("Deployment", "u", true));
        forged.spec = serde_json::from_value(json!({"template": {"spec": {"containers": [
            {"name": "check", "image": "evil.example/print-a-report"}]}}}))
        .unwrap();
        assert!(!is_owned(&forged, &validated()), "an owner of another kind");
    }
}
