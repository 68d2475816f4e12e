//! What of the estate wakes a plan: a change that can alter what is outdated or what can be moved, in a namespace that it
//! selects. How far a roll-out is, and everything else that changes all the time, wakes no plan.

use super::validate;
use crate::{
    api::RepavePlan,
    controllers::{
        context::Context,
        inventory::{Change, Inventory, Told},
        repave_run::validate::Scope,
        wakes::{Guarded, those_anywhere},
    },
    domain::workload::{Rollout, Workload},
};
use futures::{Stream, StreamExt, stream};
use kube::{
    core::SelectorExt,
    runtime::reflector::{ObjectRef, Store},
};
use std::collections::BTreeMap;

/// The plans to look at.
pub fn of_plans(
    ctx: &Context,
    plans: Store<Guarded<RepavePlan>>,
) -> impl Stream<Item = ObjectRef<Guarded<RepavePlan>>> + Send + 'static {
    let inventory = ctx.inventory.clone();
    let changes = inventory.changes();
    changes.flat_map(move |told| stream::iter(woken(&inventory, &plans, &told)))
}

fn woken(
    inventory: &Inventory,
    plans: &Store<Guarded<RepavePlan>>,
    told: &Told,
) -> Vec<ObjectRef<Guarded<RepavePlan>>> {
    if let Told::Change(change) = told
        && !matters(change)
    {
        return Vec::new();
    }
    let concerned = |plan: &RepavePlan| match told {
        Told::Everything => true,
        Told::Change(change) => validate::validate(plan).is_ok_and(|v| concerns(inventory, &v.scope, change)),
    };
    those_anywhere(plans, concerned)
}

/// Whether a change can alter what is outdated, or what can be moved.
fn matters(change: &Change) -> bool {
    match change {
        Change::Workload { before, after } => match (before, after) {
            (Some(before), Some(after)) => standing(before) != standing(after),
            (None, _) | (_, None) => true,
        },
        Change::Namespace { .. } | Change::Counted { .. } => true,
    }
}

/// What a plan looks at in a workload.
fn standing(workload: &Workload) -> impl PartialEq {
    let movable = match &workload.rollout {
        Rollout::Settled | Rollout::Rolling { .. } => "movable",
        Rollout::Degraded { .. } | Rollout::Unhealthy { .. } => "unhealthy",
        Rollout::Paused => "paused",
    };
    (
        workload.uid.clone(),
        workload.labels.clone(),
        workload.containers.clone(),
        workload.annotations.hold.clone(),
        workload.annotations.run.clone(),
        workload.owner.clone(),
        movable,
    )
}

fn concerns(inventory: &Inventory, scope: &Scope, change: &Change) -> bool {
    let selects = |namespace: &str| {
        let labels = inventory.namespace(namespace).unwrap_or_default().labels;
        scope.namespaces.matches(&labels)
    };
    let labelled = |labels: &BTreeMap<String, String>| scope.namespaces.matches(labels);
    match change {
        Change::Workload { before, after } => before
            .iter()
            .chain(after)
            .any(|workload| workload.labels.are_selected_by(&scope.workloads) && selects(&workload.key.namespace)),
        Change::Namespace { before, after } => {
            let of = |namespace: &crate::controllers::inventory::NamespaceEntry| {
                !namespace.terminating && labelled(&namespace.labels)
            };
            of(before) != of(after)
        }
        Change::Counted { namespace } => selects(namespace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn workload(changes: &[(&str, Value)]) -> Arc<Workload> {
        let mut object = json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1,
                "labels": {"app": "a"}, "annotations": {}},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}, "template": {"spec": {"containers": [{"name": "c", "image": "r.test/a:1"}]}}},
            "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
        });
        for (path, value) in changes {
            *object.pointer_mut(path).unwrap() = value.clone();
        }
        Arc::new(Workload::from_deployment(&serde_json::from_value(object).unwrap()).unwrap())
    }

    #[test]
    fn only_what_can_alter_the_counts_of_a_plan_wakes_it() {
        let before = workload(&[]);
        let change = |after: Arc<Workload>| Change::Workload {
            before: Some(before.clone()),
            after: Some(after),
        };
        for (name, changed, wakes) in [
            ("a roll-out goes on", vec![("/status/updatedReplicas", json!(0))], false),
            (
                "another version",
                vec![("/metadata/resourceVersion", json!("2"))],
                false,
            ),
            (
                "scaled",
                vec![("/spec/replicas", json!(5)), ("/metadata/generation", json!(2))],
                false,
            ),
            (
                "some annotation",
                vec![("/metadata/annotations", json!({"x": "y"}))],
                false,
            ),
            ("relabelled", vec![("/metadata/labels/app", json!("b"))], true),
            (
                "another image",
                vec![("/spec/template/spec/containers/0/image", json!("r.test/a:2"))],
                true,
            ),
            (
                "held",
                vec![("/metadata/annotations", json!({"repave.dev/hold": "{}"}))],
                true,
            ),
            ("made anew", vec![("/metadata/uid", json!("v"))], true),
        ] {
            assert_eq!(matters(&change(workload(&changed))), wakes, "{name}");
        }
        let new = Change::Workload {
            before: None,
            after: Some(before.clone()),
        };
        assert!(matters(&new));
    }
}
