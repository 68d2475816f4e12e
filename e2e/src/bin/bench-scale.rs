//! `make bench-scale`: thousands of Deployments and base images on a real control plane. Writes docs/benchmarks.md.
//!
//! `PARTS="roll kill bases"` (all of them) are measured one after the other; each has a section of the page for its size, which is
//! written anew. Sizes by variables:
//! `SCALE` Deployments with two replicas (200), `SCALE_EMPTY` more without replicas (0), `SCALE_BASES` BaseImages (200) on
//! `SCALE_TAGS` tags (20), `SCALE_IDLE` idle seconds (60), `SCALE_CONCURRENT` maxConcurrent (100%).

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use repave_e2e::scale::{
    audit::{self, float},
    objects,
    page::{self, Table},
    rig::{self, REGISTRY, Rig},
    roll::{self, Progress},
};
use serde_json::{Value, json};
use std::{
    cell::Cell,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

struct Sizes {
    deployments: usize,
    empty: usize,
    bases: usize,
    tags: usize,
    idle: Duration,
    concurrent: Value,
}

impl Sizes {
    fn read() -> Result<Self> {
        let number = |name: &str, default: usize| match std::env::var(name) {
            Ok(text) => text
                .parse()
                .with_context(|| format!("{name} is a number, found {text:?}")),
            Err(_) => Ok(default),
        };
        let concurrent = std::env::var("SCALE_CONCURRENT").unwrap_or_else(|_| "100%".to_owned());
        Ok(Self {
            deployments: number("SCALE", 200)?,
            empty: number("SCALE_EMPTY", 0)?,
            bases: number("SCALE_BASES", 200)?,
            tags: number("SCALE_TAGS", 20)?,
            idle: Duration::from_secs(u64::try_from(number("SCALE_IDLE", 60)?)?),
            concurrent: concurrent
                .parse::<u32>()
                .map_or_else(|_| json!(concurrent), |number| json!(number)),
        })
    }

    fn all(&self) -> usize {
        self.deployments + self.empty
    }

    /// Requests at the same time of the naive loop: as many roll-outs as the plan allows, at most 16 connections.
    fn at_once(&self) -> usize {
        let number = self.concurrent.as_u64().and_then(|number| usize::try_from(number).ok());
        number.unwrap_or(16).min(16)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let sizes = Sizes::read()?;
    let words = std::env::var("PARTS").unwrap_or_else(|_| Part::ALL.map(Part::as_str).join(" "));
    let parts: Vec<Part> = words.split_whitespace().map(Part::read).collect::<Result<_>>()?;
    for part in parts {
        let mut table = Table::default();
        let mut rig = Rig::up(&root).await?;
        let measured = match part {
            Part::Roll => rolls(&mut rig, &sizes, &mut table).await,
            Part::Kill => kills(&mut rig, &sizes, &mut table).await,
            Part::Bases => bases(&mut rig, &sizes, &mut table).await,
        };
        rig.down().await?;
        measured.with_context(|| format!("in part {}", part.as_str()))?;
        page::write(&root, table.section(&part.heading(&sizes), &about()?))?;
        eprintln!("docs/benchmarks.md has it: {}", part.heading(&sizes));
    }
    Ok(())
}

/// What is measured, each on a fresh control plane.
#[derive(Debug, Clone, Copy)]
enum Part {
    Roll,
    Kill,
    Bases,
}

impl Part {
    const ALL: [Self; 3] = [Self::Roll, Self::Kill, Self::Bases];

    fn as_str(self) -> &'static str {
        match self {
            Self::Roll => "roll",
            Self::Kill => "kill",
            Self::Bases => "bases",
        }
    }

    fn read(word: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|part| part.as_str() == word);
        known.with_context(|| {
            format!(
                "expected PARTS of {}; found {word:?}",
                Self::ALL.map(Self::as_str).join(", ")
            )
        })
    }

    fn heading(self, sizes: &Sizes) -> String {
        let all = sizes.all();
        match self {
            Self::Roll => format!("A roll-out of {all} Deployments, {} of them without pods", sizes.empty),
            Self::Kill => format!("SIGKILL in a roll-out of {all} Deployments"),
            Self::Bases => format!("{} BaseImages on {} tags", sizes.bases, sizes.tags),
        }
    }
}

fn about() -> Result<String> {
    let cores = thread::available_parallelism().context("the number of cores")?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Ok(format!(
        "{}, {cores} cores, everything on one machine; load average at the end {}. Binary of the release profile, {:.1} MB.",
        Timestamp::now().strftime("%Y-%m-%d"),
        load.split(' ').next().unwrap_or_default(),
        rig::binary_size()?
    ))
}

