//! Single decisions, each with the whole patch or sentence that comes of it.

use super::{
    super::{gate::Gate, plan::Action},
    objects::{image_of, patched},
    world::{Behaviour, Fault, Kind, World},
};
use crate::{api::repave_run::Counts, controllers::conditions, domain::digest::Digest};
use jiff::SignedDuration;
use serde_json::{Value, json};

fn world(workloads: &[(Kind, Behaviour, bool)]) -> World {
    World::new(&json!({}), workloads)
}

fn message(world: &World) -> String {
    conditions::find(&world.status.conditions, "Ready")
        .unwrap()
        .message
        .clone()
}

fn rows(world: &World) -> Vec<String> {
    let rows = world.status.attention.iter();
    rows.map(|row| format!("{} {}: {}", row.state, row.workload, row.reason))
        .collect()
}

#[test]
fn a_move_is_one_patch_of_images_and_marks_and_tests_what_it_was_decided_on() {
    let mut world = world(&[(Kind::TwoContainers, Behaviour::Healthy, true)]);
    insta::assert_json_snapshot!(patches(&world.step()));
}

#[test]
fn a_rollback_gives_the_old_digest_back_and_holds() {
    let mut world = world(&[(Kind::Direct, Behaviour::Crashes, true)]);
    world.step();
    world.tick_all();
    insta::assert_json_snapshot!(patches(&world.step()));
}

fn patches(actions: &[Action]) -> Vec<Value> {
    let patch = |action: &Action| match action {
        Action::Move { workload, patch } => json!({"move": workload.to_string(), "patch": patch}),
        Action::RollBack {
            workload,
            patch,
            reason,
        } => {
            json!({"rollBack": workload.to_string(), "reason": reason, "patch": patch})
        }
    };
    actions.iter().map(patch).collect()
}

#[test]
fn the_story_of_a_run_with_one_bad_workload() {
    use {Behaviour::*, Kind::*};
    let mut world = world(&[
        (Direct, Healthy, true),
        (Direct, Healthy, false),
        (Direct, Crashes, false),
        (Direct, Healthy, false),
        (Derived, Healthy, false),
        (Unrelated, Healthy, false),
        (Flux, Healthy, false),
        (Mirror, Healthy, false),
        (Paused, Healthy, false),
        (UnhealthyBefore, Healthy, false),
        (OnTarget, Healthy, false),
    ]);
    let mut messages: Vec<String> = Vec::new();
    while world.status.finished.is_none() {
        world.step();
        messages.push(message(&world));
        assert!(messages.len() < 100, "{messages:#?}");
        world.tick_all();
        world.wait(5);
    }
    messages.dedup();
    insta::assert_json_snapshot!(json!({
        "messages": messages, "rows": rows(&world), "counts": world.status.counts, "wave": world.status.wave,
        "conditions": world.status.conditions.iter().map(|c| format!("{} {} {}", c.type_, c.status, c.reason)).collect::<Vec<_>>(),
    }));
}

#[test]
fn more_failures_than_the_budget_stop_the_run_and_the_sentence_says_what_to_do() {
    let bad = (Kind::Direct, Behaviour::Crashes, false);
    let mut world = World::new(&json!({"onFailure": {"budget": 0}}), &[bad, bad, bad, bad]);
    assert!(!world.walk_to_the_end());
    assert_eq!(
        world.status.counts,
        Counts {
            total: 4,
            pending: 2,
            held: 2,
            ..Counts::default()
        }
    );
    assert!(conditions::is_true(&world.status.conditions, "Stalled"));
    assert!(
        message(&world).contains("2 targets failed and 0 may"),
        "{}",
        message(&world)
    );
    assert!(message(&world).contains("remove the annotation repave.dev/hold"));
}

#[test]
fn a_superseded_run_finishes_what_is_on_its_way_and_starts_nothing() {
    let good = (Kind::Direct, Behaviour::Healthy, false);
    let mut world = world(&[good, good, good, good]);
    assert_eq!(world.step().len(), 2);
    world.gate = Gate::Superseded { by: Digest::of(b"v4") };
    assert_eq!(world.step(), []);
    assert_eq!(world.status.finished, None, "two are on their way");
    world.tick_all();
    assert_eq!(world.step(), []);
    let succeeded = conditions::find(&world.status.conditions, "Succeeded").unwrap();
    assert_eq!(
        (succeeded.status.as_str(), succeeded.reason.as_str()),
        ("False", "Superseded")
    );
    assert_eq!((world.status.counts.done, world.status.counts.skipped), (2, 2));
}

#[test]
fn without_its_proof_nothing_is_started_but_what_fails_is_rolled_back() {
    let mut world = world(&[(Kind::Direct, Behaviour::Crashes, false)]);
    let shut = Gate::Shut {
        reason: "NotPromoted",
        message: "no proof".to_owned(),
    };
    world.gate = shut.clone();
    assert_eq!(world.step(), []);
    assert_eq!(message(&world), "no proof");
    world.gate = Gate::open();
    assert_eq!(world.step().len(), 1);
    world.tick_all();
    world.gate = shut;
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
}

