//! What is not seen: a namespace whose Deployments or pods may not be listed, or where the plan's account lost its rights.

use super::{
    super::Images,
    cluster::{Cluster, canary, canary_first, candidate, deployment, failing, histories, image, says, succeeded, v},
    world::REPOSITORY,
};
use crate::controllers::{conditions, repave_plan, testing::Fault};
use jiff::Timestamp;
use serde_json::json;

/// The namespace of the canaries does not show them for a moment: 403, which every API server gives while its authorizer is away.
#[tokio::test]
async fn no_wave_passes_by_being_empty_while_a_namespace_is_not_seen() {
    let mut found = Vec::new();
    for what in [
        "control: all is seen",
        "its pods cannot be listed, and it runs a tag",
        "its Deployments cannot be listed",
        "the account may not list there",
    ] {
        let mut cluster = Cluster::new(
            vec![deployment("web", &image("v1")), deployment("app", &image("v1"))],
            canary_first(),
        )
        .await;
        histories(&cluster);
        let by_tag = what.contains("pods");
        let image_of_it = if by_tag {
            format!("{REPOSITORY}:12")
        } else {
            image("v1")
        };
        let may: &[&str] = if what.contains("account") {
            &["platform"]
        } else {
            &["", "platform", "alpha"]
        };
        cluster.wide(&["alpha"], vec![canary(&image_of_it)], may);
        if by_tag {
            cluster.server.put(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "canary-5d4f-x", "namespace": "alpha",
                "labels": {"app": "canary", "pod-template-hash": "5d4f"}, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                    "name": "canary-5d4f", "uid": "rs", "controller": true}]},
                "spec": {"containers": [{"name": "app", "image": image_of_it}]},
                "status": {"phase": "Running", "containerStatuses": [{"name": "app", "image": image_of_it, "imageID": image("v1"), "ready": true,
                    "restartCount": 0, "state": {"running": {}}}]}}));
        }
        let refuse = match what {
            "its pods cannot be listed, and it runs a tag" => "pods",
            "its Deployments cannot be listed" => "deployments",
            _ => "nothing",
        };
        cluster.server.faults(move |seen| {
            if seen.resource == refuse && seen.object.starts_with("alpha") {
                return Some(Fault::Refused(403, "Forbidden"));
            }
            (seen.verb == "WATCH").then_some(Fault::Silent)
        });
        cluster.list_anew(&["platform", "alpha"]).await;
        let status = cluster.stored_turn().await;
        let rest = cluster.on(&image("v3"))
            - usize::from(
                cluster.server.get("deployments", "alpha/canary").unwrap()["spec"]["template"]["spec"]["containers"][0]
                    ["image"]
                    == json!(image("v3")),
            );
        if rest > 0 {
            found.push(format!(
                "{what}: {rest} of the rest are moved before any canary: {} {:?}",
                says(&status),
                status.waves
            ));
        } else if what.starts_with("control") {
            assert_eq!(cluster.patched(), 1, "{}", says(&status));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// It moves one, and the rights of the plan's account in that namespace are taken away while that is on its way.
#[tokio::test]
async fn a_run_does_not_say_that_it_succeeded_while_what_it_moved_is_on_its_way_and_not_seen() {
    let mut found = Vec::new();
    for what in ["the account lost its rights", "403 for the operator", "control"] {
        let mut cluster = Cluster::new(vec![], json!({"waves": [{"name": "all"}]})).await;
        histories(&cluster);
        cluster.wide(&["alpha"], vec![canary(&image("v1"))], &["", "platform", "alpha"]);
        cluster.list_anew(&["platform", "alpha"]).await;
        cluster.stored_turn().await;
        assert_eq!(cluster.patched(), 1, "control");
        match what {
            "the account lost its rights" => cluster.may(&["", "alpha"], false),
            "403 for the operator" => {
                cluster.server.faults(move |seen| {
                    if seen.resource == "deployments" && seen.object.starts_with("alpha") {
                        return Some(Fault::Refused(403, "Forbidden"));
                    }
                    (seen.verb == "WATCH").then_some(Fault::Silent)
                });
                cluster.list_anew(&["platform", "alpha"]).await;
            }
            _ => {}
        }
        let status = cluster.stored_turn().await;
        if status.finished.is_some() {
            found.push(format!(
                "{what}: finished, Succeeded={} {:?}",
                succeeded(&status),
                status.counts
            ));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// It runs a tag of the repository, and what its pods run cannot be read: v1, or anything.
#[tokio::test]
async fn a_plan_does_not_say_up_to_date_while_the_pods_of_a_consumer_cannot_be_listed() {
    let mut cluster = Cluster::new(vec![], json!({})).await;
    histories(&cluster);
    cluster.server.put(&candidate(&v(3)));
    cluster.wide(
        &["alpha"],
        vec![canary(&format!("{REPOSITORY}:12"))],
        &["", "platform", "alpha"],
    );
    cluster.server.faults(move |seen| {
        if seen.resource == "pods" && seen.object.starts_with("alpha") {
            return Some(Fault::Refused(403, "Forbidden"));
        }
        (seen.verb == "WATCH").then_some(Fault::Silent)
    });
    cluster.list_anew(&["platform", "alpha"]).await;
    let plan = cluster.plan();
    let validated = repave_plan::validate::validate(&plan).unwrap();
    let known = (&Images::default(), &cluster.memory);
    let seen = repave_plan::observe::observe(&cluster.ctx, known, &plan, &validated)
        .await
        .unwrap();
    let decision = repave_plan::plan::decide(&plan, seen);
    let told = repave_plan::status::summarize(&plan, &decision.observed, &decision.observed.runs, Timestamp::now());
    let ready = conditions::find(&told.status.conditions, "Ready").unwrap();
    assert_ne!(ready.reason, "UpToDate", "{} {:?}", ready.message, told.status.counts);
}

/// No failure is allowed, and one has failed: the run is stopped. Then its namespace is not to be seen for a moment.
#[tokio::test]
async fn what_failed_counts_against_the_budget_also_while_it_is_not_seen() {
    let mut found = Vec::new();
    for what in [
        "control: all is seen",
        "the account may not list there any more",
        "403 for the operator, after a restart",
    ] {
        let mut cluster = Cluster::new(
            vec![deployment("web", &image("v1"))],
            json!({"waves": [{"name": "all", "maxConcurrent": 5}], "onFailure": {"budget": 0}}),
        )
        .await;
        histories(&cluster);
        let mut object = failing(1).remove(0);
        object["metadata"]["namespace"] = json!("alpha");
        cluster.wide(&["alpha"], vec![object], &["", "platform", "alpha"]);
        cluster.list_anew(&["platform", "alpha"]).await;
        cluster.stored_turn().await;
        let status = cluster.stored_turn().await;
        assert_eq!(
            (cluster.patched(), cluster.tag("web").as_str()),
            (1, "v1"),
            "control: {}",
            says(&status)
        );
        match what {
            "the account may not list there any more" => cluster.may(&["", "alpha"], false),
            "403 for the operator, after a restart" => {
                cluster.server.faults(move |seen| {
                    if seen.resource == "deployments" && seen.object.starts_with("alpha") {
                        return Some(Fault::Refused(403, "Forbidden"));
                    }
                    (seen.verb == "WATCH").then_some(Fault::Silent)
                });
                cluster.list_anew(&["platform", "alpha"]).await;
            }
            _ => {}
        }
        let before = says(&status);
        let status = cluster.stored_turn().await;
        if cluster.tag("web") != "v1" {
            found.push(format!("{what}: first {before}; then {}", says(&status)));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
