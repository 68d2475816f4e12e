//! A watch that is late, and what people read while something is on its way.

use super::cluster::{Cluster, deployment, failing, histories, image, says};
use crate::controllers::inventory::Inventory;
use serde_json::json;

/// Two namespaces, one at a time. The first one opts out, and the watch of namespaces is late.
#[tokio::test]
async fn a_namespace_that_opted_out_keeps_no_other_from_being_moved_while_the_watch_is_late() {
    let mut elsewhere = deployment("other", &image("v1"));
    elsewhere["metadata"]["namespace"] = json!("zeta");
    let mut cluster = Cluster::new(
        vec![deployment("web", &image("v1"))],
        json!({"waves": [{"name": "all", "maxConcurrent": 1}]}),
    )
    .await;
    cluster.server.put(
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "zeta", "labels": {"repave": "auto"}}}),
    );
    cluster.server.put(&elsewhere);
    cluster.ctx.inventory = Inventory::new(&[]);
    tokio::spawn(
        cluster
            .ctx
            .inventory
            .clone()
            .run(cluster.ctx.watches.clone(), cluster.ctx.metrics.clone()),
    );
    cluster.ctx.inventory.ready().await.unwrap();
    let account = crate::controllers::access::Account {
        namespace: "platform".to_owned(),
        name: Some("mover".to_owned()),
    };
    for verb in ["list", "patch"] {
        let question = (
            account.clone(),
            String::new(),
            verb,
            crate::controllers::access::DEPLOYMENTS,
        );
        cluster.ctx.access.keep(question, true, std::time::Instant::now());
    }
    let mut run = serde_json::to_value(&cluster.run).unwrap();
    run["spec"]["serviceAccountName"] = json!("mover");
    cluster.run = serde_json::from_value(run).unwrap();
    cluster.server.edit("repaveplans", "platform/all", |plan| {
        plan["spec"]["serviceAccountName"] = json!("mover");
    });
    histories(&cluster);
    cluster.server.edit("namespaces", "platform", |namespace| {
        namespace["metadata"]["labels"] = json!({});
    });
    let before = cluster.server.seen().len();
    for _ in 0..10 {
        cluster.stored_turn().await;
    }
    let moved =
        cluster.server.get("deployments", "zeta/other").unwrap()["spec"]["template"]["spec"]["containers"][0]["image"]
            .clone();
    let asked = cluster.server.seen().len() - before;
    assert_eq!(
        moved,
        json!(image("v3")),
        "ten looks, {asked} requests, and it waits for one that is not selected: {}",
        says(cluster.run.status.as_ref().unwrap())
    );
}

/// Nothing is pending and nothing is looked up: one gets its old image back.
#[tokio::test]
async fn a_run_that_rolls_back_says_so() {
    let mut cluster = Cluster::new(failing(1), json!({})).await;
    histories(&cluster);
    let status = cluster.stored_turn().await;
    assert_eq!(cluster.on(&image("v1")), 1, "control");
    let ready = says(&status);
    assert!(!ready.contains("the layers of 0 images"), "{ready}");
}
