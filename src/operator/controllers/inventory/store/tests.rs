//! What a store keeps of events that come late, doubled or out of order, and what a list takes away.

use super::*;
use serde_json::json;

fn workload(namespace: &str, name: &str, uid: &str, version: &str, image: &str) -> Workload {
    let object = json!({
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": version, "generation": 1,
            "labels": {"app": name}},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"spec": {"containers": [{"name": "c", "image": image}]}}},
    });
    Workload::from_deployment(&serde_json::from_value(object).unwrap()).unwrap()
}

fn key(namespace: &str, name: &str) -> WorkloadKey {
    workload(namespace, name, "u", "1", "i").key
}

fn image(store: &Store, namespace: &str, name: &str) -> Option<String> {
    let entry = store.get(&key(namespace, name))?;
    Some(entry.workload.containers[0].image.clone())
}

#[test]
fn an_older_version_never_replaces_a_newer_one() {
    let mut store = Store::default();
    store.workload(workload("n", "a", "u", "9", "old"));
    assert!(store.learn(workload("n", "a", "u", "12", "ours")).is_some());
    assert!(
        store.workload(workload("n", "a", "u", "10", "old")).is_none(),
        "the watch is behind our write"
    );
    assert_eq!(image(&store, "n", "a").unwrap(), "ours");
    store.workload(workload("n", "a", "u", "13", "theirs"));
    assert_eq!(image(&store, "n", "a").unwrap(), "theirs");
    store.workload(workload("n", "a", "u", "x", "not a number"));
    assert_eq!(image(&store, "n", "a").unwrap(), "not a number");
}

#[test]
fn a_late_answer_brings_nothing_back_and_touches_no_namesake() {
    let mut store = Store::default();
    assert!(store.learn(workload("n", "a", "u", "5", "ours")).is_none());
    store.workload(workload("n", "a", "new", "7", "new"));
    assert!(store.learn(workload("n", "a", "old", "6", "ours")).is_none());
    assert!(store.workload_gone(&key("n", "a"), Some("old")).is_none());
    assert_eq!(image(&store, "n", "a").unwrap(), "new");
    assert!(store.workload_gone(&key("n", "a"), Some("new")).is_some());
    assert_eq!(image(&store, "n", "a"), None);
}

#[test]
fn an_answer_about_one_that_was_made_anew_is_known_before_the_watch_shows_it() {
    let mut store = Store::default();
    store.workload(workload("n", "a", "old", "5", "old"));
    assert!(store.learn(workload("n", "a", "new", "7", "ours")).is_some());
    assert!(store.workload(workload("n", "a", "old", "6", "old")).is_none());
    assert!(store.workload_gone(&key("n", "a"), Some("old")).is_none());
    assert!(store.workload(workload("n", "a", "new", "6", "new")).is_none());
    assert_eq!(image(&store, "n", "a").unwrap(), "ours");
    assert!(store.learn(workload("n", "a", "newer", "x", "no number")).is_none());
}

#[test]
fn a_list_takes_away_what_it_has_not_shown_in_its_namespace_only() {
    let mut store = Store::default();
    for (namespace, name) in [("n", "a"), ("n", "b"), ("o", "c")] {
        store.workload(workload(namespace, name, "u", "1", "i"));
    }
    let gone = store.keep_workloads(Some("n"), &BTreeSet::from([key("n", "b")]));
    assert_eq!(gone.len(), 1);
    assert_eq!(
        [
            image(&store, "n", "a"),
            image(&store, "n", "b"),
            image(&store, "o", "c")
        ]
        .map(|i| i.is_some()),
        [false, true, true]
    );
}

#[test]
fn a_scope_is_living_namespaces_by_label_and_workloads_by_label_in_them() {
    let mut store = Store::default();
    let labelled = |terminating| NamespaceEntry {
        labels: BTreeMap::from([("repave".to_owned(), "auto".to_owned())]),
        terminating,
    };
    store.namespace("n".into(), "1", labelled(false));
    store.namespace("dying".into(), "1", labelled(true));
    store.namespace("other".into(), "1", NamespaceEntry::default());
    let selector: Selector = [("repave", "auto")].into_iter().collect();
    assert_eq!(store.namespaces(&selector), ["n"]);
    for (namespace, name) in [("m", "z"), ("n", "a"), ("n", "b"), ("na", "c")] {
        store.workload(workload(namespace, name, "u", "1", "i"));
    }
    let names = |selector: &Selector| -> Vec<String> {
        store
            .workloads("n", selector)
            .map(|entry| entry.workload.key.name.clone())
            .collect()
    };
    assert_eq!(names(&Selector::default()), ["a", "b"]);
    assert_eq!(names(&[("app", "b")].into_iter().collect()), ["b"]);
}

#[test]
fn only_what_no_controller_owns_is_counted() {
    let mut store = Store::default();
    let consumer = |owned: bool| -> Consumer {
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "y", "controller": owned});
        let object = json!({"metadata": {"name": "p", "namespace": "n", "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "c", "image": "r.test/a:1"}]}});
        serde_json::from_value(object).unwrap()
    };
    assert!(store.consumer(CountedKind::Pod, consumer(false)).is_some());
    assert!(
        store.consumer(CountedKind::Pod, consumer(false)).is_none(),
        "nothing new"
    );
    let all = Selector::default();
    let found: Vec<_> = store
        .counted("n", &all)
        .map(|(kind, name, _)| (kind, name.to_owned()))
        .collect();
    assert_eq!(found, [(CountedKind::Pod, "p".to_owned())]);
    store.consumer(CountedKind::Pod, consumer(true));
    assert_eq!(store.counted("n", &all).count(), 0, "it was adopted");
}
