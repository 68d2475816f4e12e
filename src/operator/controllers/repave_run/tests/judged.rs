//! A run judges only the roll-out that it caused, and only until its wave has soaked: each case is one that somebody else, a
//! slow controller or a clock brings about.

use super::{
    super::{memory::RunMemory, plan::Action},
    objects::{bump, bump_generation, image_of, parse},
    sim::TeamChange,
    soaked::soaked_a_month_ago,
    world::{Behaviour, Fault, Kind, World, release},
};
use crate::{
    api::{RepaveRunStatus, repave_plan::FailureAction},
    controllers::conditions,
    domain::workload::WorkloadKey,
};
use jiff::SignedDuration;
use serde_json::json;

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);
const GOOD_CANARY: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, true);

/// One wave with a soak of an hour, and a deadline of 30 seconds.
fn soaking(workloads: &[(Kind, Behaviour, bool)]) -> World {
    let mut world = World::new(
        &json!({"waves": [{"name": "all", "maxConcurrent": 9, "soak": "1h"}], "onFailure": {"budget": "100%"}}),
        workloads,
    );
    assert_eq!(world.step().len(), workloads.len());
    world.tick_all();
    assert_eq!(world.step(), []);
    world
}

fn row(world: &World) -> String {
    let rows = world.status.attention.iter();
    rows.map(|row| format!("{} {}", row.state, row.reason))
        .collect::<Vec<_>>()
        .join("; ")
}

#[test]
fn a_later_rollout_of_its_team_is_never_rolled_back_and_never_counted() {
    for change in [TeamChange::Good, TeamChange::Bad] {
        let mut world = soaking(&[GOOD, GOOD]);
        world.wait(60);
        let key = world.key(0);
        world.team(&key, change);
        for seconds in [0, 40, 40, 60] {
            assert_eq!(world.step(), [], "{change:?}");
            assert_eq!(world.status.counts.failed, 0, "{change:?}");
            world.wait(seconds);
            if seconds > 0 {
                world.tick_all();
            }
        }
        assert_eq!(image_of(&world.workloads[&key].object), world.target());
    }
}

#[test]
fn scaling_and_a_slow_deployment_controller_are_never_late() {
    let mut world = soaking(&[GOOD]);
    let key = world.key(0);
    world.team(&key, TeamChange::Scale(7));
    world.wait(3000);
    assert_eq!(world.step(), []);
    assert_eq!(world.status.counts.done, 1, "{}", row(&world));

    let mut world = World::new(&json!({}), &[GOOD]);
    assert_eq!(world.step().len(), 1);
    for _ in 0..10 {
        world.wait(3600);
        assert_eq!(world.step(), [], "the controller has not looked yet");
        assert_eq!(world.status.counts.rolling, 1);
    }
    world.tick_all();
    world.step();
    assert_eq!(world.status.counts.done, 1);
}

#[test]
fn the_deadline_counts_from_when_the_controller_saw_the_change() {
    let mut world = World::new(&json!({}), &[(Kind::Direct, Behaviour::NeverReady, false)]);
    world.step();
    world.wait(3600);
    world.tick_all();
    assert_eq!(world.step(), [], "seen just now");
    world.wait(29);
    assert_eq!(world.step(), []);
    world.wait(1);
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
}

#[test]
fn a_clock_that_jumps_an_hour_in_either_direction_changes_nothing() {
    for jump in [SignedDuration::from_hours(1), SignedDuration::from_hours(-1)] {
        let mut world = World::new(&json!({}), &[(Kind::Direct, Behaviour::NeverReady, false)]);
        world.step();
        world.tick_all();
        world.now += jump;
        assert_eq!(world.step(), [], "{jump}");
        world.wait(29);
        assert_eq!(world.step(), [], "{jump}");
        world.wait(1);
        assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]), "{jump}");
    }
}

