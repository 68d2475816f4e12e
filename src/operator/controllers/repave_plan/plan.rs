//! Which runs are made or opened again. Pure: a proven release that something outdated waits for, and that has no run yet,
//! gets one; a finished run goes on when something can be moved again.
//!
//! It is the same run and no second one, because its name is the mark on the workloads that it moved: what somebody set
//! back after that run is known by it, and is not moved again.
//!
//! A newer release gets its own run even while an older one is at work: the older one sees that it is superseded.

use super::observe::{Observed, Released, is_run_of};
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

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Makes a run.
    CreateRun(Box<RepaveRun>),
    /// Has a finished run look again: something that it can move is outdated.
    Reopen {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What is done next.
pub fn plan(plan: &RepavePlan, observed: &Observed) -> Vec<Action> {
    if plan.spec.suspend {
        return Vec::new();
    }
    let mut actions = Vec::new();
    for base in &observed.bases {
        let (Released::Proven(release), Some(1..)) = (&base.release, base.outdated) else {
            continue;
        };
        let there = observed.runs.iter().find(|run| is_run_of(run, release));
        match there {
            Some(run) if base.standing.movable_by_run > 0 && is_finished(run) => actions.push(Action::Reopen {
                namespace: run.namespace().unwrap_or_default(),
                name: run.name_any(),
            }),
            Some(_) => {}
            None => actions.extend(run(plan, release).map(|run| Action::CreateRun(Box::new(run)))),
        }
    }
    actions
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
