//! The run of a release: how it is made, and how it is known again. Pure.

use crate::{
    api::{
        GROUP, RepavePlan, RepaveRun, RepaveRunSpec,
        refs::{LABEL_BASE_IMAGE, LABEL_PLAN},
    },
    domain::{digest::Digest, lineage::Release},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;
use std::collections::BTreeMap;

/// Whether a run was made for this release: the same digest can be released again, and two base images can share one.
pub fn is_run_of(run: &RepaveRun, release: &Release) -> bool {
    (&run.spec.base_image, &run.spec.digest, run.spec.sequence)
        == (&release.base_image, &release.digest, release.sequence)
}

/// Whether a run has come to its end.
pub fn is_finished(run: &RepaveRun) -> bool {
    run.status.as_ref().is_some_and(|status| status.finished.is_some())
}

/// The run for a release; its name says all that makes it one, so that there is never a second one.
pub fn run(plan: &RepavePlan, release: &Release) -> Option<RepaveRun> {
    let spec = RepaveRunSpec {
        plan: plan.name_any(),
        base_image: release.base_image.clone(),
        candidate: release.candidate.clone(),
        repository: release.repository.clone(),
        digest: release.digest.clone(),
        tag: release.tag.clone(),
        sequence: release.sequence,
        targets: plan.spec.targets.clone(),
        service_account_name: plan.spec.service_account_name.clone(),
        waves: plan.spec.waves.clone(),
        health: plan.spec.health.clone(),
        on_failure: plan.spec.on_failure.clone(),
    };
    Some(RepaveRun {
        metadata: ObjectMeta {
            name: Some(run_name(plan, release)),
            namespace: plan.namespace(),
            labels: Some(BTreeMap::from([
                (LABEL_PLAN.to_owned(), plan.name_any()),
                (LABEL_BASE_IMAGE.to_owned(), release.base_image.clone()),
            ])),
            owner_references: Some(vec![OwnerReference {
                api_version: format!("{GROUP}/v1alpha1"),
                kind: "RepavePlan".to_owned(),
                name: plan.name_any(),
                uid: plan.uid()?,
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    })
}

/// The name of the run of a plan for a release: `<plan>-<12 digits of the digest>-<8 digits>`, at most 62 characters. The last
/// part is of base image and sequence, because a digest can be released again and two base images can share one.
pub fn run_name(plan: &RepavePlan, release: &Release) -> String {
    let which = Digest::of(format!("{}/{}", release.base_image, release.sequence).as_bytes());
    format!("{}-{}-{}", plan.name_any(), release.digest.short(), &which.hex()[..8])
}
