//! What a reviewer found: each test shows one decision that is wrong today.

use super::{
    super::{
        decide::{Before, decide},
        memory::RunMemory,
        plan::Action,
        state::State,
    },
    objects::{bump, bump_generation, image_of, parse},
    sim::TeamChange,
    world::{Behaviour, Kind, World, release},
};
use crate::{
    api::RepaveRunStatus,
    controllers::conditions,
    domain::{digest::Digest, duration::Span, workload::WorkloadKey},
};
use serde_json::{Value, json};

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);
const CANARY: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, true);
const MONTH: i64 = 30 * 24 * 3600;

fn reason(world: &World) -> String {
    let stalled = conditions::find(&world.status.conditions, "Stalled").filter(|stalled| stalled.status == "True");
    stalled.map(|stalled| stalled.reason.clone()).unwrap_or_default()
}

fn is_on_target(world: &World, key: &WorkloadKey) -> bool {
    image_of(&world.workloads[key].object) == world.target()
}

/// The deployment controller's status of the present generation.
fn shows(world: &mut World, key: &WorkloadKey, mut status: Value) {
    let sim = world.workloads.get_mut(key).unwrap();
    status["observedGeneration"] = sim.object["metadata"]["generation"].clone();
    sim.object["status"] = status;
    bump(&mut sim.object, "resourceVersion");
}

/// A finished run over two workloads that settled and soaked a month ago.
fn soaked_a_month_ago() -> World {
    let mut world = World::new(
        &json!({"waves": [{"name": "all", "maxConcurrent": 9, "soak": "10s"}], "onFailure": {"budget": 9}}),
        &[(Kind::Direct, Behaviour::UnreadyLater, false), GOOD],
    );
    world.step();
    world.tick_all();
    world.step();
    world.wait(10);
    world.step();
    assert!(world.status.finished.is_some());
    assert_eq!(world.status.counts.done, 2);
    world.wait(MONTH);
    assert_eq!(world.step(), []);
    world
}

fn nothing_is_rolled_back(world: &mut World) {
    for look in 0..20 {
        assert_eq!(
            world.step(),
            [],
            "look {look}: it was healthy on the target for a month"
        );
        world.wait(5);
    }
    assert_eq!((world.status.counts.done, world.status.counts.held), (2, 0));
}

/// `kubectl rollout pause`, then `resume`, while one of its pods is not ready: the deployment controller sets the reason of
/// Progressing to `DeploymentPaused`, `DeploymentResumed`, `ReplicaSetUpdated`; that the roll-out was complete is lost there.
#[test]
fn what_soaked_a_month_ago_is_not_rolled_back_because_it_was_paused_and_resumed() {
    let mut world = soaked_a_month_ago();
    let key = world.key(0);
    world.team(&key, TeamChange::Pause);
    world.tick(&key);
    assert_eq!(world.step(), []);
    world.team(&key, TeamChange::Resume);
    shows(
        &mut world,
        &key,
        json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1, "unavailableReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"},
            {"type": "Available", "status": "False", "lastTransitionTime": "1970-01-01T00:00:01Z"}]}),
    );
    nothing_is_rolled_back(&mut world);
}

/// The same ten minutes after it was resumed: Kubernetes itself gives up waiting, for a roll-out that was over a month ago.
#[test]
fn what_soaked_a_month_ago_is_not_rolled_back_for_a_timeout_after_it_was_resumed() {
    let mut world = soaked_a_month_ago();
    let key = world.key(0);
    world.team(&key, TeamChange::Pause);
    world.tick(&key);
    world.team(&key, TeamChange::Resume);
    let now = world.now.to_string();
    shows(
        &mut world,
        &key,
        json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1, "unavailableReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "has timed out progressing.",
                "lastUpdateTime": now},
            {"type": "Available", "status": "False", "lastTransitionTime": now}]}),
    );
    nothing_is_rolled_back(&mut world);
}

