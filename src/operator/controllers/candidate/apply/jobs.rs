//! Jobs of a candidate: started where a slot is free, deleted when nobody wants the candidate any more.

use super::{Applied, Error};
use crate::{
    api::{
        ImageCandidate,
        refs::{ANNOTATION_URGENT, LABEL_SELF_TEST},
    },
    controllers::{
        candidate::{jobs, observe::JobRef, validate::ValidatedCandidate},
        context::Context,
        writes::{self, Created, WriteError},
    },
    runtime::metrics::Kind,
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{batch::v1::Job, core::v1::ConfigMap},
};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Creates the Jobs that get a slot. Nobody else starts one in between, so it comes before everything slow.
pub(super) async fn start(
    jobs: Vec<(Box<ConfigMap>, Box<Job>)>,
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
    applied: &mut Applied,
) -> Result<(), Error> {
    if jobs.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = jobs.iter().map(|(_, job)| job.name_any()).collect();
    let urgent = candidate.annotations().contains_key(ANNOTATION_URGENT);
    let admitted = ctx
        .slots
        .admit(&ctx.client, &validated.namespace, &names, urgent)
        .await?;
    for (inputs, job) in jobs {
        if admitted.contains(&job.name_any()) {
            start_job(ctx, candidate, *inputs, &job).await?;
            applied.jobs.push(job.name_any());
        } else {
            applied.queued.push(job.name_any());
            applied.ask_again = Some(admitted.ask_again);
        }
    }
    Ok(())
}

/// Job first and suspended, then its ConfigMap, which belongs to it and goes with it; then it may run. A crash in between
/// leaves a suspended Job, which is taken up here again: no pod ever waits for a ConfigMap that nobody makes, and no
/// ConfigMap outlives its Job. What is there under the name is compared with what was asked for before anything runs: who may
/// create Jobs or ConfigMaps there knows the candidate's UID too.
async fn start_job(ctx: &Context, candidate: &ImageCandidate, mut inputs: ConfigMap, job: &Job) -> Result<(), Error> {
    let candidate = candidate.uid().unwrap_or_default();
    let in_our_namespace = job.namespace().as_deref() == Some(ctx.settings.namespace.as_str());
    let ours = |there: &Job| {
        writes::is_controlled_by::<ImageCandidate>(there, &candidate)
            || (in_our_namespace && there.labels().contains_key(LABEL_SELF_TEST))
    };
    let created = writes::create_once(ctx, Kind::Job, job, ours)
        .await
        .map_err(too_large)?;
    let job = as_asked(ctx, Kind::Job, created, |there| jobs::difference(job, there)).await?;
    let uid = job.uid().unwrap_or_default();
    inputs.metadata.owner_references = job.controller_owner_ref(&()).map(|owner| vec![owner]);
    // One of an older version belongs to the candidate; its name says what is in it.
    let ours = |there: &ConfigMap| {
        writes::is_controlled_by::<Job>(there, &uid) || writes::is_controlled_by::<ImageCandidate>(there, &candidate)
    };
    let created = writes::create_once(ctx, Kind::ConfigMap, &inputs, ours)
        .await
        .map_err(too_large)?;
    as_asked(ctx, Kind::ConfigMap, created, |there| other_inputs(&inputs, there)).await?;
    if job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) {
        writes::resume(ctx, &job).await?;
    }
    Ok(())
}

/// What was created or found, if it is what was asked for. Otherwise this very object is deleted, because it says to be ours.
async fn as_asked<K>(
    ctx: &Context,
    metric: Kind,
    created: Created<K>,
    difference: impl Fn(&K) -> Option<String>,
) -> Result<K, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let made = matches!(&created, Created::Made(_));
    let there = created.into_object();
    let Some(difference) = difference(&there) else {
        return Ok(there);
    };
    let (kind, name, namespace) = (metric.as_str(), there.name_any(), there.namespace().unwrap_or_default());
    writes::delete_once::<K>(ctx, metric, &namespace, &name, &there.uid().unwrap_or_default()).await?;
    Err(if made {
        Error::Changed { kind, name, difference }
    } else {
        Error::Forged { kind, name, difference }
    })
}

/// How a ConfigMap is not the inputs that were asked for. One that can be changed later is none.
fn other_inputs(asked: &ConfigMap, found: &ConfigMap) -> Option<String> {
    if found.immutable != Some(true) {
        return Some("expected it to be immutable, found that it is not".to_owned());
    }
    let keys = |map: &ConfigMap| {
        map.data
            .iter()
            .flatten()
            .map(|(key, _)| key.clone())
            .collect::<Vec<_>>()
    };
    let same = asked.data.clone().unwrap_or_default() == found.data.clone().unwrap_or_default();
    let more = found.binary_data.iter().flatten().next().is_some();
    (!same || more).then(|| {
        let (asked, found) = (keys(asked).join(", "), keys(found).join(", "));
        format!("expected the inputs of this check ({asked}), found other content ({found})")
    })
}

