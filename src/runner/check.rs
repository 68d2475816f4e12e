//! What all checks have in common: arguments, options, scratch space, and how a failure becomes an error report.
//!
//! Must not let a failure end without a report: the operator learns more from "error: …" than from an exit code.

use super::{
    capture::{self, Bounds, Captured, Ended, Keep},
    frame::Attached,
    inputs,
};
use repave_checks::{Invocation, Parsed, ReadError, Run};
use repave_core::{
    digest::Digest,
    report::{Report, ToolName},
};
use serde::de::DeserializeOwned;
use std::{
    env, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process,
    time::Duration,
};

const MAX_OPTIONS: u64 = 1024 * 1024;

/// The arguments of every check.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// The check's name in the policy.
    #[arg(long)]
    pub check: String,
    /// The manifest digest of the image to examine.
    #[arg(long)]
    pub image: Digest,
    /// A JSON file with the check's options; without it they are in REPAVE_CHECK_OPTIONS.
    #[arg(long)]
    pub options: Option<PathBuf>,
    /// The digest of all inputs, which are in the folder of the options: with others nothing is examined.
    #[arg(long)]
    pub inputs: Option<Digest>,
    /// Seconds until the tool is killed.
    #[arg(long, default_value_t = 600)]
    pub timeout: u64,
    /// A folder that may be written to.
    #[arg(long, default_value = "/tmp")]
    pub work: PathBuf,
}

/// A report, and how its tool ended.
#[derive(Debug)]
pub struct Examined {
    /// What goes to the operator.
    pub report: Report,
    /// None when the tool never ran.
    pub ended: Option<Ended>,
    /// What goes with the report.
    pub attached: Vec<Attached>,
}

/// What a check knows when it ends, well or badly.
#[derive(Debug, Default)]
pub struct RunRecord {
    /// The tool's version.
    pub version: String,
    /// What it judges by.
    pub content: Option<String>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// How long it ran.
    pub took: Duration,
    /// What goes with the report.
    pub attached: Vec<Attached>,
}

impl Common {
    /// The options; a mistake in them is an error of the run, not a default.
    pub fn options<T: DeserializeOwned>(&self, tool: &'static str) -> Result<T, ReadError> {
        // Every kind of check asks for its options first.
        self.check_inputs(tool)?;
        let text = match &self.options {
            Some(path) => read_file(path, MAX_OPTIONS, tool, "options")?,
            None => env::var("REPAVE_CHECK_OPTIONS")
                .unwrap_or_else(|_| "{}".into())
                .into_bytes(),
        };
        // An object first: serde would also take a list for a struct, and an empty one for all its defaults.
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&text)
            .and_then(|object| serde_json::from_value(object.into()))
            .map_err(|error| ReadError::Crashed {
                tool,
                why: format!("its options are not understood: {error}"),
            })
    }

    /// Whether the inputs are those that the Job was made for.
    fn check_inputs(&self, tool: &'static str) -> Result<(), ReadError> {
        let (Some(asked), Some(folder)) = (&self.inputs, self.options.as_deref().and_then(Path::parent)) else {
            return Ok(());
        };
        inputs::are_as_asked(folder, asked).map_err(|why| ReadError::Crashed { tool, why })
    }

    /// Runs the tool and notes how it ended.
    pub async fn capture(
        &self,
        tool: &'static str,
        invocation: &Invocation,
        stdout: usize,
        known: &mut RunRecord,
    ) -> Result<Captured, ReadError> {
        self.capture_keeping(tool, invocation, Keep::Whole(stdout), known).await
    }

    /// The same for a tool whose stdout is not its result.
    pub async fn capture_keeping(
        &self,
        tool: &'static str,
        invocation: &Invocation,
        stdout: Keep,
        known: &mut RunRecord,
    ) -> Result<Captured, ReadError> {
        let bounds = Bounds {
            timeout: Duration::from_secs(self.timeout),
            stdout,
        };
        let captured = capture::run(invocation, bounds)
            .await
            .map_err(|error| ReadError::Crashed {
                tool,
                why: format!("{} cannot be started: {error}", invocation.program.display()),
            })?;
        known.ended = Some(captured.ended);
        known.took = captured.took;
        Ok(captured)
    }

    /// The report of a check that ran, or of one that could not.
    pub fn examined(&self, tool: ToolName, known: RunRecord, read: Result<Parsed, ReadError>) -> Examined {
        let run = Run {
            check: &self.check,
            image: &self.image,
            tool,
            version: &known.version,
            content: known.content,
            took: known.took,
            candidate_executed: tool.facts().executes_candidate,
        };
        Examined {
            report: repave_checks::assemble(run, read),
            ended: known.ended,
            attached: known.attached,
        }
    }

    /// A fresh folder of our own, removed at the end.
    pub fn scratch(&self, tool: &'static str) -> Result<Scratch, ReadError> {
        let path = self
            .work
            .join(format!("repave-{}-{}", tool.to_lowercase(), process::id()));
        // Not create_dir_all: what exists already was made by somebody else.
        fs::create_dir(&path).map_err(|error| ReadError::Crashed {
            tool,
            why: format!("{} cannot be made: {error}", path.display()),
        })?;
        Ok(Scratch(path))
    }
}

/// The number in what a tool prints for its version, if it does: it is for people, no verdict depends on it.
pub async fn version(invocation: &Invocation) -> Option<String> {
    let bounds = Bounds {
        timeout: Duration::from_secs(20),
        stdout: Keep::Whole(64 * 1024),
    };
    let printed = capture::run(invocation, bounds).await.ok()?;
    let text = String::from_utf8_lossy(&printed.stdout);
    let is_number = |word: &&str| word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    let word = text.lines().next()?.split_whitespace().find(is_number)?;
    (printed.ended == Ended::Exited(0)).then(|| word.to_owned())
}

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whatever stays goes with the pod.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Reads a whole regular file, up to a bound.
pub fn read_file(path: &Path, limit: u64, tool: &'static str, what: &'static str) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| ReadError::Crashed {
            tool,
            why: format!("its {what} cannot be read from {}: {error}", path.display()),
        })?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge { tool, what, limit });
    }
    Ok(bytes)
}

/// Opens a regular file (a link to one is fine: that is how ConfigMaps are mounted), never a pipe or a device.
pub fn open(path: &Path) -> io::Result<fs::File> {
    if fs::metadata(path)?.is_file() {
        fs::File::open(path)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}