/// Scaled to nothing for the night (KEDA, a cost saver), and in the morning a quota lets no pod be made: `updatedReplicas` is 0,
/// Progressing still says `NewReplicaSetAvailable`.
#[test]
fn what_soaked_a_month_ago_is_not_rolled_back_because_it_was_scaled_from_nothing() {
    let mut world = soaked_a_month_ago();
    let key = world.key(0);
    world.team(&key, TeamChange::Scale(0));
    world.tick(&key);
    assert_eq!(world.step(), []);
    world.team(&key, TeamChange::Scale(3));
    shows(
        &mut world,
        &key,
        json!({"replicas": 0, "updatedReplicas": 0, "availableReplicas": 0, "unavailableReplicas": 3, "conditions": [
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
            {"type": "Available", "status": "False", "lastTransitionTime": "1970-01-01T00:00:01Z"},
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}]}),
    );
    nothing_is_rolled_back(&mut world);
}

/// Two that were moved at the same look; the one that is not healthy is not to be seen at the look in which the other one is done.
/// `status.steadyUntil` then tells of both.
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

/// v2 was moved, complete, soaked and ran for a month; then its node went, and in that hour v3 comes. A move remembers what to go
/// back to: v2, not what was there before it.
#[test]
fn a_move_of_one_that_lost_its_replicas_for_a_while_goes_back_to_what_it_ran_for_a_month() {
    let mut world = World::new(&json!({}), &[GOOD]);
    let key = world.key(0);
    let at = |tag: &str, n: i64| world.v.repository.at(&release(tag, n).digest).to_string();
    let (v1, v2) = (at("v1", 1), at("v2", 2));
    let sim = world.workloads.get_mut(&key).unwrap();
    let before = parse(&sim.object);
    sim.object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(v2);
    let template = parse(&sim.object).template();
    let record = json!({"at": world.now.to_string(), "plan": "platform/all", "digest": release("v2", 2).digest, "sequence": 2,
        "generation": before.generation, "template": template, "revision": before.revision});
    let annotations = &mut sim.object["metadata"]["annotations"];
    annotations["repave.dev/run"] = json!("platform/all-v2");
    annotations["repave.dev/moved"] = json!(record.to_string());
    annotations["repave.dev/previous-images"] = json!(json!({"app": v1}).to_string());
    bump_generation(&mut sim.object);
    world.wait(MONTH);
    let now = world.now.to_string();
    shows(
        &mut world,
        &key,
        json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 0, "unavailableReplicas": 2, "conditions": [
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
            {"type": "Available", "status": "False", "lastTransitionTime": now}]}),
    );
    let (observed, mut memory, old) = (world.observed(), RunMemory::default(), RepaveRunStatus::default());
    let before = Before {
        old: &old,
        active_runs: &world.active_runs,
    };
    let decided = decide(&world.v, &observed, &mut memory, before, (world.now, world.mono));
    // Not to be begun on it at all would be right too.
    for action in &decided.actions {
        let Action::Move { patch, .. } = action else {
            panic!("{action:?}")
        };
        let patch = serde_json::to_value(patch).unwrap();
        let ops = patch.as_array().unwrap().iter();
        let mut previous = ops.filter(|op| op["path"] == "/metadata/annotations/repave.dev~1previous-images");
        let previous = previous.next().unwrap()["value"].as_str().unwrap();
        assert!(
            previous.contains(&v2),
            "it would go back two releases: {previous} (v2 is {v2})"
        );
    }
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
    world.revert(&canary);
    world.tick_all();
    world.v.run_ref = "platform/second-v3".to_owned();
    world.v.plan = "second".to_owned();
    (world.status, world.memory) = (RepaveRunStatus::default(), RunMemory::default());
    world.second_leader = true;
    for _ in 0..40 {
        world.step();
        world.tick_all();
        world.wait(5);
    }
    assert!(is_on_target(&world, &other), "stuck: {}", reason(&world));
}

