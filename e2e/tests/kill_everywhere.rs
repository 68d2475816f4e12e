//! "Killed after any write, or without any write's answer, the operator comes to the same end and makes nothing twice."
//!
//! Needs a cluster and images: `make e2e`. A story of its own, from push to last pod, with a build, checks, a promotion,
//! moves and a rollback, is played twice: once the operator is killed after every single write that the API server took,
//! before it learns the answer; once it loses the answer of every write.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use kube::{Api, ResourceExt, api::ListParams};
use repave::api::{ImageCandidate, RepaveRun, image_candidate::Promoted};
use repave_e2e::{
    command,
    light::{self, Light},
    local::Local,
    missing,
    proxy::{Fault, Record},
    rights,
    story::{self, Cast},
    wait::{self, Look},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// A restart after each write, and each costs a second or two.
const LIMIT: Duration = Duration::from_secs(900);
const APPLICATIONS: [&str; 4] = ["one", "two", "three", "breaks"];

#[tokio::test]
async fn killed_after_every_write_the_operator_comes_to_the_same_end_and_makes_nothing_twice() -> Result<()> {
    played_with(Fault::Kill).await
}

#[tokio::test]
async fn without_any_writes_answer_the_operator_comes_to_the_same_end_and_makes_nothing_twice() -> Result<()> {
    played_with(Fault::LoseAnswer).await
}

async fn played_with(fault: Fault) -> Result<()> {
    let cast = story::cast().await?;
    story::operator_is_installed(&cast).await?;
    let local = Local::start(&cast.world).await?;
    missing::in_own_namespace(&cast.world.kube, "kills", async |namespace| {
        let light = Light::new(&cast, &namespace);
        light.declare(&checks(), Some("USER 65532")).await?;
        let first = light.released(&light.push("r1", &[]).await?, LIMIT).await?;
        deploy(&light, &first).await?;
        light.apply(plan(&namespace)).await?;
        local.proxy.forget();
        local.proxy.set(fault);
        let before = local.starts();
        let pushed = light.push("r2", &["BREAK=1"]).await?;
        let second = light.released(&pushed, LIMIT).await;
        let ended = match &second {
            Ok(second) => run_ends(&cast, &namespace, second).await,
            Err(_) => Ok(()),
        };
        let record = local.proxy.record();
        tell(fault, &record, local.starts() - before);
        local.is_well()?;
        let second = second?;
        ended?;
        local.proxy.set(Fault::None);
        ensure!(
            record.faults() > 20,
            "only {} faults: the story was not played",
            record.faults()
        );
        same_end(&cast, &namespace, &first, &second).await?;
        ensure!(
            record.created_twice().is_empty(),
            "made twice: {:?}",
            record.created_twice()
        );
        nothing_is_there_twice(&cast, &namespace).await?;
        if fault == Fault::Kill {
            // Each start lists and watches everything again.
            rights::are_what_was_called(&cast.world.kube, &record).await?;
        }
        Ok(())
    })
    .await
}

fn checks() -> Value {
    let mut checks = light::easy_checks();
    if let Some(all) = checks.as_array_mut() {
        all.push(json!({"name": "cves", "vulnerabilities": {"scanner": "Grype", "onlyFixable": true, "databaseMaxAge": "48h"}}));
    }
    checks
}

/// The figures of the run, for who reads the log of the test.
fn tell(fault: Fault, record: &Record, starts: u32) {
    println!(
        "{fault:?}: {} faults in {} writes, {starts} more starts",
        record.faults(),
        record.writes.len()
    );
    for (write, times) in record.repeated() {
        println!("  taken {times} times: {write}");
    }
    println!("{}", record.table());
}

/// The applications live in the plan's own namespace.
async fn deploy(light: &Light<'_>, base: &Promoted) -> Result<()> {
    let idle = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";
    for name in APPLICATIONS {
        let script = if name == "breaks" {
            format!("[ -z \"$BREAK\" ] || exit 3; {idle}")
        } else {
            idle.to_owned()
        };
        light
            .apply(json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": name, "labels": {"app": name}},
                "spec": {
                    "minReadySeconds": 1, "selector": {"matchLabels": {"app": name}},
                    "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
                        {"name": "app", "image": base.repository.at(&base.digest).to_string(), "command": ["/bin/sh", "-c", script]},
                    ]}},
                },
            }))
            .await?;
    }
    for name in APPLICATIONS {
        let arguments = [
            "rollout",
            "status",
            &format!("deployment/{name}"),
            "--namespace",
            &light.namespace,
            "--timeout=300s",
        ];
        command::kubectl(&arguments).await?;
    }
    Ok(())
}

