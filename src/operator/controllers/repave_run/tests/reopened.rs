//! A finished run goes on when it has work again, and only then; one whose order is gone ends.

use super::{
    super::{
        gate::Gate,
        memory::RunMemory,
        plan::Action,
        state::{Skip, State},
    },
    objects::image_of,
    sim::TeamChange,
    world::{Behaviour, Fault, Kind, World},
};
use crate::{controllers::conditions, domain::workload::WorkloadKey};
use jiff::SignedDuration;
use serde_json::json;

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);

fn names(actions: &[Action]) -> Vec<&str> {
    actions.iter().map(|action| action.workload().name.as_str()).collect()
}

/// So many looks, five seconds apart, and it is the only one that gets its old image back in them.
fn is_rolled_back_alone(world: &mut World, key: &WorkloadKey, looks: usize) {
    let mut back = Vec::new();
    for _ in 0..looks {
        world.tick_all();
        back.extend(world.step());
        world.wait(5);
    }
    let finished = &world.status.finished;
    assert_eq!(rolled_back(&back), [key.name.as_str()], "finished: {finished:?}");
}

/// A finished run over three workloads, the first of which is held for another minute or so.
fn with_a_hold() -> World {
    let mut world = World::new(&json!({}), &[GOOD, GOOD, GOOD]);
    let until = world.now + SignedDuration::from_secs(600);
    world.hold(&world.key(0), Some(until));
    assert!(world.walk_to_the_end());
    assert_eq!((world.status.counts.done, world.status.counts.held), (2, 1));
    world
}

#[test]
fn a_finished_run_moves_what_was_held_when_the_hold_has_ended() {
    let mut world = with_a_hold();
    assert_eq!(world.step(), [], "nothing to do yet");
    assert!(world.status.finished.is_some());
    world.wait(600);
    assert_eq!(names(&world.step()), ["app-0"]);
    assert_eq!(world.status.finished, None, "it is at work again");
    world.tick_all();
    assert!(world.walk_to_the_end());
    assert_eq!(world.status.counts.done, 3);
    assert!(conditions::is_true(&world.status.conditions, "Succeeded"));
    assert!(
        world
            .workloads
            .values()
            .all(|sim| image_of(&sim.object) == world.target())
    );
}

#[test]
fn a_finished_run_stays_finished_while_it_may_not_begin_anything() {
    let mut world = with_a_hold();
    world.wait(600);
    let before = world.status.clone();
    for gate in [
        Gate::Suspended,
        Gate::Superseded {
            by: crate::domain::digest::Digest::of(b"v4"),
        },
        Gate::Shut {
            reason: "Revoked",
            message: String::new(),
        },
    ] {
        world.gate = gate;
        assert_eq!(world.step(), []);
        assert_eq!(world.status, before);
    }
}

#[test]
fn what_was_given_up_does_not_open_a_run_again() {
    let mut world = World::new(&json!({}), &[GOOD, GOOD]);
    let key = world.key(0);
    world.workloads.get_mut(&key).unwrap().denied = true;
    assert!(world.walk_to_the_end());
    let before = world.status.clone();
    world.workloads.get_mut(&key).unwrap().denied = false;
    for _ in 0..5 {
        world.wait(600);
        assert_eq!(world.step(), []);
        assert_eq!(world.status, before);
    }
}

#[test]
fn what_is_busy_does_not_open_a_run_again_before_it_has_settled() {
    let mut world = with_a_hold();
    let key = world.key(0);
    world.team(&key, TeamChange::Good);
    world.wait(600);
    assert_eq!(world.step(), [], "its team is rolling it");
    assert!(world.status.finished.is_some());
    for _ in 0..20 {
        world.tick_all();
        world.wait(5);
    }
    assert_eq!(names(&world.step()), ["app-0"]);
}

#[test]
fn a_run_whose_order_is_gone_begins_nothing_finishes_what_is_on_its_way_and_ends_with_the_reason() {
    let mut world = World::new(&json!({}), &[GOOD, GOOD, GOOD, GOOD]);
    let begun = names(&world.step()).len();
    assert!(begun > 0 && begun < 4);
    world.gate = Gate::Ended {
        reason: "BaseImageMissing",
        message: "BaseImage debian is gone: nothing more is moved to its release".to_owned(),
    };
    assert_eq!(world.reconcile(&world.clone(), Fault::None), []);
    assert_eq!(world.status.finished, None, "what is on its way is judged to its end");
    assert!(world.walk_to_the_end());
    let observed = world.observed();
    let ended = |state: &State| *state == State::Skipped(Skip::RunEnded);
    let targets = world.targets(&observed);
    assert_eq!(
        targets.iter().filter(|target| target.state == State::Done).count(),
        begun
    );
    assert_eq!(targets.iter().filter(|target| ended(&target.state)).count(), 4 - begun);
    let succeeded = conditions::find(&world.status.conditions, "Succeeded").unwrap();
    assert_eq!(
        (succeeded.status.as_str(), succeeded.reason.as_str()),
        ("False", "BaseImageMissing")
    );
}

