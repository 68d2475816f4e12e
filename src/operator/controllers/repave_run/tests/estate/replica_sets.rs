//! What the ReplicaSets of a workload tell of who set it back, and how many of them are read for that.

use super::*;
use crate::controllers::{
    repave_run::{estate::LedAway, undone, validate::Validated},
    testing::Fault,
};

/// app-00 was moved to the target and set back: its ReplicaSets alone still know it.
fn app_00_was_set_back(api: &Api, v: &Validated) {
    let uid = api.get("deployments", "platform/app-00").unwrap()["metadata"]["uid"].clone();
    let moved = json!({"at": "2026-01-01T00:00:00Z", "plan": "platform/all", "digest": v.digest, "sequence": 3, "generation": 1,
        "template": "0000000000000000", "revision": 1});
    for (revision, digest, record) in [(3, release("v1", 1).digest, None), (2, v.digest.clone(), Some(moved))] {
        let mut annotations = json!({"deployment.kubernetes.io/revision": revision.to_string()});
        if let Some(record) = record {
            annotations["repave.dev/moved"] = json!(record.to_string());
        }
        api.put(&json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": format!("app-00-{revision}"), "namespace": "platform",
                "labels": {"app": "app-00", "pod-template-hash": revision.to_string()},
                "annotations": annotations, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment",
                    "name": "app-00", "uid": uid, "controller": true}]},
            "spec": {"selector": {"matchLabels": {"app": "app-00"}}, "template": {"metadata": {"labels": {"app": "app-00"}},
                "spec": {"containers": [{"name": "app", "image": format!("{REPOSITORY}@{digest}")}]}}},
        }));
    }
}

fn apps(numbers: std::ops::Range<usize>) -> BTreeSet<WorkloadKey> {
    numbers
        .map(|at| WorkloadKey::deployment("platform", format!("app-{at:02}")))
        .collect()
}

#[tokio::test]
async fn only_the_replica_sets_of_what_is_about_to_be_moved_are_asked_and_an_undo_is_found_in_them() {
    let (api, ctx) = cluster(&[]).await;
    let (plan, images) = (Plan::of(account(None)), Images::default());
    let v = validate::validate(&run(&json!({}))).unwrap();
    app_00_was_set_back(&api, &v);
    let mut estate = look(&ctx, &images, plan.ask()).await.unwrap();
    let before = api.count("LIST", "replicasets");
    assert_eq!(undone::ask(&ctx, &v, &mut estate, &apps(0..2)).await.unwrap(), []);
    assert_eq!(api.count("LIST", "replicasets") - before, 2);
    let answers: Vec<&LedAway> = estate.workloads.iter().map(|seen| &seen.led_away).take(3).collect();
    assert!(
        matches!(
            answers.as_slice(),
            [LedAway::From(_), LedAway::FromNone, LedAway::NotAsked]
        ),
        "{answers:?}"
    );
    let free: Vec<&str> = undone::free(&estate.workloads)
        .iter()
        .map(|key| key.name.as_str())
        .collect();
    assert_eq!(free, ["app-01"], "what was not asked may not be moved");
}

#[tokio::test]
async fn where_most_of_a_namespace_is_moved_its_replica_sets_are_read_at_once_and_say_the_same() {
    let (api, ctx) = cluster(&[]).await;
    let (plan, images) = (Plan::of(account(None)), Images::default());
    let v = validate::validate(&run(&json!({}))).unwrap();
    app_00_was_set_back(&api, &v);
    let mut estate = look(&ctx, &images, plan.ask()).await.unwrap();
    let before = api.count("LIST", "replicasets");
    assert_eq!(undone::ask(&ctx, &v, &mut estate, &apps(0..18)).await.unwrap(), []);
    assert_eq!(api.count("LIST", "replicasets") - before, 1);
    let free: Vec<WorkloadKey> = undone::free(&estate.workloads).into_iter().cloned().collect();
    assert_eq!(free, Vec::from_iter(apps(1..18)));
    // One that nobody can read is found out one by one, and keeps only its own Deployment back.
    api.put(
        &json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "x", "namespace": "platform",
        "labels": {"app": "app-01", "pod-template-hash": "x"}}, "spec": {"replicas": "many"}}),
    );
    let not_asked = undone::ask(&ctx, &v, &mut estate, &apps(0..18)).await.unwrap();
    let kept: Vec<&str> = not_asked.iter().map(|(key, _)| key.name.as_str()).collect();
    assert_eq!(kept, ["app-01"]);
}