fn plan(namespace: &str) -> Value {
    json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "RepavePlan", "metadata": {"name": "all"},
        "spec": {
            "baseImageRefs": [{"name": light::NAME}],
            "targets": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
            "waves": [{"name": "all", "maxConcurrent": 2}],
            "health": {"rolloutDeadline": "120s", "minReadySeconds": 5},
            "onFailure": {"budget": 1, "action": "RollbackWorkload"},
        },
    })
}

async fn run_ends(cast: &Cast, namespace: &str, target: &Promoted) -> Result<()> {
    let api = Api::<RepaveRun>::namespaced(cast.world.kube.clone(), namespace);
    wait::until("the run ends", LIMIT, || async {
        let runs = api.list(&ListParams::default()).await?.items;
        let status = runs
            .iter()
            .find(|run| run.spec.digest == target.digest)
            .and_then(|run| run.status.clone());
        Ok(match status {
            Some(status) if status.finished.is_some() => Look::Here(()),
            other => Look::NotYet(format!("{other:#?}")),
        })
    })
    .await
}

async fn same_end(cast: &Cast, namespace: &str, first: &Promoted, second: &Promoted) -> Result<()> {
    let api = Api::<Deployment>::namespaced(cast.world.kube.clone(), namespace);
    for name in APPLICATIONS {
        let deployment = api.get(name).await?;
        let spec = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let image = spec
            .and_then(|spec| spec.containers.first())
            .and_then(|c| c.image.clone());
        let image = image.context("a Deployment without an image")?;
        // A move is one write of the spec, a rollback one more.
        let (wanted, generation) = if name == "breaks" { (first, 3) } else { (second, 2) };
        ensure!(
            image == wanted.repository.at(&wanted.digest).to_string(),
            "{name} runs {image}, expected {}",
            wanted.digest
        );
        ensure!(
            deployment.metadata.generation == Some(generation),
            "{name} was written {:?} times, expected {generation}",
            deployment.metadata.generation
        );
    }
    Ok(())
}

/// One candidate a release, one run of the plan, one Job a purpose.
async fn nothing_is_there_twice(cast: &Cast, namespace: &str) -> Result<()> {
    let kube = &cast.world.kube;
    let all = ListParams::default();
    let candidates = Api::<ImageCandidate>::namespaced(kube.clone(), namespace)
        .list(&all)
        .await?
        .items;
    ensure!(candidates.len() == 2, "{} candidates for 2 releases", candidates.len());
    let runs = Api::<RepaveRun>::namespaced(kube.clone(), namespace)
        .list(&all)
        .await?
        .items;
    ensure!(
        runs.len() == 1,
        "{} runs for 1 release after the estate was there",
        runs.len()
    );
    let mut purposes: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for job in Api::<Job>::namespaced(kube.clone(), namespace).list(&all).await?.items {
        let label = |key: &str| job.labels().get(key).cloned().unwrap_or_default();
        let purpose = ["repave.dev/candidate", "repave.dev/check", "repave.dev/self-test"].map(label);
        purposes.entry(purpose.to_vec()).or_default().push(job.name_any());
    }
    let twice: Vec<_> = purposes.iter().filter(|(_, jobs)| jobs.len() > 1).collect();
    ensure!(twice.is_empty(), "two Jobs for one purpose: {twice:?}");
    Ok(())
}
