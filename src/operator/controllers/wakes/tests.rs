//! What wakes and what does not.

use super::*;
use crate::{
    api::{ImageCandidate, Waiver},
    controllers::testing::{Api as Server, Fault},
};
use serde_json::{Value, json};
use std::time::Duration;

fn meta(name: &str, generation: i64) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some("team".into()),
        uid: Some("u".into()),
        generation: Some(generation),
        ..ObjectMeta::default()
    }
}

fn names(keys: Vec<Key>) -> Vec<String> {
    keys.into_iter().map(|(_, name)| name).collect()
}

type Change = fn(&mut ObjectMeta, Option<std::collections::BTreeMap<String, String>>);

#[test]
fn a_status_wakes_nothing_and_everything_that_a_person_changes_does() {
    let mut changes = Changes::default();
    let first = meta("a", 1);
    assert_eq!(names(changes.heard(&Event::Apply(&first))), ["a"]);
    let status = ObjectMeta {
        resource_version: Some("9".into()),
        managed_fields: Some(Vec::new()),
        ..first.clone()
    };
    assert!(changes.heard(&Event::Apply(&status)).is_empty());
    let word = || Some([("k".to_owned(), "v".to_owned())].into());
    let changed: [Change; 5] = [
        |meta, _| meta.generation = Some(2),
        |meta, word| meta.labels = word,
        |meta, word| meta.annotations = word,
        |meta, _| meta.uid = Some("another".into()),
        |meta, _| {
            meta.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                jiff::Timestamp::UNIX_EPOCH,
            ));
        },
    ];
    for change in changed {
        let mut new = first.clone();
        change(&mut new, word());
        assert_eq!(names(changes.heard(&Event::Apply(&new))), ["a"], "{new:?}");
        changes.heard(&Event::Apply(&first));
    }
}

#[test]
fn what_a_list_brings_wakes_when_the_list_is_complete_and_only_if_it_changed() {
    let mut changes = Changes::default();
    let (a, b) = (meta("a", 1), meta("b", 1));
    for (list, woken) in [(vec![&a], vec!["a"]), (vec![&a, &b], vec!["b"]), (vec![&b], vec![])] {
        assert!(changes.heard(&Event::Init).is_empty());
        for object in list {
            assert!(changes.heard(&Event::InitApply(object)).is_empty());
        }
        assert_eq!(names(changes.heard(&Event::InitDone)), woken);
    }
    assert_eq!(changes.known.len(), 1, "what was deleted meanwhile is forgotten");
    changes.heard(&Event::Delete(&b));
    assert!(changes.known.is_empty());
    assert_eq!(
        names(changes.heard(&Event::Apply(&b))),
        ["b"],
        "made anew with the same UID or not: it wakes"
    );
}

fn waiver(name: &str) -> Value {
    json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "Waiver", "metadata": {"name": name, "namespace": "team"},
        "spec": {"owner": "team", "reason": "nothing in the image calls it", "expiresAt": "2027-01-01T00:00:00Z",
                 "scope": {"findings": [{"id": "CVE-2026-0001"}]}},
    })
}

fn job_of(owner: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": owner, "namespace": "team", "ownerReferences": [
            {"apiVersion": "repave.dev/v1alpha1", "kind": "Waiver", "name": owner, "uid": "u", "controller": true},
        ]},
    })
}

#[tokio::test(start_paused = true)]
async fn the_cache_and_its_wake_ups_survive_broken_watches_lost_versions_and_objects_that_cannot_be_read() {
    let server = Server::default();
    server.put(&waiver("a"));
    server.put(&json!({"apiVersion": "repave.dev/v1alpha1", "kind": "Waiver", "metadata": {"name": "broken", "namespace": "team"}}));
    let ctx = server.context();
    let wakes = Wakes::<Waiver>::of(&ctx).owns(
        Api::<k8s_openapi::api::batch::v1::Job>::all(ctx.watches.clone()),
        watcher::Config::default(),
    );
    let (store, mut woken) = wakes.into_parts();
    let mut next = async || {
        let woken = tokio::time::timeout(Duration::from_secs(60), woken.next()).await;
        woken.ok().flatten().map(|at| at.name)
    };
    let mut first = [next().await.unwrap(), next().await.unwrap()];
    first.sort();
    assert_eq!(first, ["a", "broken"]);
    assert!(store.state().iter().any(|object| object.0.is_err()));

    server.edit("waivers", "team/a", |object| object["status"] = json!({"usedBy": 1}));
    assert_eq!(next().await, None, "our own status");
    server.put(&job_of("a"));
    assert_eq!(next().await.as_deref(), Some("a"), "what it owns");
    server.edit("waivers", "team/a", |object| object["spec"]["owner"] = json!("others"));
    assert_eq!(next().await.as_deref(), Some("a"));

    let mut failures = 3;
    server.faults(move |seen| {
        let fails = seen.resource == "waivers" && failures > 0;
        failures -= i32::from(fails);
        fails.then_some(Fault::Refused(503, "ServiceUnavailable"))
    });
    server.compact();
    server.put(&waiver("b"));
    // What is owned is listed again too, and wakes its owner.
    let mut again = [next().await.unwrap(), next().await.unwrap()];
    again.sort();
    assert_eq!(again, ["a", "b"]);
    assert!(store.get(&ObjectRef::new("b").within("team")).is_some());
    let text = ctx.metrics.encode().unwrap();
    assert!(
        !text.contains("repave_watch_failures_total{kind=\"Waiver\"} 0"),
        "{text}"
    );
    assert!(text.contains("repave_watch_failures_total{kind=\"Waiver\"}"), "{text}");
}

#[test]
fn only_a_controller_of_our_kind_is_an_owner() {
    let owned = |owner: Value| {
        let meta = json!({"name": "x", "namespace": "team", "ownerReferences": [owner]});
        owner_of(&serde_json::from_value(meta).unwrap())
    };
    let whole = json!({"apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate", "name": "c", "uid": "u", "controller": true});
    assert_eq!(owned(whole.clone()).as_deref(), Some("c"));
    for (field, value) in [
        ("controller", json!(false)),
        ("kind", json!("BaseImage")),
        ("apiVersion", json!("example.com/v1")),
    ] {
        let mut other = whole.clone();
        other[field] = value;
        assert_eq!(owned(other), None, "{field}");
    }
}

fn owner_of(meta: &ObjectMeta) -> Option<String> {
    owner::<ImageCandidate>(meta).map(|at| at.name)
}

#[test]
fn the_cache_keeps_no_annotations_of_others_and_a_change_of_them_is_one() {
    let annotated = |ours: &str, others: &str| {
        let all = [("repave.dev/x", ours), ("kubectl.kubernetes.io/last", others)];
        let mut meta = ObjectMeta {
            annotations: Some(all.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            managed_fields: Some(vec![
                k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry::default(),
            ]),
            ..meta("a", 1)
        };
        keep_little(&mut meta);
        meta
    };
    let long = "x".repeat(250_000);
    let kept = annotated("1", &long);
    let size: usize = kept
        .annotations
        .iter()
        .flatten()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    assert!(size < 100, "{size}");
    assert_eq!(kept.annotations.as_ref().unwrap()["repave.dev/x"], "1");
    assert_eq!(kept.managed_fields, None);
    let same = |other: &ObjectMeta| fingerprint(other) == fingerprint(&kept);
    assert!(same(&annotated("1", &long)));
    assert!(!same(&annotated("2", &long)) && !same(&annotated("1", "y")));
    let mut bare = meta("a", 1);
    keep_little(&mut bare);
    assert_eq!(bare.annotations, None, "nothing is made up");
}
