//! `runner goss`: runs Goss inside the candidate, from a bundle that an init container left there.
//!
//! Needs nothing of the candidate but a kernel: no shell, no libc, no writable folder. With `--root` the candidate is
//! a folder of this container, and Goss runs with it as its root directory.

use super::{
    bench::{Bench, Failure, unwritten},
    fixtures,
};
use crate::check::{Common, Examined, RunRecord, read_file, version};
use repave_checks::{PATH, Parsed, ReadError, goss};
use repave_core::{digest::Digest, report::ToolName};
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

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
    /// The candidate's root directory, if it is not ours; all other paths must then be below it.
    #[arg(long)]
    root: Option<PathBuf>,
}

/// Runs the check.
pub async fn run(args: &Args) -> Examined {
    let mut known = RunRecord::default();
    let read = examine(args, &mut known).await;
    args.common.examined(ToolName::Goss, known, read)
}

async fn examine(args: &Args, known: &mut RunRecord) -> Result<Parsed, ReadError> {
    let options: goss::Options = args.common.options(TOOL)?;
    known.content = Some(content(args)?);
    known.version = goss_version(args).await?;
    if let Some(root) = &args.root {
        expect_null(root)?;
    }
    let invocation = invocation(args)?;
    let done = args.common.capture(TOOL, &invocation, goss::MAX_JSON, known).await?;
    match done.ended.exit_code() {
        Some(code @ (0 | 1)) => goss::read(
            &done.stdout,
            Some(code),
            &options,
            has_package_manager(args.root.as_deref()),
        ),
        // 78 is what Goss makes of a gossfile that it cannot read, or that has no tests.
        Some(_) | None => Err(done.crashed(TOOL)),
    }
}

/// What is judged by: the gossfile and its variables.
fn content(args: &Args) -> Result<String, ReadError> {
    let gossfile = Digest::of(&read_file(&args.gossfile, MAX_GOSSFILE, TOOL, "gossfile")?);
    let Some(vars) = &args.vars else {
        return Ok(format!("gossfile {gossfile}"));
    };
    let vars = Digest::of(&read_file(vars, MAX_GOSSFILE, TOOL, "vars")?);
    Ok(format!("gossfile {gossfile}, vars {vars}"))
}

fn invocation(args: &Args) -> Result<repave_checks::Invocation, ReadError> {
    let Some(root) = &args.root else {
        return Ok(goss::invocation(&args.goss, &args.gossfile, args.vars.as_deref()));
    };
    let goss = below(root, &args.goss)?;
    let vars = args.vars.as_ref().map(|vars| below(root, vars)).transpose()?;
    let inner = goss::invocation(&goss, &below(root, &args.gossfile)?, vars.as_deref());
    let repave = env::current_exe().map_err(|error| ReadError::Crashed {
        tool: TOOL,
        why: format!("our own program cannot be found: {error}"),
    })?;
    Ok(goss::below_root(&repave, root, inner))
}

/// Goss opens `/dev/null` for every command that it starts. Where it cannot, it finds every package absent: that must
/// not look like a result.
fn expect_null(root: &Path) -> Result<(), ReadError> {
    let null = root.join("dev/null");
    // Never a link, which would lead out of the root.
    let usable = null.symlink_metadata().and_then(|found| {
        if found.is_symlink() {
            return Err(io::Error::other("a symbolic link"));
        }
        fs::OpenOptions::new().read(true).write(true).open(&null)
    });
    usable.map(|_| ()).map_err(|error| ReadError::Unsupported {
        tool: TOOL,
        why: format!(
            "expected {} to be readable and writable, found: {error}",
            null.display()
        ),
    })
}

/// The path as the candidate sees it.
fn below(root: &Path, path: &Path) -> Result<PathBuf, ReadError> {
    let inside = path.strip_prefix(root).map_err(|_| ReadError::Crashed {
        tool: TOOL,
        why: format!("expected {} below the root {}", path.display(), root.display()),
    })?;
    Ok(Path::new("/").join(inside))
}

/// What Goss says, or which build it is: distributions build it without a version.
async fn goss_version(args: &Args) -> Result<String, ReadError> {
    if let Some(version) = version(&goss::version(&args.goss)).await {
        return Ok(version);
    }
    let program = read_file(&args.goss.join("goss"), MAX_PROGRAM, TOOL, "program")?;
    Ok(format!("build {}", Digest::of(&program).short()))
}

/// Whether Goss has a package manager to ask. In another root only a plain file counts: a link there could lead to
/// ours, and package managers are plain files.
fn has_package_manager(root: Option<&Path>) -> bool {
    PATH.split(':')
        .flat_map(|folder| goss::PACKAGE_MANAGERS.map(|program| Path::new(folder).join(program)))
        .any(|program| match root {
            None => program.is_file(),
            Some(root) => below_is_file(root, &program),
        })
}

fn below_is_file(root: &Path, program: &Path) -> bool {
    let inside = program.strip_prefix("/").unwrap_or(program);
    root.join(inside).symlink_metadata().is_ok_and(|found| found.is_file())
}

/// A gossfile with one test that must pass and one that must fail.
pub async fn self_test(bench: &Bench<'_>) -> Result<Examined, Failure> {
    let gossfile = bench.scratch.join("goss.yaml");
    fs::write(&gossfile, fixtures::GOSSFILE).map_err(|error| unwritten(&error))?;
    let more = [("--goss", bench.goss), ("--gossfile", &gossfile)];
    bench.examined(ToolName::Goss, &bench.common.image, &more).await
}
