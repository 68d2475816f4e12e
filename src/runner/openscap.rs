//! `runner openscap`: evaluates a profile over the candidate's files, with a tailoring generated on the spot.
//!
//! Must not run anything of the candidate. Refuses a root that OpenSCAP would misread before OpenSCAP reads it.

use super::check::{Common, Examined, Known, open, version};
use crate::{
    checks::{
        Parsed, ReadError,
        openscap::{
            self, Expected, Files, Options,
            content::{self, Content},
            tailoring::{self, Excluded},
        },
    },
    domain::report::ToolName,
};
use std::{
    fs,
    io::BufReader,
    path::{Path, PathBuf},
};

const TOOL: &str = "OpenSCAP";

/// `repave runner openscap`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// The candidate's root.
    #[arg(long)]
    root: PathBuf,
    /// The data stream: a file, or `auto` for the one that fits the candidate's OS.
    #[arg(long, default_value = "auto")]
    datastream: PathBuf,
    /// The profile, e.g. `cis_level1_server`.
    #[arg(long)]
    profile: String,
    /// The program.
    #[arg(long, default_value = "oscap")]
    program: PathBuf,
    /// The folder with the data streams.
    #[arg(long, default_value = content::DIRECTORY)]
    content: PathBuf,
}

/// Runs the check.
pub async fn run(args: &Args) -> Examined {
    let mut known = Known::default();
    let read = examine(args, &mut known).await;
    args.common.examined(ToolName::Openscap, known, read)
}

async fn examine(args: &Args, known: &mut Known) -> Result<Parsed, ReadError> {
    let options: Options = args.common.options(TOOL)?;
    content::refuse_escaping_links(&args.root)?;
    let content = content::of(&args.root)?;
    let datastream = datastream(args, &content)?;
    known.content = Some(format!("{}, profile {}", datastream.display(), args.profile));
    let mut ask = openscap::version();
    ask.program.clone_from(&args.program);
    known.version = version(&ask).await.unwrap_or_default();
    let (excluded, left_out) = excluded(&datastream, &args.profile, &options)?;
    let scratch = args.common.scratch(TOOL)?;
    let files = Files {
        root: &args.root,
        datastream: &datastream,
        tailoring: &scratch.path().join("tailoring.xml"),
        results: &scratch.path().join("results.xml"),
        work: scratch.path(),
    };
    fs::write(files.tailoring, tailoring::document(&args.profile, &excluded)).map_err(|error| ReadError::Crashed {
        tool: TOOL,
        why: format!("the tailoring cannot be written: {error}"),
    })?;
    let mut invocation = openscap::invocation(&files, &options);
    invocation.program.clone_from(&args.program);
    let done = args.common.capture(TOOL, &invocation, 16 * 1024 * 1024, known).await?;
    // 2: at least one rule did not pass. Both codes mean "evaluated", and neither of them means "passed".
    if !matches!(done.ended.exit_code(), Some(0 | 2)) {
        return Err(done.crashed(TOOL));
    }
    let expected = Expected {
        platform: &content.platform,
        profile: tailoring::PROFILE,
        base_profile: &args.profile,
        excluded: &excluded,
        left_out,
        options: &options,
    };
    openscap::read(BufReader::new(opened(files.results, "results")?), &expected)
}

fn opened(path: &Path, what: &str) -> Result<fs::File, ReadError> {
    open(path).map_err(|error| ReadError::Crashed {
        tool: TOOL,
        why: format!("its {what} cannot be read from {}: {error}", path.display()),
    })
}

fn datastream(args: &Args, content: &Content) -> Result<PathBuf, ReadError> {
    if args.datastream != Path::new("auto") {
        return Ok(args.datastream.clone());
    }
    let path = args.content.join(&content.file);
    if path.is_file() {
        return Ok(path);
    }
    Err(ReadError::Unsupported {
        tool: TOOL,
        why: format!(
            "the tool image has no {}: add it, or leave this check out for the image",
            content.file
        ),
    })
}

fn excluded(datastream: &Path, profile: &str, options: &Options) -> Result<(Excluded, u64), ReadError> {
    let analysis = tailoring::analyse(BufReader::new(opened(datastream, "data stream")?))?;
    if analysis.has_profile(profile) {
        let excluded = analysis.excluded(&options.exclude_rules);
        let left_out = analysis.left_out(profile, &excluded);
        return Ok((excluded, left_out));
    }
    Err(ReadError::Crashed {
        tool: TOOL,
        why: format!(
            "there is no profile {profile:?}: choose one of {}",
            analysis.profiles().join(", ")
        ),
    })
}
