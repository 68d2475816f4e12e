//! OpenSCAP: CIS and STIG rules over the candidate's files; no code of the candidate runs.
//!
//! OpenSCAP fails open in four measured ways (wrong content, a missing root, partition probes, absolute symlinks), so
//! nothing here believes its exit code or its score. [`content`] picks the data stream for the candidate's OS and
//! refuses what a prefix scan cannot see; [`tailoring`] deselects what no image can answer, and merges the user's
//! [`user_tailoring`]; [`results`] counts what was really evaluated and demands the expected platform, benchmark and
//! profile; [`test_result`] cuts out what is kept.

pub mod content;
pub mod results;
pub mod tailoring;
pub mod test_result;
pub mod user_tailoring;
mod xml;

pub use results::{Expected, read};

use super::Invocation;
use serde::Deserialize;
use std::{ffi::OsString, path::Path};

/// Most of a data stream or of a results file that is read.
pub const MAX_XML: u64 = 64 * 1024 * 1024;

pub(crate) const TOOL: &str = "OpenSCAP";

/// Where ids of the SCAP Security Guide's rules start.
pub const RULE_PREFIX: &str = "xccdf_org.ssgproject.content_rule_";

/// Where ids of its profiles start.
pub const PROFILE_PREFIX: &str = "xccdf_org.ssgproject.content_profile_";

/// What the policy may set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Fewer rules with pass or fail than this are an error.
    pub min_evaluated: u64,
    /// More rules with the result `unknown` than this are an error.
    pub max_unknown: u64,
    /// The `Env` of the image's config: rules about PATH and friends read it.
    pub env: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            min_evaluated: 20,
            max_unknown: 1,
            env: Vec::new(),
        }
    }
}

/// The files of one evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The candidate's root.
    pub root: &'a Path,
    /// The data stream.
    pub datastream: &'a Path,
    /// The generated tailoring.
    pub tailoring: &'a Path,
    /// Where the results go.
    pub results: &'a Path,
    /// Where the page for people goes.
    pub page: &'a Path,
    /// A directory that may be written to.
    pub work: &'a Path,
}

/// How `oscap` is called. The page for people is made in the same run: made later from the results, all rules would be
/// read again. No ARF: it doubles the time and carries the same results.
pub fn invocation(files: &Files<'_>, options: &Options) -> Invocation {
    let mut args: Vec<OsString> = vec!["xccdf".into(), "eval".into()];
    args.extend(["--profile".into(), tailoring::PROFILE.into()]);
    args.extend(["--tailoring-file".into(), files.tailoring.into()]);
    args.extend(["--results".into(), files.results.into()]);
    args.extend(["--report".into(), files.page.into(), files.datastream.into()]);
    // A line end would start a variable of its own.
    let vars: Vec<&str> = options
        .env
        .iter()
        .map(String::as_str)
        .filter(|var| !var.contains('\n'))
        .collect();
    let env = [
        ("PATH", super::PATH.into()),
        ("HOME", files.work.into()),
        ("TMPDIR", files.work.into()),
        ("OSCAP_PROBE_ROOT", files.root.into()),
        ("OSCAP_CONTAINER_VARS", vars.join("\n").into()),
        // The script engine runs its scripts in our root, not in the candidate's: it must never load.
        ("OSCAP_CHECK_ENGINE_PLUGIN_DIR", "/nonexistent".into()),
    ];
    Invocation {
        program: "oscap".into(),
        args,
        env: env
            .map(|(name, value): (&str, OsString)| (name.to_owned(), value))
            .into(),
    }
}

/// How `oscap` is asked for its version.
pub fn version() -> Invocation {
    Invocation {
        program: "oscap".into(),
        args: vec!["--version".into()],
        env: vec![
            ("PATH".into(), super::PATH.into()),
            ("OSCAP_CHECK_ENGINE_PLUGIN_DIR".into(), "/nonexistent".into()),
        ],
    }
}
