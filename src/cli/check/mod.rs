//! `repave check IMAGE --policy FILE`: the operator's verdict about an image, on a laptop or in CI, without a cluster.
//!
//! The checks run through the same code as in their Jobs, and the same gate judges them. What needs a cluster is named
//! and is not a pass. Exit codes: see [`Ended`].

pub(crate) mod archive;
mod image;
mod output;
mod run;
#[cfg(test)]
mod tests;

use super::{credentials::Registries, policy_file};
use crate::registry::Platform;
use anyhow::Context as _;
use run::{Judged, Ran};
use std::{fs, io::IsTerminal as _, path::PathBuf, process::ExitCode};

/// `repave check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes:
  0  every check that must pass passed
  1  a check did not pass: it failed, or could not be carried out
  2  wrong usage, or the image or the policy cannot be read
  3  nothing failed, but something that must pass was not run here (0 with --allow-not-run, if anything was run)

Examples:
  repave check registry.example.com/base/debian:12 --policy hardened.yaml
  repave check ./image-layout --policy hardened.yaml -o json
  docker save app:1 -o app.tar && repave check app.tar --policy hardened.yaml --allow-not-run")]
pub struct Args {
    /// A folder with an OCI layout, a `docker save` or OCI archive (.tar, .tar.gz), or a registry reference
    image: String,
    /// A file with ValidationPolicy documents and the ConfigMaps that they refer to; may be given several times
    #[arg(long, short, required = true, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// How to print the result
    #[arg(long, short, default_value = "table")]
    output: super::Output,
    /// Write all reports to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Do not fail because of checks that cannot run here
    #[arg(long)]
    allow_not_run: bool,
    /// Which platform of an image with several, e.g. linux/arm64; this machine's unless given
    #[arg(long)]
    platform: Option<Platform>,
    /// The vulnerability scanner; looked up in PATH unless given
    #[arg(long, value_name = "FILE")]
    scanner_path: Option<PathBuf>,
    /// Folder with the scanner's vulnerability database; the scanner's own cache unless given
    #[arg(long, value_name = "FOLDER")]
    database: Option<PathBuf>,
    #[command(flatten)]
    registries: Registries,
}

/// How it ended, as an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Every check that must pass passed.
    Passed = 0,
    /// A check that must pass was judged, and not as passed.
    Failed = 1,
    /// Wrong usage, or the image or the policy cannot be read. `clap` uses the same number.
    Unusable = 2,
    /// Nothing failed, but something that must pass was not run.
    NotRun = 3,
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    let ended = match Box::pin(checked(&args)).await {
        Ok(ended) => ended,
        Err(error) => {
            eprintln!("repave check: {error:#}");
            Ended::Unusable
        }
    };
    ExitCode::from(ended as u8)
}

async fn checked(args: &Args) -> anyhow::Result<Ended> {
    let policies = policy_file::read(&args.policy)?;
    let scratch = tempfile::Builder::new()
        .prefix("repave-check-")
        .tempdir()
        .context("cannot make a temporary folder")?;
    let image = Box::pin(image::open(args, &scratch.path().join("image"))).await?;
    for note in &image.notes {
        eprintln!("note: {note}");
    }
    let tools = run::Tools {
        scanner: args.scanner_path.clone(),
        database: args.database.clone(),
    };
    let judged = run::all(&policies, &image, &tools, scratch.path()).await?;
    if let Some(path) = &args.report {
        let reports = serde_json::to_vec_pretty(&output::reports(&judged))?;
        fs::write(path, reports).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let ended = ended(&judged, args.allow_not_run);
    match args.output {
        super::Output::Json => println!("{}", serde_json::to_string_pretty(&output::json(&judged))?),
        super::Output::Table => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colour = std::io::stdout().is_terminal() && !no_color;
            println!("{}", output::text(&image.digest, &judged, ended, colour));
        }
    }
    Ok(ended)
}

/// What the results come to. What was not run is never a pass by itself: with nothing run at all it stays [`Ended::NotRun`].
fn ended(judged: &[Judged], allow_not_run: bool) -> Ended {
    let mut must = judged.iter().filter(|check| check.enforced);
    if must.clone().any(|check| check.ran.failed()) {
        return Ended::Failed;
    }
    let anything_ran = judged.iter().any(|check| matches!(check.ran, Ran::Report { .. }));
    let not_run = must.any(|check| matches!(check.ran, Ran::NotRun { .. }));
    if (not_run && !allow_not_run) || !anything_ran {
        Ended::NotRun
    } else {
        Ended::Passed
    }
}
