//! What was healthy until its wave had soaked is out for good: a finished run that looks again, or a newer one, takes nothing of
//! it back.

use super::{
    super::{
        decide::{Before, decide},
        memory::RunMemory,
        plan::Action,
    },
    objects::{bump_generation, parse},
    sim::TeamChange,
    world::{Behaviour, Kind, World, release},
};
use crate::api::RepaveRunStatus;
use serde_json::{Value, json};

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);
const MONTH: i64 = 30 * 24 * 3600;

/// A finished run over two workloads that settled and soaked a month ago. What becomes of the first one then shows at the next tick.
pub(super) fn soaked_a_month_ago(later: Behaviour) -> World {
    let mut world = World::new(
        &json!({"waves": [{"name": "all", "maxConcurrent": 9, "soak": "10s"}], "onFailure": {"budget": 9}}),
        &[(Kind::Direct, later, false), GOOD],
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

/// One of two replicas is not there, and this is what Progressing says of the roll-out.
fn lacks_a_replica(progressing: &str) -> Value {
    json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1, "unavailableReplicas": 1, "conditions": [
        {"type": "Progressing", "status": "True", "reason": progressing},
        {"type": "Available", "status": "False", "lastTransitionTime": "1970-01-01T00:00:01Z"}]})
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

#[test]
fn what_soaked_a_month_ago_and_lacks_replicas_is_not_rolled_back() {
    let mut world = soaked_a_month_ago(Behaviour::UnreadyLater);
    let key = world.key(0);
    world.shows(&key, lacks_a_replica("NewReplicaSetAvailable"));
    nothing_is_rolled_back(&mut world);
}

/// `kubectl rollout pause`, then `resume`, while one of its pods is not ready: the deployment controller sets the reason of
/// Progressing to `DeploymentPaused`, `DeploymentResumed`, `ReplicaSetUpdated`; that the roll-out was complete is lost there.
#[test]
fn what_soaked_a_month_ago_is_not_rolled_back_because_it_was_paused_and_resumed() {
    let mut world = soaked_a_month_ago(Behaviour::UnreadyLater);
    let key = world.key(0);
    world.team(&key, TeamChange::Pause);
    world.tick(&key);
    assert_eq!(world.step(), []);
    world.team(&key, TeamChange::Resume);
    world.shows(&key, lacks_a_replica("ReplicaSetUpdated"));
    nothing_is_rolled_back(&mut world);
}

/// The same ten minutes after it was resumed: Kubernetes itself gives up waiting, for a roll-out that was over a month ago.
#[test]
fn what_soaked_a_month_ago_is_not_rolled_back_for_a_timeout_after_it_was_resumed() {
    let mut world = soaked_a_month_ago(Behaviour::UnreadyLater);
    let key = world.key(0);
    world.team(&key, TeamChange::Pause);
    world.tick(&key);
    world.team(&key, TeamChange::Resume);
    let now = world.now.to_string();
    world.shows(&key,
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
    let mut world = soaked_a_month_ago(Behaviour::UnreadyLater);
    let key = world.key(0);
    world.team(&key, TeamChange::Scale(0));
    world.tick(&key);
    assert_eq!(world.step(), []);
    world.team(&key, TeamChange::Scale(3));
    world.shows(
        &key,
        json!({"replicas": 0, "updatedReplicas": 0, "availableReplicas": 0, "unavailableReplicas": 3, "conditions": [
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
            {"type": "Available", "status": "False", "lastTransitionTime": "1970-01-01T00:00:01Z"},
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}]}),
    );
    nothing_is_rolled_back(&mut world);
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
    world.shows(
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

/// Another one was left paused before it, so `status.steadyUntil` does not tell of it: this process knows it all the same.
#[test]
fn what_soaked_beside_one_that_did_not_is_not_rolled_back_either() {
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 9, "soak": "10s"}], "onFailure": {"budget": 9}});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::UnreadyLater, false), GOOD]);
    let (key, paused) = (world.key(0), world.key(1));
    world.step();
    world.team(&paused, TeamChange::Pause);
    world.tick_all();
    world.step();
    world.wait(10);
    world.step();
    assert!(world.status.finished.is_some());
    assert_eq!(world.status.steady_until, None);
    for restarted in [false, true] {
        if restarted {
            // It looks at every run once.
            world.memory = RunMemory::default();
            assert_eq!(world.step(), []);
        }
        let mut world = world.clone();
        world.team(&key, TeamChange::Pause);
        world.tick(&key);
        assert_eq!(world.step(), []);
        world.team(&key, TeamChange::Resume);
        world.shows(&key, lacks_a_replica("ReplicaSetUpdated"));
        for _ in 0..20 {
            assert_eq!(world.step(), [], "after a restart: {restarted}");
            world.wait(5);
        }
        assert_eq!(world.status.counts.done, 1);
    }
}

/// The API server does not answer for an hour, so nobody looks at the canary. A soak is time in which Repave saw that all was well.
#[test]
fn an_hour_in_which_nobody_looked_is_no_soak_of_an_hour() {
    let spec = json!({"waves": [
        {"name": "canary", "selector": {"matchLabels": {"tier": "canary"}}, "maxConcurrent": 1, "soak": "1h"},
        {"name": "rest", "maxConcurrent": 2, "soak": "0s"}]});
    let mut world = World::new(&spec, &[(Kind::Direct, Behaviour::Healthy, true), GOOD]);
    assert_eq!(world.step().len(), 1);
    world.tick_all();
    assert_eq!(world.step(), []);
    world.wait(3600);
    assert_eq!(world.step(), [], "it was seen twice, an hour apart");
}
