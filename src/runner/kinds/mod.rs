//! The checks, one file per kind: each is a subcommand of the runner, and knows its own known-bad fixture.
//!
//! A tool of the table (`src/core/tool.rs`) that has no subcommand or no answer about its self-test here does not compile.
//! Must not judge: a check delivers what its tool found, or why it could not.

mod bench;
mod container;
mod fixtures;
mod goss;
mod native;
mod openscap;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_container;
#[cfg(test)]
mod tests_goss;
#[cfg(test)]
mod tests_openscap;
mod vulnerabilities;

pub use bench::{Bench, Failure};

use super::check::Examined;
use clap::{Parser, Subcommand};
use repave_core::report::ToolName;
use std::ffi::OsString;

/// The check to run; the subcommand is called as the kind is in a policy.
#[derive(Debug, Subcommand)]
pub enum Check {
    /// Examine the layers of an OCI layout with our own rules.
    Native(native::Args),
    /// Run Goss inside the candidate.
    Goss(goss::Args),
    /// Run OpenSCAP over the candidate's files.
    Openscap(openscap::Args),
    /// Scan the packages of an OCI layout for known vulnerabilities.
    Vulnerabilities(vulnerabilities::Args),
    /// Run a program of the user's own over an OCI layout and read its result.
    Container(container::Args),
}

impl Check {
    /// The check that this tool makes, from the words after its subcommand.
    ///
    /// # Errors
    /// What is wrong with the words.
    pub fn of(tool: ToolName, words: Vec<OsString>) -> Result<Self, String> {
        Ok(match tool {
            ToolName::Native => Self::Native(parsed(words)?),
            ToolName::Goss => Self::Goss(parsed(words)?),
            ToolName::Openscap => Self::Openscap(parsed(words)?),
            ToolName::Grype | ToolName::Trivy => Self::Vulnerabilities(parsed(words)?),
            ToolName::Container => Self::Container(parsed(words)?),
        })
    }

    /// Runs it.
    pub async fn examined(&self) -> Examined {
        match self {
            Self::Native(args) => native::run(args),
            Self::Goss(args) => goss::run(args).await,
            Self::Openscap(args) => openscap::run(args).await,
            Self::Vulnerabilities(args) => Box::pin(vulnerabilities::run(args)).await,
            Self::Container(args) => container::run(args).await,
        }
    }
}

/// Lets a tool examine its known-bad fixture as it examines a candidate.
///
/// # Errors
/// The fixture cannot be made or examined, or there is none.
pub async fn self_test(tool: ToolName, bench: &Bench<'_>) -> Result<Examined, Failure> {
    match tool {
        ToolName::Native => native::self_test(bench).await,
        ToolName::Goss => goss::self_test(bench).await,
        ToolName::Openscap => openscap::self_test(bench).await,
        ToolName::Grype | ToolName::Trivy => vulnerabilities::self_test(tool, bench).await,
        ToolName::Container => {
            Err("an image of the policy's own has no fixture that it would have to refuse".to_owned())
        }
    }
}

fn parsed<T: clap::Args>(words: Vec<OsString>) -> Result<T, String> {
    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Words<T: clap::Args> {
        #[command(flatten)]
        args: T,
    }
    let words = Words::try_parse_from(words).map_err(|error| error.to_string())?;
    Ok(words.args)
}
