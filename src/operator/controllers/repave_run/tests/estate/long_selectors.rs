//! Workloads whose selector is too long for a request.

use super::*;
use crate::controllers::repave_run::{
    apply::{Answer, answer},
    undone,
};

/// What kube-apiserver 1.36 stores: a selector of 88 KB. An URI of more than 65 534 bytes cannot be built.
fn with_long_selector(namespace: &str, name: &str, tag: Option<&str>) -> Value {
    let values: Vec<String> = (0..1_500).map(|at| format!("v{at:05}-{}", "x".repeat(50))).collect();
    let mut object = deployment(namespace, name);
    object["spec"]["template"]["metadata"]["labels"] = json!({"app": values[0]});
    object["spec"]["selector"] = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": values}]});
    if let Some(tag) = tag {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(format!("{REPOSITORY}:{tag}"));
    }
    object
}

async fn shared_estate(poison: Value) -> (Context, Plan) {
    let (api, ctx) = cluster(&[]).await;
    api.put(&poison);
    let key = WorkloadKey::deployment("shop", "long");
    while ctx.inventory.get(&key).is_none() {
        tokio::task::yield_now().await;
    }
    let plan = Plan::of(account(Some("mover")));
    for place in ["", "platform", "shop", "bank"] {
        answers(&ctx, &plan.account, place, [("list", true), ("patch", true)]);
    }
    (ctx, plan)
}

#[tokio::test]
async fn one_deployment_with_a_long_selector_does_not_stop_the_moves_of_all_others() {
    let (ctx, plan) = shared_estate(with_long_selector("shop", "long", None)).await;
    let v = validate::validate(&run(&json!({}))).unwrap();
    let mut estate = look(&ctx, &Images::default(), plan.ask()).await.unwrap();
    let keys = BTreeSet::from([
        WorkloadKey::deployment("platform", "app-00"),
        WorkloadKey::deployment("shop", "long"),
    ]);
    let asked = undone::ask(&ctx, &v, &mut estate, &keys).await;
    assert!(asked.is_ok(), "the whole run fails, for ever: {}", asked.unwrap_err());
    let free = undone::free(&estate.workloads);
    assert!(free.contains(&WorkloadKey::deployment("platform", "app-00")));
    let long = WorkloadKey::deployment("shop", "long");
    assert!(!free.contains(&long));
    let asked: [(WorkloadKey, Applied); 1] = asked.unwrap().try_into().unwrap();
    let [(key, Applied::Refused(words))] = asked else {
        panic!("it alone is refused")
    };
    assert_eq!(key, long);
    assert!(words.contains("label selector") && words.len() < 200, "{words}");
}

#[tokio::test]
async fn one_deployment_with_a_long_selector_and_a_tag_does_not_blind_the_plan() {
    let (ctx, plan) = shared_estate(with_long_selector("shop", "long", Some("12"))).await;
    let estate = look(&ctx, &Images::default(), plan.ask()).await;
    assert!(
        estate.is_ok(),
        "nothing of the whole estate is seen: {}",
        estate.err().unwrap()
    );
}

/// Nothing was sent: that says nothing about the API server, and must not keep all others waiting.
#[test]
fn a_request_that_cannot_be_built_is_the_problem_of_its_workload() {
    let uri = format!("/{}", "x".repeat(70_000));
    let error = http::Request::get(uri).body(()).unwrap_err();
    let error = kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error));
    assert!(matches!(answer(&error), Answer::Refused(_)), "{error}");
}
