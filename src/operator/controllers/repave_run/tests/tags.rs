//! Workloads that name the release by a tag: what their pods run decides.

use super::{
    super::{assemble, images::Layers, seen::Query},
    objects::parse,
    world::{Behaviour, Kind, REPOSITORY, World, release},
};
use crate::domain::lineage::ReleaseIndex;
use serde_json::json;

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);

/// By the channel tag: the tag has moved, and one of two pods was made anew (a node was drained) and has pulled it.
#[test]
fn a_workload_by_the_channel_tag_of_which_one_pod_has_pulled_the_new_release_is_still_outdated() {
    let world = World::new(&json!({}), &[GOOD]);
    let key = world.key(0);
    let mut object = world.workloads[&key].object.clone();
    object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(format!("{REPOSITORY}:12"));
    let pod = |tag: &str, at: i64| {
        let id = format!("{REPOSITORY}@{}", release(tag, at).digest);
        serde_json::from_value(json!({"spec": {"containers": [{"name": "app", "image": format!("{REPOSITORY}:12")}]},
            "status": {"containerStatuses": [{"name": "app", "image": "", "imageID": id, "ready": true, "restartCount": 0}]}}))
        .unwrap()
    };
    let seen = |pods| {
        let releases = ReleaseIndex::new("debian", world.releases.clone());
        let query = Query {
            scope: &world.v.scope,
            releases: &releases,
            supervised: None,
        };
        let mut observed = world.observed();
        observed.estate = assemble(vec![(parse(&object), pods)], query, &|_| Layers::Unreadable);
        let states = world
            .targets(&observed)
            .iter()
            .map(|target| format!("{:?}", target.state))
            .collect::<Vec<_>>();
        (states, observed.estate.unknown)
    };
    let before = seen(vec![pod("v1", 1), pod("v1", 1)]);
    assert_eq!(before.0.len(), 1, "{before:?}");
    let mixed = seen(vec![pod("v1", 1), pod("v3", 3)]);
    assert_eq!(
        mixed.0, before.0,
        "no target any more: the run ends without it, {mixed:?}"
    );
}
