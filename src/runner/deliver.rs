//! Hands the result to the operator: a framed report on stdout, and the termination message.
//!
//! Must not print anything else to stdout, and must not exit with 0 unless both were written whole.

use super::{
    check::Examined,
    frame::{self, Failed, Reported, Termination},
};
use std::{env, ffi::OsString, fs::OpenOptions, io, io::Write as _, process::ExitCode};

const TERMINATION_LOG: &str = "/dev/termination-log";

/// Why a step delivered nothing, before it is given a name.
#[derive(Debug, Default)]
pub struct Failure {
    /// What was expected, what was found, what to do.
    pub message: String,
    /// The exit code of the tool.
    pub exit_code: Option<i32>,
    /// The signal that ended the tool.
    pub signal: Option<i32>,
    /// The tool's last lines.
    pub log: Vec<String>,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self {
            message,
            ..Self::default()
        }
    }
}

/// Delivers the report of a check.
pub fn report(examined: Examined) -> ExitCode {
    let Examined {
        report,
        ended,
        attached,
    } = examined;
    let (exit_code, signal) = ended.map_or((None, None), |ended| (ended.exit_code(), ended.signal()));
    let delivered = frame::encode(&report, &attached)
        .map_err(|error| error.to_string())
        .and_then(|frame| {
            print(&frame.text).map_err(|error| format!("the report cannot be written to stdout: {error}"))?;
            Ok(Reported::of(&report.bounded(), &frame.sha256, exit_code, signal))
        });
    match delivered {
        Ok(reported) => write(&Termination::Reported(reported)),
        Err(message) => termination("check", Err(message.into())),
    }
}

/// Delivers how a step ended that has no report.
pub fn termination(step: &str, result: Result<Termination, Failure>) -> ExitCode {
    match result {
        Ok(termination) => write(&termination),
        Err(failure) => {
            eprintln!("{step} failed: {}", failure.message);
            for line in &failure.log {
                eprintln!("  {line}");
            }
            let Failure {
                message,
                exit_code,
                signal,
                log,
            } = failure;
            write(&Termination::Failed(Failed {
                step: step.to_owned(),
                message,
                exit_code,
                signal,
                log,
            }));
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn write(termination: &Termination) -> ExitCode {
    let path = env::var_os("REPAVE_TERMINATION_LOG").unwrap_or_else(|| OsString::from(TERMINATION_LOG));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .and_then(|mut file| file.write_all(termination.encode().as_bytes()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "the termination message cannot be written to {}: {error}",
                path.display()
            );
            ExitCode::FAILURE
        }
    }
}
