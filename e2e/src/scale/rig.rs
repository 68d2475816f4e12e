//! The control plane of `e2e/scale/rig`, and the operator as a process before it.

use crate::{
    command,
    wait::{self, Look},
};
use anyhow::{Context, Result, ensure};
use kube::{Client, Config, config::KubeConfigOptions};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

/// The registry of the rig.
pub const REGISTRY: &str = "127.0.0.1:15000";
const HEALTH: &str = "127.0.0.1:18080";
/// A lease of a killed operator is over after this.
const LEASE: &str = "5s";

/// A control plane that ends with this value.
pub struct Rig {
    root: PathBuf,
    home: PathBuf,
    /// A client of ours.
    pub kube: Client,
    operator: Option<Child>,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Resident memory, MB: what the process has written, and the pages of its own program.
    pub resident: f64,
    /// Of it the pages of its program, MB.
    pub program: f64,
    /// Its highest value since the process started, MB.
    pub highest: f64,
    /// CPU time, seconds.
    pub cpu: f64,
}

impl Rig {
    /// A fresh control plane.
    pub async fn up(root: &Path) -> Result<Self> {
        let home = std::env::var_os("REPAVE_SCALE_HOME").map_or_else(|| root.join("target/scale"), PathBuf::from);
        script(root, "up").await?;
        let file = kube::config::Kubeconfig::read_from(home.join("pki/bench.conf"))?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let kube = Client::try_from(config)?;
        Ok(Self {
            root: root.to_owned(),
            home,
            kube,
            operator: None,
        })
    }

    /// Ends the operator and the control plane.
    pub async fn down(mut self) -> Result<()> {
        self.kill_operator().await?;
        script(&self.root, "down").await
    }

    /// The audit log.
    pub fn audit_log(&self) -> PathBuf {
        self.home.join("logs/audit.log")
    }

    /// Starts the operator; gives how long it took until it was ready.
    pub async fn start_operator(&mut self) -> Result<Duration> {
        ensure!(self.operator.is_none(), "the operator runs already");
        let binary = binary();
        ensure!(
            binary.exists(),
            "{} is not there: make release-binary",
            binary.display()
        );
        let nothing = format!("{REGISTRY}/none@sha256:{}", "0".repeat(64));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.home.join("logs/repave.log"))?;
        let started = Instant::now();
        let child = Command::new(binary)
            .args([
                "controller",
                "--tools-image",
                &nothing,
                "--builder-image",
                &nothing,
                "--runner-image",
                &nothing,
            ])
            .args([
                "--pod-namespace",
                "repave-system",
                "--pod-name",
                "repave-0",
                "--http-bind",
                HEALTH,
            ])
            .args(["--insecure-registry", REGISTRY, "--lease-duration", LEASE])
            .env("KUBECONFIG", self.home.join("pki/repave.conf"))
            // As the chart has it.
            .envs([
                ("MALLOC_ARENA_MAX", "1"),
                ("MALLOC_TRIM_THRESHOLD_", "131072"),
                ("MALLOC_MMAP_THRESHOLD_", "65536"),
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        self.operator = Some(child);
        wait::until("the operator is ready", Duration::from_secs(120), || async {
            Ok(match http("/readyz").await {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") => Look::Here(()),
                Ok(answer) => Look::NotYet(answer),
                Err(error) => Look::NotYet(error.to_string()),
            })
        })
        .await?;
        Ok(started.elapsed())
    }

    /// SIGKILL.
    pub async fn kill_operator(&mut self) -> Result<()> {
        if let Some(mut child) = self.operator.take() {
            child.start_kill()?;
            child.wait().await?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for its end: the lease is given back.
    pub async fn stop_operator(&mut self) -> Result<()> {
        if let Some(mut child) = self.operator.take() {
            let pid = child
                .id()
                .and_then(|pid| i32::try_from(pid).ok())
                .context("a process")?;
            kill(Pid::from_raw(pid), Signal::SIGTERM)?;
            child.wait().await?;
        }
        Ok(())
    }

    /// What the operator has used since it started.
    pub fn usage(&self) -> Result<Usage> {
        let pid = self
            .operator
            .as_ref()
            .and_then(Child::id)
            .context("the operator does not run")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kilobytes = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key));
            let number = line
                .and_then(|line| line.split_whitespace().nth(1))
                .and_then(|n| n.parse::<f64>().ok());
            number.unwrap_or(0.0) / 1024.0
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
        Ok(Usage {
            resident: kilobytes("VmRSS"),
            program: kilobytes("RssFile"),
            highest: kilobytes("VmHWM"),
            cpu: (ticks(11) + ticks(12)) / 100.0,
        })
    }

    /// HEAD requests to registries so far, as the operator counts them.
    pub async fn heads(&self) -> Result<f64> {
        let metrics = http("/metrics").await?;
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("repave_registry_requests_total{"));
        let heads = lines.filter(|line| line.contains("HEAD") || line.contains("head"));
        Ok(heads
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }
}

/// The binary that is measured: that of the release profile.
fn binary() -> PathBuf {
    std::env::var_os("REPAVE_BINARY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/x86_64-unknown-linux-gnu/release/repave"),
        PathBuf::from,
    )
}

/// Its size in MB.
pub fn binary_size() -> Result<f64> {
    let bytes = std::fs::metadata(binary())?.len();
    Ok(f64::from(u32::try_from(bytes)?) / 1e6)
}

async fn script(root: &Path, word: &str) -> Result<()> {
    let rig = root.join("e2e/scale/rig").to_string_lossy().into_owned();
    command::run(
        "bash",
        &["-c", &format!("exec \"{rig}\" {word} > /dev/null 2>&1 < /dev/null")],
        None,
    )
    .await?;
    Ok(())
}

/// A GET over plain HTTP; the whole answer as text.
async fn http(path: &str) -> Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(HEALTH).await?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
