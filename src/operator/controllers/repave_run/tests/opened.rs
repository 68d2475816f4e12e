//! What a finished run still knows, and when its plan opens it again.

use super::{
    super::Images,
    cluster::{Cluster, candidate, deployment, histories, image, outdated, says, v},
};
use crate::controllers::{conditions, repave_plan};
use jiff::Timestamp;
use serde_json::json;

/// The status of a run that finishes is refused once (a webhook, a lost answer, a conflict). Of what was set back nothing else tells: no
/// annotation, and no ReplicaSet (`revisionHistoryLimit: 0`).
#[tokio::test]
async fn what_was_set_back_is_not_moved_again_when_the_last_status_was_not_written() {
    for written in [true, false] {
        let mut cluster = Cluster::new(
            vec![deployment("web", &image("v1")), deployment("app", &image("v1"))],
            json!({}),
        )
        .await;
        histories(&cluster);
        cluster.stored_turn().await;
        assert_eq!(cluster.patched(), 2, "control");
        for name in ["web", "app"] {
            cluster
                .server
                .edit("deployments", &format!("platform/{name}"), |object| {
                    if name == "web" {
                        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image("v1"));
                        object["metadata"]["annotations"] = json!({});
                    }
                });
            cluster
                .server
                .edit("deployments", &format!("platform/{name}"), |object| {
                    object["status"]["observedGeneration"] = object["metadata"]["generation"].clone();
                });
            let object = cluster.server.get("deployments", &format!("platform/{name}")).unwrap();
            let workload =
                crate::domain::workload::Workload::from_deployment(&serde_json::from_value(object).unwrap()).unwrap();
            cluster.ctx.inventory.watch_shows(workload);
        }
        let mut last = cluster.turn().await;
        for _ in 0..3 {
            if written {
                cluster.run.status = Some(last.clone());
            }
            last = cluster.turn().await;
        }
        assert_eq!(
            cluster.tag("web"),
            "v1",
            "moved again (status written: {written}): {} {:?}",
            says(&last),
            last.counts
        );
    }
}

/// The policy got stricter, and the same image was rejected with it: the gate of the finished run is shut. Something new is on v1.
#[tokio::test]
async fn a_plan_does_not_say_that_a_run_goes_on_which_may_not() {
    let mut cluster = Cluster::new(outdated(1), json!({})).await;
    histories(&cluster);
    cluster.server.put(&candidate(&v(3)));
    let mut today = candidate(&v(3));
    today["metadata"]["name"] = json!("debian-today");
    today["status"] = json!({"phase": "Rejected", "result": "Rejected", "builtDigest": v(3).digest});
    cluster.server.put(&today);
    cluster.server.edit("baseimages", "platform/debian", |base| {
        base["status"]["candidate"] = json!({"name": "debian-today", "sequence": 4, "sourceDigest": v(3).digest, "result": "Rejected", "step": "Scanned"});
    });
    let finished = json!({"finished": "2026-01-01T00:00:00Z", "started": "2026-01-01T00:00:00Z",
        "counts": {"total": 0, "pending": 0, "rolling": 0, "done": 0, "failed": 0, "held": 0, "skipped": 0}});
    let mut run = serde_json::to_value(&cluster.run).unwrap();
    run["metadata"]["labels"] = json!({"repave.dev/plan": "all"});
    run["status"] = finished;
    cluster.server.put(&run);
    cluster.run = serde_json::from_value(run).unwrap();
    cluster.turn().await;
    assert_eq!(cluster.patched(), 0, "control: nothing is moved");
    let plan = cluster.plan();
    let validated = repave_plan::validate::validate(&plan).unwrap();
    let known = (&Images::default(), &cluster.memory);
    let seen = repave_plan::observe::observe(&cluster.ctx, known, &plan, &validated)
        .await
        .unwrap();
    let decision = repave_plan::plan::decide(&plan, seen);
    let told = repave_plan::status::summarize(&plan, &decision.observed, &decision.observed.runs, Timestamp::now());
    let ready = conditions::find(&told.status.conditions, "Ready").unwrap();
    assert!(
        decision.actions.is_empty() && ready.reason != "Reopening",
        "{:?} each time, next look {:?}: {} {}",
        decision.actions,
        told.next,
        ready.reason,
        ready.message
    );
}

/// `kubectl rollout undo` of 70 workloads (a team goes back as a whole): the ReplicaSets tell it, and the status has room for 64.
#[tokio::test]
async fn a_plan_whose_finished_run_has_nothing_to_move_does_not_open_it_again_and_again() {
    let mut found = Vec::new();
    for number in [60, 70] {
        let mut cluster = Cluster::new(outdated(number), json!({})).await;
        histories(&cluster);
        cluster.server.put(&candidate(&v(3)));
        for at in 0..number {
            let name = format!("app-{at:02}");
            let uid =
                cluster.server.get("deployments", &format!("platform/{name}")).unwrap()["metadata"]["uid"].clone();
            let record = json!({"at": "2026-01-01T00:00:00Z", "plan": "platform/all", "digest": v(3).digest, "sequence": 3, "generation": 1,
                "template": "0000000000000000", "revision": 1, "uid": uid});
            for (revision, of, annotation) in [(2, "v3", Some(record)), (3, "v1", None)] {
                let mut annotations = json!({"deployment.kubernetes.io/revision": revision.to_string()});
                if let Some(record) = annotation {
                    annotations["repave.dev/moved"] = json!(record.to_string());
                    annotations["repave.dev/run"] = json!("platform/all-v3");
                }
                cluster.server.put(&json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
                    "metadata": {"name": format!("{name}-{revision}"), "namespace": "platform", "labels": {"app": name}, "annotations": annotations,
                        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid, "controller": true}]},
                    "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "app", "image": image(of)}]}}}}));
            }
        }
        let mut told = String::new();
        let mut opened = 0;
        for _ in 0..5 {
            let status = cluster.stored_turn().await;
            assert_eq!(cluster.patched(), 0, "control: nothing is moved");
            let mut stored = serde_json::to_value(&cluster.run).unwrap();
            stored["metadata"]["labels"] = json!({"repave.dev/plan": "all"});
            cluster.server.put(&stored);
            let plan = cluster.plan();
            let validated = repave_plan::validate::validate(&plan).unwrap();
            let known = (&Images::default(), &cluster.memory);
            let seen = repave_plan::observe::observe(&cluster.ctx, known, &plan, &validated)
                .await
                .unwrap();
            let decision = repave_plan::plan::decide(&plan, seen);
            let outcome =
                repave_plan::status::summarize(&plan, &decision.observed, &decision.observed.runs, Timestamp::now());
            let ready = conditions::find(&outcome.status.conditions, "Ready").unwrap();
            opened += usize::from(status.finished.is_some() && !decision.actions.is_empty());
            told = format!("{} {}", ready.reason, ready.message);
        }
        if opened > 1 {
            found.push(format!("{number}: opened {opened} times in 5 looks: {told}"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
