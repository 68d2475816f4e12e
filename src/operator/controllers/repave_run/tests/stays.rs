//! Healthy means that it stayed healthy: for how long, what is no restart, and what a restart of ours may not cost.

use super::{
    super::{decide::Before, decide::decide, memory::RunMemory, plan::Action, seen::Supervised, steady::Steady},
    objects::parse,
    world::{Behaviour, Fault, Kind, REPOSITORY, World},
};
use crate::{api::RepaveRunStatus, controllers::repave_run::gate::Gate, domain::duration::Span};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);
const RESTARTS: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Restarts, false);

fn spec(limit: u32, seconds: u32, soak: &str) -> Value {
    json!({"waves": [{"name": "all", "maxConcurrent": limit, "soak": soak}], "onFailure": {"budget": 5},
        "health": {"rolloutDeadline": "30s", "minReadySeconds": seconds}})
}

#[test]
fn it_keeps_its_place_until_it_has_stayed_healthy() {
    let mut world = World::new(&spec(1, 10, "0s"), &[GOOD, GOOD]);
    assert_eq!(world.step().len(), 1);
    world.tick_all();
    for _ in 0..3 {
        assert_eq!(world.step(), []);
        assert_eq!((world.status.counts.rolling, world.status.counts.done), (1, 0));
        world.wait(3);
    }
    world.wait(1);
    assert_eq!(world.step().len(), 1, "ten seconds since it was seen complete");
    assert_eq!(world.status.counts.done, 1);
}

#[test]
fn a_container_that_ends_between_restarts_without_a_probe_is_never_done_and_rolled_back_at_the_deadline() {
    let mut world = World::new(&spec(2, 10, "0s"), &[RESTARTS, GOOD]);
    world.step();
    world.tick_all();
    for _ in 0..9 {
        assert_eq!(world.step(), []);
        world.wait(3);
    }
    world.wait(3);
    let actions = world.step();
    assert!(matches!(actions.as_slice(), [Action::RollBack { .. }]), "{actions:?}");
    let reason = &world.status.attention[0].reason;
    assert!(
        reason.starts_with("container app exits with 1 and is started again: it did not stay healthy within 30s"),
        "{reason}"
    );
    assert_eq!(world.status.counts.done, 1);
}

#[test]
fn one_that_is_left_as_it_is_is_failed_and_not_done_when_its_wave_goes_on() {
    let mut spec = spec(1, 4, "1s");
    spec["onFailure"] = json!({"budget": 1, "action": "Pause"});
    let mut world = World::new(&spec, &[RESTARTS, GOOD]);
    assert!(world.walk_to_the_end());
    assert_eq!((world.status.counts.done, world.status.counts.failed), (1, 1));
    assert_eq!(
        world.status.steady_until, None,
        "what was moved before the other one has not ended well"
    );
}

#[test]
fn its_own_min_ready_seconds_count_and_the_larger_one_decides() {
    for (own, seconds) in [(0, 10), (4, 6), (60, 0)] {
        let mut world = World::new(&spec(1, 10, "0s"), &[GOOD]);
        let key = world.key(0);
        world.workloads.get_mut(&key).unwrap().object["spec"]["minReadySeconds"] = json!(own);
        world.step();
        world.tick_all();
        // The deployment controller calls it available only after its own seconds.
        world.wait(own);
        world.workloads.get_mut(&key).unwrap().stayed = true;
        world.step();
        assert_eq!(world.status.counts.done, u32::from(seconds == 0), "{own}");
        world.wait(seconds);
        world.step();
        assert_eq!(world.status.counts.done, 1, "{own}");
    }
}

#[test]
fn a_slow_start_is_not_late_because_of_what_it_has_to_stay() {
    let mut world = World::new(&spec(1, 10, "0s"), &[(Kind::Direct, Behaviour::NeverReady, false)]);
    world.step();
    world.tick_all();
    world.step();
    world.wait(29);
    let key = world.key(0);
    world.workloads.get_mut(&key).unwrap().behaviour = Behaviour::Healthy;
    world.tick_all();
    assert_eq!(world.step(), []);
    world.wait(9);
    assert_eq!(world.step(), [], "past the deadline, and not restarted");
    world.wait(1);
    world.step();
    assert_eq!(world.status.counts.done, 1);
}

#[test]
fn after_a_restart_nothing_that_has_ended_is_watched_or_asked_again() {
    let mut world = World::new(&spec(3, 10, "1h"), &[GOOD; 30]);
    for _ in 0..60 {
        world.step();
        world.tick_all();
        world.wait(4);
    }
    assert_eq!(world.status.counts.done, 30);
    world.memory = RunMemory::default();
    let settled = world.status.waves.clone();
    world.step();
    assert_eq!((world.status.counts.done, &world.status.waves), (30, &settled));
    let image = world.v.repository.at(&world.v.digest);
    let supervised = Supervised {
        run_ref: &world.v.run_ref,
        image: &image,
        steady: &world.memory.steady,
    };
    let asked = world
        .workloads
        .values()
        .filter(|sim| supervised.needs(&parse(&sim.object)));
    assert_eq!(asked.count(), 0, "no pods are read");
}

