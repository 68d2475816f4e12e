//! `make demo`: the story on a terminal, one line and a time per step. It leaves everything up.

use anyhow::{Context, Result};
use repave::api::image_candidate::Step;
use repave_e2e::{
    command, operator, shop,
    story::{self, Cast},
};
use std::time::Instant;

fn say(n: u8, what: &str, line: &str, since: Instant) {
    println!(
        "[ {n}/9] {what:<12} {line:<66} {:>5.1} s",
        since.elapsed().as_secs_f64()
    );
}

#[tokio::main]
async fn main() -> Result<()> {
    let cast = story::cast().await?;
    play(&cast).await?;
    closing().await
}

async fn play(cast: &Cast) -> Result<()> {
    let start = Instant::now();
    story::operator_is_installed(cast).await?;
    say(3, "operator", "installed in repave-system, leader, ready", start);

    let start = Instant::now();
    let v1 = story::v1_is_released(cast).await?;
    shop::deploy(&cast.world, &v1).await?;
    say(4, "estate", "v1 released; 8 Deployments on it, all available", start);

    let start = Instant::now();
    let rejected = story::v2_is_rejected(cast).await?;
    let failed = rejected
        .status
        .as_ref()
        .and_then(|s| s.failed_checks.clone())
        .unwrap_or_default();
    say(
        5,
        "push v2",
        &format!("rejected by {failed}: nothing was promoted, nothing rolled"),
        start,
    );

    let start = Instant::now();
    let (pushed, candidate) = story::v3_is_promoted(cast).await?;
    let of = |step| story::step_seconds(&candidate, step).unwrap_or(0);
    let checks = of(Step::Validated).max(of(Step::Scanned));
    let line = format!(
        "verified, built {} s, validated {checks} s, promoted and signed {} s",
        of(Step::Built),
        of(Step::Promoted)
    );
    say(6, "push v3", &line, start);

    let start = Instant::now();
    let v3 = candidate
        .status
        .as_ref()
        .and_then(|s| s.promoted.clone())
        .context("v3 is promoted")?;
    let run = story::run_of(&cast.world, &v3.digest).await?;
    let name = run.metadata.name.clone().unwrap_or_default();
    let mut kills = 0_u32;
    let run = story::run_ends(&cast.world, &name, |run| {
        let done = run.status.as_ref().map_or(0, |status| status.counts.done);
        let kill = (kills == 0 && done >= 1) || (kills == 1 && done >= 3);
        kills += u32::from(kill);
        async move {
            if kill {
                operator::kill(&cast.world).await
            } else {
                Ok(())
            }
        }
    })
    .await?;
    let status = run.status.clone().unwrap_or_default();
    let line = format!(
        "canary, soak, rest: {} moved, {} rolled back and held, {} derived reported",
        status.counts.done, status.counts.held, status.counts.skipped
    );
    say(7, "repave", &line, start);
    for row in &status.attention {
        println!("        {:<12} {} {}: {}", "", row.workload, row.state, row.reason);
    }
    story::estate_is_repaved(&cast.world, &v1, &v3).await?;
    println!("[ 8/9] kill -9      operator killed {kills} times during the roll: no duplicate, same end");
    let finished = status.finished.context("the run says when it ended")?.0;
    let whole = finished.as_second() - pushed.as_second();
    println!(
        "[ 9/9] done         upstream push -> last pod replaced: {} min {} s (longest check's tool {:.1} s)",
        whole / 60,
        whole % 60,
        story::tool_seconds(&candidate)
    );
    Ok(())
}

/// The estate, and what to try next.
async fn closing() -> Result<()> {
    println!();
    print!(
        "{}",
        command::kubectl(&["get", "baseimages,imagecandidates,repaveruns", "--all-namespaces"]).await?
    );
    println!();
    print!("{}", command::run("kubectl-repave", &["status"], None).await?);
    println!("\nTry next (eval \"$(e2e/cluster/cluster env)\" first):");
    println!("  kubectl describe imagecandidates --namespace platform     # why v2 was rejected");
    println!("  kubectl repave status                                     # who runs what");
    println!("  kubectl get deployment legacy-report --namespace shop --output yaml   # the hold, and why");
    Ok(())
}
