//! The estate: eight Deployments of application teams. Six run straight on the base, two on images built on it.

use crate::{
    command,
    wait::{self, Look},
    world::World,
};
use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt, api::ListParams};
use repave::{api::image_candidate::Promoted, domain::image_ref::ImageRef};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// Namespace of the shop; its label opts it in.
pub const NAMESPACE: &str = "shop";
/// The application that cannot start on v3.
pub const BREAKS: &str = "legacy-report";
/// The application of the first wave.
pub const CANARY: &str = "web-canary";
/// The applications that run straight on the base.
pub const DIRECT: [&str; 6] = [CANARY, "cart", "mailer", "payments", "search", BREAKS];
/// The applications whose images have layers of their own.
pub const DERIVED: [&str; 2] = ["ledger", "storefront"];

/// Process 1 must handle TERM, or every roll-out waits for its grace period.
const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";

/// Deploys all eight on this release and waits until all are available.
pub async fn deploy(world: &World, base: &Promoted) -> Result<()> {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {"repave": "auto"}}});
    command::apply(&namespace.to_string()).await?;
    command::apply(&lets_the_platform_in().to_string()).await?;
    let image = format!("{}:{}@{}", base.repository, "12", base.digest);
    for name in DIRECT {
        let script = if name == BREAKS {
            format!("/usr/lib/legacy/report || exit 1; {IDLE}")
        } else {
            IDLE.to_owned()
        };
        command::apply(&deployment(name, &image, Some(&script)).to_string()).await?;
    }
    for name in DERIVED {
        let derived = format!("{}/apps/{name}:1", world.registry);
        let derive = world.root.join("e2e/images/derive").to_string_lossy().into_owned();
        command::run(
            &derive,
            &[&base.repository.at(&base.digest).to_string(), &derived, name],
            None,
        )
        .await?;
        command::apply(&deployment(name, &derived, None).to_string()).await?;
    }
    available(world, Duration::from_secs(180)).await
}

fn deployment(name: &str, image: &str, script: Option<&str>) -> Value {
    let tier = if name == CANARY { "canary" } else { "main" };
    let mut container = json!({"name": "app", "image": image});
    if let Some(script) = script {
        container["command"] = json!(["/bin/sh", "-c", script]);
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name, "tier": tier}},
        "spec": {
            "replicas": 1, "minReadySeconds": 3,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    })
}

/// Waits until every Deployment is available.
pub async fn available(world: &World, limit: Duration) -> Result<()> {
    let api = Api::<Deployment>::namespaced(world.kube.clone(), NAMESPACE);
    wait::until("all applications are available", limit, || async {
        let list = api.list(&ListParams::default()).await?.items;
        let waiting: Vec<_> = list
            .iter()
            .filter(|d| !is_available(d))
            .map(ResourceExt::name_any)
            .collect();
        let all = list.len() == DIRECT.len() + DERIVED.len();
        Ok(if all && waiting.is_empty() {
            Look::Here(())
        } else {
            Look::NotYet(format!("waiting for {waiting:?}"))
        })
    })
    .await
}

fn is_available(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas == Some(wanted)
        && status.available_replicas == Some(wanted)
        && status.replicas == Some(wanted)
}

/// One application as it stands.
#[derive(Debug, Clone)]
pub struct Application {
    /// Its image.
    pub image: ImageRef,
    /// How often its spec was written: 1 is the first deployment.
    pub generation: i64,
    /// Its annotations of ours.
    pub annotations: BTreeMap<String, String>,
}

/// All applications as they stand, by name.
pub async fn applications(world: &World) -> Result<BTreeMap<String, Application>> {
    let api = Api::<Deployment>::namespaced(world.kube.clone(), NAMESPACE);
    let mut found = BTreeMap::new();
    for deployment in api.list(&ListParams::default()).await?.items {
        let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let image = pod
            .and_then(|pod| pod.containers.first())
            .and_then(|container| container.image.clone());
        let application = Application {
            image: image.context("a Deployment without an image")?.parse()?,
            generation: deployment.metadata.generation.unwrap_or(0),
            annotations: deployment
                .annotations()
                .clone()
                .into_iter()
                .filter(|(key, _)| key.starts_with("repave.dev/"))
                .collect(),
        };
        found.insert(deployment.name_any(), application);
    }
    Ok(found)
}

/// The shop's word that the platform's plan may move its workloads.
fn lets_the_platform_in() -> serde_json::Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "repave-platform-mover", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "repave-mover"},
        "subjects": [{"kind": "ServiceAccount", "name": "mover", "namespace": "platform"}],
    })
}
