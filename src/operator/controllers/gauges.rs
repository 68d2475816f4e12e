//! What is measured over many objects: how many candidates stand where, how old each release is, how long workloads wait
//! for a release. Counted from the caches that the controllers have anyway; decides nothing and writes nothing.

use super::{context::Context, driver::Owned, wakes::Guarded};
use crate::{
    api::{BaseImage, ImageCandidate, RepaveRun, RepaveRunStatus, phase::Phase},
    runtime::metrics::{CandidateState, Metrics, WorkloadState},
};
use jiff::Timestamp;
use kube::{ResourceExt as _, runtime::reflector::Store};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// How often the caches are counted.
const PERIOD: Duration = Duration::from_secs(30);

/// Counts the candidates, for ever.
pub async fn candidates(metrics: Metrics, cache: Store<Guarded<ImageCandidate>>) {
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        let all = cache.state();
        for (state, count) in by_state(readable(&all)) {
            metrics.candidates(state, count);
        }
    }
}

/// Counts the workloads of all base images by what the newest run of each plan says, for ever.
pub async fn workloads(metrics: Metrics, cache: Store<Guarded<RepaveRun>>) {
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        let all = cache.state();
        for (base, counts) in by_base(readable(&all)) {
            metrics.workloads(&base, &counts);
        }
    }
}

/// The workloads of each base image (`namespace/name`) in each state. A workload that two plans select counts in both.
fn by_base<'a>(all: impl Iterator<Item = &'a RepaveRun>) -> BTreeMap<String, Vec<(WorkloadState, u32)>> {
    let mut newest: BTreeMap<(String, &str, &str), &RepaveRun> = BTreeMap::new();
    for run in all {
        let spec = &run.spec;
        let key = (
            run.namespace().unwrap_or_default(),
            spec.base_image.as_str(),
            spec.plan.as_str(),
        );
        let known = newest.entry(key).or_insert(run);
        if spec.sequence > known.spec.sequence {
            *known = run;
        }
    }
    let mut counts: BTreeMap<String, Vec<(WorkloadState, u32)>> = BTreeMap::new();
    for ((namespace, base, _), run) in newest {
        let of_base = counts
            .entry(format!("{namespace}/{base}"))
            .or_insert_with(|| WorkloadState::ALL.iter().map(|state| (*state, 0)).collect());
        let counted = run
            .status
            .as_ref()
            .map(|status| status.counts.clone())
            .unwrap_or_default();
        for (state, count) in of_base {
            *count = count.saturating_add(match state {
                WorkloadState::Current => counted.done,
                WorkloadState::Rolling => counted.rolling,
                WorkloadState::Outdated => counted.pending,
                WorkloadState::Held => counted.held,
                WorkloadState::Failed => counted.failed,
                WorkloadState::ReportedOnly => counted.skipped,
            });
        }
    }
    counts
}

/// Measures the releases of all base images, for ever.
pub async fn releases(ctx: Context, cache: Store<Guarded<BaseImage>>) {
    let (mut ticks, mut shown) = (tokio::time::interval(PERIOD), BTreeSet::new());
    loop {
        ticks.tick().await;
        let all = cache.state();
        show_ages(&ctx.metrics, readable(&all), &mut shown, ctx.now());
    }
}

fn readable<K: Owned>(all: &[Arc<Guarded<K>>]) -> impl Iterator<Item = &K> {
    all.iter().filter_map(|guarded| guarded.0.as_ref().ok())
}

/// How many candidates are in each state; a state that nobody is in counts 0.
fn by_state<'a>(all: impl Iterator<Item = &'a ImageCandidate>) -> Vec<(CandidateState, u32)> {
    let mut counts: Vec<(CandidateState, u32)> = CandidateState::ALL.iter().map(|state| (*state, 0)).collect();
    for candidate in all {
        let state = state(candidate);
        if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == state) {
            *count += 1;
        }
    }
    counts
}

fn state(candidate: &ImageCandidate) -> CandidateState {
    match candidate.status.as_ref().map_or(Phase::Pull, Phase::of) {
        Phase::Pull | Phase::Verify | Phase::Build | Phase::Check | Phase::Promote => CandidateState::Running,
        Phase::Released => CandidateState::Promoted,
        Phase::Rejected => CandidateState::Rejected,
        Phase::Error => CandidateState::Error,
        Phase::Superseded => CandidateState::Superseded,
    }
}

/// `shown` are the base images that have series; one that is gone loses them.
fn show_ages<'a>(
    metrics: &Metrics,
    all: impl Iterator<Item = &'a BaseImage>,
    shown: &mut BTreeSet<String>,
    now: Timestamp,
) {
    let mut there = BTreeSet::new();
    for base in all {
        let name = format!("{}/{}", base.namespace().unwrap_or_default(), base.name_any());
        if let Some(released) = base.status.as_ref().and_then(|status| status.released.as_ref()) {
            let age = now.duration_since(released.promoted_at.0);
            metrics.base_age(&name, Duration::try_from(age).unwrap_or_default());
        }
        there.insert(name);
    }
    for gone in shown.difference(&there) {
        metrics.forget_base(gone);
    }
    *shown = there;
}