/// An object that the API server or etcd refused for its size: the same one is refused for ever, and a person can help.
fn too_large(error: WriteError) -> Error {
    match error {
        WriteError::Api { kind, name, cause } if writes::is_too_large(&cause) => Error::TooLarge {
            kind: kind.to_owned(),
            name,
        },
        error => error.into(),
    }
}

/// Deletes this Job and its pods; one that is gone, or has ended and was replaced by another of its name, is no failure.
pub(super) async fn delete(job: &JobRef, validated: &ValidatedCandidate, ctx: &Context) -> Result<(), Error> {
    writes::delete_once::<Job>(ctx, Kind::Job, &validated.namespace, &job.name, &job.uid).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::error::{Class, Classified as _};

    #[test]
    fn only_a_refusal_for_size_is_for_ever() {
        let refusal = |code, message: &str| {
            let mut status = kube::core::Status::failure(message, "Invalid");
            status.code = code;
            WriteError::Api {
                kind: "ConfigMap",
                name: "repave-check-1".into(),
                cause: Box::new(kube::Error::Api(Box::new(status))),
            }
        };
        for (code, message, large) in [
            (500, "etcdserver: request is too large", true),
            (
                422,
                "ConfigMap \"x\" is invalid: []: Too long: may not be more than 1048576 bytes",
                true,
            ),
            (413, "limit is 3145728", true),
            (422, "metadata.name: Invalid value", false),
            (429, "the server is busy", false),
        ] {
            let error = too_large(refusal(code, message));
            assert_eq!(matches!(error, Error::TooLarge { .. }), large, "{message}");
        }
        let error = Error::TooLarge {
            kind: "ConfigMap".into(),
            name: "repave-check-1".into(),
        };
        assert_eq!(error.class(), Class::Stalled);
        assert!(error.to_string().contains("divide it into several checks"));
    }

    fn pair(candidate: &ImageCandidate) -> (ConfigMap, Job) {
        let owner = candidate.controller_owner_ref(&()).unwrap();
        let namespace = candidate.namespace().unwrap();
        let job = serde_json::json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "repave-check-1", "namespace": namespace, "ownerReferences": [owner]},
            "spec": {"suspend": true, "template": {"spec": {"containers": [{"name": "check", "image": "r.test/ours"}]}}}});
        let inputs = serde_json::json!({"metadata": {"name": "repave-check-1", "namespace": namespace},
            "immutable": true, "data": {"options.json": "{\"strict\":true}"}});
        (
            serde_json::from_value(inputs).unwrap(),
            serde_json::from_value(job).unwrap(),
        )
    }

    /// Who may create ConfigMaps, and neither pods nor policies, knows the name and the UID of the candidate.
    #[tokio::test]
    async fn inputs_that_somebody_put_there_before_are_not_what_a_check_runs_with() {
        let server = crate::controllers::testing::Api::default();
        let ctx = server.context();
        let candidate = crate::controllers::candidate::example();
        let (inputs, job) = pair(&candidate);
        let mut forged = inputs.clone();
        forged.data = Some([("options.json".to_owned(), "{\"strict\":false}".to_owned())].into());
        forged.metadata.owner_references = candidate.controller_owner_ref(&()).map(|owner| vec![owner]);
        server.put(&forged);
        let started = start_job(&ctx, &candidate, inputs, &job).await;
        let at = format!("{}/repave-check-1", candidate.namespace().unwrap());
        let (map, job) = (server.get("configmaps", &at), server.get("jobs", &at));
        let runs = job.is_some_and(|job| job["spec"]["suspend"] != true);
        assert!(started.is_err() && !runs, "the Job runs with {map:?}");
        let (inputs, job) = pair(&candidate);
        start_job(&ctx, &candidate, inputs, &job).await.unwrap();
        let map = server.get("configmaps", &at).unwrap();
        assert_eq!(
            map["data"]["options.json"], "{\"strict\":true}",
            "the forged one is gone"
        );
        assert_ne!(server.get("jobs", &at).unwrap()["spec"]["suspend"], true);
    }

    #[tokio::test]
    async fn a_job_that_somebody_put_there_before_is_not_let_run() {
        let server = crate::controllers::testing::Api::default();
        let ctx = server.context();
        let candidate = crate::controllers::candidate::example();
        let (inputs, job) = pair(&candidate);
        let mut forged = serde_json::to_value(&job).unwrap();
        forged["spec"]["template"]["spec"]["containers"][0]["image"] = "evil.example/print-a-report".into();
        server.put(&forged);
        let started = start_job(&ctx, &candidate, inputs, &job).await;
        let at = format!("{}/repave-check-1", candidate.namespace().unwrap());
        let runs = server
            .get("jobs", &at)
            .is_some_and(|job| job["spec"]["suspend"] != true);
        assert!(started.is_err() && !runs, "the operator itself has let it run");
        let (inputs, job) = pair(&candidate);
        start_job(&ctx, &candidate, inputs, &job).await.unwrap();
        let image = &server.get("jobs", &at).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(image, "r.test/ours", "the forged one is gone");
    }
}
