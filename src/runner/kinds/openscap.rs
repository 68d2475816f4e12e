//! `runner openscap`: evaluates a profile over the candidate's files, with a tailoring generated on the spot.
//!
//! Must not run anything of the candidate. Refuses a root that OpenSCAP would misread before OpenSCAP reads it.

use super::{
    bench::{Bench, Failure, unwritten},
    fixtures,
};
use crate::{
    check::{Common, Examined, RunRecord, open, read_file, version},
    frame::Attached,
};
use repave_checks::{
    Parsed, ReadError,
    openscap::{
        self, Expected, Files, Options,
        content::{self, Content},
        tailoring::{self, Benchmark, LeftOut, Tailored},
        test_result, user_tailoring,
    },
};
use repave_core::{
    report::{Finding, Outcome, Severity, ToolName},
    tool::WRONG_OS_REFUSED,
};
use std::{
    fmt::Write as _,
    fs,
    io::BufReader,
    path::{Path, PathBuf},
};

const TOOL: &str = "OpenSCAP";

/// Most of the page for people that is kept, in bytes; measured: up to 4 MB.
const MAX_PAGE: u64 = 32 * 1024 * 1024;

/// Most files of the content folder that are named in an error.
const MAX_STREAMS: usize = 500;

/// Bit 18 of a capability set, linux/capability.h.
const CAP_SYS_CHROOT: u64 = 1 << 18;

/// `repave runner openscap`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// The candidate's root.
    #[arg(long)]
    root: PathBuf,
    /// The data stream: a file name in the folder with the data streams, or `auto` for the one of the candidate's OS.
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
    /// An XCCDF tailoring of the user's.
    #[arg(long)]
    tailoring: Option<PathBuf>,
    /// Where the kernel says which capabilities this process has.
    #[arg(long, default_value = "/proc/self/status", hide = true)]
    process_status: PathBuf,
}

/// Runs the check.
pub async fn run(args: &Args) -> Examined {
    let mut known = RunRecord::default();
    let read = examine(args, &mut known).await;
    args.common.examined(ToolName::Openscap, known, read)
}

async fn examine(args: &Args, known: &mut RunRecord) -> Result<Parsed, ReadError> {
    let options: Options = args.common.options(TOOL)?;
    content::refuse_escaping_links(&args.root)?;
    let content = content::of(&args.root)?;
    let datastream = datastream(args, &content)?;
    known.content = Some(format!("{}, profile {}", datastream.display(), args.profile));
    let mut ask = openscap::version();
    ask.program.clone_from(&args.program);
    known.version = version(&ask).await.unwrap_or_default();
    let Judged {
        benchmark,
        tailored,
        left_out,
    } = judged(&datastream, args)?;
    let scratch = args.common.scratch(TOOL)?;
    let files = Files {
        root: &args.root,
        datastream: &datastream,
        tailoring: &scratch.path().join("tailoring.xml"),
        results: &scratch.path().join("results.xml"),
        page: &scratch.path().join("report.html"),
        work: scratch.path(),
    };
    fs::write(files.tailoring, tailoring::document(&args.profile, &tailored)).map_err(|error| ReadError::Crashed {
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
        benchmark: &benchmark,
        profile: tailoring::PROFILE,
        base_profile: &args.profile,
        excluded: &tailored.excluded,
        left_out: &left_out,
        options: &options,
    };
    let mut parsed = openscap::read(BufReader::new(opened(files.results, "results")?), &expected)?;
    let mut summary = parsed.summary.take().unwrap_or_default();
    if tailored.refused > 0 {
        let _ = write!(
            summary,
            "; {} rules that your tailoring selects stay out, because no image can answer them",
            tailored.refused
        );
    }
    attach(&files, &mut summary, known)?;
    parsed.summary = Some(summary);
    Ok(parsed)
}

/// Keeps the cut results and the page for people. Without the page the verdict is the same, and the summary says so.
fn attach(files: &Files<'_>, summary: &mut String, known: &mut RunRecord) -> Result<(), ReadError> {
    let test_result = test_result::cut(BufReader::new(opened(files.results, "results")?))?;
    let mut keep = |name: &str, media_type: &str, bytes: &[u8]| match Attached::pack(name, media_type, bytes) {
        Ok(packed) => known.attached.push(packed),
        Err(error) => {
            let _ = write!(summary, "; {name} cannot be packed: {error}");
        }
    };
    keep("testresult.xml", "application/xml", &test_result);
    match read_file(files.page, MAX_PAGE, TOOL, "page for people") {
        Ok(page) => keep("report.html", "text/html", &page),
        Err(error) => {
            let _ = write!(summary, "; no report.html: {error}");
        }
    }
    Ok(())
}

fn opened(path: &Path, what: &str) -> Result<fs::File, ReadError> {
    open(path).map_err(|error| ReadError::Crashed {
        tool: TOOL,
        why: format!("its {what} cannot be read from {}: {error}", path.display()),
    })
}

/// The data stream: named by the policy, or the one for the OS. Whichever it is, the platform of the OS is expected.
fn datastream(args: &Args, content: &Content) -> Result<PathBuf, ReadError> {
    let is_auto = args.datastream == Path::new("auto");
    let wanted: &Path = if is_auto {
        content.file.as_ref()
    } else {
        &args.datastream
    };
    let path = args.content.join(wanted);
    if path.is_file() {
        return Ok(path);
    }
    let why = format!(
        "the tools image has no {}: {}",
        wanted.display(),
        present(&args.content)
    );
    Err(if is_auto {
        ReadError::Unsupported { tool: TOOL, why }
    } else {
        ReadError::Crashed { tool: TOOL, why }
    })
}

/// Which data streams there are.
fn present(content: &Path) -> String {
    let entries = fs::read_dir(content).into_iter().flatten().take(MAX_STREAMS).flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with("-ds.xml")).collect();
    names.sort();
    if names.is_empty() {
        return format!("no data stream is in {}; add one", content.display());
    }
    format!("it has {}; name one of these, or add it", names.join(", "))
}

