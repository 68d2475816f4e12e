//! Clocks of two machines, and one that was far ahead and is put right: they hide no verdict of Kubernetes and make nothing done.

use super::{
    super::{memory::RunMemory, plan::Action, state::State},
    objects::{bump, bump_generation},
    world::{Behaviour, Kind, World},
};
use crate::domain::workload::WorkloadKey;
use jiff::SignedDuration;
use serde_json::json;

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);
const CANARY: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, true);

/// A latecomer to the first wave is moved while the clock is two days ahead; then the clock is put right.
#[test]
fn a_clock_that_is_put_right_makes_no_latecomer_done_that_keeps_restarting() {
    let spec = json!({"health": {"rolloutDeadline": "30s", "minReadySeconds": 8}, "onFailure": {"budget": 9}});
    let restarts = (Kind::Direct, Behaviour::Restarts, true);
    let mut world = World::new(&spec, &[CANARY, restarts, GOOD]);
    let late = world.key(1);
    world.hold(&late, None);
    for _ in 0..12 {
        world.tick_all();
        world.step();
        world.wait(5);
    }
    assert_eq!((world.status.counts.done, world.status.counts.held), (2, 1));
    world.jump(2 * 24 * 3600);
    let sim = world.workloads.get_mut(&late).unwrap();
    let annotations = sim.object["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.remove("repave.dev/hold");
    sim.hold = None;
    bump(&mut sim.object, "resourceVersion");
    bump_generation(&mut sim.object);
    world.tick_all();
    assert_eq!(world.step().len(), 1);
    world.tick_all();
    world.step();
    world.jump(-2 * 24 * 3600);
    let mut back = Vec::new();
    for _ in 0..40 {
        world.tick_all();
        back.extend(world.step());
        let observed = world.observed();
        let target = world
            .targets(&observed)
            .into_iter()
            .find(|t| t.seen.workload.key == late);
        let state = target.unwrap().state;
        assert_ne!(state, State::Done, "it is started again every few seconds");
        world.wait(2);
    }
    assert_eq!(back.len(), 1);
}

/// Kubernetes gives up on what was moved, at this time of its clock.
fn is_rolled_back_for_a_timeout(world: &mut World, at: jiff::Timestamp) {
    let key = world.key(0);
    world.shows(&key,
        json!({"replicas": 3, "updatedReplicas": 1, "availableReplicas": 2, "unavailableReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "has timed out progressing.",
                "lastUpdateTime": at.to_string()},
            {"type": "Available", "status": "True", "lastTransitionTime": "1970-01-01T00:00:01Z"}]}),
    );
    let actions = world.step();
    assert!(matches!(actions.as_slice(), [Action::RollBack { .. }]), "{actions:?}");
}

#[test]
fn a_timeout_of_our_own_rollout_is_seen() {
    let spec = json!({"health": {"rolloutDeadline": "2h", "minReadySeconds": 0}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::NeverReady, false), GOOD]);
    world.step();
    world.tick_all();
    world.step();
    world.wait(600);
    let now = world.now;
    is_rolled_back_for_a_timeout(&mut world, now);
}

/// Our clock is an hour ahead of the cluster's: Kubernetes' own verdict about our roll-out has a time before our write.
#[test]
fn a_clock_that_is_ahead_hides_no_timeout_of_our_own_rollout() {
    let spec = json!({"health": {"rolloutDeadline": "2h", "minReadySeconds": 0}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::NeverReady, false), GOOD]);
    let real = world.now;
    world.jump(3600);
    world.step();
    world.tick_all();
    world.step();
    world.wait(600);
    is_rolled_back_for_a_timeout(&mut world, real + jiff::SignedDuration::from_secs(600));
}

/// Two workloads, one at a time; the first one is never ready.
fn one_that_is_never_ready() -> World {
    let slow = (Kind::Direct, Behaviour::NeverReady, false);
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 1}], "onFailure": {"budget": 9}});
    let mut world = World::new(&spec, &[slow, GOOD]);
    world.second_leader = true;
    world
}

/// What was moved first is rolled back, and its old image does not come up either: there is no room on any node, and after 20 minutes
/// Kubernetes gives up. Gives what is done in the hour after the rollback.
fn a_rollback_times_out(world: &mut World) -> Vec<Action> {
    let key = world.key(0);
    world.tick_all();
    world.step();
    world.wait(31);
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
    let mut done = Vec::new();
    for look in 0..60 {
        if look == 20 {
            let timed_out = world.now.to_string();
            world.shows(&key,
                json!({"replicas": 3, "updatedReplicas": 1, "availableReplicas": 1, "unavailableReplicas": 2, "conditions": [
                    {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                        "message": "has timed out progressing.", "lastUpdateTime": timed_out},
                    {"type": "Available", "status": "False", "lastTransitionTime": timed_out}]}),
            );
        }
        done.extend(world.step());
        world.wait(60);
    }
    done
}

#[test]
fn a_rollback_that_timed_out_gives_its_slot_away() {
    let mut world = one_that_is_never_ready();
    assert_eq!(world.step().len(), 1);
    assert_eq!(a_rollback_times_out(&mut world).len(), 1);
}

/// The clock was some hours ahead for a moment and was put right long ago: the times that are written stay ahead, and for as long no
/// timeout of Kubernetes is believed. One that was rolled back and does not come up keeps its slot.
#[test]
fn one_whose_rollback_has_timed_out_is_not_in_flight_after_the_clock_was_put_right() {
    let mut world = one_that_is_never_ready();
    world.jump(20 * 3600);
    assert_eq!(world.step().len(), 1);
    world.jump(-20 * 3600);
    assert_eq!(
        a_rollback_times_out(&mut world).len(),
        1,
        "an hour after Kubernetes gave up, the other one still waits for its slot"
    );
}

