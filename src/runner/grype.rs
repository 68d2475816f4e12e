//! `runner grype`: scans an OCI layout with the database of the tool image, without any network.

use super::check::{Common, Examined, Known, read_file};
use crate::{
    checks::{Parsed, ReadError, grype},
    domain::report::ToolName,
};
use std::path::PathBuf;

const TOOL: &str = "Grype";

/// `repave runner grype`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// The OCI layout.
    #[arg(long)]
    layout: PathBuf,
    /// The program.
    #[arg(long, default_value = "grype")]
    program: PathBuf,
    /// The folder with the vulnerability database.
    #[arg(long, default_value = grype::DATABASE)]
    database: PathBuf,
}

/// Runs the check.
pub async fn run(args: &Args) -> Examined {
    let mut known = Known::default();
    let read = examine(args, &mut known).await;
    args.common.examined(ToolName::Grype, known, read)
}

async fn examine(args: &Args, known: &mut Known) -> Result<Parsed, ReadError> {
    let options: grype::Options = args.common.options(TOOL)?;
    let scratch = args.common.scratch(TOOL)?;
    let files = grype::Files {
        layout: &args.layout,
        json: &scratch.path().join("report.json"),
        cyclonedx: &scratch.path().join("inventory.json"),
        home: scratch.path(),
        database: &args.database,
    };
    let mut invocation = grype::invocation(&files);
    invocation.program.clone_from(&args.program);
    let done = args.common.capture(TOOL, &invocation, 1024 * 1024, known).await?;
    if done.ended.exit_code() != Some(0) {
        return Err(done.crashed(TOOL));
    }
    let json = read_file(files.json, grype::MAX_OUTPUT, TOOL, "JSON report")?;
    let cyclonedx = read_file(files.cyclonedx, grype::MAX_OUTPUT, TOOL, "CycloneDX inventory")?;
    grype::read(&json, &cyclonedx, &args.common.image, &options)
}
