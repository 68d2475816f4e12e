//! What runs inside Job pods: one subcommand per step. `repave runner <subcommand>`.
//!
//! Must not hold an opinion about the image: it delivers what a tool found, or says why it could not. Exit code 0
//! means "delivered", whatever the report says; anything else means that there is nothing to read.

mod build;
mod capture;
mod check;
mod chroot;
mod database;
mod deliver;
mod inputs;
mod install;
mod isolate;
mod kinds;
mod repack;
mod sbom;
mod self_test;
mod snapshot;
mod transfer;

use clap::Subcommand;
pub use repave_core::transport::frame;
use repave_core::{
    report::{Report, ToolName},
    transport::termination,
};
use std::{ffi::OsString, process::ExitCode};

/// `repave runner`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    #[command(flatten)]
    Check(kinds::Check),
    /// Copy this program and the Goss bundle to where the candidate's container finds them.
    Install(install::Args),
    /// Become a program with another root directory and without any capability.
    GossChroot(chroot::Args),
    /// Copy the files of the image that this container runs to a folder, running nothing of it.
    Snapshot(snapshot::Args),
    /// Let a tool examine known-bad fixtures, as it examines a candidate.
    SelfTest(self_test::Args),
    /// Fetch the list of packages that is kept with a report.
    FetchSbom(sbom::Args),
    /// Bring a scanner's database into a registry.
    Database(database::Args),
    /// Copy an image from a registry into an OCI layout.
    Pull(transfer::PullArgs),
    /// Copy an OCI layout to a registry.
    Push(transfer::PushArgs),
    /// Build an image from an OCI layout into an OCI layout.
    Build(build::Args),
}

/// Runs the check of a tool as its Job does, with the Job's own words after the subcommand, and gives the report instead of
/// delivering it.
///
/// # Errors
/// What is wrong with the words.
pub async fn examine(tool: ToolName, words: Vec<OsString>) -> Result<Report, String> {
    let check = kinds::Check::of(tool, words)?;
    Ok(Box::pin(check.examined()).await.report)
}

/// Runs one step and delivers its result.
pub async fn run(args: Args) -> ExitCode {
    match args.step {
        Step::Check(check) => deliver::report(Box::pin(check.examined()).await),
        Step::Install(args) => deliver::termination("install", install::run(&args)),
        Step::GossChroot(args) => chroot::run(&args),
        Step::Snapshot(args) => deliver::termination("snapshot", snapshot::run(&args)),
        Step::SelfTest(args) => deliver::report(Box::pin(self_test::run(&args)).await),
        Step::FetchSbom(args) => deliver::termination("fetch-sbom", Box::pin(sbom::run(&args)).await),
        Step::Database(args) => deliver::termination("database", Box::pin(database::run(&args)).await),
        Step::Pull(args) => deliver::termination("pull", Box::pin(transfer::pull(&args)).await),
        Step::Push(args) => deliver::termination("push", Box::pin(transfer::push(&args)).await),
        Step::Build(args) => deliver::termination("build", build::run(&args).await),
    }
}
