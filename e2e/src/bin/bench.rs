//! `make bench`: figures of the story that was just played, and of an idle minute after it. Prints a Markdown table.
//!
//! Everything is read from the outside: timelines of the objects, `/proc` of the operator, and the resource versions of
//! all objects that it may write. Needs `make demo` to have been played.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use kube::{Api, Resource, ResourceExt, api::ListParams};
use repave::api::{BaseImage, ImageCandidate, RepavePlan, RepaveRun, image_candidate::Step};
use repave_e2e::{story, world::World};
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, fmt::Debug, time::Duration};

/// How long "idle" is watched.
const IDLE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let world = World::connect().await?;
    let candidates = Api::<ImageCandidate>::all(world.kube.clone())
        .list(&ListParams::default())
        .await?
        .items;
    ensure!(!candidates.is_empty(), "nothing to measure: play make demo first");
    println!("| what | figure |\n|---|---|");
    for candidate in &candidates {
        println!("| {} | {} |", candidate.name_any(), times(candidate));
    }
    println!("| resident memory after the story | {} |", resident().await?);
    let before = versions(&world).await?;
    tokio::time::sleep(IDLE).await;
    let after = versions(&world).await?;
    let written: Vec<_> = after
        .iter()
        .filter(|(object, version)| before.get(*object) != Some(version))
        .collect();
    println!(
        "| objects written in an idle minute (lease apart) | {} {written:?} |",
        written.len()
    );
    println!("| resident memory after an idle minute | {} |", resident().await?);
    for binary in ["repave", "kubectl-repave"] {
        let path = world.root.join("target/x86_64-unknown-linux-gnu/e2e").join(binary);
        if let Ok(file) = tokio::fs::metadata(&path).await {
            println!(
                "| binary {binary} (e2e profile) | {:.1} MB |",
                f64::from(u32::try_from(file.len())?) / 1e6
            );
        }
    }
    Ok(())
}

/// Whole seconds per step; the longest tool apart.
fn times(candidate: &ImageCandidate) -> String {
    let step = |step: Step| story::step_seconds(candidate, step).map_or("-".to_owned(), |s| format!("{s} s"));
    let checks = [Step::Validated, Step::Scanned].map(|s| story::step_seconds(candidate, s).unwrap_or(0));
    format!(
        "pulled {}, verified {}, built {}, checks {} s (longest tool {:.1} s), promoted {}",
        step(Step::Pulled),
        step(Step::Verified),
        step(Step::Built),
        checks[0].max(checks[1]),
        story::tool_seconds(candidate),
        step(Step::Promoted)
    )
}

/// `VmRSS` and its highest value of every operator process.
async fn resident() -> Result<String> {
    let mut found = Vec::new();
    let mut entries = tokio::fs::read_dir("/proc").await?;
    while let Some(entry) = entries.next_entry().await? {
        let line = tokio::fs::read(entry.path().join("cmdline")).await.unwrap_or_default();
        if line.starts_with(b"/repave\0controller\0") {
            let status = tokio::fs::read_to_string(entry.path().join("status")).await?;
            let lines = status
                .lines()
                .filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
            found.push(
                lines
                    .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                    .collect::<Vec<_>>()
                    .join(", "),
            );
        }
    }
    ensure!(!found.is_empty(), "the operator does not run");
    Ok(found.join("; "))
}

/// The resource version of every object that the operator may write, but for its lease and its events.
async fn versions(world: &World) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    collect::<BaseImage>(world, &mut all).await?;
    collect::<ImageCandidate>(world, &mut all).await?;
    collect::<RepavePlan>(world, &mut all).await?;
    collect::<RepaveRun>(world, &mut all).await?;
    collect::<Deployment>(world, &mut all).await?;
    collect::<Job>(world, &mut all).await?;
    Ok(all)
}

async fn collect<K>(world: &World, into: &mut BTreeMap<String, String>) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    for object in Api::<K>::all(world.kube.clone())
        .list(&ListParams::default())
        .await?
        .items
    {
        let name = format!(
            "{} {}/{}",
            K::kind(&()),
            object.namespace().unwrap_or_default(),
            object.name_any()
        );
        into.insert(name, object.resource_version().context("an object without a version")?);
    }
    Ok(())
}