/// A canary that moved and soaked while the clock was two days ahead; the clock is put right, and the process restarts.
fn soaked_two_days_ahead() -> (World, WorkloadKey) {
    let spec = json!({"health": {"rolloutDeadline": "30s", "minReadySeconds": 8}, "onFailure": {"budget": 9}});
    let unready = (Kind::Direct, Behaviour::UnreadyLater, true);
    let mut world = World::new(&spec, &[unready, GOOD, (Kind::Flux, Behaviour::Healthy, false)]);
    world.second_leader = true;
    let key = world.key(0);
    world.jump(2 * 24 * 3600);
    world.step();
    world.tick(&key);
    for _ in 0..6 {
        world.step();
        world.wait(5);
    }
    assert!(world.status.waves[0].soaked_at.is_some(), "{:?}", world.status);
    world.jump(-2 * 24 * 3600);
    world.memory = RunMemory::default();
    (world, key)
}

/// It lacks replicas from now on. What is said of it, if nothing is taken back.
fn said_of_what_is_left(world: &mut World) -> Vec<String> {
    for _ in 0..20 {
        world.tick_all();
        let back = |action: &Action| matches!(action, Action::RollBack { .. });
        assert!(!world.step().iter().any(back), "it may have soaked");
        world.wait(5);
    }
    world.status.attention.iter().map(|row| row.reason.clone()).collect()
}

/// Both times were written by the same clock: which came first is known.
#[test]
fn what_soaked_while_the_clock_was_days_ahead_is_out_and_what_is_moved_later_is_judged() {
    let (mut world, key) = soaked_two_days_ahead();
    let rows = said_of_what_is_left(&mut world);
    assert!(rows.iter().any(|row| row.contains("for its whole soak")), "{rows:?}");
    assert_eq!(world.status.counts.done, 2);
    let (mut world, _) = soaked_two_days_ahead();
    world.workloads.get_mut(&key).unwrap().behaviour = Behaviour::Healthy;
    world.tick(&key);
    let later = world.key(1);
    world.workloads.get_mut(&later).unwrap().behaviour = Behaviour::NeverReady;
    for _ in 0..20 {
        world.step();
        world.tick(&later);
        world.wait(5);
    }
    let counts = &world.status.counts;
    assert_eq!((counts.done, counts.held), (1, 1), "{:?}", world.status);
}

/// Somebody wrote a time on it that no clock of ours had: whether it had soaked cannot be told by that, so it is neither done at once
/// nor taken back.
#[test]
fn what_has_a_time_that_nobody_believes_is_neither_done_at_once_nor_taken_back() {
    let (mut world, key) = soaked_two_days_ahead();
    let sim = world.workloads.get_mut(&key).unwrap();
    let record = &mut sim.object["metadata"]["annotations"]["repave.dev/moved"];
    let mut moved: serde_json::Value = serde_json::from_str(record.as_str().unwrap()).unwrap();
    moved["at"] = json!((world.now + SignedDuration::from_hours(30 * 24)).to_string());
    *record = json!(moved.to_string());
    let mut well = world.clone();
    let rows = said_of_what_is_left(&mut world);
    assert!(
        rows.iter().any(|row| row.contains("far ahead of the clock")),
        "{rows:?}"
    );
    // One that is well has to stay so, and is done then.
    well.workloads.get_mut(&key).unwrap().behaviour = Behaviour::Healthy;
    well.tick(&key);
    well.step();
    assert_eq!(well.status.counts.done, 0);
    assert!(well.walk_to_the_end());
    assert_eq!(well.status.counts.done, 2);
}

/// Moved, complete and soaked while the clock was right. Then it is so many hours behind for one look (a node without a battery, before
/// NTP has set it), and right again; from then on the canary lacks its replicas. Gives what is done about that.
fn after_a_look_with_a_clock_that_is_behind(hours: i64) -> Vec<Action> {
    let spec = json!({"waves": [
        {"name": "canary", "selector": {"matchLabels": {"tier": "canary"}}, "maxConcurrent": 1, "soak": "10s"},
        {"name": "rest", "maxConcurrent": 2, "soak": "1h"}], "onFailure": {"budget": 9}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::UnreadyLater, true), GOOD]);
    let (canary, other) = (world.key(0), world.key(1));
    world.step();
    world.tick(&canary);
    for _ in 0..6 {
        world.step();
        world.wait(5);
    }
    world.tick(&other);
    world.step();
    assert!(world.status.waves[0].soaked_at.is_some() && world.status.finished.is_none());
    world.jump(-hours * 3600);
    assert_eq!(world.step(), []);
    world.jump(hours * 3600);
    world.step();
    let mut done = Vec::new();
    for _ in 0..20 {
        world.tick(&canary);
        done.extend(world.step());
        world.wait(5);
    }
    done
}

#[test]
fn a_clock_that_is_hours_behind_for_one_look_takes_nothing_back_that_had_soaked() {
    assert_eq!(after_a_look_with_a_clock_that_is_behind(20), []);
}

#[test]
fn a_clock_that_is_days_behind_for_one_look_takes_nothing_back_that_had_soaked() {
    assert_eq!(after_a_look_with_a_clock_that_is_behind(72), []);
}
