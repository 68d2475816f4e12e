//! A place of its own for a test that makes objects with something missing or wrong: a namespace that ends with it.
//!
//! Must not touch what the story uses: neither its namespaces nor its repositories.

use crate::{
    command,
    wait::{self, Look},
};
use anyhow::{Context, Result};
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use std::time::Duration;

/// Most time until a condition says what is missing, or that it is there: the operator looks every 15 s.
const LIMIT: Duration = Duration::from_secs(60);

/// Gives the test a namespace with a name that is used once, and deletes it whatever became of the test.
pub async fn in_own_namespace(
    kube: &kube::Client,
    prefix: &str,
    test: impl AsyncFnOnce(String) -> Result<()>,
) -> Result<()> {
    let api = Api::<Namespace>::all(kube.clone());
    let namespace: Namespace = serde_json::from_value(serde_json::json!({
        "metadata": {
            "generateName": format!("{prefix}-"),
            "labels": {"pod-security.kubernetes.io/enforce": "baseline"},
        },
    }))?;
    let name = api.create(&PostParams::default(), &namespace).await?.name_any();
    let outcome = test(name.clone()).await;
    let deleted = api.delete(&name, &DeleteParams::background()).await;
    outcome.with_context(|| format!("in namespace {name}"))?;
    deleted.with_context(|| format!("namespace {name} stays: kubectl delete namespace {name}"))?;
    Ok(())
}

/// Applies one object, given as JSON, to a namespace.
pub async fn apply(namespace: &str, mut object: serde_json::Value) -> Result<()> {
    object["metadata"]["namespace"] = namespace.into();
    command::apply(&object.to_string()).await?;
    Ok(())
}

/// Waits until a condition has this reason; gives it. `read` gives all conditions of the object.
pub async fn reason<F>(type_: &str, reason: &str, read: impl Fn() -> F) -> Result<Condition>
where
    F: Future<Output = Result<Vec<Condition>>>,
{
    wait::until(&format!("{type_} has the reason {reason}"), LIMIT, || async {
        let conditions = read().await?;
        let found = conditions.iter().find(|c| c.type_ == type_ && c.reason == reason);
        Ok(match found {
            Some(condition) => Look::Here(condition.clone()),
            None => Look::NotYet(describe(&conditions)),
        })
    })
    .await
}

fn describe(conditions: &[Condition]) -> String {
    let lines = conditions
        .iter()
        .map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message));
    lines.collect::<Vec<_>>().join(" | ")
}
