//! Whole turns of a run over an API server in memory: what happens between the look and the writes, and what is not seen in the look.

use super::cluster::{
    Cluster, candidate, deployment, failing, history, image, moved_by, outdated, recall_v3, revoked, v,
};
use crate::domain::{digest::Digest, lineage::Release};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

/// The release is taken back while what would be written is read live.
#[tokio::test]
async fn nothing_is_moved_to_a_release_that_was_taken_back_before_the_first_patch() {
    let cluster = Cluster::new(outdated(20), json!({})).await;
    cluster.server.put(&history(
        "debian",
        &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Superseded")],
    ));
    cluster.after("GET", "namespaces", recall_v3);
    cluster.turn().await;
    assert_eq!(
        cluster.on(&image("v3")),
        0,
        "moved to a digest that was recalled before"
    );
}

/// The same for the plan: it is suspended while what would be written is read live.
#[tokio::test]
async fn nothing_is_moved_for_a_plan_that_was_suspended_before_the_first_patch() {
    let cluster = Cluster::new(outdated(20), json!({})).await;
    cluster.server.put(&history(
        "debian",
        &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Superseded")],
    ));
    cluster.after("GET", "namespaces", |server| {
        server.edit("repaveplans", "platform/all", |plan| {
            plan["spec"]["suspend"] = json!(true);
        });
    });
    cluster.turn().await;
    assert_eq!(
        cluster.on(&image("v3")),
        0,
        "moved though the plan was suspended before"
    );
}

/// What they ran before is taken back while the first of them get it again.
#[tokio::test]
async fn a_batch_of_rollbacks_stops_when_what_it_gives_back_was_taken_back() {
    let cluster = Cluster::new(failing(40), json!({})).await;
    cluster.server.put(&history(
        "debian",
        &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Superseded")],
    ));
    cluster.after("PATCH", "deployments", |server| {
        server.put(&history(
            "debian",
            &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Revoked")],
        ));
        server.edit("baseimages", "platform/debian", |object| {
            object["status"]["revoked"] = json!([revoked(&v(1))]);
        });
    });
    cluster.turn().await;
    let back = cluster.on(&image("v1"));
    assert!(
        back <= super::super::apply::AT_ONCE,
        "{back} of 40 got a recalled digest"
    );
}

/// The ReleaseHistory is lost. The BaseImage's status is the record until it is rebuilt, which waits for as long as the production
/// registry, or the Secret to look there with, is missing.
#[tokio::test]
async fn nothing_is_rolled_back_to_what_the_status_of_the_base_image_shows_as_taken_back() {
    for lost in [false, true] {
        let cluster = Cluster::new(failing(1), json!({})).await;
        for release in [v(1), v(3)] {
            cluster.server.put(&candidate(&release));
        }
        cluster.server.edit("baseimages", "platform/debian", |object| {
            object["status"]["revoked"] = json!([revoked(&v(1))]);
        });
        if !lost {
            cluster
                .server
                .put(&history("debian", &[(v(3), "Released"), (v(1), "Revoked")]));
        }
        let status = cluster.turn().await;
        assert_eq!(
            cluster.on(&image("v1")),
            0,
            "rolled back to a recalled digest (history lost: {lost})"
        );
        assert_eq!(status.counts.failed, 1, "{:?}", status.counts);
    }
}

/// Two containers of two base images, two plans. The run of the second plan has moved one of them and still watches it; the watch of
/// Deployments is late.
#[tokio::test]
async fn what_the_run_of_another_plan_has_by_now_is_left_to_it_also_where_only_the_live_read_tells() {
    let log = |version: &str, sequence: u64| Release {
        base_image: "log".to_owned(),
        repository: "registry.test/log".parse().unwrap(),
        digest: Digest::of(version.as_bytes()),
        sequence,
        ..v(1)
    };
    let log_image = |version: &str| format!("registry.test/log@{}", Digest::of(version.as_bytes()));
    let mut object = deployment("web", &image("v1"));
    let both =
        |version: &str| json!([{"name": "app", "image": image("v1")}, {"name": "log", "image": log_image(version)}]);
    object["spec"]["template"]["spec"]["containers"] = both("log-1");
    for late in [false, true] {
        let mut now = object.clone();
        now["spec"]["template"]["spec"]["containers"] = both("log-2");
        moved_by(
            &mut now,
            ("platform/second", "platform/second-log-2"),
            &log("log-2", 2),
            &log_image("log-1"),
        );
        let first = if late { &object } else { &now };
        let cluster = Cluster::new(vec![first.clone()], json!({})).await;
        cluster.server.put(&history(
            "debian",
            &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Superseded")],
        ));
        cluster.server.put(&history(
            "log",
            &[(log("log-2", 2), "Released"), (log("log-1", 1), "Superseded")],
        ));
        let mut other = serde_json::to_value(&cluster.run).unwrap();
        other["metadata"] = json!({"name": "second-log-2", "namespace": "platform"});
        other["spec"]["plan"] = json!("second");
        cluster.server.put(&other);
        if late {
            cluster.server.edit("deployments", "platform/web", |live| {
                live["spec"] = now["spec"].clone();
                live["metadata"]["annotations"] = now["metadata"]["annotations"].clone();
                // Its roll-out is over: one replica, or none.
                live["status"]["observedGeneration"] = json!(2);
            });
        }
        let status = cluster.turn().await;
        assert_eq!(
            cluster.patched(),
            0,
            "two plans move one workload (late: {late}): {:?}",
            status.counts
        );
    }
}

