//! An API server that fails at what concerns one workload, or one namespace.

use super::{
    super::{Images, Runs},
    cluster::{Cluster, all_settle, deployment, failing, histories, image, outdated, says},
};
use crate::controllers::{reconciler, testing::Fault};
use serde_json::json;

/// The admission webhook of one namespace is away (`failurePolicy: Fail`): the API server answers 500 for what is in there, and serves all
/// others.
fn webhook_is_away(cluster: &Cluster, name: &'static str) {
    cluster
        .server
        .faults(move |seen| match (seen.verb, seen.object.as_str()) {
            ("WATCH", _) => Some(Fault::Silent),
            ("PATCH", object) if object == name => Some(Fault::Refused(500, "InternalError")),
            _ => None,
        });
}

#[tokio::test]
async fn a_webhook_that_is_away_for_one_workload_keeps_no_other_from_being_moved() {
    let mut cluster = Cluster::new(outdated(3), json!({"waves": [{"name": "all", "maxConcurrent": 1}]})).await;
    histories(&cluster);
    webhook_is_away(&cluster, "platform/app-00");
    for _ in 0..20 {
        cluster.stored_turn().await;
        all_settle(&cluster);
    }
    let status = cluster.run.status.clone().unwrap();
    assert_eq!(
        cluster.on(&image("v3")),
        2,
        "after 20 looks and {} patches: {}",
        cluster.patched(),
        says(&status)
    );
}

#[tokio::test]
async fn a_webhook_that_is_away_for_one_workload_keeps_no_other_from_being_rolled_back() {
    let mut cluster = Cluster::new(failing(3), json!({"waves": [{"name": "all", "maxConcurrent": 1}]})).await;
    histories(&cluster);
    webhook_is_away(&cluster, "platform/app-00");
    for _ in 0..20 {
        cluster.stored_turn().await;
        for name in ["app-01", "app-02"] {
            if cluster.tag(name) == "v1" {
                cluster.server.edit("deployments", &format!("platform/{name}"), |object| {
                    object["status"] = json!({"observedGeneration": object["metadata"]["generation"], "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
                });
                let object = cluster.server.get("deployments", &format!("platform/{name}")).unwrap();
                let workload =
                    crate::domain::workload::Workload::from_deployment(&serde_json::from_value(object).unwrap())
                        .unwrap();
                cluster.ctx.inventory.watch_shows(workload);
            }
        }
    }
    let status = cluster.run.status.clone().unwrap();
    assert_eq!(
        cluster.on(&image("v1")),
        2,
        "after 20 looks and {} patches: {}",
        cluster.patched(),
        says(&status)
    );
}

/// The lists of ReplicaSets of one namespace fail (an aggregated quota, a broken object in the store): 500 for that namespace only.
#[tokio::test]
async fn replica_sets_of_one_namespace_that_cannot_be_read_keep_no_other_from_being_moved() {
    let mut cluster = Cluster::new(
        vec![deployment("web", &image("v1"))],
        json!({"waves": [{"name": "all", "maxConcurrent": 1}]}),
    )
    .await;
    histories(&cluster);
    let mut object = deployment("app", &image("v1"));
    object["metadata"]["namespace"] = json!("alpha");
    cluster.wide(&["alpha"], vec![object], &["", "platform", "alpha"]);
    cluster.list_anew(&[]).await;
    cluster.server.faults(|seen| {
        if seen.resource == "replicasets" && seen.verb == "LIST" && seen.object.starts_with("alpha") {
            return Some(Fault::Refused(500, "InternalError"));
        }
        (seen.verb == "WATCH").then_some(Fault::Silent)
    });
    for _ in 0..20 {
        let runs = Runs {
            ctx: cluster.ctx.clone(),
            images: Images::default(),
            memory: cluster.memory.clone(),
        };
        if let Ok(outcome) = reconciler::steps(&runs, &cluster.run).await {
            cluster.run.status = Some(outcome.status);
        }
    }
    assert_eq!(cluster.tag("web"), "v3", "after 20 looks");
}

/// The same with more at once.
#[tokio::test]
async fn a_webhook_that_is_away_for_a_few_workloads_keeps_no_other_from_being_moved_with_more_at_once() {
    let mut found = Vec::new();
    for (limit, away) in [(2, 1), (2, 2), (5, 1), (5, 5)] {
        let mut cluster = Cluster::new(
            outdated(10),
            json!({"waves": [{"name": "all", "maxConcurrent": limit}]}),
        )
        .await;
        histories(&cluster);
        cluster.server.faults(
            move |seen| match (seen.verb, seen.object.strip_prefix("platform/app-")) {
                ("WATCH", _) => Some(Fault::Silent),
                ("PATCH", Some(number)) if number.parse::<usize>().unwrap() < away => {
                    Some(Fault::Refused(500, "InternalError"))
                }
                _ => None,
            },
        );
        for _ in 0..20 {
            cluster.stored_turn().await;
            all_settle(&cluster);
        }
        let moved = cluster.on(&image("v3"));
        if moved < 10 - away {
            found.push(format!(
                "{limit} at once, {away} away: {moved} of {} moved after 20 looks",
                10 - away
            ));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