/// A run whose only wave has settled and soaks for an hour.
fn soaking() -> World {
    let mut world = World::new(&spec(9, 0, "1h"), &[GOOD, GOOD]);
    world.step();
    world.tick_all();
    world.step();
    assert!(world.status.waves[0].settled_at.is_some());
    world
}

fn has_soaked(world: &World) -> bool {
    world.status.waves[0].soaked_at.is_some()
}

#[test]
fn a_soak_is_what_was_watched_whatever_the_clock_does() {
    for jump in [3600, -3600] {
        let mut world = soaking();
        world.watch(600);
        world.jump(jump);
        world.step();
        assert!(!has_soaked(&world), "{jump}");
        world.watch(2999);
        assert!(!has_soaked(&world), "{jump}");
        world.wait(1);
        world.step();
        assert!(has_soaked(&world) && world.status.finished.is_some(), "{jump}");
    }
}

#[test]
fn a_restart_goes_on_with_a_soak_from_what_the_status_keeps_and_is_never_early() {
    let mut world = soaking();
    for _ in 0..10 {
        world.wait(100);
        world.step();
    }
    assert_eq!(
        world.status.waves[0].watched,
        Some(Span::seconds(900)),
        "in steps of a twentieth"
    );
    world.memory = RunMemory::default();
    world.jump(7200);
    world.step();
    world.watch(2699);
    assert!(!has_soaked(&world));
    world.wait(1);
    world.step();
    assert!(has_soaked(&world));
}

#[test]
fn what_has_soaked_is_out_also_when_the_clock_was_set_back_meanwhile() {
    let spec = json!({"onFailure": {"budget": 5}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::UnreadyLater, true), GOOD]);
    world.step();
    world.tick_all();
    world.jump(-3600);
    world.step();
    world.wait(10);
    assert_eq!(world.step().len(), 1, "the canary has soaked");
    world.tick_all();
    for _ in 0..10 {
        assert_eq!(world.step(), [], "it is not rolled back");
        world.wait(10);
    }
}

#[test]
fn no_wave_passes_in_a_run_that_is_suspended_and_what_is_on_its_way_is_judged() {
    let spec = json!({"onFailure": {"budget": 5}});
    let crashes = (Kind::Direct, Behaviour::CrashesLater, true);
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::Healthy, true), crashes, GOOD]);
    for _ in 0..2 {
        world.step();
        world.tick(&world.key(0));
    }
    world.gate = Gate::Suspended;
    let until = world.now + SignedDuration::from_secs(60);
    let held = world.key(1);
    world.hold(&held, Some(until));
    for _ in 0..5 {
        world.step();
        world.wait(10);
    }
    assert!(
        world.status.waves.iter().all(|wave| wave.soaked_at.is_none()),
        "{:?}",
        world.status.waves
    );
    world.wait(20);
    world.gate = Gate::open();
    let moved = world.step();
    let names: Vec<_> = moved.iter().map(|action| action.workload().clone()).collect();
    assert!(
        !names.contains(&world.key(2)),
        "the canary that was held comes first: {names:?}"
    );
}

#[test]
fn a_decision_is_the_same_for_the_same_look() {
    let mut world = World::new(&spec(2, 10, "10s"), &[RESTARTS, GOOD, GOOD]);
    world.step();
    world.tick_all();
    let (observed, status): (_, RepaveRunStatus) = (world.observed(), world.status.clone());
    let before = Before {
        old: &status,
        active_runs: &BTreeSet::new(),
    };
    let times = (world.now, world.mono);
    let mut memory = world.memory.clone();
    let first = decide(&world.v, &observed, &mut memory, before, times);
    let second = decide(&world.v, &observed, &mut memory, before, times);
    assert_eq!((first.targets, first.progress), (second.targets, second.progress));
    let seen = world.clone();
    world.reconcile(&seen, Fault::None);
}

/// The clock was more than a day ahead when a wave settled, and was put right.
#[test]
fn a_clock_that_was_a_day_ahead_lets_nothing_be_done_that_has_not_stayed_healthy() {
    let mut spec = spec(1, 10, "0s");
    spec["waves"] = json!([
        {"name": "canary", "selector": {"matchLabels": {"tier": "canary"}}, "maxConcurrent": 1, "soak": "60s"},
        {"name": "rest", "maxConcurrent": 1, "soak": "0s"}]);
    let mut world = World::new(
        &spec,
        &[
            (Kind::Direct, Behaviour::Healthy, true),
            (Kind::Direct, Behaviour::Restarts, false),
        ],
    );
    world.jump(90_000);
    for _ in 0..5 {
        world.step();
        world.tick_all();
        world.wait(5);
    }
    assert!(world.status.steady_until.is_some());
    world.jump(-90_000);
    let mut back = Vec::new();
    for _ in 0..40 {
        world.tick_all();
        back.extend(world.step());
        world.wait(3);
    }
    let key = world.key(1);
    back.retain(|action| matches!(action, Action::RollBack { .. }));
    let rolled_back: Vec<_> = back.iter().map(Action::workload).collect();
    assert_eq!(rolled_back, [&key], "{:?}", world.status.counts);
}

