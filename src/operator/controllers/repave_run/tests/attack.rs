//! Attacks: wrong decisions under edits, lost answers, late watches, refused status writes.

use super::{
    super::{Images, Runs},
    cluster::{Cluster, all_settle, candidate, deployment, failing, histories, image, outdated, says, v},
};
use crate::controllers::{conditions, inventory::Inventory, reconciler, repave_plan, testing::Fault};
use jiff::Timestamp;
use serde_json::{Value, json};

fn selected(max: i32) -> Value {
    json!({"targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}, "maxTargets": max}})
}

/// What the message asks for is done, one way or the other: the active run goes on.
#[tokio::test]
async fn t01_a_run_over_max_targets_goes_on_when_the_plan_is_edited_as_the_message_says() {
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
async fn t02_a_plan_that_raised_max_targets_is_not_kept_by_what_its_old_run_allowed() {
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
async fn t03_a_plan_that_lowers_max_targets_stops_its_active_run() {
    let cluster = Cluster::new(outdated(12), selected(100)).await;
    histories(&cluster);
    cluster.server.edit("repaveplans", "platform/all", |plan| {
        plan["spec"]["targets"]["maxTargets"] = json!(5);
    });
    let status = cluster.turn().await;
    assert_eq!(cluster.patched(), 0, "{}", says(&status));
}

/// Two namespaces, one at a time. The first one opts out, and the watch of namespaces is late.
#[tokio::test]
async fn t06_a_namespace_that_opted_out_keeps_no_other_from_being_moved_while_the_watch_is_late() {
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
        plan["spec"]["serviceAccountName"] = json!("mover")
    });
    histories(&cluster);
    cluster.server.edit("namespaces", "platform", |namespace| {
        namespace["metadata"]["labels"] = json!({})
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

/// The status of a run that finishes is refused once (a webhook, a lost answer, a conflict). Of what was set back nothing else tells: no
/// annotation, and no ReplicaSet (`revisionHistoryLimit: 0`).
#[tokio::test]
async fn t07_what_was_set_back_is_not_moved_again_when_the_last_status_was_not_written() {
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
async fn t08_a_plan_does_not_say_that_a_run_goes_on_which_may_not() {
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

/// The account may only look at the namespace by now. What fails there is still rolled back by the operator's own rights.
#[tokio::test]
async fn t12_nothing_is_written_where_the_account_of_the_plan_may_not_patch_any_more() {
    let mut cluster = Cluster::new(vec![], json!({"waves": [{"name": "all"}]})).await;
    histories(&cluster);
    let mut object = failing(1).remove(0);
    object["metadata"]["namespace"] = json!("alpha");
    cluster.wide(&["alpha"], vec![object], &["", "platform", "alpha"]).await;
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
async fn t21_a_webhook_that_is_away_for_one_workload_keeps_no_other_from_being_moved() {
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
async fn t22_a_webhook_that_is_away_for_one_workload_keeps_no_other_from_being_rolled_back() {
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
async fn t23_replica_sets_of_one_namespace_that_cannot_be_read_keep_no_other_from_being_moved() {
    let mut cluster = Cluster::new(
        vec![deployment("web", &image("v1"))],
        json!({"waves": [{"name": "all", "maxConcurrent": 1}]}),
    )
    .await;
    histories(&cluster);
    let mut object = deployment("app", &image("v1"));
    object["metadata"]["namespace"] = json!("alpha");
    cluster.wide(&["alpha"], vec![object], &["", "platform", "alpha"]).await;
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

/// `kubectl rollout undo` of 70 workloads (a team goes back as a whole): the ReplicaSets tell it, and the status has room for 64.
#[tokio::test]
async fn t26_a_plan_whose_finished_run_has_nothing_to_move_does_not_open_it_again_and_again() {
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

/// Nothing is pending and nothing is looked up: one gets its old image back.
#[tokio::test]
async fn t27_a_run_that_rolls_back_says_so() {
    let mut cluster = Cluster::new(failing(1), json!({})).await;
    histories(&cluster);
    let status = cluster.stored_turn().await;
    assert_eq!(cluster.on(&image("v1")), 1, "control");
    let ready = says(&status);
    assert!(!ready.contains("the layers of 0 images"), "{ready}");
}

/// The same with more at once.
#[tokio::test]
async fn t33_a_webhook_that_is_away_for_a_few_workloads_keeps_no_other_from_being_moved_with_more_at_once() {
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
