//! What other runs of the plan have in flight outside of what this run selects: its plan selected something else then. It takes its
//! place in the limit, which is one for all runs of a plan. Reads only.
//!
//! Whoever may edit a workload may write our record there, so a record takes a place only where a run of this plan, as it is stored,
//! selects that workload: nobody else's workloads can fill the limit.

use super::{
    estate::{Ask, Estate, ObservedWorkload},
    found::{Found, classify},
    images::Images,
    validate::{self, Scope, Validated},
};
use crate::{
    api::{RepaveRun, refs::LABEL_PLAN},
    controllers::{
        context::Context,
        inventory::Entry,
        paging::{self, ListError},
    },
    domain::workload::WorkloadKey,
    readable::Guarded,
};
use kube::{Api, ResourceExt as _, api::ListParams, core::SelectorExt as _};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Runs of one plan that are read; more than that is an error, because the newest could be missing in a part of them.
const MAX_RUNS: usize = 5_000;

/// Looks for them. The runs of the plan are read only if there is something that says it is one of theirs.
pub async fn look(
    ctx: &Context,
    images: &Images,
    (v, plan_uid): (&Validated, Option<&str>),
    ask: Ask<'_>,
    estate: &Estate,
) -> Result<Vec<Arc<ObservedWorkload>>, ListError> {
    let own: BTreeSet<&WorkloadKey> = estate.workloads.iter().map(|seen| &seen.workload.key).collect();
    let mut rolling = ctx.inventory.rolling_of(&v.plan_key());
    rolling.retain(|entry| !own.contains(&entry.workload.key));
    if rolling.is_empty() {
        return Ok(Vec::new());
    }
    let scopes = scopes(ctx, v, plan_uid).await?;
    rolling.retain(|entry| is_of(ctx, &scopes, entry));
    let found = rolling.into_iter().map(|entry| Found::new(entry, None)).collect();
    Ok(classify(ctx, images, found, ask).await.workloads)
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
