//! What other runs of the plan have in flight, where their writes had no answer or they select something else by now.

use super::{
    super::memory::Memory,
    cluster::{Cluster, histories, history, image, of_tier, outdated, released, says, tier, v},
};
use crate::controllers::testing::Fault;
use serde_json::{Value, json};

/// One at a time. The run to v3 moves one of tier a, and the answer is lost; the watch is late. Then v4 comes out, and the plan selects tier b.
#[tokio::test]
async fn what_a_lost_answer_of_another_run_left_in_flight_takes_its_place_also_outside_of_what_this_run_selects() {
    for lost in [false, true] {
        let spec = json!({"targets": of_tier("a"), "waves": [{"name": "all", "maxConcurrent": 1}]});
        let mut cluster = Cluster::new(
            vec![tier("old", "a", &image("v1")), tier("new", "b", &image("v1"))],
            spec,
        )
        .await;
        histories(&cluster);
        let mut first = serde_json::to_value(&cluster.run).unwrap();
        first["metadata"]["labels"] = json!({"repave.dev/plan": "all"});
        cluster.server.put(&first);
        cluster.server.faults(move |seen| match seen.verb {
            "WATCH" => Some(Fault::Silent),
            "PATCH" if lost && seen.resource == "deployments" => Some(Fault::Lost),
            _ => None,
        });
        cluster.turn().await;
        assert_eq!(cluster.tag("old"), "v3", "control");
        cluster
            .server
            .faults(|seen| (seen.verb == "WATCH").then_some(Fault::Silent));
        cluster.server.put(&history(
            "debian",
            &[
                (v(4), "Released"),
                (v(3), "Superseded"),
                (v(2), "Superseded"),
                (v(1), "Superseded"),
            ],
        ));
        cluster.server.edit("baseimages", "platform/debian", |base| {
            base["status"]["released"] = released(&v(4));
        });
        cluster.server.edit("repaveplans", "platform/all", |plan| {
            plan["spec"]["targets"] = of_tier("b");
        });
        let mut second = first.clone();
        second["metadata"]["name"] = json!("all-v4");
        second["metadata"]["uid"] = json!("run-v4");
        second["spec"]["targets"] = of_tier("b");
        for (key, value) in [
            ("digest", json!(v(4).digest)),
            ("tag", json!("v4")),
            ("sequence", json!(4)),
            ("candidate", json!(v(4).candidate)),
        ] {
            second["spec"][key] = value;
        }
        cluster.server.put(&second);
        cluster.run = serde_json::from_value(second).unwrap();
        let status = cluster.turn().await;
        assert_eq!(
            cluster.tag("new"),
            "v1",
            "two are on their way, and one may be (answer lost: {lost}): {}",
            says(&status)
        );
    }
}

/// One at a time. The selector was a mistake: the plan is corrected, and the run deleted, so that it is made anew (the documented way to
/// try a release again). What the first one has moved is still on its way.
#[tokio::test]
async fn what_a_run_that_was_made_anew_had_moved_before_takes_its_place() {
    for what in ["control: the selector stays", "the selector is another one"] {
        let first = json!({"targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}}, "waves": [{"name": "all", "maxConcurrent": 1}]});
        let mut cluster = Cluster::new(
            vec![tier("app", "a", &image("v1")), tier("web", "b", &image("v1"))],
            first,
        )
        .await;
        histories(&cluster);
        cluster.stored_turn().await;
        assert_eq!(
            (cluster.tag("app").as_str(), cluster.tag("web").as_str()),
            ("v3", "v1"),
            "control"
        );
        let mut anew = serde_json::to_value(&cluster.run).unwrap();
        anew["metadata"]["labels"] = json!({"repave.dev/plan": "all"});
        anew["metadata"]["uid"] = json!("run-anew");
        anew["status"] = Value::Null;
        if !what.starts_with("control") {
            cluster.server.edit("repaveplans", "platform/all", |plan| {
                plan["spec"]["targets"] = of_tier("b");
            });
            anew["spec"]["targets"] = of_tier("b");
        }
        cluster.server.put(&anew);
        cluster.run = serde_json::from_value(anew).unwrap();
        let status = cluster.stored_turn().await;
        assert_eq!(
            cluster.tag("web"),
            "v1",
            "{what}: two are on their way, and one may be: {}",
            says(&status)
        );
    }
}

/// Two runs of one plan, of two base images; the second one's target is the same workload's other container. The first one's answer is
/// lost, and the second one must not move it meanwhile.
#[tokio::test]
async fn a_lost_answer_in_scope_is_read_live_by_the_next_run_of_the_plan() {
    let cluster = Cluster::new(outdated(2), json!({"waves": [{"name": "all", "maxConcurrent": 1}]})).await;
    histories(&cluster);
    cluster.server.faults(|seen| match seen.verb {
        "WATCH" => Some(Fault::Silent),
        "PATCH" => Some(Fault::Lost),
        _ => None,
    });
    cluster.turn().await;
    cluster
        .server
        .faults(|seen| (seen.verb == "WATCH").then_some(Fault::Silent));
    // Another process memory, same inventory: the run was made anew.
    let mut anew = serde_json::to_value(&cluster.run).unwrap();
    anew["metadata"]["uid"] = json!("anew");
    let second = Cluster {
        run: serde_json::from_value(anew).unwrap(),
        server: cluster.server.clone(),
        ctx: cluster.ctx.clone(),
        memory: Memory::default(),
    };
    second.turn().await;
    assert_eq!(second.on(&image("v3")), 1);
}
