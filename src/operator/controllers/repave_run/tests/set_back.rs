//! Whoever sets an image back, and in whatever way, has it his way: the workload is never moved again to the same release.

use super::{
    super::plan::Action,
    objects::image_of,
    sim::TeamChange,
    world::{Behaviour, Kind, World},
};
use crate::{api::RepaveRunStatus, controllers::repave_run::memory::RunMemory, domain::workload::WorkloadKey};
use serde_json::json;

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);

/// One that was moved and is healthy, in a run that soaks.
fn moved() -> (World, WorkloadKey) {
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 9, "soak": "1h"}]});
    let mut world = World::new(&spec, &[GOOD, GOOD]);
    assert_eq!(world.step().len(), 2);
    world.tick_all();
    assert_eq!(world.step(), []);
    assert_eq!(world.status.counts.done, 2);
    let key = world.key(0);
    (world, key)
}

/// One that crashed on the target and got its old image back.
fn rolled_back() -> (World, WorkloadKey) {
    let mut world = World::new(
        &json!({"onFailure": {"budget": 5}}),
        &[(Kind::Direct, Behaviour::Crashes, false), GOOD],
    );
    let key = world.key(0);
    world.step();
    world.tick_all();
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
    world.tick_all();
    (world, key)
}

fn restart(world: &mut World) {
    world.memory = RunMemory::default();
}

fn is_left_alone(world: &mut World) {
    for _ in 0..5 {
        world.tick_all();
        assert_eq!(world.step(), []);
        world.wait(5);
    }
    let row = &world.status.attention[0];
    assert!(row.reason.starts_with("its image was set back"), "{row:?}");
}

#[test]
fn an_undo_takes_our_record_away_and_is_respected() {
    let (mut world, key) = moved();
    world.undo(&key);
    let object = &world.workloads[&key].object;
    assert!(object["metadata"]["annotations"]["repave.dev/moved"].is_null());
    assert_ne!(image_of(object), world.target());
    is_left_alone(&mut world);
    assert_eq!(world.status.set_back.len(), 1);
}

#[test]
fn an_undo_is_respected_after_a_restart_by_a_new_run_and_by_one_that_had_finished() {
    let (mut world, key) = moved();
    world.undo(&key);
    restart(&mut world);
    is_left_alone(&mut world);

    let (mut world, key) = moved();
    world.undo(&key);
    restart(&mut world);
    world.status = RepaveRunStatus::default();
    is_left_alone(&mut world);

    let (mut world, key) = moved();
    world.watch(3600);
    assert!(world.status.finished.is_some());
    world.undo(&key);
    restart(&mut world);
    world.tick_all();
    assert_eq!(world.step(), [], "it looks again, and at the ReplicaSets");
    assert!(world.status.finished.is_some() && world.status.set_back.len() == 1);
}

#[test]
fn an_undo_in_the_middle_of_our_rollout_is_respected_even_when_no_replica_set_tells() {
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 9}]});
    let mut world = World::new(&spec, &[GOOD, GOOD]);
    let key = world.key(0);
    world.team(&key, TeamChange::Good);
    world.tick_all();
    world.step();
    world.step();
    // The deployment controller has not made a ReplicaSet of our move: this goes back to what was before the team's change.
    world.undo(&key);
    world.tick_all();
    world.workloads.get_mut(&key).unwrap().reverted = true;
    for _ in 0..3 {
        assert_eq!(world.step(), []);
        world.tick_all();
    }
}

#[test]
fn a_file_that_replaces_the_whole_object_is_respected() {
    let (mut world, key) = moved();
    world.replace(&key);
    restart(&mut world);
    is_left_alone(&mut world);
}

#[test]
fn an_undo_of_our_rollback_is_a_rollout_of_somebody_else() {
    let (mut world, key) = rolled_back();
    world.undo(&key);
    assert_eq!(image_of(&world.workloads[&key].object), world.target());
    for _ in 0..20 {
        world.tick(&key);
        world.step();
        world.wait(5);
    }
    assert_eq!(image_of(&world.workloads[&key].object), world.target());
}

#[test]
fn what_was_rolled_back_by_us_is_tried_again_once_its_hold_is_taken_off_also_after_a_restart() {
    let (mut world, key) = rolled_back();
    world.step();
    restart(&mut world);
    let annotations = &mut world.workloads.get_mut(&key).unwrap().object["metadata"]["annotations"];
    annotations.as_object_mut().unwrap().remove("repave.dev/hold");
    let moved = world.step();
    assert!(matches!(moved.as_slice(), [Action::Move { .. }]), "{moved:?}");
}

#[test]
fn a_status_keeps_few_of_many_that_were_set_back() {
    let spec =
        json!({"waves": [{"name": "all", "maxConcurrent": 1000, "soak": "1h"}], "onFailure": {"budget": "100%"}});
    let mut world = World::new(&spec, &[GOOD; 200]);
    world.step();
    world.tick_all();
    world.step();
    for at in 0..200 {
        let key = world.key(at);
        world.undo(&key);
    }
    world.tick_all();
    world.step();
    assert_eq!(world.status.set_back.len(), 64);
    restart(&mut world);
    for _ in 0..5 {
        assert_eq!(world.step(), []);
        world.wait(5);
    }
    assert_eq!(world.status.counts.skipped, 200);
}
