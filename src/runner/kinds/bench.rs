//! What a self-test works with, and how it lets a check examine a fixture with the words of the check's Job.

use super::Check;
use crate::check::{Common, Examined};
use repave_core::{digest::Digest, report::ToolName};
use std::{ffi::OsString, io, path::Path};

/// Why a fixture could not be made or examined.
pub type Failure = String;

/// What a self-test works with.
#[derive(Debug, Clone, Copy)]
pub struct Bench<'a> {
    /// The arguments of every check.
    pub common: &'a Common,
    /// A fresh folder.
    pub scratch: &'a Path,
    /// The folder with Goss, its loader and its libraries.
    pub goss: &'a Path,
    /// The folder with the vulnerability database.
    pub database: Option<&'a Path>,
    /// What the report calls the database.
    pub database_id: Option<&'a Digest>,
}

impl Bench<'_> {
    /// Runs the check of a tool about a fixture, with its own words after those that every check has.
    pub async fn examined(&self, tool: ToolName, image: &Digest, more: &[(&str, &Path)]) -> Result<Examined, Failure> {
        let common = self.common;
        let mut words: Vec<OsString> = ["--check", &common.check, "--image", image.as_str(), "--timeout"]
            .map(OsString::from)
            .into();
        words.push(common.timeout.to_string().into());
        words.extend(["--work".into(), common.work.clone().into()]);
        if let Some(options) = &common.options {
            words.extend(["--options".into(), options.into()]);
        }
        for (name, value) in more {
            words.extend([OsString::from(name), OsString::from(value)]);
        }
        Ok(Box::pin(Check::of(tool, words)?.examined()).await)
    }
}

/// The failure of a fixture that is not there.
pub fn unwritten(error: &io::Error) -> Failure {
    format!("the fixture cannot be written: {error}")
}
