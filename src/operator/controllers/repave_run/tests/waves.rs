//! What opens the next wave, and what a limit counts: only what is seen to do well, whatever is missing, was taken back or has
//! no deadline of its own.

use super::{
    super::{memory::RunMemory, plan::Action},
    objects::{bump, bump_generation, image_of},
    sim::TeamChange,
    world::{Behaviour, Fault, Kind, World},
};
use crate::{
    api::RepaveRunStatus,
    controllers::conditions,
    domain::{duration::Span, workload::WorkloadKey},
};
use serde_json::json;

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);
const CANARY: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, true);

fn moves(actions: &[Action]) -> Vec<&WorkloadKey> {
    let moves = actions.iter().filter(|action| matches!(action, Action::Move { .. }));
    moves.map(Action::workload).collect()
}

/// Why it does not get on.
fn reason(world: &World) -> String {
    let stalled = conditions::find(&world.status.conditions, "Stalled").filter(|stalled| stalled.status == "True");
    stalled.map(|stalled| stalled.reason.clone()).unwrap_or_default()
}

fn is_on_target(world: &World, key: &WorkloadKey) -> bool {
    image_of(&world.workloads[key].object) == world.target()
}

/// The only canary is not seen for one look in its soak: deleted and made again (blue and green), its namespace relabelled
/// by GitOps, the RoleBinding of the plan's account made anew, its watch answered with 403.
#[test]
fn a_canary_that_is_not_there_for_one_look_does_not_end_its_wave() {
    let mut world = World::new(&json!({}), &[(Kind::Direct, Behaviour::Healthy, true), GOOD, GOOD]);
    let key = world.key(0);
    assert_eq!(moves(&world.step()), [&key]);
    world.tick_all();
    assert_eq!(world.step(), []);
    assert!(world.status.waves[0].settled_at.is_some(), "it soaks for ten seconds");
    let gone = world.workloads.remove(&key).unwrap();
    world.wait(20);
    assert_eq!(world.step(), [], "the next wave began without a soak");
    assert_eq!(reason(&world), "WaveNotProven");
    world.workloads.insert(key, gone);
    assert_eq!(world.step(), [], "it soaks anew");
    world.wait(10);
    assert_eq!(world.step().len(), 2);
}

/// The team is faster than the deadline: it takes its canary back. Budget 0.
#[test]
fn a_canary_that_its_team_took_back_does_not_open_the_next_wave() {
    let spec = json!({"onFailure": {"budget": 0}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::NeverReady, true), GOOD, GOOD]);
    let key = world.key(0);
    assert_eq!(moves(&world.step()), [&key]);
    world.tick_all();
    world.step();
    world.undo(&key);
    for _ in 0..20 {
        world.tick_all();
        assert_eq!(world.step(), [], "no canary was ever healthy on the target");
        world.wait(5);
    }
    assert_eq!(
        (world.status.counts.failed, reason(&world)),
        (0, "WaveNotProven".to_owned())
    );
    // Its team sets the image itself.
    let target = world.target();
    let sim = world.workloads.get_mut(&key).unwrap();
    sim.object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(target);
    (sim.behaviour, sim.later) = (Behaviour::Healthy, true);
    bump(&mut sim.object, "resourceVersion");
    bump_generation(&mut sim.object);
    world.tick_all();
    assert_eq!(world.step(), [], "it soaks");
    world.wait(10);
    assert_eq!(world.step().len(), 2);
}

/// It is on its way when it goes for good, and nothing of the wave was ever healthy.
#[test]
fn a_canary_that_goes_on_its_way_opens_nothing_also_after_a_restart() {
    let mut world = World::new(&json!({}), &[CANARY, GOOD]);
    let key = world.key(0);
    world.step();
    let gone = world.workloads.remove(&key).unwrap();
    world.memory = RunMemory::default();
    for _ in 0..5 {
        assert_eq!(world.step(), []);
        world.wait(60);
    }
    assert_eq!(
        (reason(&world), world.status.finished.is_none()),
        ("WaveNotProven".to_owned(), true)
    );
    // Another canary comes in its place.
    let mut other = gone;
    let mut sims = World::new(&json!({}), &[CANARY]).workloads.into_values();
    other.object = sims.next().unwrap().object;
    (other.forward, other.complete_since, other.up_since) = (0, None, None);
    other.object["metadata"]["uid"] = json!("uid-other");
    world.workloads.insert(key.clone(), other);
    assert_eq!(moves(&world.step()), [&key]);
    assert!(world.walk_to_the_end());
    assert_eq!(world.status.counts.done, 2);
}

#[test]
fn a_last_wave_that_was_taken_back_holds_up_nothing_and_ends() {
    let mut world = World::new(&json!({}), &[CANARY, GOOD]);
    let key = world.key(1);
    for _ in 0..2 {
        world.step();
        world.tick_all();
        world.wait(10);
    }
    assert_eq!(moves(&world.step()), [&key]);
    world.tick_all();
    world.undo(&key);
    assert!(world.walk_to_the_end());
    assert_eq!((world.status.counts.done, world.status.counts.skipped), (1, 1));
}

