//! Jobs of a candidate: started where a slot is free, deleted when nobody wants the candidate any more.

use super::{Applied, Error};
use crate::{
    api::{
        ImageCandidate,
        refs::{ANNOTATION_URGENT, LABEL_SELF_TEST},
    },
    controllers::{
        candidate::{observe::JobRef, validate::Wish},
        context::Context,
        writes::{self, WriteError},
    },
    runtime::metrics::Kind,
};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::{Resource, ResourceExt};

/// Creates the Jobs that get a slot. Nobody else starts one in between, so it comes before everything slow.
pub(super) async fn start(
    jobs: Vec<(Box<ConfigMap>, Box<Job>)>,
    candidate: &ImageCandidate,
    wish: &Wish,
    ctx: &Context,
    applied: &mut Applied,
) -> Result<(), Error> {
    if jobs.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = jobs.iter().map(|(_, job)| job.name_any()).collect();
    let urgent = candidate.annotations().contains_key(ANNOTATION_URGENT);
    let admitted = ctx.slots.admit(&ctx.client, &wish.namespace, &names, urgent).await?;
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
/// ConfigMap outlives its Job.
async fn start_job(ctx: &Context, candidate: &ImageCandidate, mut inputs: ConfigMap, job: &Job) -> Result<(), Error> {
    let candidate = candidate.uid().unwrap_or_default();
    let in_our_namespace = job.namespace().as_deref() == Some(ctx.settings.namespace.as_str());
    let ours = |there: &Job| {
        writes::is_controlled_by(there, &candidate)
            || (in_our_namespace && there.labels().contains_key(LABEL_SELF_TEST))
    };
    let job = writes::create_once(ctx, Kind::Job, job, ours)
        .await
        .map_err(too_large)?
        .into_object();
    let uid = job.uid().unwrap_or_default();
    inputs.metadata.owner_references = job.controller_owner_ref(&()).map(|owner| vec![owner]);
    // One of an older version belongs to the candidate; its name says what is in it.
    let ours = |there: &ConfigMap| writes::is_controlled_by(there, &uid) || writes::is_controlled_by(there, &candidate);
    writes::create_once(ctx, Kind::ConfigMap, &inputs, ours)
        .await
        .map_err(too_large)?;
    if job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) {
        writes::resume(ctx, &job).await?;
    }
    Ok(())
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
pub(super) async fn delete(job: &JobRef, wish: &Wish, ctx: &Context) -> Result<(), Error> {
    writes::delete_once::<Job>(ctx, Kind::Job, &wish.namespace, &job.name, &job.uid).await?;
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
}
