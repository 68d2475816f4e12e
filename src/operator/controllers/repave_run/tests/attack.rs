//! Attacks: wrong decisions under edits, lost answers, late watches, refused status writes.

use super::{
    super::{Images, Runs, apply::AT_ONCE, memory::Memory},
    cluster::{Cluster, candidate, deployment, failing, history, image, moved_by, outdated, recall_v3, released, v},
    world::REPOSITORY,
};
use crate::{
    api::{RepavePlan, RepaveRunStatus},
    controllers::{
        conditions,
        inventory::Inventory,
        reconciler, repave_plan,
        testing::{Api, Fault},
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

fn histories(cluster: &Cluster) {
    cluster.server.put(&history(
        "debian",
        &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Superseded")],
    ));
}

fn selected(max: i32) -> Value {
    json!({"targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}, "maxTargets": max}})
}

fn says(status: &RepaveRunStatus) -> String {
    let ready = conditions::find(&status.conditions, "Ready").unwrap();
    format!("{} {}: {}", ready.status, ready.reason, ready.message)
}

impl Cluster {
    /// The status of a turn is stored.
    async fn stored_turn(&mut self) -> RepaveRunStatus {
        let status = self.turn().await;
        self.run.status = Some(status.clone());
        status
    }

    fn plan(&self) -> RepavePlan {
        serde_json::from_value(self.server.get("repaveplans", "platform/all").unwrap()).unwrap()
    }

    fn tag(&self, name: &str) -> String {
        let object = self.server.get("deployments", &format!("platform/{name}")).unwrap();
        let image = object["spec"]["template"]["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap();
        ["v1", "v2", "v3", "v4"]
            .into_iter()
            .find(|v| super::cluster::image(v) == image)
            .unwrap()
            .to_owned()
    }
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

fn tier(name: &str, tier: &str, image: &str) -> Value {
    let mut object = deployment(name, image);
    object["metadata"]["labels"]["tier"] = json!(tier);
    object
}

fn of_tier(tier: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"repave": "auto"}}, "selector": {"matchLabels": {"tier": tier}}})
}

/// One at a time. The run to v3 moves one of tier a, and the answer is lost; the watch is late. Then v4 comes out, and the plan selects tier b.
#[tokio::test]
async fn t04_what_a_lost_answer_of_another_run_left_in_flight_takes_its_place_also_outside_of_what_this_run_selects() {
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
            plan["spec"]["targets"] = of_tier("b")
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

/// What is read before each further sixteen: something else than the plan's spec and what is released says that no more may be moved.
#[tokio::test]
async fn t05_a_batch_stops_when_the_gate_would_be_shut_by_now() {
    let mut found = Vec::new();
    type Happens = fn(&Api);
    let cases: [(&str, Happens); 5] = [
        ("control: suspended", |server| {
            server.edit("repaveplans", "platform/all", |plan| {
                plan["spec"]["suspend"] = json!(true)
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
                namespace["metadata"]["labels"] = json!({})
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

impl Cluster {
    /// A plan with an account that may do everything (`may`: where), over these namespaces as well.
    async fn wide(&mut self, namespaces: &[&str], objects: Vec<Value>, may: &[&str]) {
        for name in namespaces {
            self.server.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"repave": "auto"}}}));
        }
        for object in objects {
            self.server.put(&object);
        }
        self.may(&["", "platform", "alpha"], false);
        self.may(may, true);
        let mut run = serde_json::to_value(&self.run).unwrap();
        run["spec"]["serviceAccountName"] = json!("mover");
        self.run = serde_json::from_value(run).unwrap();
        self.server.edit("repaveplans", "platform/all", |plan| {
            plan["spec"]["serviceAccountName"] = json!("mover")
        });
    }

    fn may(&self, places: &[&str], may: bool) {
        let account = crate::controllers::access::Account {
            namespace: "platform".to_owned(),
            name: Some("mover".to_owned()),
        };
        for place in places {
            for verb in ["list", "patch"] {
                let question = (
                    account.clone(),
                    (*place).to_owned(),
                    verb,
                    crate::controllers::access::DEPLOYMENTS,
                );
                self.ctx.access.keep(question, may, std::time::Instant::now());
            }
        }
    }

    async fn list_anew(&mut self, only: &[&str]) {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        self.ctx.inventory = Inventory::new(&only);
        tokio::spawn(
            self.ctx
                .inventory
                .clone()
                .run(self.ctx.watches.clone(), self.ctx.metrics.clone()),
        );
        self.ctx.inventory.ready().await.unwrap();
    }
}

fn canary_first() -> Value {
    json!({"waves": [{"name": "canary", "selector": {"matchLabels": {"tier": "canary"}}, "soak": "1h"}, {"name": "rest", "maxConcurrent": 5}]})
}

fn canary(image: &str) -> Value {
    let mut object = tier("canary", "canary", image);
    object["metadata"]["namespace"] = json!("alpha");
    object
}

fn succeeded(status: &RepaveRunStatus) -> String {
    let found = conditions::find(&status.conditions, "Succeeded").unwrap();
    format!("{} {}: {}", found.status, found.reason, found.message)
}

/// The namespace of the canaries does not show them for a moment: 403, which every API server gives while its authorizer is away.
#[tokio::test]
async fn t09_no_wave_passes_by_being_empty_while_a_namespace_is_not_seen() {
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
        cluster.wide(&["alpha"], vec![canary(&image_of_it)], may).await;
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
async fn t10_a_run_does_not_say_that_it_succeeded_while_what_it_moved_is_on_its_way_and_not_seen() {
    let mut found = Vec::new();
    for what in ["the account lost its rights", "403 for the operator", "control"] {
        let mut cluster = Cluster::new(vec![], json!({"waves": [{"name": "all"}]})).await;
        histories(&cluster);
        cluster
            .wide(&["alpha"], vec![canary(&image("v1"))], &["", "platform", "alpha"])
            .await;
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

/// One at a time. The selector was a mistake: the plan is corrected, and the run deleted, so that it is made anew (the documented way to
/// try a release again). What the first one has moved is still on its way.
#[tokio::test]
async fn t13_what_a_run_that_was_made_anew_had_moved_before_takes_its_place() {
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
                plan["spec"]["targets"] = of_tier("b")
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

/// One at a time, two namespaces. The first one is relabelled while what an earlier run moved there is on its way; this process began later.
#[tokio::test]
async fn t14_a_restart_does_not_forget_the_place_of_what_is_on_its_way_in_a_namespace_that_opted_out() {
    let mut found = Vec::new();
    for restarted in [false, true] {
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
        let mut stored = serde_json::to_value(&cluster.run).unwrap();
        stored["metadata"]["labels"] = json!({"repave.dev/plan": "all"});
        cluster.server.put(&stored);
        cluster.stored_turn().await;
        assert_eq!((cluster.patched(), cluster.tag("web").as_str()), (1, "v1"), "control");
        cluster.server.edit("namespaces", "alpha", |namespace| {
            namespace["metadata"]["labels"] = json!({})
        });
        cluster.list_anew(&[]).await;
        if restarted {
            cluster.memory = Memory::default();
        }
        cluster.stored_turn().await;
        if cluster.tag("web") != "v1" {
            found.push(format!("restarted: {restarted}"));
        }
    }
    assert!(found.is_empty(), "two are on their way, and one may be: {found:?}");
}

/// It runs a tag of the repository, and what its pods run cannot be read: v1, or anything.
#[tokio::test]
async fn t15_a_plan_does_not_say_up_to_date_while_the_pods_of_a_consumer_cannot_be_listed() {
    let mut cluster = Cluster::new(vec![], json!({})).await;
    histories(&cluster);
    cluster.server.put(&candidate(&v(3)));
    cluster
        .wide(
            &["alpha"],
            vec![canary(&format!("{REPOSITORY}:12"))],
            &["", "platform", "alpha"],
        )
        .await;
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

/// A person pauses the run's plan: what a lost answer left is not begun again, and a run that ends counts what is there.
#[tokio::test]
async fn t16_a_lost_answer_and_a_suspended_plan_end_in_one_move_that_is_judged() {
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
        plan["spec"]["suspend"] = json!(true)
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
async fn t17_a_run_whose_release_was_taken_back_does_not_end_before_it_knows_what_a_lost_answer_did() {
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

/// A status of an older version: no times, no UIDs in the record, no `moved`, no `watched`; the wave soaks for an hour.
#[tokio::test]
async fn t18_what_an_older_version_left_in_its_soak_soaks_on_and_the_next_wave_waits() {
    let mut old = tier("canary", "canary", &image("v3"));
    moved_by(&mut old, ("platform/all", "platform/all-v3"), &v(3), &image("v1"));
    let mut record: Value =
        serde_json::from_str(old["metadata"]["annotations"]["repave.dev/moved"].as_str().unwrap()).unwrap();
    for key in ["uid", "sequence"] {
        record.as_object_mut().unwrap().remove(key);
    }
    old["metadata"]["annotations"]["repave.dev/moved"] = json!(record.to_string());
    let mut cluster = Cluster::new(vec![old, deployment("web", &image("v1"))], canary_first()).await;
    histories(&cluster);
    let at = (Timestamp::now() - SignedDuration::from_mins(8)).to_string();
    cluster.run.status =
        Some(serde_json::from_value(json!({"started": at, "waves": [{"name": "canary", "settledAt": at}]})).unwrap());
    for _ in 0..4 {
        let status = cluster.stored_turn().await;
        assert_eq!(cluster.tag("web"), "v1", "{} {:?}", says(&status), status.waves);
    }
}

/// Two plans' limits are their own, but a hold by a person that comes with the very patch is not written over.
#[tokio::test]
async fn t19_a_hold_that_is_put_between_the_live_read_and_the_patch_holds() {
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

/// No failure is allowed, and one has failed: the run is stopped. Then its namespace is not to be seen for a moment.
#[tokio::test]
async fn t20_what_failed_counts_against_the_budget_also_while_it_is_not_seen() {
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
        cluster.wide(&["alpha"], vec![object], &["", "platform", "alpha"]).await;
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

/// The watch shows everything as it is, and every roll-out is over.
fn all_settle(cluster: &Cluster) {
    for name in cluster.server.names("deployments") {
        cluster.server.edit("deployments", &name, |object| {
            object["status"] = json!({"observedGeneration": object["metadata"]["generation"], "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        });
        let object = cluster.server.get("deployments", &name).unwrap();
        let workload =
            crate::domain::workload::Workload::from_deployment(&serde_json::from_value(object).unwrap()).unwrap();
        cluster.ctx.inventory.watch_shows(workload);
    }
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

/// A person sets it back and takes all annotations off in the very moment of the next look; then the process starts anew.
#[tokio::test]
async fn t24_what_the_status_has_as_set_back_stays_so_after_a_restart() {
    let mut cluster = Cluster::new(outdated(2), json!({})).await;
    histories(&cluster);
    cluster.stored_turn().await;
    cluster.server.edit("deployments", "platform/app-00", |object| {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image("v1"));
        object["metadata"]["annotations"] = json!({});
    });
    all_settle(&cluster);
    cluster.stored_turn().await;
    cluster.memory = Memory::default();
    for _ in 0..3 {
        cluster.stored_turn().await;
        all_settle(&cluster);
    }
    assert_eq!(cluster.tag("app-00"), "v1");
}

/// The plan is deleted and made anew under its name while a batch is on its way: the old run ends, and moves nothing more.
#[tokio::test]
async fn t25_a_batch_stops_when_its_plan_was_made_anew() {
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

/// The plan selects what it selected before, and its service account is another one in the middle of a batch.
#[tokio::test]
async fn t28_a_batch_stops_when_the_plan_acts_as_somebody_else() {
    let cluster = Cluster::new(outdated(60), json!({})).await;
    histories(&cluster);
    cluster.after("PATCH", "deployments", |server| {
        server.edit("repaveplans", "platform/all", |plan| {
            plan["spec"]["serviceAccountName"] = json!("nobody")
        });
    });
    cluster.turn().await;
    assert!(cluster.on(&image("v3")) <= AT_ONCE);
}

/// Two runs of one plan, of two base images; the second one's target is the same workload's other container. The first one's answer is
/// lost, and the second one must not move it meanwhile.
#[tokio::test]
async fn t29_a_lost_answer_in_scope_is_read_live_by_the_next_run_of_the_plan() {
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