fn rolled_back(actions: &[Action]) -> Vec<&str> {
    let back = actions
        .iter()
        .filter(|action| matches!(action, Action::RollBack { .. }));
    back.map(|action| action.workload().name.as_str()).collect()
}

/// A run with one workload.
fn only_one(behaviour: Behaviour) -> World {
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 1}], "onFailure": {"budget": 9}});
    World::new(&spec, &[(Kind::Direct, behaviour, false)])
}

#[test]
fn what_is_on_its_way_and_not_seen_for_one_look_is_judged_when_it_is_seen_again() {
    let mut world = only_one(Behaviour::NeverReady);
    let key = world.key(0);
    world.step();
    world.tick_all();
    world.step();
    let gone = world.workloads.remove(&key).unwrap();
    world.step();
    world.workloads.insert(key.clone(), gone);
    is_rolled_back_alone(&mut world, &key, 40);
}

/// The row says "resume it". Then nobody looks.
#[test]
fn one_that_was_paused_in_our_rollout_is_judged_when_it_is_resumed() {
    let mut world = only_one(Behaviour::Crashes);
    let key = world.key(0);
    world.step();
    world.team(&key, TeamChange::Pause);
    world.tick_all();
    for _ in 0..3 {
        assert_eq!(world.step(), []);
        world.wait(5);
    }
    world.team(&key, TeamChange::Resume);
    is_rolled_back_alone(&mut world, &key, 40);
}

#[test]
fn one_that_was_held_in_our_rollout_is_judged_when_the_hold_ends() {
    let mut world = only_one(Behaviour::NeverReady);
    let key = world.key(0);
    world.step();
    let until = world.now + jiff::SignedDuration::from_secs(90);
    world.hold(&key, Some(until));
    is_rolled_back_alone(&mut world, &key, 60);
}

/// One that was judged and left as it is does not open the run again, also after a restart.
#[test]
fn one_that_failed_and_was_left_is_not_judged_again() {
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 1}], "onFailure": {"budget": 9, "action": "Pause"}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::NeverReady, false), GOOD]);
    assert!(world.walk_to_the_end());
    assert_eq!(world.status.counts.failed, 1);
    let before = world.status.clone();
    world.memory = RunMemory::default();
    for _ in 0..5 {
        world.tick_all();
        assert_eq!(world.step(), []);
        assert_eq!(world.status, before);
        world.wait(30);
    }
}

/// As `one_that_was_paused_in_our_rollout_is_judged_when_it_is_resumed`, with `action: Pause`: what fails at once has no look in which it
/// is "rolling".
#[test]
fn one_that_was_paused_and_crashes_when_it_is_resumed_is_told_and_counted_also_if_it_is_left() {
    let mut world = World::new(
        &json!({"waves": [{"name": "all", "maxConcurrent": 1}], "onFailure": {"budget": 9, "action": "Pause"}}),
        &[(Kind::Direct, Behaviour::Crashes, false)],
    );
    let key = world.key(0);
    world.step();
    world.team(&key, TeamChange::Pause);
    world.tick_all();
    for _ in 0..3 {
        assert_eq!(world.step(), []);
        world.wait(5);
    }
    assert!(world.status.finished.is_some());
    world.team(&key, TeamChange::Resume);
    for _ in 0..40 {
        world.tick_all();
        world.step();
        world.wait(5);
    }
    let rows: Vec<_> = world
        .status
        .attention
        .iter()
        .map(|row| (&row.state, &row.reason))
        .collect();
    assert_eq!(
        world.status.counts.failed, 1,
        "it crashes for minutes, and the run says {rows:?}"
    );
}

/// More failures than a status has rows for, in a roll-out that Kubernetes gave up: they must not hide one that was resumed.
#[test]
fn many_failures_do_not_hide_one_that_was_resumed_after_the_end() {
    for failures in [5, 25] {
        let mut estate = vec![(Kind::Direct, Behaviour::NeverReady, false); failures];
        estate.push((Kind::Direct, Behaviour::NeverReady, false));
        let spec = json!({"waves": [{"name": "all", "maxConcurrent": 99}],
            "onFailure": {"budget": "100%", "action": "Pause"}});
        let mut world = World::new(&spec, &estate);
        let key = world.workloads.keys().next_back().unwrap().clone();
        world.step();
        world.team(&key, TeamChange::Pause);
        for _ in 0..30 {
            world.tick_all();
            world.step();
            world.wait(5);
        }
        assert!(world.status.finished.is_some());
        assert_eq!(world.status.counts.failed as usize, failures);
        world.memory = RunMemory::default();
        world.team(&key, TeamChange::Resume);
        // It is on its way at the first looks, and never becomes ready.
        for _ in 0..40 {
            world.tick_all();
            world.step();
            world.wait(5);
        }
        let counts = &world.status.counts;
        assert_eq!(
            counts.failed as usize,
            failures + 1,
            "of {failures}: {} are skipped",
            counts.skipped
        );
    }
}
