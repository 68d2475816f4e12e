//! What a plan allows itself, and what its account may do.

use super::{
    super::Images,
    cluster::{Cluster, failing, histories, outdated, says},
};
use crate::controllers::repave_plan;
use serde_json::{Value, json};

fn selected(max: i32) -> Value {
    json!({"targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}, "maxTargets": max}})
}

/// What the message asks for is done, one way or the other: the active run goes on.
#[tokio::test]
async fn a_run_over_max_targets_goes_on_when_the_plan_is_edited_as_the_message_says() {
    let mut found = Vec::new();
    for what in ["raise maxTargets", "narrow targets.selector"] {
        let mut cluster = Cluster::new(outdated(12), selected(10)).await;
        histories(&cluster);
        let status = cluster.stored_turn().await;
        assert!(says(&status).contains("maxTargets"), "control: {}", says(&status));
        cluster.server.edit("repaveplans", "platform/all", |plan| {
            if what == "raise maxTargets" {
                plan["spec"]["targets"]["maxTargets"] = json!(100);
            } else {
                plan["spec"]["targets"]["selector"] = json!({"matchLabels": {"app": "app-00"}});
            }
        });
        cluster.stored_turn().await;
        let status = cluster.stored_turn().await;
        if cluster.patched() == 0 {
            found.push(format!("{what}: {}", says(&status)));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// The run of the release was made and finished when the plan allowed itself 10; it allows itself 100 now, and selects 12.
#[tokio::test]
async fn a_plan_that_raised_max_targets_is_not_kept_by_what_its_old_run_allowed() {
    let cluster = Cluster::new(outdated(12), selected(10)).await;
    histories(&cluster);
    let mut old = serde_json::to_value(&cluster.run).unwrap();
    old["metadata"]["labels"] = json!({"repave.dev/plan": "all"});
    old["status"] = json!({"finished": "2026-01-01T00:00:00Z", "started": "2026-01-01T00:00:00Z"});
    cluster.server.put(&old);
    cluster.server.edit("repaveplans", "platform/all", |plan| {
        plan["spec"]["targets"]["maxTargets"] = json!(100);
    });
    let plan = cluster.plan();
    let validated = repave_plan::validate::validate(&plan).unwrap();
    let known = (&Images::default(), &cluster.memory);
    let seen = repave_plan::observe::observe(&cluster.ctx, known, &plan, &validated).await;
    let seen = seen
        .map(|seen| seen.bases[0].outdated)
        .map_err(|error| error.to_string());
    assert_eq!(
        seen,
        Ok(Some(12)),
        "of all base images of the plan nothing is known any more"
    );
}

/// The plan allows itself less now. An edit that makes less happen binds the active run at once.
#[tokio::test]
async fn a_plan_that_lowers_max_targets_stops_its_active_run() {
    let cluster = Cluster::new(outdated(12), selected(100)).await;
    histories(&cluster);
    cluster.server.edit("repaveplans", "platform/all", |plan| {
        plan["spec"]["targets"]["maxTargets"] = json!(5);
    });
    let status = cluster.turn().await;
    assert_eq!(cluster.patched(), 0, "{}", says(&status));
}

/// The account may only look at the namespace by now. What fails there is still rolled back by the operator's own rights.
#[tokio::test]
async fn nothing_is_written_where_the_account_of_the_plan_may_not_patch_any_more() {
    let mut cluster = Cluster::new(vec![], json!({"waves": [{"name": "all"}]})).await;
    histories(&cluster);
    let mut object = failing(1).remove(0);
    object["metadata"]["namespace"] = json!("alpha");
    cluster.wide(&["alpha"], vec![object], &["", "platform", "alpha"]);
    let account = crate::controllers::access::Account {
        namespace: "platform".to_owned(),
        name: Some("mover".to_owned()),
    };
    for place in ["", "alpha"] {
        let question = (
            account.clone(),
            place.to_owned(),
            "patch",
            crate::controllers::access::DEPLOYMENTS,
        );
        cluster.ctx.access.keep(question, false, std::time::Instant::now());
    }
    cluster.list_anew(&["platform", "alpha"]).await;
    let status = cluster.stored_turn().await;
    assert_eq!(cluster.patched(), 0, "{}", says(&status));
}
