//! Refusals, limits that runs and rollbacks share, holds of other digests, and what a run ends as.

use super::{
    super::{orders::Orders, plan::Action, state::State},
    objects::image_of,
    world::{Behaviour, Fault, Kind, World, run},
};
use crate::{
    api::{BaseImage, RepavePlan},
    controllers::{conditions, repave_run::validate::validate},
    domain::digest::Digest,
};
use serde_json::{Value, json};

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);
const CRASHES: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Crashes, false);

fn deny(world: &mut World, at: usize) {
    let key = world.key(at);
    world.workloads.get_mut(&key).unwrap().denied = true;
}

fn one_wave(limit: u32, rest: &Value) -> Value {
    let mut spec = json!({"waves": [{"name": "all", "maxConcurrent": limit}]});
    for (key, value) in rest.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn succeeded(world: &World) -> (String, String) {
    let condition = conditions::find(&world.status.conditions, "Succeeded").unwrap();
    (condition.status.clone(), condition.reason.clone())
}

fn names(actions: &[Action]) -> Vec<&str> {
    actions.iter().map(|action| action.workload().name.as_str()).collect()
}

#[test]
fn a_refused_workload_frees_its_slot_at_once_and_is_skipped_in_the_words_of_the_refusal() {
    let mut world = World::new(&one_wave(1, &json!({"onFailure": {"budget": 0}})), &[GOOD, GOOD]);
    deny(&mut world, 0);
    assert_eq!(names(&world.step()), ["app-0"]);
    assert_eq!(names(&world.step()), ["app-1"], "the other one does not wait for it");
    assert!(world.walk_to_the_end());
    let row = &world.status.attention[0];
    assert_eq!(
        (row.state.as_str(), row.workload.as_str()),
        ("Skipped", "Deployment shop/app-0")
    );
    assert!(row.reason.contains("policy: no changes (0)"), "{}", row.reason);
    assert_eq!((world.status.counts.done, world.status.counts.skipped), (1, 1));
    assert_eq!(succeeded(&world), ("False".to_owned(), "Completed".to_owned()));
}

#[test]
fn refused_workloads_count_as_failed_only_if_the_plan_says_so() {
    let spec = one_wave(1, &json!({"onFailure": {"budget": 0, "countRefused": true}}));
    let mut world = World::new(&spec, &[GOOD, GOOD]);
    deny(&mut world, 0);
    assert!(world.walk_to_the_end());
    assert_eq!(
        succeeded(&world),
        ("False".to_owned(), "FailureBudgetExceeded".to_owned())
    );
}

#[test]
fn a_refused_rollback_is_told_and_ends_too() {
    let mut world = World::new(
        &one_wave(2, &json!({"onFailure": {"budget": 5}})),
        &[CRASHES, GOOD, GOOD],
    );
    world.step();
    deny(&mut world, 0);
    assert!(world.walk_to_the_end());
    assert_eq!((world.status.counts.done, world.status.counts.failed), (2, 1));
    let reason = &world.status.attention[0].reason;
    assert!(
        reason.contains("not rolled back, because the API server refused it: policy"),
        "{reason}"
    );
}

#[test]
fn a_run_in_which_one_was_rolled_back_is_completed_and_has_not_succeeded() {
    let mut world = World::new(&one_wave(2, &json!({})), &[CRASHES, GOOD]);
    assert!(world.walk_to_the_end());
    assert_eq!(succeeded(&world), ("False".to_owned(), "Completed".to_owned()));
    assert!(conditions::is_true(&world.status.conditions, "Ready"));
}

#[test]
fn rollbacks_keep_the_limit_of_their_wave_and_do_not_wait_behind_moves() {
    let mut world = World::new(&one_wave(2, &json!({"onFailure": {"budget": "100%"}})), &[CRASHES; 5]);
    for workloads in [["app-0", "app-1"], ["app-2", "app-3"]] {
        assert_eq!(names(&world.step()), workloads, "moved");
        world.tick_all();
        let actions = world.step();
        assert!(actions.iter().all(|action| matches!(action, Action::RollBack { .. })));
        assert_eq!(names(&actions), workloads, "rolled back");
        world.tick_all();
    }
    let mut world = World::new(&one_wave(5, &json!({"onFailure": {"budget": "100%"}})), &[CRASHES; 5]);
    world.step();
    world.tick_all();
    world.v.waves[0].max_concurrent = crate::domain::wave::Amount::Count(2);
    assert_eq!(names(&world.step()), ["app-0", "app-1"]);
    assert_eq!(world.step(), [], "two are being rolled back");
    world.tick_all();
    assert_eq!(names(&world.step()), ["app-2", "app-3"]);
}

#[test]
fn two_runs_of_one_plan_share_its_limit() {
    let mut world = World::new(&one_wave(1, &json!({})), &[GOOD, GOOD]);
    assert_eq!(names(&world.step()), ["app-0"]);
    // The run of the next release sees the same workloads; its own record is another digest.
    let mut next = world.clone();
    next.v.run_ref = "platform/all-v4".to_owned();
    next.status = crate::api::RepaveRunStatus::default();
    next.memory = crate::controllers::repave_run::memory::RunMemory::default();
    next.second_leader = true;
    let key = next.key(0);
    let image = format!("registry.test/base/debian@{}", next.releases[1].digest);
    next.workloads.get_mut(&key).unwrap().object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    let generation = next.workloads[&key].object["metadata"]["generation"].clone();
    assert_eq!(generation, 2, "the first run's own roll-out");
    next.v.digest = next.releases[2].digest.clone();
    let sim = next.workloads.get_mut(&key).unwrap();
    sim.forward = 0;
    let record = &mut sim.object["metadata"]["annotations"]["repave.dev/moved"];
    *record = json!(
        record
            .as_str()
            .unwrap()
            .replace(next.v.digest.as_str(), next.releases[1].digest.as_str())
    );
    assert_eq!(next.step(), [], "one is in flight for the plan");
    next.tick_all();
    assert_eq!(names(&next.step()), ["app-0"]);
}

#[test]
fn a_workload_that_another_plan_moved_is_left_to_it_while_its_run_is_at_work() {
    let mut world = World::new(&one_wave(2, &json!({})), &[GOOD, GOOD]);
    let key = world.key(0);
    let annotations = &mut world.workloads.get_mut(&key).unwrap().object["metadata"]["annotations"];
    annotations["repave.dev/run"] = json!("platform/other-v2");
    annotations["repave.dev/moved"] = json!(
        json!({"at": "1970-01-01T00:00:00Z", "plan": "platform/other", "generation": 0,
        "digest": Digest::of(b"v1"), "template": "0000000000000000"})
        .to_string()
    );
    world.active_runs.insert("platform/other-v2".to_owned());
    assert_eq!(names(&world.step()), ["app-1"]);
    let reason = &world.status.attention[0].reason;
    assert!(
        reason.starts_with("RepavePlan other moved it, and its run is at work"),
        "{reason}"
    );
    world.active_runs.clear();
    assert_eq!(names(&world.step()), ["app-0"]);
}

#[test]
fn a_hold_after_a_failure_of_another_digest_holds_nothing_and_is_taken_off() {
    let mut world = World::new(&one_wave(2, &json!({})), &[GOOD]);
    let key = world.key(0);
    let hold = json!({"by": "repave", "digest": Digest::of(b"v2"), "reason": "container app exits with 1"});
    world.workloads.get_mut(&key).unwrap().object["metadata"]["annotations"]["repave.dev/hold"] =
        json!(hold.to_string());
    assert_eq!(names(&world.step()), ["app-0"]);
    let object = &world.workloads[&key].object;
    assert!(object["metadata"]["annotations"]["repave.dev/hold"].is_null());
    assert_eq!(image_of(object), world.target());
}

#[test]
fn a_workload_that_is_busy_for_too_long_is_skipped_and_picked_up_once_it_has_settled() {
    let mut world = World::new(
        &one_wave(1, &json!({})),
        &[(Kind::BusyBefore, Behaviour::Healthy, false), GOOD],
    );
    assert_eq!(names(&world.step()), ["app-1"]);
    let busy = world.key(0);
    world.wait(40);
    world.step();
    assert_eq!(world.status.counts.skipped, 1, "{:?}", world.status.attention);
    assert!(world.status.attention[0].reason.starts_with("it is busy"));
    world.tick_all();
    assert_eq!(names(&world.step()), [busy.name.as_str()]);
}

#[test]
fn an_answer_that_did_not_come_is_seen_in_the_next_look() {
    let mut world = World::new(&one_wave(1, &json!({})), &[GOOD, GOOD]);
    let seen = world.clone();
    world.reconcile(&seen, Fault::LostResponses);
    let ready = conditions::find(&world.status.conditions, "Ready").unwrap();
    assert!(
        ready.message.contains("does not take more changes now"),
        "{}",
        ready.message
    );
    assert_eq!(world.step(), [], "it was written");
    let observed = world.observed();
    assert_eq!(world.targets(&observed)[0].state, State::Rolling);
}

#[test]
fn orders_are_the_same_only_for_the_same_plan_that_says_the_same_and_for_the_same_release() {
    let v = validate(&run(&json!({}))).unwrap();
    let plan = |suspend: bool| -> RepavePlan {
        serde_json::from_value(json!({"apiVersion": "repave.dev/v1alpha1", "kind": "RepavePlan",
            "metadata": {"name": "all", "uid": "plan"},
            "spec": {"baseImageRefs": [{"name": "debian"}], "suspend": suspend,
                "targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}}}}))
        .unwrap()
    };
    let base = |digest: &Digest, sequence: u64| -> BaseImage {
        serde_json::from_value(json!({"apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": "debian"},
            "spec": {"source": {"image": "r.test/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "p"}],
                "promote": {"repository": "registry.test/base/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
            "status": {"released": {"digest": digest, "tag": "v3", "sourceDigest": digest, "candidate": "debian-v3",
                "sequence": sequence, "promotedAt": "2026-01-01T00:00:00Z"}}}))
        .unwrap()
    };
    let orders =
        |plan: Option<RepavePlan>, base: Option<BaseImage>, uid| Orders::of(&v, uid, (plan, base), Vec::new()).0;
    let now = || Some(base(&v.digest, v.sequence));
    let decided_on = orders(Some(plan(false)), now(), Some("plan"));
    let mut noise = plan(false);
    noise.metadata.resource_version = Some("9".to_owned());
    assert!(orders(Some(noise), now(), Some("plan")).are_as(&decided_on));
    let mut revoked = serde_json::to_value(base(&v.digest, v.sequence)).unwrap();
    revoked["status"]["revoked"] =
        json!([{"digest": Digest::of(b"v1"), "tag": "v1", "at": "2026-01-02T00:00:00Z", "reason": "CVE-1"}]);
    for (what, now) in [
        ("suspended", orders(Some(plan(true)), now(), Some("plan"))),
        ("made anew", orders(Some(plan(false)), now(), Some("older"))),
        ("gone", orders(None, now(), Some("plan"))),
        ("no base image", orders(Some(plan(false)), None, Some("plan"))),
        (
            "another digest",
            orders(
                Some(plan(false)),
                Some(base(&Digest::of(b"v4"), v.sequence)),
                Some("plan"),
            ),
        ),
        (
            "the same digest, released again",
            orders(Some(plan(false)), Some(base(&v.digest, v.sequence + 1)), Some("plan")),
        ),
        (
            "one was taken back",
            orders(
                Some(plan(false)),
                Some(serde_json::from_value(revoked).unwrap()),
                Some("plan"),
            ),
        ),
    ] {
        assert!(!now.are_as(&decided_on), "{what}");
    }
}