#[test]
fn one_that_was_paused_in_its_rollout_has_its_whole_deadline_after_it_is_resumed() {
    let mut world = World::new(&json!({}), &[(Kind::Direct, Behaviour::NeverReady, false)]);
    let key = world.key(0);
    world.step();
    world.tick_all();
    world.wait(20);
    world.step();
    world.team(&key, TeamChange::Pause);
    world.tick_all();
    world.wait(3600);
    assert_eq!(world.step(), []);
    assert_eq!(world.status.counts.skipped, 1);
    world.team(&key, TeamChange::Resume);
    world.tick_all();
    assert_eq!(world.step(), []);
}

#[test]
fn what_has_soaked_is_told_when_it_breaks_and_stops_nothing() {
    let later = (Kind::Direct, Behaviour::UnreadyLater, true);
    let mut world = World::new(&json!({"onFailure": {"budget": 0}}), &[later, GOOD, GOOD, GOOD]);
    world.step();
    world.tick_all();
    world.step();
    world.wait(10);
    assert_eq!(world.step().len(), 2, "the canary has soaked");
    world.tick_all();
    world.wait(300);
    assert_eq!(world.step().len(), 1);
    assert!(
        row(&world).starts_with("Degraded too few replicas since"),
        "{}",
        row(&world)
    );
    world.tick_all();
    world.step();
    assert!(
        conditions::is_true(&world.status.conditions, "Ready"),
        "{:?}",
        world.status.conditions
    );
    assert_eq!((world.status.counts.done, world.status.counts.failed), (4, 0));
}

#[test]
fn one_that_turns_unready_in_its_soak_is_rolled_back_and_the_soak_of_the_others_goes_on() {
    let mut world = soaking(&[(Kind::Direct, Behaviour::UnreadyLater, false), GOOD]);
    let settled = world.status.waves.clone();
    world.tick_all();
    assert_eq!(world.step(), [], "it may come back");
    world.wait(30);
    let actions = world.step();
    assert!(matches!(actions.as_slice(), [Action::RollBack { .. }]), "{actions:?}");
    world.tick_all();
    world.step();
    assert_eq!(world.status.waves, settled);
    assert!(
        row(&world).starts_with("RolledBack was healthy on the new image"),
        "{}",
        row(&world)
    );
}

#[test]
fn one_failed_workload_stops_nothing_but_itself() {
    let spec = json!({"onFailure": {"budget": 1, "action": "Pause"}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::Crashes, true), GOOD, GOOD]);
    assert!(world.walk_to_the_end());
    assert_eq!((world.status.counts.done, world.status.counts.failed), (2, 1));
}

#[test]
fn with_pause_and_a_budget_of_zero_the_first_failure_stops_the_run() {
    let spec = json!({"onFailure": {"budget": 0, "action": "Pause"}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::Crashes, true), GOOD, GOOD]);
    assert!(!world.walk_to_the_end());
    assert_eq!((world.status.counts.pending, world.status.counts.failed), (2, 1));
}

#[test]
fn a_record_that_somebody_takes_away_ends_the_judgement_of_that_workload_only() {
    let mut world = World::new(&json!({}), &[(Kind::Direct, Behaviour::Crashes, true), GOOD_CANARY]);
    world.step();
    world.tick_all();
    let key = world.key(0);
    let sim = world.workloads.get_mut(&key).unwrap();
    sim.later = true;
    let annotations = &mut sim.object["metadata"]["annotations"];
    annotations.as_object_mut().unwrap().remove("repave.dev/moved");
    assert!(world.walk_to_the_end());
    assert_eq!((world.status.counts.done, world.status.counts.skipped), (1, 1));
}

#[test]
fn a_move_of_an_older_version_is_judged_by_its_time_annotation_as_before() {
    let mut world = World::new(&json!({}), &[(Kind::Direct, Behaviour::Crashes, true)]);
    world.step();
    let key = world.key(0);
    let object = &mut world.workloads.get_mut(&key).unwrap().object;
    let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.remove("repave.dev/moved");
    annotations.insert("repave.dev/moved-at".to_owned(), json!("1970-01-01T00:16:40Z"));
    world.tick_all();
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
    let annotations = &world.workloads[&key].object["metadata"]["annotations"];
    assert!(annotations["repave.dev/moved-at"].is_null() && annotations["repave.dev/moved"].is_string());
}

