//! "A new upstream digest reaches the last pod, with proof for each step, whatever happens to the operator."
//!
//! Needs a cluster and images: `make e2e`. The parts build on each other, so they are one test.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::{Api, ResourceExt, api::ListParams};
use repave_e2e::{
    command, operator, platform, shop,
    story::{self, Cast},
};
use std::collections::BTreeSet;

#[tokio::test]
async fn a_new_upstream_digest_reaches_the_last_pod_with_proof_for_each_step() -> Result<()> {
    let cast = story::cast().await?;
    story::operator_is_installed(&cast).await?;
    let v1 = story::v1_is_released(&cast).await?;
    shop::deploy(&cast.world, &v1).await?;

    let rejected = story::v2_is_rejected(&cast).await?;
    each_planted_defect_is_named(&rejected.name_any()).await?;

    let (_, candidate) = story::v3_is_promoted(&cast).await?;
    let v3 = platform::promoted(&candidate)?;
    cosign_agrees(&cast, &v3).await?;

    let run = story::run_of(&cast.world, &v3.digest).await?;
    let kills = the_run_survives_five_kills(&cast, &run.name_any()).await?;
    ensure!(kills >= 5, "the operator was killed only {kills} times");
    story::estate_is_repaved(&cast.world, &v1, &v3).await?;
    no_job_was_made_twice(&cast).await
}

async fn each_planted_defect_is_named(candidate: &str) -> Result<()> {
    let table = command::kubectl(&["get", "imagecandidates", "--namespace", platform::NAMESPACE]).await?;
    let row = table
        .lines()
        .find(|line| line.starts_with(candidate))
        .context("v2 has no row in the table")?;
    ensure!(
        row.contains("Rejected") && row.contains("hardening") && row.contains("cves"),
        "{row}"
    );
    let text = command::kubectl(&[
        "describe",
        "imagecandidate",
        candidate,
        "--namespace",
        platform::NAMESPACE,
    ])
    .await?;
    for defect in [
        "/etc/cron.d/backup",
        "/usr/local/bin/sh0",
        "PATH",
        "appsvc",
        "CVE-2026-1234",
    ] {
        ensure!(
            text.contains(defect),
            "kubectl describe does not name {defect}:\n{text}"
        );
    }
    Ok(())
}

/// The real cosign, built from its module, with nothing but the public key.
async fn cosign_agrees(cast: &Cast, promoted: &repave::api::image_candidate::Promoted) -> Result<()> {
    let image = promoted.repository.at(&promoted.digest).to_string();
    let key = cast.promotion.public_file.to_string_lossy().into_owned();
    let arguments = [
        "verify",
        "--key",
        &key,
        "--insecure-ignore-tlog=true",
        "--allow-http-registry",
        &image,
    ];
    let output = command::run("cosign", &arguments, None).await?;
    ensure!(output.contains(promoted.digest.as_str()), "{output}");
    let wrong = cast.upstream.public_file.to_string_lossy().into_owned();
    let arguments = [
        "verify",
        "--key",
        &wrong,
        "--insecure-ignore-tlog=true",
        "--allow-http-registry",
        &image,
    ];
    ensure!(
        command::run("cosign", &arguments, None).await.is_err(),
        "cosign accepts another key: the test proves nothing"
    );
    Ok(())
}

/// Kills at five different moments: each time that the counts differ from those at the last kill.
async fn the_run_survives_five_kills(cast: &Cast, run: &str) -> Result<usize> {
    let mut seen = BTreeSet::new();
    story::run_ends(&cast.world, run, |run| {
        let status = run.status.clone().unwrap_or_default();
        let counts = (
            status.counts.pending,
            status.counts.rolling,
            status.counts.done,
            status.counts.held,
        );
        let moment = status.counts.total > 0 && seen.insert(counts);
        async move {
            if moment {
                operator::kill(&cast.world).await?;
                operator::ready(&cast.world, std::time::Duration::from_secs(60)).await?;
            }
            Ok(())
        }
    })
    .await?;
    Ok(seen.len())
}

/// A Job is named by what it does: two with the same check of the same candidate would be a second try.
async fn no_job_was_made_twice(cast: &Cast) -> Result<()> {
    let jobs = Api::<Job>::namespaced(cast.world.kube.clone(), platform::NAMESPACE)
        .list(&ListParams::default())
        .await?;
    let mut seen = BTreeSet::new();
    for job in jobs.items {
        let label = |key: &str| job.labels().get(key).cloned().unwrap_or_default();
        let what = (
            label("repave.dev/candidate"),
            label("repave.dev/check"),
            label("repave.dev/self-test"),
        );
        ensure!(seen.insert(what.clone()), "two Jobs for {what:?}");
    }
    // Three candidates, each with a build and four checks. Self-tests are not counted: an operator that has seen one pass
    // in another namespace does not run it again.
    seen.retain(|(_, _, self_test)| self_test.is_empty());
    ensure!(seen.len() == 15, "expected 15 Jobs, found {seen:?}");
    Ok(())
}
