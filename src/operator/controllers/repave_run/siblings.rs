//! What other runs of the plan have in flight outside of what this run selects: its plan selected something else then. It takes its
//! place in the limit, which is one for all runs of a plan. Reads only.
//!
//! Whoever may edit a workload may write our record there, so a record takes a place only where a run of this plan, as it is stored,
//! selects that workload, or where this process saw it in flight for the plan: nobody else's workloads can fill the limit. What a lost
//! answer may have put in flight is read live first, whatever this run selects.

use super::{
    estate::{Ask, Estate, ObservedWorkload},
    found::{Found, classify},
    images::Images,
    places::Places,
    validate::{self, Scope, Validated},
};
use crate::{
    api::{RepaveRun, refs::LABEL_PLAN},
    controllers::{
        context::Context,
        inventory::{Entry, Watched},
        named::Named as _,
        paging::{self, ListError},
    },
    domain::workload::{Workload, WorkloadKey},
    readable::Guarded,
};
use futures::{FutureExt as _, StreamExt as _, stream};
use kube::{Api, ResourceExt as _, api::ListParams, core::SelectorExt as _};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Runs of one plan that are read; more than that is an error, because the newest could be missing in a part of them.
const MAX_RUNS: usize = 5_000;
/// Writes without an answer that are looked after in one look; the others in the next ones.
const MAX_UNANSWERED: usize = 256;
/// Requests at the same time.
const AT_ONCE: usize = 8;

/// Looks for them. The runs of the plan are read only if there is something that says it is one of theirs.
pub async fn look(
    ctx: &Context,
    images: &Images,
    (v, plan_uid, places): (&Validated, Option<&str>, &Places),
    ask: Ask<'_>,
    estate: &Estate,
) -> Result<Vec<Arc<ObservedWorkload>>, ListError> {
    let own: BTreeSet<&WorkloadKey> = estate.workloads.iter().map(|seen| &seen.workload.key).collect();
    read_unanswered(ctx, &own).await?;
    // What this process saw in flight is one of theirs, whatever a run selects by now; at its end, too, so that its place is free.
    let known = places.known().filter(|(_, key)| !own.contains(key));
    let mut found: BTreeMap<WorkloadKey, Entry> = known
        .filter_map(|(uid, key)| {
            let entry = ctx.inventory.get(key).filter(|entry| entry.workload.uid == uid)?;
            Some((key.clone(), entry))
        })
        .collect();
    let mut rolling = ctx.inventory.rolling_of(&v.plan_key());
    rolling.retain(|entry| !own.contains(&entry.workload.key) && !found.contains_key(&entry.workload.key));
    if !rolling.is_empty() {
        let scopes = scopes(ctx, v, plan_uid).await?;
        rolling.retain(|entry| is_of(ctx, &scopes, entry));
    }
    found.extend(rolling.into_iter().map(|entry| (entry.workload.key.clone(), entry)));
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let found = found.into_values().map(|entry| Found::new(entry, None)).collect();
    Ok(classify(ctx, images, found, ask).await.workloads)
}

/// Reads live what a write without an answer may have changed, outside of what this run selects: its own are read before anything is
/// decided on them. One that may not be read stays in doubt, and stops nobody: it is in the namespace of somebody who took that right.
async fn read_unanswered(ctx: &Context, own: &BTreeSet<&WorkloadKey>) -> Result<(), ListError> {
    let mut keys = ctx.inventory.unanswered();
    keys.retain(|key| !own.contains(key));
    let reads: Vec<_> = keys
        .iter()
        .take(MAX_UNANSWERED)
        .map(|key| {
            let api: Api<Watched> = Api::namespaced(ctx.client.clone(), &key.namespace);
            async move { (key, api.named(&key.name).await) }.boxed()
        })
        .collect();
    let read: Vec<_> = stream::iter(reads).buffer_unordered(AT_ONCE).collect().await;
    for (key, live) in read {
        match live {
            Ok(Some(live)) => match Workload::from_deployment(&live.0) {
                Some(workload) => ctx.inventory.learn(workload),
                None => ctx.inventory.gone(key),
            },
            Ok(None) => ctx.inventory.gone(key),
            Err(kube::Error::Api(status)) if status.code == 403 => {}
            Err(error) => return Err(ListError::Api(error)),
        }
    }
    Ok(())
}

/// Whether the run that a workload names selects it.
fn is_of(ctx: &Context, scopes: &BTreeMap<String, Scope>, entry: &Entry) -> bool {
    let workload = &entry.workload;
    let run = workload.annotations.run.as_deref();
    run.and_then(|run| scopes.get(run)).is_some_and(|scope| {
        let namespace = ctx.inventory.namespace(&workload.key.namespace).unwrap_or_default();
        scope.namespaces.matches(&namespace.labels) && workload.labels.are_selected_by(&scope.workloads)
    })
}

/// What each run of the plan selects, by `namespace/name`. One that cannot be read selects nothing: it moves nothing.
async fn scopes(ctx: &Context, v: &Validated, plan_uid: Option<&str>) -> Result<BTreeMap<String, Scope>, ListError> {
    let scope = |run: RepaveRun| {
        let scope = validate::scope(&run.spec.targets).ok()?;
        Some((format!("{}/{}", v.namespace, run.name_any()), scope))
    };
    let scopes = runs_of(ctx, &v.namespace, (&v.plan, plan_uid), scope).await?;
    Ok(scopes.into_iter().collect())
}

/// What `keep` makes of the runs that the plan with this name and UID made, as far as they can be read.
pub async fn runs_of<T>(
    ctx: &Context,
    namespace: &str,
    (plan, uid): (&str, Option<&str>),
    mut keep: impl FnMut(RepaveRun) -> Option<T>,
) -> Result<Vec<T>, ListError> {
    let api: Api<Guarded<RepaveRun>> = Api::namespaced(ctx.client.clone(), namespace);
    let params = ListParams::default().labels(&format!("{LABEL_PLAN}={plan}"));
    let mine = |guarded: Guarded<RepaveRun>| guarded.0.ok().filter(|run| is_owned_by(run, uid)).and_then(&mut keep);
    paging::list(&api, params, MAX_RUNS, mine).await
}

fn is_owned_by(run: &RepaveRun, uid: Option<&str>) -> bool {
    let mut owners = run.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && Some(owner.uid.as_str()) == uid)
}