/// It starts in 29 of its 30 seconds, and a node is drained while it has to stay healthy: a pod is missing for one look.
#[test]
fn a_drained_node_in_the_time_that_a_slow_starter_has_to_stay_is_no_failure() {
    let mut world = World::new(&spec(1, 10, "0s"), &[(Kind::Direct, Behaviour::NeverReady, false)]);
    let key = world.key(0);
    world.step();
    world.tick_all();
    world.step();
    world.wait(29);
    world.workloads.get_mut(&key).unwrap().behaviour = Behaviour::Healthy;
    world.tick_all();
    assert_eq!(world.step(), []);
    world.wait(3);
    world.workloads.get_mut(&key).unwrap().behaviour = Behaviour::UnreadyLater;
    world.tick_all();
    assert_eq!(world.step(), [], "too few replicas, for less than the deadline");
    world.wait(3);
    let sim = world.workloads.get_mut(&key).unwrap();
    sim.behaviour = Behaviour::Healthy;
    let status = &mut sim.object["status"];
    status["availableReplicas"] = json!(2);
    status["conditions"][1]["status"] = json!("True");
    assert_eq!(world.step(), [], "all replicas are back, after three seconds");
}

/// A tag beside the digest, as an admission webhook for workloads writes it: still our roll-out by its generation.
#[test]
fn pods_are_asked_also_where_admission_wrote_a_tag_beside_our_digest() {
    let mut world = World::new(&spec(1, 10, "0s"), &[GOOD]);
    let key = world.key(0);
    world.step();
    let digest = world.v.digest.clone();
    let sim = world.workloads.get_mut(&key).unwrap();
    sim.object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(format!("{REPOSITORY}:12@{digest}"));
    let workload = parse(&sim.object);
    assert!(workload.our_rollout().is_some(), "it is our roll-out");
    let image = world.v.repository.at(&world.v.digest);
    let steady = Steady::default();
    let supervised = Supervised {
        run_ref: &world.v.run_ref,
        image: &image,
        steady: &steady,
    };
    assert!(
        supervised.needs(&workload),
        "nobody would see it crash or be started again"
    );
}

/// Two that were moved at the same look; the one that is not healthy is not to be seen at the look in which the other one is done.
/// `status.steadyUntil` must not tell of both then.
#[test]
fn one_that_was_not_there_for_one_look_is_not_done_without_having_stayed() {
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 9, "soak": "1h"}],
        "health": {"rolloutDeadline": "30s", "minReadySeconds": 8}, "onFailure": {"budget": 9}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::Restarts, false), GOOD]);
    let key = world.key(0);
    assert_eq!(world.step().len(), 2);
    for _ in 0..4 {
        world.tick_all();
        assert_eq!(world.step(), []);
        world.wait(2);
    }
    assert_eq!(world.status.counts.done, 0);
    let gone = world.workloads.remove(&key).unwrap();
    world.tick_all();
    assert_eq!(world.step(), []);
    assert_eq!(world.status.counts.done, 1);
    world.workloads.insert(key.clone(), gone);
    let mut back = Vec::new();
    for _ in 0..40 {
        world.tick_all();
        back.extend(world.step());
        assert!(world.status.counts.done < 2, "it is started again every few seconds");
        world.wait(2);
    }
    assert_eq!(back.len(), 1);
}

#[test]
fn one_that_is_there_at_every_look_and_restarts_is_rolled_back() {
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 9, "soak": "1h"}],
        "health": {"rolloutDeadline": "30s", "minReadySeconds": 8}, "onFailure": {"budget": 9}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::Restarts, false), GOOD]);
    world.step();
    let mut back = Vec::new();
    for _ in 0..40 {
        world.tick_all();
        back.extend(world.step());
        world.wait(2);
    }
    assert_eq!(back.len(), 1);
}

/// The same, and its wave passes while it is not there.
#[test]
fn one_that_was_not_there_when_its_wave_had_soaked_is_not_done_without_having_stayed() {
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 9, "soak": "0s"}],
        "health": {"rolloutDeadline": "30s", "minReadySeconds": 8}, "onFailure": {"budget": 9}});
    let mut world = World::new(&spec, &[RESTARTS, GOOD]);
    let key = world.key(0);
    assert_eq!(world.step().len(), 2);
    for _ in 0..4 {
        world.tick_all();
        assert_eq!(world.step(), []);
        world.wait(2);
    }
    let gone = world.workloads.remove(&key).unwrap();
    assert_eq!(world.step(), []);
    assert_eq!(world.status.finished, None, "it was on its way, and may only be hidden");
    world.wait(31);
    assert_eq!(world.step(), []);
    assert!(world.status.finished.is_some());
    // It was not there for that soak.
    world.soaked_in[0] = 0;
    world.workloads.insert(key.clone(), gone);
    let mut back = Vec::new();
    for _ in 0..40 {
        world.tick_all();
        back.extend(world.step());
        world.wait(2);
    }
    let back: Vec<_> = back.iter().map(Action::workload).collect();
    assert_eq!(back, [&key], "it is started again every few seconds");
}
