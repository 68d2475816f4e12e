//! Which other runs are at work on the workloads of this one: the run that moved a workload first keeps it until it has finished,
//! be it of another plan or of another base image of the same plan. Reads only.
//!
//! Anyone who may edit a workload may name any run on it: that keeps this run off that workload and has no other effect.

use super::{consumption::consumption, observe::Observed, validate::Validated};
use crate::domain::text::is_shown;
use crate::{
    api::RepaveRun,
    controllers::{context::Context, named::Named as _},
    domain::{digest::Digest, lineage::ReleaseIndex, object_name::ObjectName, workload::Workload},
    readable::Guarded,
};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Other runs that are asked for at one look; more than a few plans over one workload are a mistake. What is not asked for is
/// taken as at work for this look, and another look asks for others.
const MAX_RUNS: usize = 512;
/// Of those that the workloads of one namespace name: whoever makes names up there keeps back his own workloads only, and a plan
/// of many base images has a run for each.
const MAX_OF_A_NAMESPACE: usize = 32;
/// Requests at the same time.
const AT_ONCE: usize = 4;

/// The run of another plan, or of another base image, that a workload says it was moved by. An earlier run of this base image
/// goes by the order of releases.
pub fn other_run<'a>(v: &Validated, workload: &'a Workload, releases: &ReleaseIndex) -> Option<&'a str> {
    let record = workload.record()?;
    let run = workload.annotations.run.as_deref().filter(|run| *run != v.run_ref)?;
    let earlier = releases
        .by_digest(&record.digest)
        .is_some_and(|release| release.base_image == v.base_image);
    (!is_of_this_plan(v, workload) || !earlier).then_some(run)
}

/// Whether a run of this plan wrote a workload last.
pub fn is_of_this_plan(v: &Validated, workload: &Workload) -> bool {
    workload.record().is_some_and(|record| record.plan == v.plan_key())
}

/// How that plan is called in what this run says: by its name if it is in the same namespace. In another one, whoever reads
/// this may have no right to know it.
pub fn name_for(v: &Validated, workload: &Workload) -> Option<String> {
    let record = workload.record()?;
    let (namespace, name) = record.plan.split_once('/')?;
    (namespace == v.namespace).then(|| name.chars().filter(|c| is_shown(*c)).take(63).collect())
}

/// The other runs that are on the targets in this estate and have not finished, as `namespace/name`. `look` is another one at
/// each look: which of too many are asked for.
pub async fn active_runs(
    ctx: &Context,
    v: &Validated,
    observed: &Observed,
    look: Duration,
) -> Result<BTreeSet<String>, kube::Error> {
    let named = named(v, observed);
    let asked = asked(&named, look);
    let all = named.values().flatten();
    // An answer counts for everybody; what nobody answers for is at work.
    let mut active: BTreeSet<String> = all
        .filter(|run| !asked.contains(**run))
        .map(|run| (*run).to_owned())
        .collect();
    let answers: Vec<Option<String>> = stream::iter(asked.into_iter().map(str::to_owned))
        .map(|run: String| async move { Ok::<_, kube::Error>(is_active(ctx, &run).await?.then_some(run)) })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    active.extend(answers.into_iter().flatten());
    Ok(active)
}

/// The runs that the targets name, by namespace. Whose other workloads name what is nothing to this run.
fn named<'a>(v: &Validated, observed: &'a Observed) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut named: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let Some(target) = &observed.target else {
        return named;
    };
    for seen in &observed.estate.workloads {
        let found = consumption(seen, target);
        if (found.current || !found.outdated.is_empty())
            && let Some(run) = other_run(v, &seen.workload, &observed.releases)
        {
            named.entry(&seen.workload.key.namespace).or_default().insert(run);
        }
    }
    named
}

/// The runs that are asked for: the same share of each namespace, so that many names in one take no place of another. Where
/// they are too many, each look asks for others.
fn asked<'a>(named: &BTreeMap<&str, BTreeSet<&'a str>>, look: Duration) -> BTreeSet<&'a str> {
    let mut named: Vec<Vec<&'a str>> = named.values().map(|runs| runs.iter().copied().collect()).collect();
    let rounds = named.iter().map(Vec::len).max().unwrap_or(0).min(MAX_OF_A_NAMESPACE);
    if rounds.saturating_mul(named.len()) > MAX_RUNS {
        named.sort_by_cached_key(|runs| place(look, runs.first().copied().unwrap_or_default()));
    }
    for runs in named.iter_mut().filter(|runs| runs.len() > MAX_OF_A_NAMESPACE) {
        runs.sort_by_cached_key(|run| place(look, run));
    }
    let named = &named;
    let rounds = (0..rounds).flat_map(|nth| named.iter().filter_map(move |runs| runs.get(nth)));
    let mut asked = BTreeSet::new();
    for run in rounds {
        if asked.len() >= MAX_RUNS {
            break;
        }
        asked.insert(*run);
    }
    asked
}

/// The place of a name in the order of one look: another one at each look, so that each name has its turn.
fn place(look: Duration, name: &str) -> Digest {
    Digest::of(format!("{} {name}", look.as_nanos()).as_bytes())
}

async fn is_active(ctx: &Context, run: &str) -> Result<bool, kube::Error> {
    // A name that no object can have is no run, and is not asked for: it would change the path of the request.
    let Some((namespace, name)) = run
        .split_once('/')
        .filter(|(namespace, _)| namespace.parse::<ObjectName>().is_ok())
    else {
        return Ok(false);
    };
    let api: Api<Guarded<RepaveRun>> = Api::namespaced(ctx.client.clone(), namespace);
    let found = api.named(name).await?;
    // One that cannot be read may be at work.
    Ok(found.is_some_and(|run| {
        run.0
            .map_or(true, |run| run.status.is_none_or(|status| status.finished.is_none()))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_look_does_not_ask_for_another_one_does_and_many_names_take_no_place_of_another_namespace() {
        let names: Vec<String> = (0..100).map(|at| format!("p/made-up-{at}")).collect();
        let mut named = BTreeMap::from([("busy", names.iter().map(String::as_str).collect::<BTreeSet<_>>())]);
        named.insert("shop", BTreeSet::from(["p/all-log"]));
        let mut seen = BTreeSet::new();
        for look in 0..40 {
            let asked = asked(&named, Duration::from_secs(30 * look));
            assert_eq!(asked.len(), MAX_OF_A_NAMESPACE + 1);
            assert!(asked.contains("p/all-log"));
            seen.extend(asked);
        }
        assert_eq!(seen.len(), 101);
    }

    #[test]
    fn no_look_asks_for_more_runs_than_it_may_and_each_namespace_has_its_turn() {
        let names: Vec<String> = (0..2 * MAX_RUNS).map(|at| format!("p/run-{at}")).collect();
        let named: BTreeMap<&str, _> = names
            .iter()
            .map(|name| (name.as_str(), BTreeSet::from([name.as_str()])))
            .collect();
        let mut seen = BTreeSet::new();
        for look in 0..40 {
            let asked = asked(&named, Duration::from_secs(30 * look));
            assert_eq!(asked.len(), MAX_RUNS);
            seen.extend(asked);
        }
        assert_eq!(seen.len(), names.len());
    }
}
