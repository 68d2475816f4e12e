//! The kubectl plugin, one file per command, and `repave check`, which needs no cluster.
//!
//! What it prints is what the objects say, or what the checks found. Only `revoke` writes.

pub mod check;
mod credentials;
mod errors;
mod exceptions;
mod judge;
mod names;
mod open;
pub mod policy_check;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod policy_file;
#[cfg(not(feature = "fuzzing"))]
mod policy_file;
mod policy_schema;
mod render;
pub mod report;
pub mod revoke;
pub mod status;

use clap::{Parser, Subcommand};

/// Who runs which base image, what is released, and why.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl repave",
    version,
    after_help = "Examples:\n  kubectl repave status\n  kubectl repave status -o json\n  kubectl repave report debian-12-77d0aa3be1c4 -n platform --open\n  kubectl repave report registry.example.com/base/debian:12 -o sarif\n  kubectl repave policy-check -f policy.yaml\n  kubectl repave revoke 12 --base debian-12 -n platform --reason 'CVE-2026-1234 is in it'"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The estate: releases, and how many workloads run on them
    Status(status::Args),
    /// What the checks found in one image
    Report(Box<report::Args>),
    /// What a changed policy would refuse, from the stored reports
    PolicyCheck(policy_check::Args),
    /// Takes a release back: the last good one is released again, and workloads follow
    Revoke(revoke::Args),
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A table for people.
    Table,
    /// JSON for machines.
    Json,
}

/// Runs one command; what it fails with is one sentence for people.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match Box::pin(command(cli)).await {
        Ok(()) => Ok(()),
        Err(error) => Err(anyhow::Error::msg(errors::told(&error, &errors::address().await))),
    }
}

async fn command(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Status(args) => {
            let client = repave_cluster::Clients::connect().await?.requests;
            status::run(&client, &args).await
        }
        Command::Report(args) => Box::pin(report::run(&args)).await,
        Command::PolicyCheck(args) => {
            let client = repave_cluster::Clients::connect().await?.requests;
            Box::pin(policy_check::run(&client, &args)).await
        }
        Command::Revoke(args) => {
            let client = repave_cluster::Clients::connect().await?.requests;
            Box::pin(revoke::run(&client, &args)).await
        }
    }
}
