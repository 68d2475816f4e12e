//! What is ordered while a batch is on its way, and while an answer is lost.

use super::{
    super::apply::AT_ONCE,
    cluster::{Cluster, histories, history, image, outdated, recall_v3, says, v},
};
use crate::controllers::testing::{Api, Fault};
use serde_json::json;

/// What is read before each further sixteen: something else than the plan's spec and what is released says that no more may be moved.
#[tokio::test]
async fn a_batch_stops_when_the_gate_would_be_shut_by_now() {
    type Happens = fn(&Api);
    let mut found = Vec::new();
    let cases: [(&str, Happens); 5] = [
        ("control: suspended", |server| {
            server.edit("repaveplans", "platform/all", |plan| {
                plan["spec"]["suspend"] = json!(true);
            });
        }),
        (
            "the history has it as revoked, the status is not written yet",
            |server| {
                server.put(&history(
                    "debian",
                    &[(v(3), "Revoked"), (v(2), "Superseded"), (v(1), "Superseded")],
                ));
            },
        ),
        ("the repository is another's", |server| {
            server.edit("baseimages", "platform/debian", |base| {
                base["status"]["conditions"] = json!([{"type": "RepositoryOwned", "status": "False", "reason": "RepositoryTaken",
                    "message": "another's", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
            });
        }),
        ("the namespace opts out", |server| {
            server.edit("namespaces", "platform", |namespace| {
                namespace["metadata"]["labels"] = json!({});
            });
        }),
        ("the run is deleted", |server| {
            server.remove("repaveruns", "platform/all-v3");
        }),
    ];
    for (what, happens) in cases {
        let cluster = Cluster::new(outdated(60), json!({})).await;
        histories(&cluster);
        cluster.server.put(&cluster.run);
        cluster.after("PATCH", "deployments", happens);
        cluster.turn().await;
        let moved = cluster.on(&image("v3"));
        if moved > AT_ONCE {
            found.push(format!("{what}: {moved} of 60 were moved"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// The plan is deleted and made anew under its name while a batch is on its way: the old run ends, and moves nothing more.
#[tokio::test]
async fn a_batch_stops_when_its_plan_was_made_anew() {
    let cluster = Cluster::new(outdated(60), json!({})).await;
    histories(&cluster);
    cluster.after("PATCH", "deployments", |server| {
        let mut plan = server.get("repaveplans", "platform/all").unwrap();
        server.remove("repaveplans", "platform/all");
        plan["metadata"]["uid"] = json!("plan-anew");
        server.put(&plan);
    });
    cluster.turn().await;
    assert!(cluster.on(&image("v3")) <= AT_ONCE);
}

/// The plan selects what it selected before, and its service account is another one in the middle of a batch.
#[tokio::test]
async fn a_batch_stops_when_the_plan_acts_as_somebody_else() {
    let cluster = Cluster::new(outdated(60), json!({})).await;
    histories(&cluster);
    cluster.after("PATCH", "deployments", |server| {
        server.edit("repaveplans", "platform/all", |plan| {
            plan["spec"]["serviceAccountName"] = json!("nobody");
        });
    });
    cluster.turn().await;
    assert!(cluster.on(&image("v3")) <= AT_ONCE);
}

/// A person pauses the run's plan: what a lost answer left is not begun again, and a run that ends counts what is there.
#[tokio::test]
async fn a_lost_answer_and_a_suspended_plan_end_in_one_move_that_is_judged() {
    let mut cluster = Cluster::new(outdated(2), json!({"waves": [{"name": "all", "maxConcurrent": 1}]})).await;
    histories(&cluster);
    cluster.server.faults(|seen| match seen.verb {
        "WATCH" => Some(Fault::Silent),
        "PATCH" => Some(Fault::Lost),
        _ => None,
    });
    cluster.stored_turn().await;
    cluster
        .server
        .faults(|seen| (seen.verb == "WATCH").then_some(Fault::Silent));
    cluster.server.edit("repaveplans", "platform/all", |plan| {
        plan["spec"]["suspend"] = json!(true);
    });
    for _ in 0..3 {
        let status = cluster.stored_turn().await;
        assert!(
            status.finished.is_none() && status.counts.rolling == 1,
            "{} {:?}",
            says(&status),
            status.counts
        );
    }
    assert_eq!(cluster.patched(), 1);
}

/// v3 is taken back while a move to it waits for its answer; the answer is lost and the watch is late.
#[tokio::test]
async fn a_run_whose_release_was_taken_back_does_not_end_before_it_knows_what_a_lost_answer_did() {
    let mut cluster = Cluster::new(outdated(2), json!({"waves": [{"name": "all", "maxConcurrent": 1}]})).await;
    histories(&cluster);
    cluster.server.faults(|seen| match seen.verb {
        "WATCH" => Some(Fault::Silent),
        "PATCH" => Some(Fault::Lost),
        _ => None,
    });
    cluster.stored_turn().await;
    cluster
        .server
        .faults(|seen| (seen.verb == "WATCH").then_some(Fault::Silent));
    recall_v3(&cluster.server);
    let status = cluster.stored_turn().await;
    assert!(
        status.finished.is_none() && status.counts.rolling == 1,
        "{} {:?}",
        says(&status),
        status.counts
    );
    assert_eq!(cluster.on(&image("v3")), 1);
}

/// Two plans' limits are their own, but a hold by a person that comes with the very patch is not written over.
#[tokio::test]
async fn a_hold_that_is_put_between_the_live_read_and_the_patch_holds() {
    let cluster = Cluster::new(outdated(1), json!({})).await;
    histories(&cluster);
    cluster.after("LIST", "replicasets", |server| {
        server.edit("deployments", "platform/app-00", |object| {
            object["metadata"]["annotations"]["repave.dev/hold"] =
                json!(json!({"reason": "freeze", "by": "ann"}).to_string());
        });
    });
    cluster.turn().await;
    assert_eq!(cluster.on(&image("v3")), 0);
}
