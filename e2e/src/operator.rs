//! The operator as the cluster runs it: installed from the chart, and killed without mercy.

use crate::{
    command,
    wait::{self, Look},
    world::World,
};
use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use std::time::Duration;

/// Namespace of the operator.
pub const NAMESPACE: &str = "repave-system";
/// Its pods.
pub const SELECTOR: &str = "app.kubernetes.io/name=repave";

/// Installs the operator from the chart with the images that were pushed, and waits until it is ready.
pub async fn install(world: &World) -> Result<()> {
    let operator = image(world, "operator").await?;
    let (tools, builder) = (image(world, "tools").await?, image(world, "builder").await?);
    // Pushed here so that its tag exists; the operator resolves the tag itself.
    image(world, "grype-db").await?;
    image(world, "trivy-db").await?;
    let charts = world.root.join("charts");
    let namespace = ["--namespace", NAMESPACE, "--create-namespace"];
    let crds = charts.join("repave-crds").to_string_lossy().into_owned();
    command::run(
        "helm",
        &[&["upgrade", "--install", "repave-crds", &crds][..], &namespace].concat(),
        None,
    )
    .await?;
    let chart = charts.join("repave").to_string_lossy().into_owned();
    let (repository, digest) = operator.split_once('@').context("the operator's image has a digest")?;
    let values = serde_json::json!({
        "image": {"repository": repository, "digest": digest},
        "toolsImage": tools, "builderImage": builder,
        "vulnerabilityDatabase": {
            "grype": {"image": format!("{}/repave/grype-db:e2e", world.registry)},
            "trivy": {"image": format!("{}/repave/trivy-db:e2e", world.registry)},
            "interval": "10s",
        },
        "insecureRegistries": [world.registry],
        // A successor waits for the lease of a killed predecessor to run out: short, because the story kills often.
        "leaderElection": {"leaseDuration": "5s"},
        "controller": {"logFormat": "text"},
    });
    let file = world.root.join("target/e2e/values.json");
    tokio::fs::create_dir_all(world.root.join("target/e2e")).await?;
    tokio::fs::write(&file, values.to_string()).await?;
    let file = file.to_string_lossy().into_owned();
    let arguments = ["upgrade", "--install", "repave", &chart, "--values", &file];
    command::run("helm", &[&arguments[..], &namespace].concat(), None).await?;
    // Not only "some pod is ready": after an upgrade that would be the old one.
    let deployment = [
        "rollout",
        "status",
        "deployment/repave",
        "--namespace",
        NAMESPACE,
        "--timeout=120s",
    ];
    command::kubectl(&deployment).await?;
    ready(world, Duration::from_secs(60)).await?;
    Ok(())
}

/// An image of ours, by digest; pushed, so that it is there.
pub async fn image(world: &World, name: &str) -> Result<String> {
    let digest = world.push(name).await?;
    Ok(format!("{}/repave/{name}@{digest}", world.registry))
}

/// Waits until one pod of the operator is ready; gives its name.
pub async fn ready(world: &World, limit: Duration) -> Result<String> {
    let pods = Api::<Pod>::namespaced(world.kube.clone(), NAMESPACE);
    wait::until("the operator is ready", limit, || async {
        let list = pods.list(&ListParams::default().labels(SELECTOR)).await?.items;
        let ready = list
            .iter()
            .find(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
        Ok(match ready {
            Some(pod) => Look::Here(pod.name_any()),
            None => Look::NotYet(format!(
                "{:?}",
                list.iter().map(|p| p.status.clone()).collect::<Vec<_>>()
            )),
        })
    })
    .await
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// SIGKILL to the process itself, then the pod is removed at once: its replacement starts without the kubelet's
/// crash back-off, as it would on another node.
pub async fn kill(world: &World) -> Result<()> {
    let pods = Api::<Pod>::namespaced(world.kube.clone(), NAMESPACE);
    let list = pods.list(&ListParams::default().labels(SELECTOR)).await?.items;
    let uids: Vec<String> = list.iter().filter_map(ResourceExt::uid).collect();
    let killed = kill_processes(&uids).await?;
    if killed == 0 {
        bail!("no process of the operator was found to be killed");
    }
    let at_once = DeleteParams::default().grace_period(0);
    for pod in list {
        pods.delete(&pod.name_any(), &at_once).await?;
    }
    Ok(())
}

/// Kills the `/repave controller` processes of these pods (another cluster of this machine has its own); the count says
/// that they were there.
async fn kill_processes(pods: &[String]) -> Result<usize> {
    let mut killed = 0;
    let mut entries = tokio::fs::read_dir("/proc").await?;
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|pid| pid.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        let line = tokio::fs::read(entry.path().join("cmdline")).await.unwrap_or_default();
        let groups = tokio::fs::read_to_string(entry.path().join("cgroup"))
            .await
            .unwrap_or_default();
        let ours = pods
            .iter()
            .any(|uid| groups.contains(uid) || groups.contains(&uid.replace('-', "_")));
        if ours && line.starts_with(b"/repave\0controller\0") {
            command::run("kill", &["-9", pid], None).await?;
            killed += 1;
        }
    }
    Ok(killed)
}
