//! What a tenant with `edit` in one namespace of a shared plan does to the run, and so to the workloads of everybody else.

use super::{
    objects::bump,
    world::{Behaviour, Kind, World},
};
use crate::{api::RepaveRunStatus, domain::workload::WorkloadKey};
use serde_json::{Value, json};

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);

fn edit(world: &mut World, key: &WorkloadKey, change: impl FnOnce(&mut Value)) {
    let sim = world.workloads.get_mut(key).unwrap();
    change(&mut sim.object);
    bump(&mut sim.object, "resourceVersion");
}

/// Another time in the record that the run wrote on the workload; nothing else of it is touched.
fn moved_at(world: &mut World, key: &WorkloadKey, at: &str) {
    edit(world, key, |object| {
        let annotation = &mut object["metadata"]["annotations"]["repave.dev/moved"];
        let mut record: Value = serde_json::from_str(annotation.as_str().unwrap()).unwrap();
        record["at"] = json!(at);
        *annotation = json!(record.to_string());
    });
}

/// Kubernetes writes and reads times of four digits of a year; a record takes any that jiff reads.
#[test]
fn a_time_that_a_tenant_writes_on_his_workload_leaves_the_status_of_the_run_one_that_can_be_written() {
    let mut world = World::new(
        &json!({"waves": [{"name": "all", "maxConcurrent": 9, "soak": "10s"}]}),
        &[GOOD, GOOD, GOOD, GOOD],
    );
    let (done, paused) = (world.key(0), world.key(1));
    assert_eq!(world.step().len(), 4);
    // His own are through at once, and one of them is paused: it is on its way for as long as he likes.
    moved_at(&mut world, &done, "-005000-01-01T00:00:00Z");
    moved_at(&mut world, &paused, "-004999-01-01T00:00:00Z");
    edit(&mut world, &paused, |object| object["spec"]["paused"] = json!(true));
    world.tick(&done);
    for _ in 0..12 {
        world.wait(5);
        world.step();
        world.tick(&world.key(2));
        world.tick(&world.key(3));
        let text = serde_json::to_string(&world.status).unwrap();
        let read = serde_json::from_str::<RepaveRunStatus>(&text);
        assert!(
            read.is_ok(),
            "a status that the API server refuses, and nobody could read: {:?} in {text}",
            read.unwrap_err().to_string()
        );
    }
}
