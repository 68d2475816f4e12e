//! What becomes of a run when a workload, the run itself or its plan is deleted in mid-way, and made anew under its old name.

use super::{
    super::plan::Action,
    deletions::Anew,
    objects::image_of,
    world::{Behaviour, Kind, World},
};
use crate::domain::workload::WorkloadKey;
use serde_json::{Value, json};

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);
const CRASHES: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Crashes, false);

/// One wave, one at a time, and no failure is allowed.
fn one_by_one() -> Value {
    json!({"waves": [{"name": "all", "maxConcurrent": 1}], "onFailure": {"budget": 0}})
}

fn moved(actions: &[Action]) -> Vec<&WorkloadKey> {
    let moves = actions.iter().filter(|action| matches!(action, Action::Move { .. }));
    moves.map(Action::workload).collect()
}

#[test]
fn what_was_deleted_in_flight_keeps_its_place_for_the_deadline_and_gives_it_back_then() {
    let mut world = World::new(&one_by_one(), &[GOOD, GOOD]);
    let (first, second) = (world.key(0), world.key(1));
    assert_eq!(moved(&world.step()), [&first]);
    world.delete(&first);
    world.wait(29);
    assert_eq!(world.step(), [], "whether it is gone or only hidden is not known");
    world.wait(1);
    assert_eq!(moved(&world.step()), [&second]);
    assert!(world.walk_to_the_end());
    assert_eq!((world.status.counts.done, world.status.counts.total), (1, 1));
}

#[test]
fn one_that_is_made_anew_with_the_old_base_in_our_rollout_is_moved_once_more() {
    let mut world = World::new(&one_by_one(), &[GOOD]);
    let key = world.key(0);
    assert_eq!(world.step().len(), 1);
    world.tick_all();
    world.make_anew(&key, Anew::Old);
    assert!(world.walk_to_the_end());
    assert_eq!(image_of(&world.workloads[&key].object), world.target());
    assert_eq!((world.workloads[&key].forward, world.status.counts.done), (1, 1));
}

/// It fails, and would use up the budget if it were ours.
#[test]
fn one_that_is_made_anew_on_the_target_is_nobodys_failure() {
    for anew in [Anew::OnTarget, Anew::Copy] {
        let mut world = World::new(&one_by_one(), &[CRASHES, GOOD]);
        let (first, second) = (world.key(0), world.key(1));
        assert_eq!(moved(&world.step()), [&first]);
        world.make_anew(&first, anew);
        world.tick_all();
        assert_eq!(world.step(), [], "{anew:?}: the old one keeps its place");
        world.wait(30);
        assert_eq!(moved(&world.step()), [&second], "{anew:?}");
        assert!(world.walk_to_the_end(), "{anew:?}");
        assert_eq!(image_of(&world.workloads[&first].object), world.target(), "{anew:?}");
        assert_eq!(
            (world.status.counts.failed, world.status.counts.held),
            (0, 0),
            "{anew:?}"
        );
    }
}

#[test]
fn a_run_that_is_made_again_in_mid_way_goes_on_with_what_the_workloads_tell() {
    let mut world = World::new(&one_by_one(), &[GOOD, CRASHES, GOOD]);
    let bad = world.key(1);
    assert_eq!(world.step().len(), 1);
    world.delete_run();
    assert!(world.has_run());
    assert_eq!(world.step(), [], "one is on its way, and one may be");
    world.tick_all();
    assert_eq!(moved(&world.step()), [&bad]);
    world.tick_all();
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
    world.delete_run();
    assert!(world.has_run());
    assert!(!world.walk_to_the_end(), "one has failed, and none may");
    let counts = &world.status.counts;
    assert_eq!((counts.done, counts.held, counts.pending), (1, 1, 1));
}

#[test]
fn a_run_whose_plan_is_gone_finishes_what_is_on_its_way_and_ends() {
    let mut world = World::new(&one_by_one(), &[CRASHES, GOOD]);
    assert_eq!(world.step().len(), 1);
    world.delete_plan();
    assert_eq!(world.step(), []);
    assert_eq!(world.status.finished, None);
    world.tick_all();
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
    assert!(world.walk_to_the_end());
    assert_eq!((world.status.counts.held, world.status.counts.skipped), (1, 1));
    // The new plan has a new run.
    world.make_plan_again();
    assert!(world.has_run());
    assert!(
        !world.walk_to_the_end(),
        "the failure of before counts, and none may be"
    );
}
