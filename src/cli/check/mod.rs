//! `repave check IMAGE --policy FILE`: the operator's verdict about an image, on a laptop or in CI, without a cluster.
//!
//! The checks run through the same code as in their Jobs, and the same gate judges them. What needs a cluster is named
//! and is not a pass. Exit codes: see [`Ended`]. With `--autoadd` nothing is judged: it prints a gossfile.

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod archive;
#[cfg(not(feature = "fuzzing"))]
mod archive;
mod image;
mod output;
mod run;
mod sarif;
#[cfg(test)]
mod tests;
mod tools;

use super::{credentials::Registries, errors, exceptions::Granted, names, policy_file};
use anyhow::Context as _;
use image::Image;
use jiff::Timestamp;
use kube::ResourceExt as _;
use repave_api::Waiver;
use repave_checks::{goss::template::gossfile, native};
use repave_oci::registry::Platform;
use repave_policy::waiver::period;
use run::{CheckRun, Judged};
use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};
use tools::Tools;

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
  docker save app:1 -o app.tar && repave check app.tar --policy hardened.yaml --allow-not-run
  repave check app.tar --policy hardened.yaml --policy waivers.yaml --base-image debian-12 -o sarif > check.sarif
  repave check --autoadd registry.example.com/base/debian:12 > goss.yaml")]
pub struct Args {
    /// A folder with an OCI layout, a `docker save` or OCI archive (.tar, .tar.gz), or a registry reference
    image: String,
    /// A file with ValidationPolicy documents, the ConfigMaps that they refer to, and Waivers; may be given several times
    #[arg(long, short, required_unless_present = "autoadd", value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Name of the BaseImage that this image would be a release of: waivers that are bound to it apply then
    #[arg(long, value_name = "NAME", value_parser = names::object)]
    base_image: Option<String>,
    /// How to print the result
    #[arg(long, short, default_value = "table")]
    output: Output,
    /// Judge nothing: print a gossfile that demands what this image has (packages, accounts, modes), as a template
    #[arg(long, conflicts_with_all = ["policy", "base_image", "output", "report", "allow_not_run"])]
    autoadd: bool,
    /// Write all reports to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Do not fail because of checks that cannot run here
    #[arg(long)]
    allow_not_run: bool,
    /// The platform that is examined, e.g. linux/arm64; unless given the only image there is, or of several this machine's
    #[arg(long)]
    platform: Option<Platform>,
    /// Folder with the scanners (grype and syft, or trivy); the folders of PATH unless given
    #[arg(long, value_name = "FOLDER")]
    scanner_path: Option<PathBuf>,
    /// Folder with a scanner's vulnerability database; the scanner's own cache unless given; once for each scanner
    #[arg(long, value_name = "FOLDER")]
    database: Vec<PathBuf>,
    #[command(flatten)]
    registries: Registries,
}

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A table for people.
    Table,
    /// JSON for machines.
    Json,
    /// SARIF 2.1.0, for code hosts and viewers.
    Sarif,
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
            // No API server is asked, so no address is told.
            eprintln!("repave check: {}", errors::told(&error, ""));
            Ended::Unusable
        }
    };
    ExitCode::from(ended as u8)
}

async fn checked(args: &Args) -> anyhow::Result<Ended> {
    let now = Timestamp::now();
    let scratch = tempfile::Builder::new()
        .prefix("repave-check-")
        .tempdir()
        .context("cannot make a temporary folder")?;
    if args.autoadd {
        return Box::pin(autoadd(args, scratch.path())).await;
    }
    let policies = policy_file::read(&args.policy, "--policy", now)?;
    let tools = Tools::new(args.scanner_path.as_deref(), &args.database)?;
    let image = opened(args, scratch.path()).await?;
    for note in policies.waivers.iter().filter_map(|waiver| no_effect(waiver, args)) {
        eprintln!("note: {note}");
    }
    let granted = Granted {
        waivers: &policies.waivers,
        base_image: args.base_image.as_deref().unwrap_or_default(),
        digests: &[&image.digest],
        now,
    };
    let judged = Box::pin(run::all(&policies, &image, &tools, &granted, scratch.path())).await?;
    if let Some(path) = &args.report {
        let reports = serde_json::to_vec_pretty(&output::reports(&judged))?;
        fs::write(path, reports).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let ended = ended(&judged, args.allow_not_run);
    say(&match args.output {
        Output::Json => serde_json::to_string_pretty(&output::json(&judged))?,
        Output::Sarif => serde_json::to_string_pretty(&sarif::log(&args.image, &image.digest, &judged))?,
        Output::Table => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colour = io::stdout().is_terminal() && !no_color;
            output::text(&image.digest, &judged, ended, colour)
        }
    })?;
    Ok(ended)
}

async fn opened(args: &Args, scratch: &Path) -> anyhow::Result<Image> {
    let image = Box::pin(image::open(args, &scratch.join("image"))).await?;
    for note in &image.notes {
        eprintln!("note: {note}");
    }
    Ok(image)
}

/// Prints what the image has as a gossfile; says nothing about whether that is good.
async fn autoadd(args: &Args, scratch: &Path) -> anyhow::Result<Ended> {
    let image = opened(args, scratch).await?;
    let (layout, digest) = (image.layout.clone(), image.digest.clone());
    let read = move || native::inventory(&layout, &native::Limits::default());
    let template = tokio::task::spawn_blocking(read)
        .await
        .context("reading the image ended early")?
        .with_context(|| format!("cannot read the layers of {digest}"))?;
    say(&gossfile(&template))?;
    Ok(Ended::Passed)
}

/// Why a waiver of the file has no effect here, whatever it covers.
fn no_effect(waiver: &Waiver, args: &Args) -> Option<String> {
    let name = waiver.name_any();
    if let Err(too_long) = period(waiver) {
        return Some(format!("waiver {name}: {too_long}"));
    }
    let images = &waiver.spec.scope.images;
    let bound = !images.base_images.is_empty() && images.digests.is_empty();
    (bound && args.base_image.is_none()).then(|| {
        format!(
            "waiver {name} is bound to base images: it has no effect without --base-image (one of {})",
            images.base_images.join(", ")
        )
    })
}

/// A closed pipe (`| head`) is no error.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out
        .write_all(text.trim_end_matches('\n').as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What the results come to. What was not run is never a pass by itself: with nothing run at all it stays [`Ended::NotRun`].
fn ended(judged: &[Judged], allow_not_run: bool) -> Ended {
    let mut must = judged.iter().filter(|check| check.enforced);
    if must.clone().any(|check| check.ran.failed()) {
        return Ended::Failed;
    }
    let anything_ran = judged.iter().any(|check| matches!(check.ran, CheckRun::Report { .. }));
    let not_run = must.any(|check| matches!(check.ran, CheckRun::NotRun { .. }));
    if (not_run && !allow_not_run) || !anything_ran {
        Ended::NotRun
    } else {
        Ended::Passed
    }
}
