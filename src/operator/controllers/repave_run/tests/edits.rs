//! What an edit of the plan does to its active run: what makes less happen binds at once.

use super::{
    super::{
        state::{Skip, State},
        today::{narrow, today},
        validate::{InvalidSpec, scope},
    },
    world::{Behaviour, Kind, World},
};
use crate::{api::RepavePlan, controllers::access::Barred, domain::wave::Amount};
use serde_json::{Value, json};
use std::sync::Arc;

fn plan(changes: &Value) -> RepavePlan {
    let mut object = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "RepavePlan", "metadata": {"name": "all", "namespace": "platform"},
        "spec": {"baseImageRefs": [{"name": "debian"}],
            "targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}},
            "waves": [{"name": "canary", "maxConcurrent": 1}, {"name": "rest", "maxConcurrent": 2}],
            "onFailure": {"budget": 1}},
    });
    for (key, value) in changes.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn world() -> World {
    let direct = |canary| (Kind::Direct, Behaviour::Healthy, canary);
    World::new(&json!({}), &[direct(true), direct(false), direct(false), direct(false)])
}

/// Limits of the waves and the budget of a run whose plan reads so now.
fn limits(changes: &Value) -> (Vec<Amount>, Amount) {
    let (world, today) = (world(), today(&plan(changes)).unwrap());
    let mut observed = world.observed();
    let v = narrow(&world.v, Some(&today), observed.target.as_ref(), &mut observed.estate);
    (v.waves.iter().map(|wave| wave.max_concurrent).collect(), v.budget)
}

#[test]
fn a_limit_that_was_lowered_binds_and_one_that_was_raised_does_not() {
    let count = Amount::Count;
    let waves = |rest: Value| json!({"waves": [{"name": "canary", "maxConcurrent": 1}, {"name": "rest", "maxConcurrent": rest}]});
    assert_eq!(limits(&json!({})), (vec![count(1), count(2)], count(1)));
    assert_eq!(limits(&waves(json!(1))).0, [count(1), count(1)]);
    assert_eq!(limits(&waves(json!(50))).0, [count(1), count(2)]);
    // A percentage is of the three workloads of the wave.
    assert_eq!(limits(&waves(json!("30%"))).0, [count(1), count(1)]);
    assert_eq!(limits(&waves(json!("100%"))).0, [count(1), count(2)]);
    assert_eq!(limits(&json!({"onFailure": {"budget": 0}})).1, count(0));
    assert_eq!(limits(&json!({"onFailure": {"budget": 9}})).1, count(1));
    assert_eq!(
        limits(&json!({"onFailure": {"budget": "10%"}})).1,
        count(0),
        "a tenth of four is none"
    );
}

#[test]
fn nothing_is_begun_in_a_wave_that_was_removed() {
    let world = world();
    let today = today(&plan(&json!({"waves": [{"name": "rest", "maxConcurrent": 2}]}))).unwrap();
    let mut observed = world.observed();
    let v = narrow(&world.v, Some(&today), observed.target.as_ref(), &mut observed.estate);
    let targets = world.targets_of(&v, &observed);
    let states: Vec<&State> = targets.iter().map(|target| &target.state).collect();
    let removed = State::Skipped(Skip::Barred(Barred::WaveRemoved("canary".to_owned())));
    let pending = State::Pending { ready: true };
    assert_eq!(states, [&removed, &pending, &pending, &pending]);
}

#[test]
fn nothing_is_begun_where_the_plan_may_not_or_does_not_select_any_more() {
    let world = world();
    let mut observed = world.observed();
    for seen in &mut observed.estate.workloads {
        Arc::make_mut(seen).barred = Some(Barred::NotInPlan);
    }
    let targets = world.targets(&observed);
    let barred = State::Skipped(Skip::Barred(Barred::NotInPlan));
    assert!(targets.iter().all(|target| target.state == barred && target.ended()));
}

#[test]
fn a_namespace_selector_must_demand_a_label_that_somebody_gave() {
    let selector = |expressions: Value| -> Result<(), InvalidSpec> {
        let targets = serde_json::from_value(json!({"namespaceSelector": expressions})).unwrap();
        scope(&targets).map(|_| ())
    };
    let one = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    for refused in [
        json!({}),
        json!({"matchLabels": {}, "matchExpressions": []}),
        one("kubernetes.io/metadata.name", "Exists", json!(null)),
        one("team", "NotIn", json!([])),
        one("team", "NotIn", json!(["a"])),
        one("team", "DoesNotExist", json!(null)),
        one("team", "In", json!([])),
    ] {
        let error = selector(refused.clone()).unwrap_err().to_string();
        assert!(error.contains("would opt in every namespace"), "{refused}: {error}");
    }
    for allowed in [
        json!({"matchLabels": {"kubernetes.io/metadata.name": "shop"}}),
        one("repave", "Exists", json!(null)),
        one("team", "In", json!(["a"])),
        json!({"matchLabels": {"repave": "auto"}, "matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}),
    ] {
        assert!(selector(allowed.clone()).is_ok(), "{allowed}");
    }
}
