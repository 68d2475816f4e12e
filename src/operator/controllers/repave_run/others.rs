//! Which other runs are at work on the workloads of this one: the run that moved a workload first keeps it until it has finished,
//! be it of another plan or of another base image of the same plan. Reads only.
//!
//! Anyone who may edit a workload may name any run on it: that keeps this run off that workload and has no other effect.

use super::{estate::Estate, validate::Validated};
use crate::{
    api::RepaveRun,
    controllers::{context::Context, named::Named as _},
    domain::{lineage::ReleaseIndex, object_name::ObjectName, workload::Workload},
    readable::Guarded,
};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use std::collections::{BTreeMap, BTreeSet};

/// Other runs that are asked for; more than a few plans over one workload are a mistake, and what is not asked for is taken
/// as at work.
const MAX_RUNS: usize = 512;
/// Of those that the workloads of one namespace name: whoever makes names up there keeps back his own workloads only.
const MAX_OF_A_NAMESPACE: usize = 8;
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
    (namespace == v.namespace).then(|| name.chars().filter(|c| !c.is_control()).take(63).collect())
}

/// The other runs that are on the workloads of this estate and have not finished, as `namespace/name`.
pub async fn active_runs(
    ctx: &Context,
    v: &Validated,
    estate: &Estate,
    releases: &ReleaseIndex,
) -> Result<BTreeSet<String>, kube::Error> {
    let mut named: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for workload in estate.workloads.iter().map(|seen| &seen.workload) {
        if let Some(run) = other_run(v, workload, releases) {
            named.entry(&workload.key.namespace).or_default().insert(run);
        }
    }
    let asked = asked(&named);
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

/// The runs that are asked for: the same share of each namespace, so that many names in one take no place of another.
fn asked<'a>(named: &BTreeMap<&str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let rounds = (0..MAX_OF_A_NAMESPACE).flat_map(|nth| named.values().filter_map(move |runs| runs.iter().nth(nth)));
    let mut asked = BTreeSet::new();
    for run in rounds {
        if asked.len() >= MAX_RUNS {
            break;
        }
        asked.insert(*run);
    }
    asked
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
