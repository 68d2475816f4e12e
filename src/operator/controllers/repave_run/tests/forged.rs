//! What a tenant does to the workloads of others of a shared plan with annotations on his own ones: he keeps none of them up for ever.

use super::{
    super::plan::Action,
    objects::bump,
    world::{Behaviour, Kind, World},
};
use crate::domain::workload::WorkloadKey;
use serde_json::{Value, json};

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);
const UNRELATED: (Kind, Behaviour, bool) = (Kind::Unrelated, Behaviour::Healthy, false);

fn edit(world: &mut World, key: &WorkloadKey, change: impl FnOnce(&mut Value)) {
    let sim = world.workloads.get_mut(key).unwrap();
    change(&mut sim.object);
    bump(&mut sim.object, "resourceVersion");
}

/// A pod that no node takes, with `progressDeadlineSeconds` of years.
fn never_done(object: &mut Value) {
    object["status"] = json!({"observedGeneration": object["metadata"]["generation"], "replicas": 2, "updatedReplicas": 1,
        "availableReplicas": 0, "conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}]});
}

fn record(world: &World, object: &Value, rolled_back: bool) -> Value {
    let record = json!({"at": "1970-01-01T00:10:00Z", "plan": "platform/all", "digest": world.v.digest, "rolledBack": rolled_back,
        "generation": object["metadata"]["generation"].as_i64().unwrap() - 1, "template": "0000000000000000"});
    json!(record.to_string())
}

#[test]
fn a_record_that_a_tenant_forged_on_an_unrelated_workload_does_not_hold_everybody_up_for_ever() {
    let mut world = World::new(
        &json!({"waves": [{"name": "all", "maxConcurrent": 1}]}),
        &[GOOD, UNRELATED],
    );
    let (victim, tenant) = (world.key(0), world.key(1));
    assert_eq!(
        world.clone().step().len(),
        1,
        "control: without the record it is moved at once"
    );
    let moved = record(&world, &world.workloads[&tenant].object, false);
    edit(&mut world, &tenant, |object| {
        object["metadata"]["annotations"]["repave.dev/moved"] = moved;
        never_done(object);
    });
    let mut moves = 0;
    for _ in 0..24 {
        moves += world.step().len();
        world.wait(3600);
        world.tick(&victim);
    }
    assert!(moves > 0, "a day later: {:?}", world.status.conditions);
}

#[test]
fn a_rollback_that_a_tenant_forged_on_his_workload_does_not_keep_others_from_being_rolled_back() {
    let crashes = (Kind::Direct, Behaviour::Crashes, false);
    let mut world = World::new(
        &json!({"waves": [{"name": "all", "maxConcurrent": 1}], "onFailure": {"budget": "100%", "action": "RollbackWorkload"}}),
        &[crashes, GOOD],
    );
    let (victim, tenant) = (world.key(0), world.key(1));
    edit(&mut world, &tenant, |object| {
        object["metadata"]["annotations"]["repave.dev/hold"] = json!("{}");
    });
    assert!(matches!(world.step().as_slice(), [Action::Move { workload, .. }] if *workload == victim));
    world.tick(&victim);
    assert_eq!(
        world.clone().step().len(),
        1,
        "control: without the marks it is rolled back at once"
    );
    let (moved, mark) = (
        record(&world, &world.workloads[&tenant].object, true),
        world.v.run_ref.clone(),
    );
    let hold = json!({"by": "repave", "digest": world.v.digest}).to_string();
    edit(&mut world, &tenant, |object| {
        let annotations = &mut object["metadata"]["annotations"];
        annotations["repave.dev/moved"] = moved;
        annotations["repave.dev/run"] = json!(mark);
        annotations["repave.dev/hold"] = json!(hold);
        never_done(object);
    });
    let mut back = 0;
    for _ in 0..24 {
        back += world.step().len();
        world.wait(3600);
        world.tick(&victim);
    }
    assert!(
        back > 0,
        "the victim has crashed for a day: {:?}",
        world.status.conditions
    );
}
