//! The one binary of Repave; its first argument says what it is: the controller, the runner in a Job pod, or a tool.

use clap::{Parser, Subcommand};
use repave::{
    api, cli,
    controllers::{self, context::Context},
    report, runner,
    runtime::{self, args::ControllerArgs},
};
use std::{path::PathBuf, process::ExitCode};

/// Validates base images and moves every workload to them.
#[derive(Parser)]
#[command(name = "repave", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The operator: watches, decides, promotes and rolls
    Controller(Box<ControllerArgs>),
    /// Whether an image passes a policy, without a cluster
    Check(Box<cli::check::Args>),
    /// One step inside a Job pod; started by the operator, not by people
    Runner(Box<runner::Args>),
    /// Writes the CustomResourceDefinitions, one file each
    Crds {
        /// The folder
        #[arg(long, default_value = "crds")]
        out: PathBuf,
    },
    /// Writes the JSON Schema of the reports
    ReportSchema {
        /// The file
        #[arg(long, default_value = "docs/report.schema.json")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    // One TLS provider for every client in the process; a second call would only say that it is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match (tokio, Cli::parse().command) {
        (Err(error), _) => Err(error.into()),
        (Ok(tokio), Command::Controller(args)) => tokio.block_on(Box::pin(controller(*args))),
        (Ok(tokio), Command::Runner(args)) => return tokio.block_on(Box::pin(runner::run(*args))),
        (Ok(tokio), Command::Check(args)) => return tokio.block_on(Box::pin(cli::check::run(*args))),
        (Ok(_), Command::Crds { out }) => api::definitions_into(&out).map_err(Into::into),
        (Ok(_), Command::ReportSchema { out }) => std::fs::write(&out, report::schema::json())
            .map_err(|error| anyhow::anyhow!("{} cannot be written: {error}", out.display())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("repave: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts in the order that `runtime` describes, leads, works, drains.
async fn controller(args: ControllerArgs) -> anyhow::Result<()> {
    runtime::panics::end_the_process();
    runtime::telemetry::init(args.log_format, args.log_level)?;
    let (metrics, readiness) = (
        runtime::metrics::Metrics::new(),
        runtime::readiness::Readiness::default(),
    );
    let clock = runtime::clock::SystemClock::shared();
    let shutdown = runtime::shutdown::install()?;
    let listener = runtime::http::bind(args.http_bind).await?;
    let served = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(runtime::http::serve(
        listener,
        readiness.clone(),
        metrics.clone(),
        served.clone(),
    ));

    let clients = runtime::client::Clients::connect().await?;
    let names = api::definition_names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    tokio::select! {
        () = runtime::crds_established(clients.requests.clone(), &names, &readiness, &clock) => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    let (elector, leader) = if args.no_leader_election {
        readiness.open(runtime::readiness::Gate::Lease);
        (None, runtime::lease::Leader::always(&args.pod_name))
    } else {
        let (elector, leader) = runtime::lease::Elector::new(clients.lease.clone(), args.lease_params(), clock.clone());
        (Some(elector), leader)
    };
    metrics.follow_leader(leader.clone());
    let context = Context::new(&args, &clients, &metrics, leader.clone(), readiness.clone())?;
    let supervision = runtime::supervise::Supervision {
        elector,
        leader,
        shutdown,
        drain: args.drain(),
        readiness,
        clock,
    };
    let ended = Box::pin(runtime::supervise::lead(supervision, |stop| {
        controllers::run(context, stop)
    }))
    .await;
    served.cancel();
    server.await??;
    tracing::info!(ended = ?ended?, "stopped");
    Ok(())
}
