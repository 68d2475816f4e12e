//! `runner goss`: runs Goss inside the candidate, from a bundle that an init container left there.
//!
//! Needs nothing of the candidate but a kernel: no shell, no libc, no writable folder.

use super::check::{Common, Examined, Known, read_file, version};
use crate::{
    checks::{PATH, Parsed, ReadError, goss},
    domain::{digest::Digest, report::ToolName},
};
use std::path::{Path, PathBuf};

const TOOL: &str = "Goss";
const MAX_PROGRAM: u64 = 128 * 1024 * 1024;
const MAX_GOSSFILE: u64 = 4 * 1024 * 1024;

/// `repave runner goss`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// The folder with goss, its loader and its libraries.
    #[arg(long)]
    goss: PathBuf,
    /// The gossfile.
    #[arg(long)]
    gossfile: PathBuf,
    /// Variables for the gossfile's templates.
    #[arg(long)]
    vars: Option<PathBuf>,
}

/// Runs the check.
pub async fn run(args: &Args) -> Examined {
    let mut known = Known::default();
    let read = examine(args, &mut known).await;
    args.common.examined(ToolName::Goss, known, read)
}

async fn examine(args: &Args, known: &mut Known) -> Result<Parsed, ReadError> {
    let options: goss::Options = args.common.options(TOOL)?;
    let gossfile = read_file(&args.gossfile, MAX_GOSSFILE, TOOL, "gossfile")?;
    known.content = Some(format!("gossfile {}", Digest::of(&gossfile)));
    known.version = goss_version(args).await?;
    let invocation = goss::invocation(&args.goss, &args.gossfile, args.vars.as_deref());
    let done = args.common.capture(TOOL, &invocation, goss::MAX_JSON, known).await?;
    match done.ended.exit_code() {
        Some(code @ (0 | 1)) => goss::read(&done.stdout, Some(code), &options, has_package_manager()),
        // 78 is what Goss makes of a gossfile that it cannot read, or that has no tests.
        Some(_) | None => Err(done.crashed(TOOL)),
    }
}

/// What Goss says, or which build it is: distributions build it without a version.
async fn goss_version(args: &Args) -> Result<String, ReadError> {
    if let Some(version) = version(&goss::version(&args.goss)).await {
        return Ok(version);
    }
    let program = read_file(&args.goss.join("goss"), MAX_PROGRAM, TOOL, "program")?;
    Ok(format!("build {}", Digest::of(&program).short()))
}

/// We run inside the candidate, so its programs are where ours would be.
fn has_package_manager() -> bool {
    PATH.split(':')
        .flat_map(|folder| goss::PACKAGE_MANAGERS.map(|program| Path::new(folder).join(program)))
        .any(|program| program.is_file())
}
