//! Objects as the facts that pruning is decided by. Pure.

use super::observe::Observed;
use crate::{
    api::{BaseImage, ImageCandidate, RepaveRun, image_candidate::CandidateResult},
    domain::{
        digest::Digest,
        prune::{Candidate, Facts, Fate, Limits, Produced, Run},
    },
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use std::collections::BTreeSet;

/// The repositories that a BaseImage names: staging and production.
pub fn repositories(base: &BaseImage) -> [String; 2] {
    let production = base.spec.promote.repository.clone();
    let staging = base.spec.promote.staging_repository.clone();
    [staging.unwrap_or_else(|| format!("{production}-staging")), production]
}

/// What is decided by; what is in use is asked for separately. `others` are the repositories that other base images name.
pub fn facts(observed: &Observed, others: &BTreeSet<String>) -> Facts {
    let base = &observed.base;
    let status = base.status.clone().unwrap_or_default();
    let history = &observed.history.history;
    let candidates: Vec<Candidate> = observed.candidates.iter().map(candidate).collect();
    let production = &base.spec.promote.repository;
    let out = history.released().map(|entry| &entry.promotion);
    let previous = out
        .and_then(|out| history.previous(&out.repository))
        .map(|entry| &entry.promotion);
    let mut needed: BTreeSet<String> = [out, previous]
        .into_iter()
        .flatten()
        .map(|one| one.candidate.clone())
        .collect();
    needed.extend(status.candidate.map(|one| one.name));
    needed.extend(status.released.as_ref().map(|one| one.candidate.clone()));
    let mut needed_digests: BTreeSet<Digest> = [out, previous]
        .into_iter()
        .flatten()
        .map(|one| one.digest.clone())
        .collect();
    needed_digests.extend(status.upstream.map(|upstream| upstream.digest));
    needed_digests.extend(status.released.map(|release| release.digest));
    let foreign = |one: &&Candidate| {
        let staging = one.staging.to_string();
        observed.unreadable || staging == *production || others.contains(&staging)
    };
    let produced = candidates.iter().filter_map(|one| one.production.as_ref());
    let produced: Vec<_> = produced.map(|one| one.repository.clone()).collect();
    let produced = produced.into_iter();
    Facts {
        limits: Limits {
            releases: base.spec.history.releases as usize,
            rejected: base.spec.history.rejected as usize,
            from_production: base.spec.history.delete_from_production,
        },
        shared: candidates
            .iter()
            .filter(foreign)
            .map(|one| one.staging.clone())
            .chain(produced.filter(|one| observed.unreadable || others.contains(&one.to_string())))
            .collect(),
        newest: history
            .entries()
            .iter()
            .take(base.spec.history.releases as usize)
            .map(|entry| entry.promotion.digest.clone())
            .collect(),
        in_use: None,
        runs: observed.runs.iter().map(run).collect(),
        recorded: history
            .entries()
            .iter()
            .map(|entry| entry.promotion.digest.clone())
            .collect(),
        candidates,
        needed,
        needed_digests,
    }
}

fn candidate(object: &ImageCandidate) -> Candidate {
    let status = object.status.as_ref();
    let fate = match status.and_then(|status| status.result) {
        // Promoted and not entered yet, or the other way round: it is not decided.
        Some(CandidateResult::Passed) if status.is_some_and(|status| status.promoted.is_some()) => Fate::Promoted,
        Some(CandidateResult::Rejected | CandidateResult::Error | CandidateResult::Superseded) => Fate::NotPromoted,
        Some(CandidateResult::Passed | CandidateResult::Running | CandidateResult::Waiting) | None => Fate::Undecided,
    };
    let promoted = status.and_then(|status| status.promoted.as_ref());
    let built = status.and_then(|status| status.built_digest.as_ref());
    Candidate {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        sequence: object.spec.sequence,
        created: created(&object.metadata),
        fate,
        staging: object.spec.staging.clone(),
        source_digest: object.spec.source_digest.clone(),
        built: promoted.map(|promoted| &promoted.digest).or(built).cloned(),
        production: promoted.map(|promoted| Produced {
            repository: promoted.repository.clone(),
            tag: promoted.tag.clone(),
        }),
    }
}

fn run(object: &RepaveRun) -> Run {
    Run {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        plan: object.spec.plan.clone(),
        sequence: object.spec.sequence,
        created: created(&object.metadata),
        candidate: object.spec.candidate.clone(),
        digest: object.spec.digest.clone(),
        finished: object.status.as_ref().is_some_and(|status| status.finished.is_some()),
    }
}

fn created(meta: &ObjectMeta) -> Timestamp {
    meta.creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}
