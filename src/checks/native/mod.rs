//! The native hardening check: reads an image from its layers and judges files, accounts, paths and configuration.
//!
//! In reading order: `layout` (manifest and configuration) -> `layers` over `blob` and `tar_stream` (bytes) -> `tree`
//! (the merged file system, metadata only) -> `table` (all rules) -> the rules by subject.
//!
//! No code of the candidate runs and nothing is unpacked: every byte is hostile, streamed, bounded and hashed. What
//! cannot be read whole is an error and never a finding. It owns the checks for file permissions, because scanners
//! that walk mounts see none of these in a container and pass.

mod accounts;
mod blob;
mod budget;
mod config;
mod content;
mod environment;
mod error;
mod files;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod glob;
mod hidden;
mod history;
mod inventory;
mod layers;
mod layout;
mod limits;
mod options;
mod packages;
mod path;
mod pax;
mod repositories;
mod rules;
mod secrets;
mod table;
mod tar_stream;
mod tree;
mod tree_read;
mod unpack;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests_bombs;
#[cfg(test)]
mod tests_content;
#[cfg(test)]
mod tests_distros;
#[cfg(test)]
mod tests_hostile;
#[cfg(test)]
mod tests_layers;
#[cfg(test)]
mod tests_rules;

pub use error::NativeError;
pub use inventory::inventory;
pub use limits::Limits;
pub use options::{Options, RuleId};
pub use table::documentation;
pub use unpack::{Entry, EntryKind, entries};

use repave_core::digest::Digest;
use repave_core::report::{Finding, Outcome, Report, SCHEMA, Tool, ToolName};
use std::path::Path;

/// What the rules found in one image.
#[derive(Debug)]
pub struct Examination {
    /// The manifest digest, verified against the manifest's bytes.
    pub image: Digest,
    /// Rules that had something to look at.
    pub evaluated: u64,
    /// Those of them without a finding.
    pub passed: u64,
    /// Rules that do not apply, such as account rules in an image without accounts.
    pub not_applicable: u64,
    /// What is wrong. More than a report carries are kept up to a bound, so that the report says that it was cut.
    pub findings: Vec<Finding>,
}

/// Reads the one image of an OCI layout and evaluates the rules as of `now`. It blocks: call it off the async threads.
pub fn examine(
    layout: &Path,
    options: &Options,
    limits: &Limits,
    now: jiff::Timestamp,
) -> Result<Examination, NativeError> {
    let image = layout::Image::open(layout, limits)?;
    let merged = layers::merge(&image, limits)?;
    let totals = rules::Context::new(&merged, &image.config, options, now)
        .and_then(|context| rules::evaluate(&context))
        .map_err(|fault| layers::outside(&fault))?;
    Ok(Examination {
        image: image.digest,
        evaluated: totals.evaluated,
        passed: totals.passed,
        not_applicable: totals.not_applicable,
        findings: totals.findings,
    })
}

/// The normalised report of an examination. An examination of another image than the expected one is an error.
pub fn report(
    check: &str,
    expected_image: &Digest,
    examination: Result<Examination, NativeError>,
    millis: u64,
) -> Report {
    let mut report = match examination {
        Ok(found) if found.image == *expected_image => completed(check, found),
        Ok(found) => {
            let message = format!(
                "expected image {expected_image}, found {}; pull the image again",
                found.image
            );
            Report::error(check, expected_image, tool(), message)
        }
        Err(NativeError::Unsupported { why }) => {
            let mut report = Report::error(check, expected_image, tool(), why);
            if let Outcome::Error { message } = report.outcome {
                report.outcome = Outcome::Unsupported { message };
            }
            report
        }
        Err(error) => Report::error(check, expected_image, tool(), error.to_string()),
    };
    report.tool_millis = millis;
    report
}

fn completed(check: &str, found: Examination) -> Report {
    Report {
        schema: SCHEMA.to_owned(),
        check: check.to_owned(),
        image: found.image,
        tool: tool(),
        outcome: Outcome::Completed,
        evaluated: found.evaluated,
        passed: found.passed,
        not_applicable: found.not_applicable,
        findings: found.findings,
        truncated: false,
        candidate_executed: false,
        tool_millis: 0,
        summary: None,
        attachments: Vec::new(),
    }
    .bounded()
}

fn tool() -> Tool {
    Tool {
        name: ToolName::Native,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        content: Some(format!("{} rules", table::RULES.len())),
        database_built: None,
        database: None,
    }
}