/// The same for the same run made anew, as the documentation advises after a refusal.
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

/// One plan, two base images that are released together, one canary with both: while the run of the first has it, the run of the
/// second goes on to its next wave, and nobody has seen its release run anywhere.
#[test]
fn the_run_of_a_second_base_image_does_not_go_past_a_canary_that_the_first_one_has() {
    let mut world = World::new(
        &json!({}),
        &[(Kind::TwoContainers, Behaviour::Healthy, true), GOOD, GOOD],
    );
    let key = world.key(0);
    let sim = world.workloads.get_mut(&key).unwrap();
    let before = parse(&sim.object);
    let (digest, run) = (Digest::of(b"log-2"), "platform/all-log-2");
    sim.object["spec"]["template"]["spec"]["containers"][1]["image"] = json!(format!("registry.test/log@{digest}"));
    let template = parse(&sim.object).template();
    let record = json!({"at": world.now.to_string(), "plan": "platform/all", "digest": digest, "sequence": 2, "uid": before.uid,
        "generation": before.generation, "template": template, "revision": before.revision});
    let annotations = &mut sim.object["metadata"]["annotations"];
    annotations["repave.dev/run"] = json!(run);
    annotations["repave.dev/moved"] = json!(record.to_string());
    bump(&mut sim.object, "resourceVersion");
    bump_generation(&mut sim.object);
    world.tick_all();
    world.second_leader = true;
    world.active_runs.insert(run.to_owned());
    for _ in 0..20 {
        assert_eq!(world.step(), [], "the release ran on no canary");
        world.tick_all();
        world.wait(5);
    }
}

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

/// Our clock is an hour ahead of the cluster's: Kubernetes' own verdict about our roll-out has a time before our write.
#[test]
fn a_clock_that_is_ahead_hides_no_timeout_of_our_own_rollout() {
    let spec = json!({"health": {"rolloutDeadline": "2h", "minReadySeconds": 0}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::NeverReady, false), GOOD]);
    let key = world.key(0);
    let real = world.now;
    world.jump(3600);
    world.step();
    world.tick_all();
    world.step();
    world.wait(600);
    let timed_out = (real + jiff::SignedDuration::from_secs(600)).to_string();
    shows(
        &mut world,
        &key,
        json!({"replicas": 3, "updatedReplicas": 1, "availableReplicas": 2, "unavailableReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "has timed out progressing.",
                "lastUpdateTime": timed_out},
            {"type": "Available", "status": "True", "lastTransitionTime": "1970-01-01T00:00:01Z"}]}),
    );
    let actions = world.step();
    assert!(matches!(actions.as_slice(), [Action::RollBack { .. }]), "{actions:?}");
}

/// The clock was some hours ahead for a moment and was put right long ago: the times that are written stay ahead, and for as long no
/// timeout of Kubernetes is believed. One that was rolled back and does not come up keeps its slot.
#[test]
fn one_whose_rollback_has_timed_out_is_not_in_flight_after_the_clock_was_put_right() {
    let slow = (Kind::Direct, Behaviour::NeverReady, false);
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 1}], "onFailure": {"budget": 9}});
    let mut world = World::new(&spec, &[slow, GOOD]);
    world.second_leader = true;
    let key = world.key(0);
    world.jump(20 * 3600);
    assert_eq!(world.step().len(), 1);
    world.jump(-20 * 3600);
    world.tick_all();
    world.step();
    world.wait(31);
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
    // Its old image does not come up either: no room on any node.
    let mut moved = Vec::new();
    for look in 0..60 {
        let timed_out = world.now.to_string();
        if look == 20 {
            shows(
                &mut world,
                &key,
                json!({"replicas": 3, "updatedReplicas": 1, "availableReplicas": 1, "unavailableReplicas": 2, "conditions": [
                    {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                        "message": "has timed out progressing.", "lastUpdateTime": timed_out},
                    {"type": "Available", "status": "False", "lastTransitionTime": timed_out}]}),
            );
        }
        moved.extend(world.step());
        world.wait(60);
    }
    assert_eq!(
        moved.len(),
        1,
        "an hour after Kubernetes gave up, the other one still waits for its slot"
    );
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