/// Observes each workload that came to be healthy on the target with this status, with the time since its run was made.
pub fn repaved(run: &RepaveRun, new: &RepaveRunStatus, metrics: &Metrics, now: Timestamp) {
    // What was on the target before the run first looked was not moved by it.
    let (Some(old), Some(made)) = (&run.status, run.creation_timestamp()) else {
        return;
    };
    let took = Duration::try_from(now.duration_since(made.0)).unwrap_or_default();
    for _ in old.counts.done..new.counts.done {
        metrics.repaved(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn candidate(status: Value) -> ImageCandidate {
        let mut one = crate::controllers::candidate::example();
        one.status = serde_json::from_value(status).unwrap();
        one
    }

    #[test]
    fn every_candidate_is_counted_in_the_state_it_is_in_and_a_state_that_is_left_counts_nothing() {
        let metrics = Metrics::new();
        let show = |all: &[ImageCandidate]| {
            for (state, count) in by_state(all.iter()) {
                metrics.candidates(state, count);
            }
            metrics.encode().unwrap()
        };
        let mut all = vec![
            candidate(Value::Null),
            candidate(json!({"phase": "Check", "result": "Running"})),
            candidate(json!({"phase": "Released", "result": "Passed"})),
            candidate(json!({"result": "Superseded"})),
        ];
        let text = show(&all);
        for (state, count) in [("running", 2), ("promoted", 1), ("superseded", 1), ("error", 0)] {
            let line = format!("repave_candidates{{state=\"{state}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        all[1] = candidate(json!({"result": "Rejected"}));
        assert!(show(&all).contains("repave_candidates{state=\"running\"} 1\n"));
    }

    #[test]
    fn the_age_of_a_release_is_shown_until_its_base_image_is_gone() {
        let base: BaseImage = serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": "debian-12", "namespace": "team"},
            "spec": {"source": {"image": "up.local/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "hardened"}],
                "promote": {"repository": "r.local:5000/base", "channelTag": "12", "signing": {"keyRef": {"name": "key"}}}},
            "status": {"released": {"digest": format!("sha256:{}", "0".repeat(64)), "tag": "t", "candidate": "c",
                "sourceDigest": format!("sha256:{}", "0".repeat(64)), "promotedAt": "2026-01-01T00:00:00Z"}},
        }))
        .unwrap();
        let (metrics, mut shown) = (Metrics::new(), BTreeSet::new());
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        show_ages(&metrics, [&base].into_iter(), &mut shown, now);
        let line = "repave_base_age_seconds{base=\"team/debian-12\"} 3600.0";
        assert!(metrics.encode().unwrap().contains(line));
        show_ages(&metrics, std::iter::empty(), &mut shown, now);
        assert!(!metrics.encode().unwrap().contains("team/debian-12"));
    }

    fn run(plan: &str, sequence: u64, status: &Value) -> RepaveRun {
        serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "RepaveRun",
            "metadata": {"name": "r", "namespace": "team", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"plan": plan, "baseImage": "b", "candidate": "c", "repository": "r.local/base", "tag": "t",
                "digest": format!("sha256:{}", "0".repeat(64)), "sequence": sequence, "targets": {"namespaceSelector": {}}, "waves": [],
                "health": {}, "onFailure": {}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn the_workloads_of_a_base_image_are_those_of_the_newest_run_of_each_plan() {
        let status = |pending: u32, done: u32| json!({"counts": {"total": 9, "pending": pending, "rolling": 1, "done": done, "failed": 0, "held": 0, "skipped": 0}});
        let runs = [
            run("p", 2, &status(3, 4)),
            run("p", 1, &status(9, 9)),
            run("q", 1, &status(0, 5)),
            run("new", 1, &Value::Null),
        ];
        let metrics = Metrics::new();
        for (base, counts) in by_base(runs.iter()) {
            metrics.workloads(&base, &counts);
        }
        let text = metrics.encode().unwrap();
        for (state, count) in [("outdated", 3), ("current", 9), ("rolling", 2), ("failed", 0)] {
            let line = format!("repave_workloads{{base=\"team/b\",state=\"{state}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }

    #[test]
    fn each_workload_that_a_run_brought_to_its_target_is_observed_once() {
        let status = |done: u32| RepaveRunStatus {
            counts: serde_json::from_value(
                json!({"total": 9, "pending": 0, "rolling": 0, "done": done, "failed": 0,
                "held": 0, "skipped": 0}),
            )
            .unwrap(),
            ..RepaveRunStatus::default()
        };
        let metrics = Metrics::new();
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        repaved(&run("p", 1, &Value::Null), &status(3), &metrics, now);
        let seen = serde_json::to_value(status(3)).unwrap();
        repaved(&run("p", 1, &seen), &status(5), &metrics, now);
        repaved(&run("p", 1, &seen), &status(2), &metrics, now);
        let text = metrics.encode().unwrap();
        assert!(text.contains("repave_time_to_repave_seconds_count 2\n"), "{text}");
        assert!(text.contains("repave_time_to_repave_seconds_sum 7200.0\n"), "{text}");
    }
}