/// The plan selected `tier: a` when its run before moved one there, which is still on its way; since then it selects `tier: b`.
#[tokio::test]
async fn what_an_earlier_run_of_the_plan_has_in_flight_takes_its_place_also_where_the_plan_does_not_select_it_any_more()
{
    let tier = |name: &str, tier: &str, image: &str| {
        let mut object = deployment(name, image);
        object["metadata"]["labels"]["tier"] = json!(tier);
        object
    };
    let mut before = tier("old", "a", &image("v2"));
    moved_by(&mut before, ("platform/all", "platform/all-v2"), &v(2), &image("v1"));
    before["status"]["updatedReplicas"] = json!(0);
    for selector in [json!({}), json!({"matchLabels": {"tier": "b"}})] {
        let spec = json!({"targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}, "selector": selector},
            "waves": [{"name": "all", "maxConcurrent": 1}]});
        let cluster = Cluster::new(vec![before.clone(), tier("new", "b", &image("v1"))], spec).await;
        let mut earlier = serde_json::to_value(&cluster.run).unwrap();
        earlier["metadata"]["name"] = json!("all-v2");
        earlier["metadata"]["labels"] = json!({"repave.dev/plan": "all"});
        earlier["spec"]["targets"]["selector"] = json!({});
        cluster.server.put(&earlier);
        cluster.server.put(&history(
            "debian",
            &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Superseded")],
        ));
        let status = cluster.turn().await;
        assert_eq!(
            cluster.patched(),
            0,
            "one is on its way, and one may be ({selector}): {:?}",
            status.counts
        );
    }
}

/// The clock of this process is three days behind what the status of a finished run says: it has soaked, whatever the clock shows for
/// a moment. (The walks do not write the status of a run that rests; the operator does.)
#[tokio::test]
async fn a_look_with_a_clock_that_is_days_behind_does_not_write_over_when_a_finished_run_had_soaked() {
    let mut object = deployment("web", &image("v3"));
    moved_by(&mut object, ("platform/all", "platform/all-v3"), &v(3), &image("v1"));
    let mut cluster = Cluster::new(vec![object], json!({})).await;
    cluster
        .server
        .put(&history("debian", &[(v(3), "Released"), (v(1), "Superseded")]));
    let seconds = (Timestamp::now() + SignedDuration::from_hours(72)).as_second();
    let then = Timestamp::from_second(seconds).unwrap().to_string();
    let status = json!({"started": then, "finished": then, "steadyUntil": then, "counts": {"total": 1, "pending": 0, "rolling": 0, "done": 1, "failed": 0, "held": 0, "skipped": 0},
        "waves": [{"name": "all", "settledAt": then, "soakedAt": then, "moved": true}]});
    cluster.run.status = Some(serde_json::from_value(status).unwrap());
    let before = cluster.run.status.clone().unwrap();
    let after = cluster.turn().await;
    assert_eq!((after.waves, after.steady_until), (before.waves, before.steady_until));
}

/// Reads for what would be moved next take their time: a hundred lists of ReplicaSets, or those of one tenant that has a thousand large
/// ones.
#[tokio::test]
async fn a_rollback_waits_for_no_read_that_only_moves_need() {
    let mut deployments = failing(2);
    let moves = (0..5).map(|at| deployment(&format!("next-{at}"), &image("v1")));
    deployments.extend(moves);
    let cluster = Cluster::new(deployments, json!({})).await;
    cluster.server.put(&history(
        "debian",
        &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Superseded")],
    ));
    let asked = || cluster.server.count("LIST", "replicasets");
    let before = asked();
    cluster.turn().await;
    assert_eq!((cluster.patched(), asked() - before), (2, 0));
    let status = cluster.turn().await;
    assert_eq!(
        cluster.patched(),
        7,
        "and what is moved next follows at once: {:?}",
        status.counts
    );
}
