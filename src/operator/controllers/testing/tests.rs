//! That the server in memory does what the tests rely on.

use super::{Api as Server, Fault};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
    runtime::{WatchStreamExt, watcher},
};
use std::{collections::BTreeMap, pin::pin};

fn map(name: &str, team: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.into());
    map.metadata.namespace = Some("a".into());
    map.metadata.labels = Some(BTreeMap::from([("team".into(), team.into())]));
    map
}

#[tokio::test]
async fn it_creates_once_lists_by_label_in_pages_and_deletes_by_uid() {
    let server = Server::default();
    let api = Api::<ConfigMap>::namespaced(server.client(), "a");
    for (name, team) in [("x", "red"), ("y", "blue"), ("z", "red")] {
        api.create(&PostParams::default(), &map(name, team)).await.unwrap();
    }
    let again = api.create(&PostParams::default(), &map("x", "red")).await;
    assert!(matches!(again, Err(kube::Error::Api(status)) if status.is_already_exists()));
    let first = api
        .list(&ListParams::default().labels("team=red").limit(1))
        .await
        .unwrap();
    let token = first.metadata.continue_.unwrap();
    let second = api
        .list(&ListParams::default().labels("team=red").limit(1).continue_token(&token))
        .await
        .unwrap();
    assert_eq!(
        (first.items[0].name_any(), second.items[0].name_any()),
        ("x".into(), "z".into())
    );
    assert_eq!(second.metadata.continue_, None);
    let by = |uid: &str| {
        DeleteParams::default().preconditions(Preconditions {
            uid: Some(uid.into()),
            resource_version: None,
        })
    };
    assert!(api.delete("x", &by("other")).await.is_err());
    api.delete("x", &by(&first.items[0].uid().unwrap())).await.unwrap();
    assert_eq!(server.names("configmaps"), ["a/y", "a/z"]);
}

#[tokio::test]
async fn a_watch_tells_what_happens_and_starts_over_when_its_version_is_gone() {
    let server = Server::default();
    server.put(
        &serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x", "namespace": "a"}}),
    );
    let api = Api::<ConfigMap>::all(server.client());
    let mut touched = pin!(
        watcher(api, watcher::Config::default())
            .default_backoff()
            .touched_objects()
    );
    let mut next = async || touched.try_next().await.map(|object| object.unwrap().name_any());
    assert_eq!(next().await.unwrap(), "x");
    server.put(
        &serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "y", "namespace": "a"}}),
    );
    assert_eq!(next().await.unwrap(), "y");
    server.remove("configmaps", "a/y");
    assert_eq!(next().await.unwrap(), "y");
    server.compact();
    assert!(next().await.is_err());
    assert_eq!(next().await.unwrap(), "x");
}

#[tokio::test]
async fn a_lost_answer_is_a_write_that_happened() {
    let server = Server::default();
    server.faults(|seen| (seen.verb == "POST").then_some(Fault::Lost));
    let api = Api::<ConfigMap>::namespaced(server.client(), "a");
    assert!(api.create(&PostParams::default(), &map("x", "red")).await.is_err());
    server.heal();
    assert_eq!(server.names("configmaps"), ["a/x"]);
    let mut events = pin!(watcher(api, watcher::Config::default()).applied_objects());
    assert_eq!(events.next().await.unwrap().unwrap().name_any(), "x");
    assert_eq!(
        (server.count("POST", "configmaps"), server.count("LIST", "configmaps")),
        (1, 1)
    );
}