/// Somebody took the label of the deployment controller off one ReplicaSet. It is still owned, and its own list finds it.
#[tokio::test]
async fn an_undo_is_found_in_the_list_of_a_namespace_wherever_it_is_found_in_that_of_one_workload() {
    let (api, ctx) = cluster(&[]).await;
    let (plan, images) = (Plan::of(account(None)), Images::default());
    let v = validate::validate(&run(&json!({}))).unwrap();
    app_00_was_set_back(&api, &v);
    api.edit("replicasets", "platform/app-00-2", |object| {
        object["metadata"]["labels"] = json!({"app": "app-00"});
    });
    for (asked, what) in [(2, "one by one (control)"), (18, "all at once")] {
        let mut estate = look(&ctx, &images, plan.ask()).await.unwrap();
        assert_eq!(undone::ask(&ctx, &v, &mut estate, &apps(0..asked)).await.unwrap(), []);
        let free = undone::free(&estate.workloads);
        let set_back = WorkloadKey::deployment("platform", "app-00");
        assert!(
            !free.contains(&set_back),
            "{what}: it was set back by hand and is moved again"
        );
    }
}

/// A namespace in which the plan selects 20 Deployments of 1 838: of the others there are 20 001 ReplicaSets.
#[tokio::test]
async fn where_a_plan_selects_few_of_a_large_namespace_the_replica_sets_of_the_others_are_not_read() {
    let (api, ctx) = cluster(&[]).await;
    let (plan, images) = (Plan::of(account(None)), Images::default());
    let v = validate::validate(&run(&json!({}))).unwrap();
    for at in 0..20_001 {
        api.put(&json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": format!("other-{at}"), "namespace": "platform",
            "labels": {"app": "other", "pod-template-hash": at.to_string()}}, "spec": {"selector": {}}}));
    }
    let mut estate = look(&ctx, &images, plan.ask()).await.unwrap();
    for at in 0..1_818 {
        let mut other = api.get("deployments", "platform/app-00").unwrap();
        other["metadata"]["name"] = json!(format!("other-{at}"));
        other["metadata"]["uid"] = json!(format!("uid-other-{at}"));
        ctx.inventory.watch_shows(super::super::objects::parse(&other));
    }
    let before = api.count("LIST", "replicasets");
    assert_eq!(undone::ask(&ctx, &v, &mut estate, &apps(0..18)).await.unwrap(), []);
    let asked = api.count("LIST", "replicasets") - before;
    assert!(asked <= 18, "{asked} lists about 18 workloads");
}

#[tokio::test]
async fn one_whose_replica_sets_may_not_be_read_is_not_moved_and_holds_up_no_other() {
    let (api, ctx) = cluster(&[]).await;
    let (plan, images) = (Plan::of(account(None)), Images::default());
    let v = validate::validate(&run(&json!({}))).unwrap();
    let mut estate = look(&ctx, &images, plan.ask()).await.unwrap();
    let keys = apps(0..2);
    let mut faults = vec![Fault::Refused(403, "Forbidden")];
    api.faults(move |seen| (seen.resource == "replicasets").then(|| faults.pop()).flatten());
    let not_asked = undone::ask(&ctx, &v, &mut estate, &keys).await.unwrap();
    let [(key, Applied::Refused(words))] = not_asked.as_slice() else {
        panic!("{not_asked:?}");
    };
    assert!(words.contains("ReplicaSets"), "{words}");
    let free = undone::free(&estate.workloads);
    assert!(free.len() == 1 && !free.contains(key), "{free:?}");
    api.faults(|seen| (seen.resource == "replicasets").then_some(Fault::Refused(503, "ServiceUnavailable")));
    assert!(undone::ask(&ctx, &v, &mut estate, &keys).await.is_err());
}
