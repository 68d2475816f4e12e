//! The queue and what counts against its limits.

use super::*;
use crate::controllers::testing::{Api as Server, Fault};
use serde_json::{Value, json};

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
        "spec": {"template": {"spec": {"containers": []}}},
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
    assert_eq!(ctx.slots.list(&ctx.client).await.unwrap(), BTreeMap::new());
    server.put(&job("team", "ours", |_| {}));
    server.put(&job(&ctx.settings.namespace, "self-test", |job| {
        job["metadata"]["ownerReferences"] = json!([]);
        job["metadata"]["labels"][LABEL_SELF_TEST] = json!("grype");
    }));
    let counted = BTreeMap::from([(ctx.settings.namespace.clone(), 1), ("team".to_owned(), 1)]);
    assert_eq!(ctx.slots.list(&ctx.client).await.unwrap(), counted);
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
    let admitted = ctx
        .slots
        .admit(&ctx.client, "team", &names(&["one"]), false)
        .await
        .unwrap();
    assert!(admitted.contains("one"));
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
        let second = ctx
            .slots
            .admit(&ctx.client, "b", &names(&["three"]), false)
            .await
            .unwrap();
        assert!(!second.contains("three"));
        drop(second);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    server.put(&job("a", "one", |_| {}));
    drop(first);
    for _ in 0..10 {
        let second = ctx
            .slots
            .admit(&ctx.client, "b", &names(&["three"]), false)
            .await
            .unwrap();
        assert!(!second.contains("three"));
        drop(second);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    server.remove("jobs", "a/one");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let next = ctx
        .slots
        .admit(&ctx.client, "b", &names(&["three"]), false)
        .await
        .unwrap();
    assert!(!next.contains("three"), "two of a waited longer");
    drop(next);
    assert!(
        ctx.slots
            .admit(&ctx.client, "a", &names(&["two"]), false)
            .await
            .unwrap()
            .contains("two")
    );
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
async fn ten_thousand_suspended_jobs_of_a_stranger_stop_nobody() {
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
