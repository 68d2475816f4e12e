//! A check of the user's own: how its result is read, by exit code, JUnit XML, SARIF or our own format.
//!
//! In reading order: this file (options, exit code, what all formats share) -> `junit` -> `sarif` -> `own`. The image
//! is chosen by the user, but what it writes may quote the candidate: all of it is bounded and parsed strictly. What
//! is unknown, torn or empty is an error and never a pass.

mod junit;
mod repave_format;
mod sarif;

use super::{Invocation, Parsed, ReadError};
use repave_core::{
    digest::Digest,
    report::{Finding, MAX_TEXT, Severity, bounded},
};
use serde::Deserialize;
use std::{collections::BTreeMap, ffi::OsString};

/// Most of a result that is read.
pub const MAX_RESULT: u64 = 16 * 1024 * 1024;

/// More tests or rules than a result may name: a bound on memory.
const MAX_TESTS: u64 = 200_000;

/// What error messages call it.
pub const TOOL: &str = "the container check";

/// How many of the last lines of the output become a finding.
pub const LAST_LINES: usize = 20;

/// What the operator tells the runner.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Fewer tests or rules than this are an error; exit codes name none.
    pub min_tests: u64,
    /// The image of the check, for the report.
    pub image: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            min_tests: 1,
            image: String::new(),
        }
    }
}

/// How the result is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// 0 passes, 1 fails, anything else is an error.
    ExitCode,
    /// JUnit XML.
    Junit,
    /// SARIF 2.1.0.
    Sarif,
    /// Our own report.
    Repave,
}

/// The command with the environment of its image, without what Kubernetes adds to it, and with where the result goes.
pub fn invocation(
    command: &[OsString],
    image_env: impl Iterator<Item = (OsString, OsString)>,
    result: &OsString,
    image: &Digest,
) -> Option<Invocation> {
    let (program, args) = command.split_first()?;
    // Text only: `Invocation` names its variables so, and a name that is none is nobody's setting.
    let named = image_env.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let of_image = |name: &str| !name.starts_with("KUBERNETES_") && !name.starts_with("REPAVE_");
    let mut env: BTreeMap<String, OsString> = named.filter(|(name, _)| of_image(name)).collect();
    env.insert("REPAVE_RESULT".into(), result.clone());
    env.insert("REPAVE_IMAGE".into(), image.as_str().into());
    // The only folder that it may write to besides that of the result.
    env.insert("HOME".into(), "/tmp".into());
    Some(Invocation {
        program: program.into(),
        args: args.to_vec(),
        env: env.into_iter().collect(),
    })
}

/// What an exit code says; `None`: it is neither 0 nor 1, and the caller knows how to say so. `said` are the last lines.
pub fn exit_code(code: Option<i32>, said: &[String]) -> Option<Parsed> {
    let findings = match code? {
        0 => Vec::new(),
        1 => vec![failed(said)],
        _ => return None,
    };
    Some(Parsed {
        evaluated: 1,
        passed: u64::from(findings.is_empty()),
        findings,
        ..Parsed::default()
    })
}

/// The end of what was said is what counts, so the start is cut.
fn failed(said: &[String]) -> Finding {
    let text = said.join(" | ");
    let mut from = text.len().saturating_sub(MAX_TEXT - 100);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let text = text.get(from..).unwrap_or_default();
    Finding {
        id: "container:exit-code".to_owned(),
        severity: Severity::Medium,
        title: if text.is_empty() {
            "the command ended with exit code 1 and said nothing".to_owned()
        } else {
            format!("the command ended with exit code 1: {text}")
        },
        ..Finding::default()
    }
}

/// Reads the result file of a command that ended with 0 or 1.
pub fn read(
    format: Format,
    bytes: &[u8],
    exit_code: i32,
    image: &Digest,
    options: &Options,
) -> Result<Parsed, ReadError> {
    if bytes.len() as u64 > MAX_RESULT {
        return Err(ReadError::TooLarge {
            tool: TOOL,
            what: "its result",
            limit: MAX_RESULT,
        });
    }
    let mut parsed = match format {
        Format::Junit => junit::read(bytes)?,
        Format::Sarif => sarif::read(bytes)?,
        Format::Repave => repave_format::read(bytes, image)?,
        Format::ExitCode => return Err(malformed("result", "an exit code has no result file")),
    };
    if exit_code != 0 && parsed.findings.is_empty() {
        parsed.problems.push(format!(
            "it ended with exit code {exit_code}, but its result names nothing that is wrong"
        ));
    }
    let named = parsed.evaluated;
    if named < options.min_tests {
        parsed.problems.push(format!(
            "expected a result with at least {} tests or rules, found {named}; what is skipped does not count",
            options.min_tests
        ));
    }
    Ok(parsed)
}

/// Says what is wrong with a document.
fn malformed(what: &str, why: impl std::fmt::Display) -> ReadError {
    ReadError::Malformed {
        tool: TOOL,
        why: bounded(&format!("the {what}: {why}")),
    }
}

fn untrusted(why: impl Into<String>) -> ReadError {
    ReadError::Untrusted {
        tool: TOOL,
        why: bounded(&why.into()),
    }
}

/// The first of these characters, so that a megabyte in one field is not carried along.
fn cut(text: &str) -> String {
    text.trim().chars().take(500).collect()
}

#[cfg(test)]
mod tests;