/// One plan over ten base images, all of them in one namespace, all their runs over and pruned: nobody is at work.
#[tokio::test]
async fn runs_that_are_over_keep_nothing_back_however_many_base_images_a_namespace_has() {
    let mut world = World::new(&json!({}), &[GOOD; 12]);
    for at in 0..12 {
        let key = world.key(at);
        let sim = world.workloads.get_mut(&key).unwrap();
        let template = parse(&sim.object).template();
        let digest = Digest::of(format!("other-{at}").as_bytes());
        let record = json!({"at": "1970-01-01T00:00:01Z", "plan": "platform/all", "digest": digest, "sequence": 2,
            "uid": sim.object["metadata"]["uid"], "generation": 0, "template": template});
        let annotations = &mut sim.object["metadata"]["annotations"];
        annotations["repave.dev/run"] = json!(format!("platform/all-base-{at:02}"));
        annotations["repave.dev/moved"] = json!(record.to_string());
    }
    let server = crate::controllers::testing::Api::default();
    let observed = world.observed();
    let ctx = server.context();
    let active = super::super::others::active_runs(&ctx, &world.v, &observed, world.mono);
    let active = active.await.unwrap();
    assert!(
        active.is_empty(),
        "there is no run at all, and these are taken to be at work, for ever: {active:?}"
    );
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

// Controls: the same worlds without the one thing that is blamed.

#[test]
fn control_without_a_jump_the_timeout_is_seen() {
    let spec = json!({"health": {"rolloutDeadline": "2h", "minReadySeconds": 0}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::NeverReady, false), GOOD]);
    let key = world.key(0);
    world.step();
    world.tick_all();
    world.step();
    world.wait(600);
    let timed_out = world.now.to_string();
    shows(
        &mut world,
        &key,
        json!({"replicas": 3, "updatedReplicas": 1, "availableReplicas": 2, "unavailableReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "has timed out progressing.",
                "lastUpdateTime": timed_out},
            {"type": "Available", "status": "True", "lastTransitionTime": "1970-01-01T00:00:01Z"}]}),
    );
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
}

#[test]
fn control_without_a_jump_a_rollback_that_timed_out_gives_its_slot_away() {
    let slow = (Kind::Direct, Behaviour::NeverReady, false);
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 1}], "onFailure": {"budget": 9}});
    let mut world = World::new(&spec, &[slow, GOOD]);
    world.second_leader = true;
    let key = world.key(0);
    assert_eq!(world.step().len(), 1);
    world.tick_all();
    world.step();
    world.wait(31);
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
    let mut moved = Vec::new();
    for look in 0..60 {
        let timed_out = world.now.to_string();
        if look == 20 {
            shows(
                &mut world,
                &key,
                json!({"replicas": 3, "updatedReplicas": 1, "availableReplicas": 1, "unavailableReplicas": 2, "conditions": [
                    {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                        "message": "has timed out progressing.", "lastUpdateTime": timed_out},
                    {"type": "Available", "status": "False", "lastTransitionTime": timed_out}]}),
            );
        }
        moved.extend(world.step());
        world.wait(60);
    }
    assert_eq!(moved.len(), 1);
}

#[test]
fn control_one_that_is_there_at_every_look_and_restarts_is_rolled_back() {
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

#[test]
fn control_a_month_later_without_a_pause_nothing_is_rolled_back() {
    let mut world = soaked_a_month_ago();
    let key = world.key(0);
    shows(
        &mut world,
        &key,
        json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1, "unavailableReplicas": 1, "conditions": [
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
            {"type": "Available", "status": "False", "lastTransitionTime": "1970-01-01T00:00:01Z"}]}),
    );
    nothing_is_rolled_back(&mut world);
}
