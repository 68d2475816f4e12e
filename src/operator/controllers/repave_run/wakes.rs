//! What of the estate wakes a run: a change of a workload that carries its mark and is in its scope. A mark that somebody
//! else puts on a workload of his own wakes nothing.

use super::{Guarded, validate};
use crate::{
    api::RepaveRun,
    controllers::{
        context::Context,
        inventory::{Change, Inventory, Told},
        wake::paced,
    },
    domain::workload::Workload,
};
use futures::{Stream, StreamExt, stream};
use kube::{
    ResourceExt,
    core::SelectorExt,
    runtime::reflector::{ObjectRef, Store},
};
use std::time::Duration;

/// The shortest time between two looks at one run for what happens in the estate.
const PAUSE: Duration = Duration::from_secs(1);

/// The runs to look at: for a change of a workload, and for a plan that has found work for a finished one.
pub fn of_runs(ctx: &Context, runs: Store<Guarded>) -> impl Stream<Item = ObjectRef<Guarded>> + Send + 'static {
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
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return None,
            }
        }
    });
    paced(stream::select(changes, reopened), PAUSE)
}

fn woken(inventory: &Inventory, runs: &Store<Guarded>, told: &Told) -> Vec<ObjectRef<Guarded>> {
    let runs = runs.state();
    let all = runs.iter().filter_map(|guarded| guarded.0.as_ref().ok());
    let unfinished = all.filter(|run| run.status.as_ref().is_none_or(|status| status.finished.is_none()));
    let found: Vec<&RepaveRun> = match told {
        Told::Everything => unfinished.collect(),
        Told::Change(change) => match change.as_ref() {
            Change::Workload { before, after } => {
                let sides = || before.iter().chain(after);
                unfinished
                    .filter(|run| sides().any(|workload| concerns(inventory, run, workload)))
                    .collect()
            }
            Change::Namespace { .. } | Change::Counted { .. } => Vec::new(),
        },
    };
    found
        .into_iter()
        .map(|run| ObjectRef::new(&run.name_any()).within(&run.namespace().unwrap_or_default()))
        .collect()
}

/// Whether a workload carries the mark of a run and is in its scope.
fn concerns(inventory: &Inventory, run: &RepaveRun, workload: &Workload) -> bool {
    let Some((namespace, name)) = workload.marks.run.as_deref().and_then(|mark| mark.split_once('/')) else {
        return false;
    };
    if run.namespace().as_deref() != Some(namespace) || run.name_any() != name {
        return false;
    }
    let labels = inventory.namespace(&workload.key.namespace).unwrap_or_default().labels;
    validate::scope(&run.spec.targets)
        .is_ok_and(|scope| scope.namespaces.matches(&labels) && scope.workloads.matches(&workload.labels))
}
