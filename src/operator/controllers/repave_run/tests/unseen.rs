//! What one namespace of a plan does not show, while all others do.

use super::{
    super::{
        Images,
        estate::{self, Ask, Query},
        validate,
    },
    cluster::{by_tag, listed, mover, namespace},
    world::{release, run},
};
use crate::{
    controllers::testing::{Api, Fault},
    domain::lineage::ReleaseIndex,
};
use serde_json::json;

/// Whoever is admin of his namespace writes the RoleBinding there (`estate.namespaces`), and whoever may scale has as many pods as he
/// likes: more than 100 000 cannot be listed either.
#[tokio::test]
async fn a_namespace_whose_pods_cannot_be_listed_is_no_reason_to_see_nothing_of_the_others() {
    let api = Api::default();
    for name in ["shop", "tenant"] {
        api.put(&namespace(name));
        api.put(&by_tag(name, "web"));
    }
    let mut ctx = api.context();
    ctx.inventory = listed(&ctx).await;
    let account = mover(&ctx);
    let v = validate::validate(&run(&json!({}))).unwrap();
    let releases = ReleaseIndex::new("debian", [release("v1", 1), release("v3", 3)]);
    let ask = |max_targets| Ask {
        query: Query {
            scope: &v.scope,
            releases: &releases,
            supervised: None,
        },
        today: Some(&v.scope),
        account: &account,
        namespace: "platform",
        plan: "all",
        base_image: None,
        max_targets,
    };
    let control = estate::look(&ctx, &Images::default(), ask(1_000)).await.unwrap();
    assert_eq!(control.workloads.len(), 2);
    api.faults(|seen| {
        let pods = seen.resource == "pods" && seen.object.starts_with("tenant/");
        pods.then_some(Fault::Refused(403, "Forbidden"))
    });
    // Digests by tag are believed for ten minutes: another process, or ten minutes later.
    ctx.inventory = listed(&ctx).await;
    let seen = estate::look(&ctx, &Images::default(), ask(1_000)).await;
    let shop = |estate: estate::Estate| {
        estate
            .workloads
            .iter()
            .any(|seen| seen.workload.key.namespace == "shop")
    };
    let seen = seen.map(shop).map_err(|error| error.to_string());
    assert_eq!(
        seen,
        Ok(true),
        "what is not known of one namespace is not known of that one"
    );
}