/// The estate on release 1, half of it by tag, settled; and the operator beside it.
async fn estate(rig: &mut Rig, sizes: &Sizes) -> Result<Duration> {
    let kube = rig.kube.clone();
    objects::prepare(&kube).await?;
    push(&["upstream".to_owned()]).await?;
    objects::estate(&kube, 0, sizes.deployments, 2, 1).await?;
    objects::estate(&kube, sizes.deployments, sizes.all(), 0, 1).await?;
    settled_somewhere(&kube, sizes.all()).await?;
    objects::release(&kube, 1).await?;
    objects::plan(&kube, &sizes.concurrent).await?;
    let ready = rig.start_operator().await?;
    objects::released(&kube, 1).await?;
    Ok(ready)
}

/// All Deployments are settled, whatever they name.
async fn settled_somewhere(kube: &kube::Client, count: usize) -> Result<()> {
    let start = Instant::now();
    while roll::settled(kube).await? < count {
        ensure!(
            start.elapsed() < Duration::from_secs(1200),
            "the estate does not settle"
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    Ok(())
}

/// Memory, an idle time, a roll-out by Repave and one by a naive loop, and a start.
async fn rolls(rig: &mut Rig, sizes: &Sizes, table: &mut Table) -> Result<()> {
    let (kube, count) = (rig.kube.clone(), sizes.all());
    estate(rig, sizes).await?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let of = format!("{count} Deployments");
    let idle_from = (Timestamp::now(), rig.usage()?);
    tokio::time::sleep(sizes.idle).await;
    let usage = rig.usage()?;
    let idle = audit::of_operator(&rig.audit_log(), idle_from.0, Timestamp::now())?;
    table.add(
        &format!("resident memory, idle, {of}"),
        &format!(
            "{:.1} MB, {:.1} MB of it the program itself",
            usage.resident, usage.program
        ),
        "30 MB at 5 000",
    );
    let figure = format!(
        "{} requests, {} writes, {:.2} s CPU; {}",
        idle.all(),
        idle.writes(),
        usage.cpu - idle_from.1.cpu,
        idle.per(1)
    );
    table.add(
        &format!("{} s idle, {of} (lease and watches apart)", sizes.idle.as_secs()),
        &figure,
        "0 writes",
    );

    let from = Timestamp::now();
    objects::release(&kube, 2).await?;
    let most = Cell::new(0);
    let repave = roll::until_settled(&kube, 2, count, |now: Progress| {
        most.set(most.get().max(now.in_flight));
        async { Ok(()) }
    });
    let repave = repave.await?;
    // The audit log is written in batches; the run's last status comes after the last workload has settled.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let requests = audit::of_operator(&rig.audit_log(), from, Timestamp::now())?;
    let usage = rig.usage()?;
    rig.stop_operator().await?;
    let start = Instant::now();
    roll::naive(&kube, 3, count, sizes.at_once()).await?;
    let patched = start.elapsed();
    roll::until_settled(&kube, 3, count, |_| async { Ok(()) }).await?;
    let naive = start.elapsed();
    let figure = format!(
        "Repave {:.1} s, naive loop {:.1} s (patched after {:.1} s): ratio {:.2}; most in flight {}",
        repave.as_secs_f64(),
        naive.as_secs_f64(),
        patched.as_secs_f64(),
        repave.as_secs_f64() / naive.as_secs_f64(),
        most.get()
    );
    table.add(
        &format!("{of} settled, maxConcurrent {}", sizes.concurrent),
        &figure,
        "within 10 % of the controllers' bound",
    );
    table.add(
        &format!("resident memory, highest in the roll-out of {of}"),
        &format!("{:.1} MB, {:.1} s CPU", usage.highest, usage.cpu),
        "30 MB at 5 000",
    );
    let workloads = float(u64::try_from(count)?);
    let figure = format!(
        "{:.2}, of them {:.2} writes: {}",
        float(requests.all()) / workloads,
        float(requests.writes()) / workloads,
        requests.per(count)
    );
    table.add("requests per moved workload", &figure, "1 write + O(1) reads");

    let ready = rig.start_operator().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let figure = format!(
        "{:.2} s; 5 s later {:.1} MB",
        ready.as_secs_f64(),
        rig.usage()?.resident
    );
    table.add(&format!("start to ready, {of}"), &figure, "2 s at 5 000");
    Ok(())
}

/// SIGKILL at a quarter, a half and three quarters of a roll-out.
async fn kills(rig: &mut Rig, sizes: &Sizes, table: &mut Table) -> Result<()> {
    let (kube, count) = (rig.kube.clone(), sizes.all());
    estate(rig, sizes).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = roll::generations(&kube).await?;
    objects::release(&kube, 2).await?;
    let mut killed = 0;
    let start = Instant::now();
    loop {
        let now = roll::progress(&kube, 2).await?;
        if now.settled >= count {
            break;
        }
        ensure!(
            start.elapsed() < Duration::from_secs(1200),
            "not settled: {now:?} of {count}"
        );
        if killed < 3 && now.moved * 4 >= count * (killed + 1) {
            rig.kill_operator().await?;
            rig.start_operator().await?;
            killed += 1;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let after = roll::generations(&kube).await?;
    let twice = after
        .iter()
        .filter(|(key, now)| before.get(*key).is_none_or(|before| **now != before + 1))
        .count();
    let figure = format!(
        "{killed} kills, {twice} of {count} not written exactly once; settled in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    table.add(&format!("SIGKILL in mid-wave, {count} Deployments"), &figure, "0");
    ensure!(killed > 0, "the roll-out was over before a kill");
    ensure!(twice == 0, "{figure}");
    Ok(())
}

/// Many base images on few tags.
async fn bases(rig: &mut Rig, sizes: &Sizes, table: &mut Table) -> Result<()> {
    let kube = rig.kube.clone();
    objects::prepare(&kube).await?;
    let repositories: Vec<String> = (0..sizes.tags)
        .map(|at| format!("r{at}"))
        .chain(["upstream".to_owned()])
        .collect();
    push(&repositories).await?;
    objects::base_images(&kube, sizes.bases, sizes.tags).await?;
    let of = format!("{} BaseImages on {} tags", sizes.bases, sizes.tags);
    let from = Timestamp::now();
    rig.start_operator().await?;
    let start = Instant::now();
    while roll::resolved(&kube).await? < sizes.bases {
        ensure!(start.elapsed() < Duration::from_secs(1200), "not all tags are resolved");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let took = start.elapsed();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let requests = audit::of_operator(&rig.audit_log(), from, Timestamp::now())?;
    let usage = rig.usage()?;
    let figure = format!(
        "{:.1} s, {:.1} requests a BaseImage: {}",
        took.as_secs_f64(),
        float(requests.all()) / float(u64::try_from(sizes.bases)?),
        requests.per(sizes.bases)
    );
    table.add(&format!("start until all are resolved, {of}"), &figure, "-");
    table.add(
        &format!("resident memory, {of}"),
        &format!("{:.1} MB, highest {:.1} MB", usage.resident, usage.highest),
        "150 MB at 5 000 and 50 000 workloads",
    );
    table.add(
        &format!("HEADs of the first cycle, {of}"),
        &format!("{}", rig.heads().await?),
        "one a distinct tag",
    );
    let idle_from = (Timestamp::now(), rig.heads().await?);
    tokio::time::sleep(sizes.idle).await;
    let idle = audit::of_operator(&rig.audit_log(), idle_from.0, Timestamp::now())?;
    let figure = format!(
        "{} requests, {} writes, {} HEADs",
        idle.all(),
        idle.writes(),
        rig.heads().await? - idle_from.1
    );
    table.add(&format!("{} s idle, {of}", sizes.idle.as_secs()), &figure, "0 writes");
    Ok(())
}

/// Puts an image without layers into each repository under the tag 12.
async fn push(repositories: &[String]) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("repave-scale-{}", std::process::id()));
    layout(&folder)?;
    let crane = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/crane");
    let crane = crane.to_string_lossy().into_owned();
    let folder_name = folder.to_string_lossy().into_owned();
    for repository in repositories {
        let to = format!("{REGISTRY}/{repository}:12");
        repave_e2e::command::run(&crane, &["push", "--insecure", &folder_name, &to], None).await?;
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// An OCI layout with one image without layers.
fn layout(folder: &Path) -> Result<()> {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let blob = |content: &Value| -> Result<(String, usize)> {
        let text = content.to_string();
        let digest = repave::domain::digest::Digest::of(text.as_bytes()).to_string();
        std::fs::write(blobs.join(digest.trim_start_matches("sha256:")), &text)?;
        Ok((digest, text.len()))
    };
    let (config, size) = blob(
        &json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}),
    )?;
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let (image, image_size) = blob(&json!({
        "schemaVersion": 2, "mediaType": manifest, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": size},
    }))?;
    let index =
        json!({"schemaVersion": 2, "manifests": [{"mediaType": manifest, "digest": image, "size": image_size}]});
    std::fs::write(folder.join("index.json"), index.to_string())?;
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#)?;
    Ok(())
}