/// Nothing of it was moved: there is nothing to prove.
#[test]
fn a_wave_of_which_nothing_can_be_moved_passes() {
    let mut world = World::new(&json!({}), &[(Kind::Flux, Behaviour::Healthy, true), GOOD]);
    assert!(world.walk_to_the_end());
    assert_eq!(world.status.counts.done, 1);
}

/// A canary without pods proves nothing.
#[test]
fn a_wave_of_which_no_workload_has_pods_is_told() {
    let mut world = World::new(&json!({}), &[(Kind::Direct, Behaviour::Crashes, true), GOOD]);
    let key = world.key(0);
    world.team(&key, TeamChange::Scale(0));
    world.tick_all();
    assert!(world.walk_to_the_end());
    let rows = &world.status.attention;
    assert!(
        rows.iter()
            .any(|row| row.workload.ends_with("app-0") && row.state == "NoPods"),
        "{:?} {rows:?}",
        world.status.counts
    );
}

/// `progressDeadlineSeconds: 2147483647` means none: the deployment controller then removes the condition Progressing.
#[test]
fn the_limit_holds_for_workloads_without_a_progress_deadline() {
    let slow = (Kind::Direct, Behaviour::NeverReady, false);
    let mut world = World::new(
        &json!({"waves": [{"name": "all", "maxConcurrent": 1}], "onFailure": {"budget": 9}}),
        &[slow, slow, slow],
    );
    let without = |world: &mut World, available: u32| {
        for sim in world.workloads.values_mut() {
            let status = &mut sim.object["status"];
            let on_target = sim.forward > 0;
            let conditions = status["conditions"].as_array_mut().unwrap();
            conditions.retain(|condition| condition["type"] != "Progressing");
            if on_target {
                status["updatedReplicas"] = json!(1);
                status["availableReplicas"] = json!(available);
            }
        }
    };
    let first = world.key(0);
    assert_eq!(moves(&world.step()), [&first]);
    world.tick_all();
    without(&mut world, 1);
    assert_eq!(world.step(), []);
    world.wait(31);
    let back = world.step();
    assert!(matches!(back.as_slice(), [Action::RollBack { .. }]), "{back:?}");
    // The old pods are on their way back, seen by the controller.
    world.tick_all();
    without(&mut world, 1);
    assert_eq!(world.step(), [], "one is still being replaced, and one may be");
}

/// The first plan moved the canary, its team set it back, the plan was deleted. The run of another plan has moved nothing of the wave
/// and cannot move anything of it: it is not its proof that is missing.
#[test]
fn what_was_set_back_before_this_run_does_not_hold_its_waves_up_for_ever() {
    let mut world = World::new(&json!({}), &[CANARY, GOOD]);
    let (canary, other) = (world.key(0), world.key(1));
    assert_eq!(world.step().len(), 1);
    world.tick_all();
    world.step();
    world.second_leader = true;
    let (mut by_hand, mut undone) = (world.clone(), world);
    by_hand.revert(&canary);
    // Its record is gone then, and only its ReplicaSets tell whose move it was.
    undone.undo(&canary);
    for world in [&mut by_hand, &mut undone] {
        world.tick_all();
        world.v.run_ref = "platform/second-v3".to_owned();
        world.v.plan = "second".to_owned();
        (world.status, world.memory) = (RepaveRunStatus::default(), RunMemory::default());
        for _ in 0..40 {
            world.step();
            world.tick_all();
            world.wait(5);
        }
        assert!(is_on_target(world, &other), "stuck: {}", reason(world));
    }
}

/// The process dies between the move and the first status, and the team is faster than the next look: that is its proof to give.
#[test]
fn what_was_set_back_before_the_first_status_of_this_run_is_its_proof() {
    let mut world = World::new(&json!({}), &[CANARY, GOOD]);
    let canary = world.key(0);
    let seen = world.clone();
    world.reconcile(&seen, Fault::CrashAfter(1));
    world.tick_all();
    let (mut by_hand, mut undone) = (world.clone(), world);
    by_hand.revert(&canary);
    undone.undo(&canary);
    let (mut by_hand_and_held, mut undone_and_held) = (by_hand.clone(), undone.clone());
    for world in [&mut by_hand_and_held, &mut undone_and_held] {
        world.hold(&canary, None);
    }
    for world in [&mut by_hand, &mut undone, &mut by_hand_and_held, &mut undone_and_held] {
        for _ in 0..20 {
            world.tick_all();
            assert_eq!(world.step(), [], "no canary was ever healthy on the target");
            world.wait(5);
        }
        assert_eq!(reason(world), "WaveNotProven");
    }
}

