//! What runs inside Job pods: one subcommand per step. `repave runner <subcommand>`.
//!
//! Must not hold an opinion about the image: it delivers what a tool found, or says why it could not. Exit code 0
//! means "delivered", whatever the report says; anything else means that there is nothing to read.

mod build;
mod capture;
mod check;
mod chroot;
mod container;
mod database;
mod deliver;
mod goss;
mod install;
mod isolate;
mod native;
mod openscap;
mod repack;
mod sbom;
mod self_test;
mod snapshot;
mod transfer;
mod vulnerabilities;

use clap::{Parser as _, Subcommand};
pub use repave_core::transport::frame;
use repave_core::{report::Report, transport::termination};
use std::{ffi::OsString, process::ExitCode};

/// `repave runner`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Copy this program and the Goss bundle to where the candidate's container finds them.
    Install(install::Args),
    /// Examine the layers of an OCI layout with our own rules.
    Native(native::Args),
    /// Run Goss inside the candidate.
    Goss(goss::Args),
    /// Become a program with another root directory and without any capability.
    GossChroot(chroot::Args),
    /// Run a program of the user's own over an OCI layout and read its result.
    Container(container::Args),
    /// Run OpenSCAP over the candidate's files.
    Openscap(openscap::Args),
    /// Copy the files of the image that this container runs to a folder, running nothing of it.
    Snapshot(snapshot::Args),
    /// Scan the packages of an OCI layout for known vulnerabilities.
    Vulnerabilities(vulnerabilities::Args),
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

/// Runs a check that reads a layout as its Job does, with the Job's own words, and gives the report instead of
/// delivering it: `["native", "--check", …]`.
pub async fn examine(words: Vec<OsString>) -> Result<Report, String> {
    Box::pin(examined(words)).await.map(|examined| examined.report)
}

/// The same with what goes with the report, for every check that runs where its tool is.
async fn examined(words: Vec<OsString>) -> Result<check::Examined, String> {
    #[derive(clap::Parser)]
    #[command(no_binary_name = true)]
    struct Words {
        #[command(subcommand)]
        step: Step,
    }
    match Words::try_parse_from(words).map_err(|error| error.to_string())?.step {
        Step::Native(args) => Ok(native::run(&args)),
        Step::Vulnerabilities(args) => Ok(Box::pin(vulnerabilities::run(&args)).await),
        Step::Goss(args) => Ok(goss::run(&args).await),
        Step::Openscap(args) => Ok(openscap::run(&args).await),
        Step::Install(_)
        | Step::GossChroot(_)
        | Step::Container(_)
        | Step::Snapshot(_)
        | Step::SelfTest(_)
        | Step::FetchSbom(_)
        | Step::Database(_)
        | Step::Pull(_)
        | Step::Push(_)
        | Step::Build(_) => Err("expected a check that runs where its tool is".to_owned()),
    }
}

/// Runs one step and delivers its result.
pub async fn run(args: Args) -> ExitCode {
    match args.step {
        Step::Install(args) => deliver::termination("install", install::run(&args)),
        Step::Native(args) => deliver::report(native::run(&args)),
        Step::Goss(args) => deliver::report(goss::run(&args).await),
        Step::GossChroot(args) => chroot::run(&args),
        Step::Container(args) => deliver::report(container::run(&args).await),
        Step::Openscap(args) => deliver::report(openscap::run(&args).await),
        Step::Snapshot(args) => deliver::termination("snapshot", snapshot::run(&args)),
        Step::Vulnerabilities(args) => deliver::report(Box::pin(vulnerabilities::run(&args)).await),
        Step::SelfTest(args) => deliver::report(Box::pin(self_test::run(&args)).await),
        Step::FetchSbom(args) => deliver::termination("fetch-sbom", Box::pin(sbom::run(&args)).await),
        Step::Database(args) => deliver::termination("database", Box::pin(database::run(&args)).await),
        Step::Pull(args) => deliver::termination("pull", Box::pin(transfer::pull(&args)).await),
        Step::Push(args) => deliver::termination("push", Box::pin(transfer::push(&args)).await),
        Step::Build(args) => deliver::termination("build", build::run(&args).await),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_container;
