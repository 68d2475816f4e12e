//! What of the estate wakes a run: a change of a workload that carries its mark and is in its scope. A mark that somebody
//! else puts on a workload of his own wakes nothing.

use super::validate;
use crate::{
    api::RepaveRun,
    controllers::{
        context::Context,
        inventory::{Change, Inventory, Told},
        wakes::{Guarded, those_anywhere},
    },
    domain::workload::{Rollout, Workload},
};
use futures::{Stream, StreamExt, stream};
use kube::{
    ResourceExt,
    core::SelectorExt,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::sync::broadcast::error::RecvError;

/// The runs to look at: for a change of a workload, and for a plan that has found work for a finished one.
pub fn of_runs(
    ctx: &Context,
    runs: Store<Guarded<RepaveRun>>,
) -> impl Stream<Item = ObjectRef<Guarded<RepaveRun>>> + Send + 'static {
    let inventory = ctx.inventory.clone();
    let changes = inventory
        .changes()
        .flat_map(move |told| stream::iter(woken(&inventory, &runs, &told)));
    let reopened = ctx.reopened.subscribe();
    let reopened = stream::unfold(reopened, |mut reopened| async move {
        loop {
            match reopened.recv().await {
                Ok((namespace, name)) => {
                    return Some((ObjectRef::new(&name).within(&namespace), reopened));
                }
                // The plan asks again.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    stream::select(changes, reopened)
}

fn woken(inventory: &Inventory, runs: &Store<Guarded<RepaveRun>>, told: &Told) -> Vec<ObjectRef<Guarded<RepaveRun>>> {
    let at_work = |run: &RepaveRun| run.status.as_ref().is_none_or(|status| status.finished.is_none());
    match told {
        Told::Everything => those_anywhere(runs, at_work),
        Told::Change(change) => match change.as_ref() {
            Change::Workload { before, after } => {
                // Most workloads carry no mark: then no run has to be looked at.
                let marked: Vec<&Workload> = [before, after]
                    .into_iter()
                    .flatten()
                    .map(AsRef::as_ref)
                    .filter(|workload| workload.annotations.run.is_some())
                    .collect();
                if marked.is_empty() {
                    return Vec::new();
                }
                those_anywhere(runs, |run| {
                    let at_work = at_work(run);
                    let wakes =
                        |workload: &&Workload| (at_work || goes_on(workload)) && concerns(inventory, run, workload);
                    marked.iter().any(wakes)
                })
            }
            Change::Namespace { .. } | Change::Counted { .. } => Vec::new(),
        },
    }
}

/// Whether a run that has finished must look at what it moved: it was paused, held or not there, and goes on.
fn goes_on(workload: &Workload) -> bool {
    workload.our_rollout().is_some() && matches!(workload.rollout, Rollout::Rolling { .. } | Rollout::Unhealthy { .. })
}

/// Whether a workload carries the mark of a run and is in its scope.
fn concerns(inventory: &Inventory, run: &RepaveRun, workload: &Workload) -> bool {
    let Some((namespace, name)) = workload
        .annotations
        .run
        .as_deref()
        .and_then(|mark| mark.split_once('/'))
    else {
        return false;
    };
    if run.namespace().as_deref() != Some(namespace) || run.name_any() != name {
        return false;
    }
    let labels = inventory.namespace(&workload.key.namespace).unwrap_or_default().labels;
    validate::scope(&run.spec.targets)
        .is_ok_and(|scope| scope.namespaces.matches(&labels) && workload.labels.are_selected_by(&scope.workloads))
}