#[test]
fn a_forged_previous_image_is_never_rolled_back_to() {
    let mut world = world(&[(Kind::Direct, Behaviour::Crashes, false)]);
    world.step();
    world.tick_all();
    let key = world.key(0);
    let target = world.target();
    for forged in [
        format!("registry.test/base/debian@{}", Digest::of(b"evil")),
        format!("evil.test/base/debian@{}", world.releases[0].digest),
        "registry.test/base/debian:v1".to_owned(),
        target.clone(),
    ] {
        let sim = world.workloads.get_mut(&key).unwrap();
        sim.object["metadata"]["annotations"]["repave.dev/previous-images"] = json!(json!({"app": forged}).to_string());
        assert_eq!(world.step(), [], "{forged}");
        assert_eq!(world.status.counts.failed, 1);
        assert_eq!(image_of(&world.workloads[&key].object), target);
    }
}

#[test]
fn a_person_who_sets_the_image_back_wins() {
    let mut world = world(&[(Kind::Direct, Behaviour::Healthy, false)]);
    world.step();
    world.tick_all();
    let key = world.key(0);
    world.revert(&key);
    world.tick_all();
    assert!(world.walk_to_the_end());
    assert_eq!(world.workloads[&key].forward, 1);
    assert!(
        rows(&world)[0].starts_with("Skipped Deployment shop/app-0: its image was set back"),
        "{:?}",
        rows(&world)
    );
}

#[test]
fn a_lost_response_and_a_crash_are_seen_by_the_next_reconcile() {
    let mut world = world(&[(Kind::Direct, Behaviour::Healthy, false)]);
    let seen = world.clone();
    assert_eq!(world.reconcile(&seen, Fault::CrashAfter(1)).len(), 1);
    assert_eq!(world.status.started, None, "it died before it wrote its status");
    assert_eq!(world.step(), [], "the workload itself says that it was moved");
    assert_eq!(world.status.counts.rolling, 1);
}

#[test]
fn a_patch_on_a_workload_that_changed_in_between_does_nothing() {
    let mut world = world(&[(Kind::Direct, Behaviour::Healthy, false)]);
    let actions = world.clone().step();
    let patch = patches(&actions)[0]["patch"].clone();
    let key = world.key(0);
    assert!(patched(&world.workloads[&key].object, &patch).is_some());
    world.hold(&key, None);
    assert!(
        patched(&world.workloads[&key].object, &patch).is_none(),
        "a hold came in between"
    );
}

#[test]
fn the_annotation_map_is_made_where_there_is_none() {
    let mut world = world(&[(Kind::Direct, Behaviour::Healthy, false)]);
    let key = world.key(0);
    world.workloads.get_mut(&key).unwrap().object["metadata"]["annotations"] = json!({});
    let patch = patches(&world.clone().step())[0]["patch"].clone();
    let mut bare = world.workloads[&key].object.clone();
    bare["metadata"].as_object_mut().unwrap().remove("annotations");
    let after = patched(&bare, &patch).unwrap();
    assert_eq!(after["metadata"]["annotations"].as_object().unwrap().len(), 3);
}

/// Both were done, and break before their wave has soaked. A person holds the first one while it gets its old image back.
#[test]
fn a_rollback_counts_among_the_rollbacks_whoever_holds_it_by_now() {
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 1, "soak": "1h"}], "onFailure": {"budget": 9}});
    let later = (Kind::Direct, Behaviour::CrashesLater, false);
    let mut world = World::new(&spec, &[later, later]);
    for _ in 0..2 {
        assert_eq!(world.step().len(), 1);
        world.tick_all();
    }
    world.tick_all();
    let back = world.step();
    assert!(matches!(back.as_slice(), [Action::RollBack { .. }]), "{back:?}");
    world.hold(back[0].workload(), None);
    assert_eq!(world.step(), [], "its pods are still being replaced, and one may be");
    world.tick_all();
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
}

#[test]
fn a_rollback_takes_its_place_in_the_limit_even_when_its_hold_is_replaced_and_expires() {
    let waves = json!({"waves": [{"name": "all", "maxConcurrent": 1}]});
    let workloads = [
        (Kind::Direct, Behaviour::Crashes, false),
        (Kind::Direct, Behaviour::Healthy, false),
    ];
    let mut world = World::new(&waves, &workloads);
    assert_eq!(world.step().len(), 1);
    world.tick_all();
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
    let key = world.key(0);
    let soon = world.now + SignedDuration::from_secs(1);
    world.hold(&key, Some(soon));
    world.wait(2);
    assert_eq!(world.step(), [], "the pods of the rollback are still being replaced");
    world.tick(&key);
    let again = world.step();
    assert!(matches!(again.as_slice(), [Action::Move { .. }]));
    assert_eq!(*again[0].workload(), key, "without its hold it is tried again");
}

/// A tenant of a shared plan makes as many Deployments as he likes: without pods they cost nothing.
#[test]
fn workloads_scaled_to_0_raise_neither_how_many_roll_at_once_nor_how_many_may_fail() {
    let good = (Kind::Direct, Behaviour::Healthy, false);
    let bad = (Kind::Direct, Behaviour::Crashes, false);
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": "10%"}], "onFailure": {"budget": "10%"}});
    let mut world = World::new(&spec, &[vec![bad; 4], vec![good; 40]].concat());
    for at in 4..44 {
        let key = world.key(at);
        let object = &mut world.workloads.get_mut(&key).unwrap().object;
        object["spec"]["replicas"] = json!(0);
        object["status"] = json!({"observedGeneration": object["metadata"]["generation"]});
    }
    assert_eq!(world.step().len(), 1, "a tenth of four, not of 44");
    world.tick_all();
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
    world.tick_all();
    assert_eq!(world.step(), [], "one failure is more than a tenth of four");
}