/// The same for the same run made anew, which has its name and another UID.
#[test]
fn what_was_set_back_before_the_run_was_made_anew_does_not_hold_its_waves_up_for_ever() {
    let mut world = World::new(&json!({}), &[CANARY, CANARY, GOOD]);
    let other = world.key(2);
    for _ in 0..9 {
        world.step();
        world.tick_all();
        world.wait(5);
    }
    assert!(world.status.finished.is_some() && is_on_target(&world, &other));
    for at in 0..2 {
        let canary = world.key(at);
        world.revert(&canary);
    }
    world.tick_all();
    world.step();
    (world.status, world.memory) = (RepaveRunStatus::default(), RunMemory::default());
    world.v.uid = Some("anew".to_owned());
    // A new workload of the last wave.
    let mut late = World::new(&json!({}), &[GOOD]).workloads.into_values().next().unwrap();
    late.object["metadata"]["name"] = json!("late");
    late.object["metadata"]["uid"] = json!("uid-late");
    let key = WorkloadKey::deployment("shop", "late");
    world.workloads.insert(key.clone(), late);
    world.second_leader = true;
    for _ in 0..40 {
        world.tick_all();
        world.step();
        world.wait(5);
    }
    assert!(is_on_target(&world, &key), "stuck: {}", reason(&world));
}

/// A version before wrote `watched` for every wave that soaks, also where nothing was moved.
#[test]
fn a_soak_that_a_version_before_watched_does_not_hold_up_a_wave_of_which_nothing_was_moved() {
    let spec = json!({"waves": [
        {"name": "canary", "selector": {"matchLabels": {"tier": "canary"}}, "maxConcurrent": 1, "soak": "1h"},
        {"name": "rest", "maxConcurrent": 2, "soak": "0s"}]});
    let mut world = World::new(&spec, &[(Kind::Flux, Behaviour::Healthy, true), GOOD]);
    world.step();
    world.wait(600);
    world.step();
    assert_eq!(world.status.waves[0].watched, None);
    // As e5bb11b had written it.
    world.status.waves[0].watched = Some(Span::seconds(600));
    world.memory = RunMemory::default();
    for _ in 0..30 {
        world.tick_all();
        world.step();
        world.wait(300);
    }
    let key = world.key(1);
    assert!(is_on_target(&world, &key), "stuck: {}", reason(&world));
}

/// There was no canary when the run began: its wave was over. One that comes late to it, and is set back by its team, holds no other
/// wave back.
#[test]
fn a_latecomer_to_an_empty_wave_that_is_set_back_does_not_hold_up_the_others() {
    let spec = json!({"waves": [
        {"name": "canary", "selector": {"matchLabels": {"tier": "canary"}}, "maxConcurrent": 1, "soak": "10s"},
        {"name": "rest", "maxConcurrent": 1, "soak": "0s"}]});
    let mut world = World::new(&spec, &[GOOD, GOOD, GOOD]);
    world.second_leader = true;
    assert_eq!(world.step().len(), 1);
    let mut late = World::new(&spec, &[CANARY]).workloads.into_values().next().unwrap();
    late.object["metadata"]["name"] = json!("late");
    late.object["metadata"]["uid"] = json!("uid-late");
    let key = WorkloadKey::deployment("shop", "late");
    world.workloads.insert(key.clone(), late);
    world.tick_all();
    let mut set_back = false;
    for _ in 0..60 {
        world.step();
        world.tick_all();
        if !set_back && is_on_target(&world, &key) {
            world.revert(&key);
            set_back = true;
        }
        world.wait(5);
    }
    let left = (0..3)
        .map(|at| world.key(at))
        .filter(|key| !is_on_target(&world, key))
        .count();
    assert_eq!(left, 0, "stuck: {}", reason(&world));
}

/// Admission, or a tool of the team, takes annotations off that it does not know, ours among them. What this process has moved itself a
/// moment ago is then "a roll-out of somebody else": it takes no slot, its wave passes, and nothing is ever judged.
#[test]
fn a_move_that_lost_its_annotations_does_not_open_the_rest_of_the_estate() {
    let slow = (Kind::Direct, Behaviour::NeverReady, true);
    let mut world = World::new(&json!({"onFailure": {"budget": 0}}), &[slow, GOOD, GOOD]);
    world.second_leader = true;
    let mut moved = Vec::new();
    for _ in 0..12 {
        moved.extend(world.step().iter().map(|action| action.workload().name.clone()));
        for sim in world.workloads.values_mut() {
            let annotations = sim.object["metadata"]["annotations"].as_object_mut().unwrap();
            annotations.retain(|key, _| !key.starts_with("repave.dev/"));
        }
        world.tick_all();
        world.wait(5);
    }
    assert_eq!(moved, ["app-0"], "the only canary never became ready");
}

/// Its namespace is relabelled for one look, or its watch is answered with 403.
#[test]
fn one_in_flight_that_is_not_there_for_one_look_keeps_its_slot() {
    let slow = (Kind::Direct, Behaviour::NeverReady, false);
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 1}], "onFailure": {"budget": 9}});
    let mut world = World::new(&spec, &[slow, GOOD]);
    let key = world.key(0);
    assert_eq!(world.step().len(), 1);
    world.tick_all();
    assert_eq!(world.step(), []);
    let gone = world.workloads.remove(&key).unwrap();
    let moved = world.step().len();
    world.workloads.insert(key, gone);
    assert_eq!(moved, 0, "two are replaced at once, and one may be");
}