#[test]
fn a_latecomer_to_a_wave_that_has_passed_is_moved_and_judged_and_holds_nobody_back() {
    let mut world = World::new(&json!({}), &[GOOD_CANARY, GOOD_CANARY, GOOD, GOOD, GOOD]);
    let late = world.key(1);
    let until = world.now + SignedDuration::from_secs(12);
    world.hold(&late, Some(until));
    world.tick_all();
    world.step();
    world.tick_all();
    world.step();
    world.wait(10);
    assert_eq!(world.step().len(), 2, "the canary that is not held has soaked");
    world.tick_all();
    world.wait(5);
    let moved: Vec<_> = world
        .step()
        .iter()
        .map(|action| action.workload().name.clone())
        .collect();
    assert_eq!(moved, ["app-1", "app-4"]);
    assert!(world.walk_to_the_end());
    assert_eq!(world.status.counts.done, 5);
}

#[test]
fn a_wave_whose_workloads_are_all_held_does_not_pass_before_its_turn() {
    let mut world = World::new(&json!({}), &[GOOD_CANARY, GOOD]);
    let held = world.key(1);
    let until = world.now + SignedDuration::from_secs(3);
    world.hold(&held, Some(until));
    world.tick_all();
    world.step();
    world.tick_all();
    world.wait(5);
    assert_eq!(world.step(), [], "the canary soaks, whatever was held at first");
    world.wait(10);
    assert_eq!(world.step().len(), 1);
}

/// `kubectl get deployment a -o yaml | sed s/a/b/ | kubectl apply`: a new object with our annotations, which we never wrote to.
#[test]
fn a_copy_of_a_moved_workload_is_no_rollout_of_ours() {
    let mut world = World::new(
        &json!({"waves": [{"name": "all", "maxConcurrent": 9, "soak": "1h"}]}),
        &[GOOD],
    );
    let key = world.key(0);
    world.step();
    world.tick_all();
    world.step();
    assert_eq!(world.status.counts.done, 1);
    let mut copy = world.workloads[&key].clone();
    copy.behaviour = Behaviour::Crashes;
    let meta = &mut copy.object["metadata"];
    (meta["name"], meta["uid"]) = (json!("copy"), json!("uid-copy"));
    (meta["generation"], meta["resourceVersion"]) = (json!(1), json!("1"));
    meta["annotations"]["deployment.kubernetes.io/revision"] = json!("1");
    copy.object["status"] = json!(null);
    copy.sets = Vec::new();
    world.workloads.insert(WorkloadKey::deployment("shop", "copy"), copy);
    let mut back = Vec::new();
    for _ in 0..10 {
        world.tick_all();
        back.extend(world.step());
        world.wait(5);
    }
    assert_eq!(back, [], "a roll-out that nobody but its team caused");
    assert_eq!(world.status.counts.held, 0);
}

/// What the deployment controller (1.36, `recreate.go`, `progress.go`) shows after a write to a Deployment with strategy
/// Recreate that had timed out before: the new generation is observed, its old pods are still ending, there is no new
/// ReplicaSet, and so the condition of the roll-out before stays: `DeploymentTimedOut` says true to its own reason.
#[test]
fn a_repair_is_not_judged_by_the_timeout_of_what_it_repairs() {
    let mut world = World::new(&json!({}), &[(Kind::Direct, Behaviour::NeverReady, false)]);
    let key = world.key(0);
    left_by_the_run_before(&mut world, &key);
    let sim = world.workloads.get_mut(&key).unwrap();
    sim.object["spec"]["strategy"] = json!({"type": "Recreate"});
    let generation = sim.object["metadata"]["generation"].clone();
    sim.object["status"] = json!({
        "observedGeneration": generation, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 0, "unavailableReplicas": 2,
        "conditions": [
            {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable",
                "lastTransitionTime": "1970-01-01T00:00:01Z", "lastUpdateTime": "1970-01-01T00:00:01Z"},
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                "message": "ReplicaSet \"app-0-1\" has timed out progressing.",
                "lastTransitionTime": "1970-01-01T00:26:40Z", "lastUpdateTime": "1970-01-01T00:26:40Z"}]});
    world.wait(900);
    assert!(matches!(world.step().as_slice(), [Action::Move { .. }]));
    let sim = world.workloads.get_mut(&key).unwrap();
    sim.object["status"]["observedGeneration"] = sim.object["metadata"]["generation"].clone();
    sim.object["status"]["updatedReplicas"] = json!(0);
    bump(&mut sim.object, "resourceVersion");
    assert_eq!(world.step(), [], "no second has passed since the write");
}

