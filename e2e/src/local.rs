//! The operator as a process of this machine, behind the proxy: killed at any write, and started again at once.
//!
//! It runs with the arguments that the chart gives it and with the rights of its own service account. Must not leave the
//! Deployment beside it: two would share no lease here, because this one acts without (a killed holder's claim would make
//! every restart wait).

use crate::{
    command, operator,
    proxy::Proxy,
    wait::{self, Look},
    world::World,
};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::process::Command;

/// Names of the chart's variables that mean the lease.
const LEASE: [&str; 2] = ["REPAVE_LEASE_NAME", "REPAVE_LEASE_DURATION"];
/// An operator that ends by itself so often is broken: it was not killed by us.
const MOST_ENDS: u32 = 20;

#[derive(Default)]
struct Shared {
    pid: AtomicI32,
    starts: AtomicU32,
    stopped: AtomicBool,
}

impl Shared {
    /// SIGKILL to the process that runs now, if one does.
    fn kill(&self) {
        let pid = self.pid.swap(0, Ordering::SeqCst);
        if pid > 0 {
            // It may have ended in this moment: then there is nothing to do.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// An operator behind a proxy; both end with it.
pub struct Local {
    /// What it sees instead of the API server.
    pub proxy: Proxy,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Drop for Local {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.kill();
        self.task.abort();
    }
}

impl Local {
    /// Takes the installed operator's place. It comes back with the next installation.
    pub async fn start(world: &World) -> Result<Self> {
        let deployments = Api::<Deployment>::namespaced(world.kube.clone(), operator::NAMESPACE);
        let deployment = deployments
            .get("repave")
            .await
            .context("the operator is not installed")?;
        let environment = environment(&deployment)?;
        deployments.delete("repave", &DeleteParams::foreground()).await?;
        gone(world).await?;
        let shared = Arc::new(Shared::default());
        let killer = shared.clone();
        let proxy = Proxy::start(as_service_account().await?, move || killer.kill()).await?;
        let folder = world.root.join("target/e2e");
        let kubeconfig = folder.join("proxy.kubeconfig");
        tokio::fs::write(&kubeconfig, proxy.kubeconfig()).await?;
        let program = Program {
            binary: binary(world)?,
            kubeconfig,
            log: folder.join("operator.log"),
            environment,
        };
        let task = tokio::spawn(run(program, shared.clone()));
        Ok(Self { proxy, shared, task })
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.shared.starts.load(Ordering::SeqCst)
    }

    /// Fails if the operator has ended by itself too often.
    pub fn is_well(&self) -> Result<()> {
        ensure!(
            !self.task.is_finished(),
            "the operator ends by itself: see target/e2e/operator.log"
        );
        Ok(())
    }
}

struct Program {
    binary: PathBuf,
    kubeconfig: PathBuf,
    log: PathBuf,
    environment: Vec<(String, String)>,
}

/// Starts it again whenever it ends.
async fn run(program: Program, shared: Arc<Shared>) -> Result<()> {
    let log = std::fs::File::create(&program.log)?;
    let mut ends = 0;
    while !shared.stopped.load(Ordering::SeqCst) {
        let mut child = Command::new(&program.binary)
            .arg("controller")
            .envs(program.environment.iter().map(|(key, value)| (key, value)))
            .env("KUBECONFIG", &program.kubeconfig)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not start", program.binary.display()))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        shared.pid.store(pid, Ordering::SeqCst);
        shared.starts.fetch_add(1, Ordering::SeqCst);
        child.wait().await?;
        // Nobody took its number: it was not killed by us.
        ends += u32::from(shared.pid.swap(0, Ordering::SeqCst) == pid);
        ensure!(ends < MOST_ENDS, "the operator ended by itself {ends} times");
    }
    Ok(())
}

/// The binary of `make binaries`, or what `REPAVE_BINARY` names.
fn binary(world: &World) -> Result<PathBuf> {
    let named = std::env::var_os("REPAVE_BINARY").map(PathBuf::from);
    let binary = named.unwrap_or_else(|| world.root.join("target/e2e-bin/repave"));
    ensure!(
        Path::new(&binary).exists(),
        "{} is not there: make binaries",
        binary.display()
    );
    Ok(binary)
}

/// What the chart gives the container, without the lease.
fn environment(deployment: &Deployment) -> Result<Vec<(String, String)>> {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let container = pod.and_then(|pod| pod.containers.first()).context("a container")?;
    let variables = container.env.iter().flatten();
    let mut all: Vec<(String, String)> = variables
        .filter(|variable| !LEASE.contains(&variable.name.as_str()))
        .filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?)))
        .collect();
    for (key, value) in [
        ("POD_NAME", "repave-local"),
        ("POD_NAMESPACE", operator::NAMESPACE),
        ("REPAVE_NO_LEADER_ELECTION", "true"),
        ("REPAVE_HTTP_BIND", "127.0.0.1:0"),
    ] {
        all.push((key.to_owned(), value.to_owned()));
    }
    Ok(all)
}

async fn gone(world: &World) -> Result<()> {
    let pods = Api::<Pod>::namespaced(world.kube.clone(), operator::NAMESPACE);
    let ours = ListParams::default().labels(operator::SELECTOR);
    wait::until("the installed operator is gone", Duration::from_secs(60), || async {
        let left = pods.list(&ours).await?.items;
        Ok(if left.is_empty() {
            Look::Here(())
        } else {
            Look::NotYet(format!(
                "{:?}",
                left.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
            ))
        })
    })
    .await
}

/// A client with the rights of the operator and of nobody else.
async fn as_service_account() -> Result<kube::Client> {
    let arguments = [
        "create",
        "token",
        "repave",
        "--namespace",
        operator::NAMESPACE,
        "--duration=2h",
    ];
    let token = command::kubectl(&arguments).await?;
    let mut config = kube::Config::infer().await?;
    config.auth_info = serde_json::from_value(serde_json::json!({"token": token.trim()}))?;
    let config = repave::runtime::client::bounded(&config, repave::runtime::client::WATCH_TIMEOUT);
    Ok(kube::Client::try_from(config)?)
}
