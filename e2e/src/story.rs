//! The story, step by step, from an empty cluster to the last pod replaced. The demo prints it; the test asserts it.
//!
//! Each step checks what a user would look at and fails with what was there instead.

use crate::{
    operator,
    platform::{self, KeyPair},
    shop,
    wait::{self, Look},
    world::World,
};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kube::{Api, ResourceExt, api::ListParams};
use repave::{
    api::{
        ImageCandidate, RepaveRun,
        image_candidate::{CandidateResult, Promoted, Step},
    },
    domain::digest::Digest,
};
use std::time::{Duration, Instant};

/// Most time for one candidate, from push to decision.
const CANDIDATE_LIMIT: Duration = Duration::from_secs(300);
/// Most time for the whole roll-out.
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// What the story is told with.
pub struct Cast {
    /// The world.
    pub world: World,
    /// Upstream's signing key.
    pub upstream: KeyPair,
    /// The platform team's promotion key.
    pub promotion: KeyPair,
}

/// Makes the keys.
pub async fn cast() -> Result<Cast> {
    let world = World::connect().await?;
    let upstream = platform::key_pair(&world, "upstream").await?;
    let promotion = platform::key_pair(&world, "promotion").await?;
    Ok(Cast {
        world,
        upstream,
        promotion,
    })
}

/// v1: the platform team declares its wish, v1 is proven and released, and the shop runs on it.
pub async fn v1_is_released(cast: &Cast) -> Result<Promoted> {
    let digest = platform::upstream_pushes(&cast.world, "v1", &cast.upstream).await?;
    platform::install(&cast.world, &cast.upstream, &cast.promotion).await?;
    let candidate = platform::decided(&cast.world, &digest, CANDIDATE_LIMIT).await?;
    let promoted = platform::promoted(&candidate)?;
    platform::released(&cast.world, &promoted.digest, Duration::from_secs(30)).await?;
    Ok(promoted)
}

/// v2: has planted defects. Gives its candidate, which must be rejected, and checks that nothing rolled.
pub async fn v2_is_rejected(cast: &Cast) -> Result<ImageCandidate> {
    let before = shop::applications(&cast.world).await?;
    let digest = platform::upstream_pushes(&cast.world, "v2", &cast.upstream).await?;
    let candidate = platform::decided(&cast.world, &digest, CANDIDATE_LIMIT).await?;
    let status = candidate.status.clone().unwrap_or_default();
    ensure!(
        status.result == Some(CandidateResult::Rejected),
        "v2 was not rejected: {status:#?}"
    );
    ensure!(status.promoted.is_none(), "v2 was promoted: {status:#?}");
    let after = shop::applications(&cast.world).await?;
    for (name, application) in before {
        let now = after.get(&name).context("an application vanished")?;
        ensure!(
            now.generation == application.generation,
            "{name} was touched though v2 was rejected"
        );
    }
    Ok(candidate)
}

/// v3: clean. Gives when it was pushed and its candidate, which must be promoted.
pub async fn v3_is_promoted(cast: &Cast) -> Result<(Timestamp, ImageCandidate)> {
    let pushed = Timestamp::now();
    let digest = platform::upstream_pushes(&cast.world, "v3", &cast.upstream).await?;
    let candidate = platform::decided(&cast.world, &digest, CANDIDATE_LIMIT).await?;
    platform::promoted(&candidate)?;
    Ok((pushed, candidate))
}

/// The run of a release, once it is there.
pub async fn run_of(world: &World, digest: &Digest) -> Result<RepaveRun> {
    let api = Api::<RepaveRun>::namespaced(world.kube.clone(), platform::NAMESPACE);
    wait::until("the run is made", Duration::from_secs(60), || async {
        let runs = api.list(&ListParams::default()).await?.items;
        let names: Vec<_> = runs.iter().map(ResourceExt::name_any).collect();
        Ok(match runs.into_iter().find(|run| run.spec.digest == *digest) {
            Some(run) => Look::Here(run),
            None => Look::NotYet(format!("runs: {names:?}")),
        })
    })
    .await
}

/// Follows the run to its end. `each_look` is called with every look at it (the test kills the operator there).
pub async fn run_ends<F>(world: &World, name: &str, mut each_look: impl FnMut(&RepaveRun) -> F) -> Result<RepaveRun>
where
    F: Future<Output = Result<()>>,
{
    let api = Api::<RepaveRun>::namespaced(world.kube.clone(), platform::NAMESPACE);
    let start = Instant::now();
    loop {
        let run = api.get(name).await?;
        let status = run.status.clone().unwrap_or_default();
        if status.finished.is_some() {
            return Ok(run);
        }
        ensure!(
            start.elapsed() < RUN_LIMIT,
            "the run is not done within {RUN_LIMIT:?}: {status:#?}"
        );
        each_look(&run).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the estate must look like in the end, whatever happened to the operator on the way.
pub async fn estate_is_repaved(world: &World, v1: &Promoted, v3: &Promoted) -> Result<()> {
    let applications = shop::applications(world).await?;
    for name in shop::DIRECT {
        let application = applications.get(name).context("an application vanished")?;
        let digest = application.image.digest.as_ref();
        if name == shop::BREAKS {
            ensure!(digest == Some(&v1.digest), "{name} is not back on v1: {application:?}");
            ensure!(
                application.annotations.contains_key("repave.dev/hold"),
                "{name} is not held: {application:?}"
            );
            ensure!(
                application.generation == 3,
                "{name}: expected one move and one rollback: {application:?}"
            );
        } else {
            ensure!(digest == Some(&v3.digest), "{name} is not on v3: {application:?}");
            ensure!(
                application.generation == 2,
                "{name}: expected exactly one move: {application:?}"
            );
        }
    }
    for name in shop::DERIVED {
        let application = applications.get(name).context("an application vanished")?;
        ensure!(
            application.generation == 1,
            "{name} is derived and must not be touched: {application:?}"
        );
    }
    shop::available(world, Duration::from_secs(60)).await
}

/// How long one step of a candidate took, in seconds.
pub fn step_seconds(candidate: &ImageCandidate, step: Step) -> Option<i64> {
    let status = candidate.status.as_ref()?;
    let entry = status.timeline.iter().find(|entry| entry.step == step)?;
    Some(entry.finished.as_ref()?.0.as_second() - entry.started.0.as_second())
}

/// The seconds that the tools themselves took: checks run in parallel, so the longest one counts.
pub fn tool_seconds(candidate: &ImageCandidate) -> f64 {
    let checks = candidate.status.iter().flat_map(|status| &status.checks);
    let longest = checks.map(|check| check.tool_millis).max().unwrap_or(0);
    f64::from(u32::try_from(longest).unwrap_or(u32::MAX)) / 1000.0
}

/// Installs the operator anew on a running cluster.
pub async fn operator_is_installed(cast: &Cast) -> Result<()> {
    operator::install(&cast.world).await
}