/// As the documentation advises after a refusal, or after a restore that brings no status.
#[test]
fn a_run_that_is_made_anew_rolls_nothing_back_that_has_soaked_long_ago() {
    let mut world = soaked_a_month_ago(Behaviour::CrashesLater);
    // Its database is away, and somebody deletes the run.
    world.tick_all();
    assert_eq!(world.step(), []);
    world.status = RepaveRunStatus::default();
    world.memory = RunMemory::default();
    for _ in 0..9 {
        assert_eq!(world.step(), [], "it was healthy on the target for a month");
        world.wait(10);
    }
    assert_eq!((world.status.counts.done, world.status.counts.failed), (2, 0));
    assert!(row(&world).starts_with("Degraded too few replicas"), "{}", row(&world));
}

/// The same, and nobody can tell whether it ever was healthy.
#[test]
fn a_run_that_is_made_anew_reports_what_it_moved_long_ago_and_does_not_know() {
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 9}], "onFailure": {"budget": 9, "action": "Pause"}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::NeverReady, false), GOOD]);
    assert!(world.walk_to_the_end());
    world.wait(30 * 24 * 3600);
    (world.status, world.memory) = (RepaveRunStatus::default(), RunMemory::default());
    world.v.action = FailureAction::RollbackWorkload;
    assert!(world.walk_to_the_end());
    assert_eq!(
        (world.status.counts.done, world.status.counts.skipped),
        (1, 1),
        "{}",
        row(&world)
    );
    assert!(row(&world).contains("it was moved long before"), "{}", row(&world));
}

/// The process dies between its first moves and its first status: that is no month.
#[test]
fn what_was_moved_before_the_first_status_is_judged() {
    let mut world = World::new(&json!({}), &[(Kind::Direct, Behaviour::Crashes, false)]);
    let seen = world.clone();
    world.reconcile(&seen, Fault::CrashAfter(1));
    world.wait(3600);
    world.tick_all();
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
}

/// What the run of v2 left: it crashes, and a rollback to v1 was refused by a policy that is gone.
fn left_by_the_run_before(world: &mut World, key: &WorkloadKey) {
    let v2 = world.v.repository.at(&release("v2", 2).digest).to_string();
    let v1 = world.v.repository.at(&release("v1", 1).digest).to_string();
    let sim = world.workloads.get_mut(key).unwrap();
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
}

/// The image of a rollback is not one that the operator itself knows to have failed.
#[test]
fn a_repair_that_fails_does_not_go_back_to_what_was_broken_before_it() {
    let mut world = World::new(&json!({}), &[(Kind::Direct, Behaviour::Crashes, false)]);
    let key = world.key(0);
    let v1 = world.v.repository.at(&release("v1", 1).digest).to_string();
    left_by_the_run_before(&mut world, &key);
    let sim = world.workloads.get_mut(&key).unwrap();
    sim.object["status"]["observedGeneration"] = json!(2);
    sim.object["status"]["updatedReplicas"] = json!(1);
    sim.object["status"]["conditions"][0] =
        json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"});
    let actions = world.step();
    let [Action::Move { patch, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    let text = serde_json::to_string(patch).unwrap();
    assert!(text.contains(&v1), "what it last was healthy on is forgotten: {text}");
    world.tick_all();
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
    assert_eq!(image_of(&world.workloads[&key].object), v1);
}
