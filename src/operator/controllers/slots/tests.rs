//! The queue and what counts against its limits.

use super::{
    listing::{CROWDED, Listed, MAX_JOBS},
    waiting::{ASK_AT_LATEST, QUEUED_REQUEUE},
    *,
};
use crate::{
    api::refs::{LABEL_BASE_IMAGE, LABEL_SELF_TEST},
    controllers::{
        context::Context,
        testing::{Api as Server, Fault},
    },
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn names(jobs: &[&str]) -> Vec<String> {
    jobs.iter().map(|job| (*job).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_claim_keeps_its_place_for_longer_than_a_round_and_is_forgotten_in_the_end() {
    let (mut queue, start) = (Queue::default(), Instant::now());
    queue.enter("a", &names(&["one"]), false, start);
    queue.enter("a", &names(&["two"]), false, start + Duration::from_secs(20));
    queue.enter("a", &names(&["one"]), true, start + ASK_AT_LATEST);
    let place = |queue: &Queue, job: &str| {
        let found = queue.waiting.get(&("a".to_owned(), job.to_owned()));
        found.map(|(claim, _)| (claim.since, claim.urgent))
    };
    assert_eq!(
        (place(&queue, "one"), place(&queue, "two")),
        (Some((0, true)), Some((1, false)))
    );
    queue.enter("b", &[], false, start + Duration::from_secs(920));
    assert_eq!((place(&queue, "one"), place(&queue, "two")), (Some((0, true)), None));
}

#[tokio::test(start_paused = true)]
async fn a_long_line_asks_no_more_than_a_short_one() {
    let limits = Limits {
        total: 20,
        per_namespace: 20,
    };
    let mut queue = Queue::default();
    let mut per_second = Vec::new();
    for length in [100_u32, 1_000, 5_000] {
        for job in 0..length {
            queue.enter("a", &[format!("job-{job:05}")], false, Instant::now());
        }
        let asked = (0..length).map(|job| {
            queue
                .ask_again("a", &[format!("job-{job:05}")], limits)
                .as_secs_f64()
                .recip()
        });
        per_second.push(asked.sum::<f64>());
    }
    assert!(per_second[2] < 35.0, "{per_second:?}");
    assert_eq!(queue.ask_again("a", &names(&["job-00000"]), limits), QUEUED_REQUEUE);
    assert_eq!(queue.ask_again("a", &names(&["job-04999"]), limits), ASK_AT_LATEST);
}

fn job(namespace: &str, name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": {LABEL_BASE_IMAGE: "debian"}, "ownerReferences": [
            {"apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate", "name": "c", "uid": "live", "controller": true},
        ]},
        "spec": {"activeDeadlineSeconds": 900, "template": {"spec": {"containers": []}}},
    });
    change(&mut job);
    job
}

fn with_candidate(slots: &Slots) {
    let (store, mut writer) = kube::runtime::reflector::store();
    let digest = crate::domain::digest::Digest::of(b"v1");
    let candidate = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
        "metadata": {"name": "c", "namespace": "team", "uid": "live"},
        "spec": {
            "sequence": 1, "baseImage": "debian-12", "source": "up.local/debian", "sourceTag": "12", "sourceDigest": digest,
            "inputsHash": digest, "staging": "r.local:5000/staging", "build": {"containerfile": "USER 65532"}, "policies": [],
            "promote": {"repository": "r.local:5000/base", "channelTag": "12", "pushSecretRef": {"name": "push"},
                        "signing": {"keyRef": {"name": "key"}}},
        },
    });
    let candidate: ImageCandidate = serde_json::from_value(candidate).unwrap();
    let event = kube::runtime::watcher::Event::Apply(crate::readable::Guarded(Ok(candidate)));
    writer.apply_watcher_event(&event);
    slots.count_those_of(store);
}

