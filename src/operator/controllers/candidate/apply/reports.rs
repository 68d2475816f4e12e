//! Keeps reports with the built image, and of the rescans of a release only the newest ones.
//!
//! Every new vulnerability database brings a report of each scan. Those that no candidate names any more are deleted beyond
//! a few, so that the list of what is attached to an image never fills up.

use super::{Error, push_auth};
use crate::{
    api::{ImageCandidate, ImageCandidateStatus, phase::Phase, refs::LABEL_BASE_IMAGE},
    controllers::{
        candidate::{observe::MAX_SIBLINGS, validate::ValidatedCandidate},
        context::Context,
        error::one_line,
        paging,
    },
    domain::digest::Digest,
    evidence::{self, ReportArtifact},
    readable::Guarded,
    registry::{ArtifactLayer, Auth, Deleted},
    runner::frame::{Attached, Delivery},
};
use bytes::Bytes;
use kube::{Api, ResourceExt as _, api::ListParams};
use std::collections::{BTreeMap, BTreeSet};

/// Reports of one check of a release that are kept although nothing names them any more.
const SUPERSEDED_KEPT: usize = 10;

/// Keeps a report with the built image in staging. It is large: taken, and let go before it is sent.
pub(super) async fn store(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
    image: &Digest,
    delivery: Delivery,
) -> Result<Digest, Error> {
    let auth = push_auth(candidate, validated, ctx).await?;
    let staged = validated.staging.at(image);
    let subject = ctx
        .registry
        .head(&staged, &auth)
        .await?
        .ok_or_else(|| Error::Lost(staged.to_string()))?;
    let released = candidate.status.as_ref().map(Phase::of) == Some(Phase::Released);
    if released && let Err(error) = prune(candidate, validated, ctx, image, &delivery.report.check, &auth).await {
        // The report itself may still find room.
        tracing::warn!(
            candidate = validated.name,
            error = one_line(&error),
            "superseded reports of rescans not deleted"
        );
    }
    let report = ReportArtifact {
        kind: delivery.report.check.clone(),
        json: Bytes::from(serde_json::to_vec(&delivery.report)?),
        attached: delivery.attached.into_iter().map(layer).collect(),
    };
    drop(delivery.report);
    ctx.leader.require()?;
    Ok(evidence::attach_report(&ctx.registry, &validated.staging, &subject, &report, &auth).await?)
}

fn layer(attached: Attached) -> ArtifactLayer {
    ArtifactLayer {
        media_type: format!("{}+gzip", attached.media_type),
        bytes: Bytes::from(attached.gzip),
        annotations: BTreeMap::from([(evidence::TITLE.to_owned(), format!("{}.gz", attached.name))]),
    }
}

/// Deletes the oldest reports of this check that nothing names, but for a few.
async fn prune(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
    image: &Digest,
    check: &str,
    auth: &Auth,
) -> Result<(), Error> {
    let kept = evidence::reports_of(&ctx.registry, &validated.staging, image, check, auth).await?;
    if kept.len() <= SUPERSEDED_KEPT {
        return Ok(());
    }
    let Some(named) = named(candidate, validated, ctx).await? else {
        tracing::warn!(
            candidate = validated.name,
            "a candidate cannot be read, which may name reports: none is deleted"
        );
        return Ok(());
    };
    let superseded: Vec<Digest> = kept.into_iter().filter(|one| !named.contains(one)).collect();
    let surplus = superseded.len().saturating_sub(SUPERSEDED_KEPT);
    if surplus == 0 {
        return Ok(());
    }
    ctx.leader.require()?;
    let deleted = ctx
        .registry
        .detach(&validated.staging, image, &superseded[..surplus], auth)
        .await?;
    match deleted {
        Deleted::Gone => tracing::info!(
            candidate = validated.name,
            check,
            surplus,
            "superseded reports of rescans deleted"
        ),
        Deleted::NotAllowed => tracing::debug!(check, "the registry does not delete superseded reports"),
    }
    Ok(())
}

/// Every report that a candidate of the same BaseImage names; none if one of them cannot be read.
async fn named(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
) -> Result<Option<BTreeSet<Digest>>, Error> {
    let label = format!("{LABEL_BASE_IMAGE}={}", candidate.spec.base_image);
    let params = ListParams::default().labels(&label);
    let api = Api::<Guarded<ImageCandidate>>::namespaced(ctx.client.clone(), &validated.namespace);
    let mut unreadable = false;
    let named = paging::list(&api, params, MAX_SIBLINGS, |guarded| {
        unreadable |= guarded.0.is_err();
        let one = guarded.0.ok()?;
        (one.uid() != candidate.uid()).then(|| of(one.status.as_ref()))
    })
    .await?;
    let all = named.into_iter().flatten().chain(of(candidate.status.as_ref()));
    Ok((!unreadable).then(|| all.collect()))
}

fn of(status: Option<&ImageCandidateStatus>) -> BTreeSet<Digest> {
    let checks = status.iter().flat_map(|status| &status.checks);
    let again = status.iter().flat_map(|status| &status.reevaluations);
    checks
        .filter_map(|check| check.report.clone())
        .chain(again.map(|again| again.report.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controllers::{
            candidate::{
                tests::{candidate, completed, planned},
                validate,
            },
            testing::Api as Server,
        },
        registry::testing::{TestRegistry, push_image},
    };
    use serde_json::json;

    #[tokio::test]
    async fn of_the_rescans_of_a_release_the_newest_stay_and_what_a_candidate_names_always() {
        let registry = TestRegistry::docker().await;
        let (server, client) = (Server::default(), registry.client());
        let mut ctx = server.context();
        ctx.registry = client.clone();
        let staging = registry.repository("staging");
        let image = push_image(&client, &staging, "built", &[b"one"]).await.digest;
        let mut candidate = candidate();
        candidate.spec.promote.push_secret_ref = None;
        candidate.spec.staging = staging.clone();
        let validated = validate::validate(&candidate).unwrap();
        let delivery = |evaluated: u64| {
            let mut report = completed(&planned("cves"), &image);
            report.evaluated = evaluated;
            Delivery {
                report,
                attached: Vec::new(),
            }
        };
        let mut all = Vec::new();
        for number in 0..15 {
            all.push(
                store(&candidate, &validated, &ctx, &image, delivery(number))
                    .await
                    .unwrap(),
            );
        }
        let names = |report: &Digest| {
            json!({"result": "Passed", "builtDigest": image, "checks": [{"name": "cves", "verdict": "Passed", "message": "",
                "evaluated": 1, "toolMillis": 1, "report": report}]})
        };
        let mut sibling = candidate.clone();
        sibling.metadata.name = Some("sibling".into());
        sibling.metadata.uid = Some("sibling".into());
        sibling.metadata.labels = Some([(LABEL_BASE_IMAGE.to_owned(), "debian-12".to_owned())].into());
        sibling.status = Some(serde_json::from_value(names(&all[1])).unwrap());
        server.put(&sibling);
        candidate.status = Some(serde_json::from_value(names(&all[0])).unwrap());
        let newest = store(&candidate, &validated, &ctx, &image, delivery(99)).await.unwrap();
        let auth = Auth::anonymous();
        let left = evidence::reports_of(&client, &staging, &image, "cves", &auth).await;
        let kept: Vec<Digest> = [0, 1]
            .into_iter()
            .chain(5..15)
            .map(|at| all[at].clone())
            .chain([newest])
            .collect();
        assert_eq!(left.unwrap(), kept);
        assert_eq!(
            client.head(&staging.at(&all[2]), &auth).await.unwrap(),
            None,
            "it is gone for good"
        );
    }
}
