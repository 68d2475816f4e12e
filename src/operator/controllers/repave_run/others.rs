//! Which runs of other plans are at work on the workloads of this one: the plan that moved a workload first keeps it until its
//! run has finished. Reads only.
//!
//! Anyone who may edit a workload may name any run on it: that keeps this run off that workload and has no other effect.

use super::{estate::Estate, validate::Validated};
use crate::{
    api::RepaveRun,
    controllers::context::Context,
    domain::{moved::LastWrite, workload::Workload},
    readable::Guarded,
};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use std::collections::BTreeSet;

/// Other runs that are asked for; more than a few plans over one workload are a mistake, and what is not asked for is taken
/// as at work.
const MAX_RUNS: usize = 64;
/// Requests at the same time.
const AT_ONCE: usize = 4;

/// The run of another plan that a workload says it was moved by.
pub fn other_run<'a>(v: &Validated, workload: &'a Workload) -> Option<&'a str> {
    let record = workload.marks.last_write.as_ref().and_then(LastWrite::record)?;
    let run = workload.marks.run.as_deref().filter(|run| *run != v.mark)?;
    (record.plan != v.plan_key()).then_some(run)
}

/// How that plan is called in what this run says: by its name if it is in the same namespace. In another one, whoever reads
/// this may have no right to know it.
pub fn name_for(v: &Validated, workload: &Workload) -> Option<String> {
    let record = workload.marks.last_write.as_ref().and_then(LastWrite::record)?;
    let (namespace, name) = record.plan.split_once('/')?;
    (namespace == v.namespace).then(|| name.chars().filter(|c| !c.is_control()).take(63).collect())
}

/// The runs of other plans that are on the workloads of this estate and have not finished, as `namespace/name`.
pub async fn active_runs(ctx: &Context, v: &Validated, estate: &Estate) -> Result<BTreeSet<String>, kube::Error> {
    let workloads = estate.workloads.iter().map(|seen| &seen.workload);
    let named: BTreeSet<String> = workloads
        .filter_map(|workload| other_run(v, workload).map(str::to_owned))
        .collect();
    let mut active = BTreeSet::new();
    let mut asked = Vec::new();
    for (nth, run) in named.into_iter().enumerate() {
        if nth < MAX_RUNS {
            asked.push(run);
        } else {
            active.insert(run);
        }
    }
    let answers: Vec<Option<String>> = stream::iter(asked)
        .map(|run: String| async move { Ok::<_, kube::Error>(is_active(ctx, &run).await?.then_some(run)) })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    active.extend(answers.into_iter().flatten());
    Ok(active)
}

async fn is_active(ctx: &Context, run: &str) -> Result<bool, kube::Error> {
    // Names that no object can have are no runs, and are not asked for: they would change the path of the request.
    let plain = |part: &str| {
        let starts = part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        starts
            && part.len() <= 253
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    };
    let Some((namespace, name)) = run
        .split_once('/')
        .filter(|(namespace, name)| plain(namespace) && plain(name))
    else {
        return Ok(false);
    };
    let api: Api<Guarded<RepaveRun>> = Api::namespaced(ctx.client.clone(), namespace);
    let found = api.get_opt(name).await?;
    // One that cannot be read may be at work.
    Ok(found.is_some_and(|run| {
        run.0
            .map_or(true, |run| run.status.is_none_or(|status| status.finished.is_none()))
    }))
}
