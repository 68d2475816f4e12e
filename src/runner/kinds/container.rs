//! `runner container`: runs a program of the user's own over the candidate's OCI layout and reads its result.
//!
//! Must not hand the program anything but the layout, a place for the result and the image's own environment, and must
//! not take what it prints for a result, except that exit code 1 quotes its last lines.

use crate::{
    capture::{Captured, Keep},
    check::{Common, Examined, RunRecord, read_file},
};
use repave_checks::{
    Parsed, ReadError,
    container::{self, Format, LAST_LINES, MAX_RESULT, Options, TOOL},
};
use repave_core::report::ToolName;
use std::{env, ffi::OsString, fs, path::PathBuf};

/// `repave runner container`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// How the result is read.
    #[arg(long, value_enum)]
    result_format: Format,
    /// Where the program writes its result; it finds this in REPAVE_RESULT.
    #[arg(long, default_value = "/result/result")]
    result: PathBuf,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Runs the check.
pub async fn run(args: &Args) -> Examined {
    let mut known = RunRecord::default();
    let read = examine(args, &mut known).await;
    args.common.examined(ToolName::Container, known, read)
}

async fn examine(args: &Args, known: &mut RunRecord) -> Result<Parsed, ReadError> {
    let options: Options = args.common.options(TOOL)?;
    known.version.clone_from(&options.image);
    let result = args.result.clone().into_os_string();
    let invocation = container::invocation(&args.command, env::vars_os(), &result, &args.common.image);
    let invocation = invocation.ok_or_else(|| crashed("it has no command"))?;
    // A result that is there already would be somebody else's.
    if args.result.symlink_metadata().is_ok() {
        return Err(crashed("its result was there before it ran"));
    }
    let done = args.common.capture_keeping(TOOL, &invocation, Keep::End, known).await?;
    let code = done.ended.exit_code();
    if args.result_format == Format::ExitCode {
        let said = said(&done);
        return container::exit_code(code, &said).ok_or_else(|| done.crashed(TOOL));
    }
    match code {
        Some(code @ (0 | 1)) => {
            let bytes = result_of(args).map_err(|error| with_last_words(error, &done))?;
            container::read(args.result_format, &bytes, code, &args.common.image, &options)
        }
        Some(_) | None => Err(done.crashed(TOOL)),
    }
}

/// A program complains on either stream: first what it printed, then its errors.
fn said(done: &Captured) -> Vec<String> {
    let mut lines = Captured::last_lines_of(&done.stdout, LAST_LINES);
    lines.extend(Captured::last_lines_of(&done.stderr, LAST_LINES));
    lines
}

/// The result: a file, not a link to one, so that it is what the program wrote there.
fn result_of(args: &Args) -> Result<Vec<u8>, ReadError> {
    let is_file = fs::symlink_metadata(&args.result).map(|found| found.is_file());
    match is_file {
        Ok(true) => read_file(&args.result, MAX_RESULT, TOOL, "result"),
        Ok(false) => Err(crashed("expected a plain file at $REPAVE_RESULT, found something else")),
        Err(error) => Err(crashed(&format!(
            "expected it to write its result to $REPAVE_RESULT ({}): {error}",
            args.result.display()
        ))),
    }
}

fn with_last_words(error: ReadError, done: &Captured) -> ReadError {
    match error {
        ReadError::Crashed { tool, why } => {
            let said = done.last_lines(3).join(" | ");
            let said = if said.is_empty() { "nothing".to_owned() } else { said };
            ReadError::Crashed {
                tool,
                why: format!("{why}; it said last: {said}"),
            }
        }
        ReadError::Malformed { .. }
        | ReadError::TooLarge { .. }
        | ReadError::Untrusted { .. }
        | ReadError::Unsupported { .. } => error,
    }
}

fn crashed(why: &str) -> ReadError {
    ReadError::Crashed {
        tool: TOOL,
        why: why.to_owned(),
    }
}