/// What the image will be judged by.
struct Judged {
    benchmark: Benchmark,
    tailored: Tailored,
    left_out: LeftOut,
}

fn judged(datastream: &Path, args: &Args) -> Result<Judged, ReadError> {
    let profile = args.profile.as_str();
    let analysis = tailoring::analyse(BufReader::new(opened(datastream, "data stream")?))?;
    if !analysis.has_profile(profile) {
        return Err(ReadError::Crashed {
            tool: TOOL,
            why: format!(
                "{} has no profile {profile:?}: choose one of {}",
                datastream.file_name().unwrap_or_default().display(),
                analysis.profiles().join(", ")
            ),
        });
    }
    let user = match &args.tailoring {
        Some(path) => {
            let text = read_file(path, user_tailoring::MAX_TAILORING, TOOL, "tailoring")?;
            Some(user_tailoring::parse(text.as_slice())?)
        }
        None => None,
    };
    let tailored = analysis.tailor(profile, user)?;
    if let Some(rule) = analysis.needs_chroot(profile, &tailored).filter(|_| !args.may_chroot()) {
        return Err(ReadError::Unsupported {
            tool: TOOL,
            why: format!(
                "the rule {rule} reads the RPM database in a chroot, and this container has no CAP_SYS_CHROOT: allow it \
                 (Pod Security baseline does), or leave this check out"
            ),
        });
    }
    let left_out = analysis.left_out(profile, &tailored);
    let benchmark = analysis.benchmark().clone();
    Ok(Judged {
        benchmark,
        tailored,
        left_out,
    })
}

impl Args {
    /// Whether this process has CAP_SYS_CHROOT; when that cannot be told, OpenSCAP finds out, and aborts.
    fn may_chroot(&self) -> bool {
        let Ok(status) = fs::read_to_string(&self.process_status) else {
            return true;
        };
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        mask.is_none_or(|mask| mask & CAP_SYS_CHROOT != 0)
    }
}

/// Two roots: one with a defect that must be found, and one of another release that must be refused.
pub async fn self_test(bench: &Bench<'_>) -> Result<Examined, Failure> {
    let (bad, other) = (bench.scratch.join("bad"), bench.scratch.join("other"));
    fixtures::root(&bad, "12").map_err(|error| unwritten(&error))?;
    fixtures::root(&other, "13").map_err(|error| unwritten(&error))?;
    let stream = Path::new("ssg-debian12-ds.xml");
    let profile = Path::new("cis_level1_server");
    let over = |root| [("--root", root), ("--datastream", stream), ("--profile", profile)];
    let image = &bench.common.image;
    let mut examined = bench.examined(ToolName::Openscap, image, &over(&bad)).await?;
    let wrong = bench.examined(ToolName::Openscap, image, &over(&other)).await?;
    match &wrong.report.outcome {
        Outcome::Completed => {}
        Outcome::Error { message } | Outcome::Unsupported { message } => examined.report.findings.push(Finding {
            id: WRONG_OS_REFUSED.to_owned(),
            severity: Severity::High,
            title: message.clone(),
            ..Finding::default()
        }),
    }
    Ok(examined)
}