#[tokio::test(start_paused = true)]
async fn only_jobs_of_live_candidates_and_our_own_self_tests_count() {
    let server = Server::default();
    let ctx = server.context();
    with_candidate(&ctx.slots);
    let others: [fn(&mut Value); 6] = [
        |job| job["metadata"]["ownerReferences"] = json!([]),
        |job| job["metadata"]["ownerReferences"][0]["uid"] = json!("of another"),
        |job| job["metadata"]["ownerReferences"][0]["controller"] = json!(false),
        |job| job["metadata"]["ownerReferences"][0]["kind"] = json!("Waiver"),
        |job| job["spec"]["suspend"] = json!(true),
        |job| job["status"] = json!({"conditions": [{"type": "Failed", "status": "True"}]}),
    ];
    for (number, change) in others.into_iter().enumerate() {
        server.put(&job("team", &format!("other-{number}"), change));
        server.put(&job("stranger", &format!("self-test-{number}"), |job| {
            job["metadata"]["labels"][LABEL_SELF_TEST] = json!("grype");
        }));
    }
    assert_eq!(ctx.slots.list(&ctx.client).await.unwrap(), Listed::default());
    server.put(&job("team", "ours", |_| {}));
    server.put(&job(&ctx.settings.namespace, "self-test", |job| {
        job["metadata"]["ownerReferences"] = json!([]);
        job["metadata"]["labels"][LABEL_SELF_TEST] = json!("grype");
    }));
    let counted = BTreeMap::from([(ctx.settings.namespace.clone(), 1), ("team".to_owned(), 1)]);
    assert_eq!(ctx.slots.list(&ctx.client).await.unwrap().running, counted);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_suspended_jobs_of_a_stranger_stop_nobody() {
    let server = Server::default();
    let ctx = server.context();
    for number in 0..1000 {
        server.put(&job("stranger", &format!("x-{number}"), |job| {
            job["spec"]["suspend"] = json!(true);
        }));
    }
    assert!(admits(&ctx, "team", "one").await);
}

/// Whether a Job may start. It is not created then.
async fn admits(ctx: &Context, namespace: &str, job: &str) -> bool {
    let jobs = [job.to_owned()];
    let admitted = ctx.slots.admit(&ctx.client, namespace, &jobs, false).await;
    admitted.unwrap().contains(job)
}

/// Limits of two: one slot is kept for urgent ones.
#[tokio::test(start_paused = true)]
async fn what_is_admitted_counts_at_once_and_an_old_list_admits_nothing_twice() {
    let server = Server::default();
    let ctx = server.context();
    let first = ctx
        .slots
        .admit(&ctx.client, "a", &names(&["one", "two"]), false)
        .await
        .unwrap();
    assert!(first.contains("one") && !first.contains("two"));
    assert_eq!(first.ask_again, QUEUED_REQUEUE);
    for _ in 0..10 {
        // The Job of the first is not created yet, whatever a list says.
        assert!(!admits(&ctx, "b", "three").await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    server.put(&job("a", "one", |_| {}));
    drop(first);
    for _ in 0..10 {
        assert!(!admits(&ctx, "b", "three").await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    server.remove("jobs", "a/one");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!admits(&ctx, "b", "three").await, "two of a waited longer");
    assert!(admits(&ctx, "a", "two").await);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_shared_and_one_that_does_not_answer_starts_nothing() {
    let server = Server::default();
    let ctx = server.context();
    for number in 0..100 {
        drop(
            ctx.slots
                .admit(&ctx.client, "a", &names(&[format!("job-{number}").as_str()]), false)
                .await
                .unwrap(),
        );
    }
    assert_eq!(server.count("LIST", "jobs"), 1);
    server.faults(|seen| (seen.verb == "LIST").then_some(Fault::Silent));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let error = ctx
        .slots
        .admit(&ctx.client, "b", &names(&["late"]), true)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("within 20s"), "{error}");
    server.heal();
    assert!(ctx.slots.admit(&ctx.client, "b", &names(&["late"]), true).await.is_ok());
}

/// What a tenant may create with no more than the right to create Jobs: suspended, no owner, no pods.
#[tokio::test(start_paused = true)]
async fn thousands_of_suspended_jobs_of_a_stranger_stop_nobody() {
    let server = Server::default();
    let ctx = server.context();
    for number in 0..=MAX_JOBS {
        server.put(&job("stranger", &format!("x-{number:05}"), |job| {
            job["metadata"]["ownerReferences"] = json!([]);
            job["spec"]["suspend"] = json!(true);
        }));
    }
    let one = names(&["one"]);
    let admit = |namespace| ctx.slots.admit(&ctx.client, namespace, &one, false);
    assert!(admit("team").await.unwrap().contains("one"));
    let asked = server.count("LIST", "jobs");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(admit("other").await.unwrap().contains("one"));
    let asked = server.count("LIST", "jobs") - asked;
    assert!(asked < 10, "the long list is not read again at once: {asked}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!admit("stranger").await.unwrap().contains("one"), "it is full itself");
}

/// The API server takes every time that Go can read; ours ends a day before the year 10000.
#[tokio::test(start_paused = true)]
async fn one_job_of_a_stranger_with_a_time_that_nobody_can_read_stops_nobody() {
    let server = Server::default();
    let ctx = server.context();
    server.put(&job("stranger", "poison", |job| {
        job["metadata"]["ownerReferences"] = json!([]);
        job["spec"]["suspend"] = json!(true);
        job["spec"]["template"]["metadata"] = json!({"creationTimestamp": "9999-12-31T23:59:59Z"});
    }));
    let admitted = ctx.slots.admit(&ctx.client, "team", &names(&["one"]), false).await;
    assert!(admitted.is_ok_and(|admitted| admitted.contains("one")));
}

/// Whoever may create a Job anywhere writes this; kube-apiserver 1.36 stores it.
#[tokio::test(start_paused = true)]
async fn one_job_with_deep_field_ownership_stops_nobody_elses_job() {
    for (depth, what) in [
        (20, "control"),
        (200, "one Job of a stranger stops every Job of the cluster"),
    ] {
        let server = Server::default();
        let ctx = server.context();
        server.put(&job("stranger", "deep", |job| {
            let deep = (0..depth).fold(json!({}), |inner, _| json!({"f:x": inner}));
            job["metadata"]["managedFields"] = json!([{"manager": "m", "operation": "Update", "apiVersion": "batch/v1",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": deep}}]);
            job["spec"]["suspend"] = json!(true);
        }));
        let admitted = ctx.slots.admit(&ctx.client, "team", &names(&["one"]), false).await;
        assert!(
            admitted.as_ref().is_ok_and(|admitted| admitted.contains("one")),
            "{what}: {admitted:?}"
        );
    }
}

/// The list of the whole cluster takes longer than 20 s: fewer than 10 001 Jobs do, if they are large.
#[tokio::test(start_paused = true)]
async fn a_list_of_the_whole_cluster_that_takes_too_long_stops_nobody_for_ever() {
    let server = Server::default();
    let ctx = server.context();
    server.faults(|seen| {
        (seen.verb == "LIST" && seen.resource == "jobs" && seen.object.is_empty()).then_some(Fault::Silent)
    });
    let mut said = String::new();
    for _ in 0..20 {
        match ctx.slots.admit(&ctx.client, "team", &names(&["one"]), false).await {
            Ok(admitted) if admitted.contains("one") => return,
            other => said = format!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    panic!("in 20 minutes no Job of anybody was started, and no namespace was read for itself: {said}");
}

/// Somebody made the cluster crowded, and the list of his own namespace does not come (large Jobs, deep ones).
#[tokio::test(start_paused = true)]
async fn in_a_crowded_cluster_one_namespace_that_cannot_be_listed_stops_nobody_else() {
    let server = Server::default();
    let ctx = server.context();
    *ctx.slots.crowded() = Some(Instant::now() + CROWDED);
    server.faults(|seen| {
        (seen.verb == "LIST" && seen.resource == "jobs" && seen.object == "stranger/").then_some(Fault::Silent)
    });
    // He waits in the queue, so his namespace is one that is read.
    drop(ctx.slots.admit(&ctx.client, "stranger", &names(&["x"]), false).await);
    assert!(
        server.seen().iter().any(|seen| seen.object == "stranger/"),
        "control: {:?}",
        server.seen()
    );
    let admitted = ctx.slots.admit(&ctx.client, "team", &names(&["one"]), false).await;
    assert!(
        admitted.as_ref().is_ok_and(|admitted| admitted.contains("one")),
        "{admitted:?}"
    );
}

/// A tenant with two namespaces and a candidate in each. His Jobs name them as their owner, have no deadline and no pod that can
/// be scheduled; nothing of it is what Repave asked for. The limits are the defaults.
#[tokio::test(start_paused = true)]
async fn forged_jobs_in_two_namespaces_do_not_take_all_slots_for_ever() {
    for (namespaces, what) in [(&["team"][..], "control"), (&["team", "team-2"][..], "two namespaces")] {
        let server = Server::default();
        let ctx = server.context();
        let limits = Limits {
            total: 20,
            per_namespace: 10,
        };
        let slots = Slots::new(limits, "repave-system");
        let (store, mut writer) = kube::runtime::reflector::store();
        for namespace in namespaces {
            let mut candidate = crate::controllers::candidate::example();
            candidate.metadata.name = Some("c".to_owned());
            candidate.metadata.namespace = Some((*namespace).to_owned());
            candidate.metadata.uid = Some("live".to_owned());
            writer.apply_watcher_event(&kube::runtime::watcher::Event::Apply(Guarded(Ok(candidate))));
            for number in 0..20 {
                server.put(&job(namespace, &format!("x-{number}"), |job| {
                    job["spec"]["activeDeadlineSeconds"] = [json!(null), json!(1_000_000)][number % 2].clone();
                    job["spec"]["template"]["spec"] = json!({"nodeSelector": {"no": "such-node"}, "restartPolicy": "Never",
                        "containers": [{"name": "x", "image": "evil.example/x"}]});
                }));
            }
        }
        slots.count_those_of(store);
        let mut admitted = false;
        for _ in 0..100 {
            admitted |= slots
                .admit(&ctx.client, "good", &names(&["one"]), false)
                .await
                .unwrap()
                .contains("one");
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        assert!(admitted, "{what}: no Job of anybody else was started in 100 minutes");
    }
}
