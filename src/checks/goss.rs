//! Goss: runs inside the candidate and tests how it behaves.
//!
//! The result is only as honest as the candidate (`sh`, `find` and the package manager are its own), so the report is
//! marked as candidate-executed. Must not take Goss's exit code for a verdict: it depends on the output format, and a
//! test that could not be carried out has the same result number as a failed one. Only the `json` format is read.

use super::{Invocation, PATH, Parsed, ReadError, lenient::LenientValue};
use repave_core::report::{Finding, Severity};
use serde::Deserialize;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Most of Goss's JSON that is read: 40 KB are 60 tests, and a command's whole output may be in it.
pub const MAX_JSON: usize = 16 * 1024 * 1024;

const TOOL: &str = "Goss";

/// The loader that the bundle brings along: the candidate may have another C library, or none.
pub const LOADER: &str = "ld-linux-x86-64.so.2";

/// What the policy may set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Fewer tests than this are an error.
    pub min_tests: u64,
    /// More skipped tests than this are an error.
    pub max_skipped: u64,
    /// The severity of a test without `meta.severity`.
    pub default_severity: Severity,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            min_tests: 1,
            max_skipped: 0,
            default_severity: Severity::Medium,
        }
    }
}

/// How Goss is called: through the bundle's own loader and libraries. Never with `--retry-timeout`, which would write a
/// document for every attempt; its environment names no such variable either.
pub fn invocation(bundle: &Path, gossfile: &Path, vars: Option<&Path>) -> Invocation {
    let mut args: Vec<OsString> = bundled(bundle);
    if let Some(vars) = vars {
        args.extend(["--vars".into(), vars.into()]);
    }
    args.extend(["-g".into(), gossfile.into()]);
    // 50 at once is Goss's default: too many `find /` for a small container.
    let rest = [
        "validate",
        "--format",
        "json",
        "--format-options",
        "sort",
        "--no-color",
        "--max-concurrent",
        "4",
    ];
    args.extend(rest.map(OsString::from));
    with(bundle, args)
}

/// The same with another root directory: `repave runner goss-chroot` enters it, gives up what it needed for that, and
/// becomes Goss. All paths of the inner invocation are paths below that root.
pub fn below_root(repave: &Path, root: &Path, inner: Invocation) -> Invocation {
    let mut args: Vec<OsString> = ["runner", "goss-chroot", "--root"].map(OsString::from).into();
    args.extend([root.into(), "--".into(), inner.program.into()]);
    args.extend(inner.args);
    Invocation {
        program: repave.into(),
        args,
        env: inner.env,
    }
}

/// How Goss is asked for its version.
pub fn version(bundle: &Path) -> Invocation {
    let mut args = bundled(bundle);
    args.push("--version".into());
    with(bundle, args)
}

fn bundled(bundle: &Path) -> Vec<OsString> {
    vec!["--library-path".into(), bundle.into(), bundle.join("goss").into()]
}

fn with(bundle: &Path, args: Vec<OsString>) -> Invocation {
    Invocation {
        program: PathBuf::from(bundle).join(LOADER),
        args,
        env: vec![("PATH".into(), PATH.into()), ("HOME".into(), "/".into())],
    }
}

#[derive(Deserialize)]
struct Document {
    results: Vec<Test>,
    summary: Summary,
}

#[derive(Deserialize)]
struct Summary {
    #[serde(rename = "test-count")]
    tests: u64,
    #[serde(rename = "failed-count")]
    failed: u64,
    #[serde(rename = "skipped-count")]
    skipped: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Test {
    resource_type: String,
    resource_id: String,
    property: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    meta: Option<Meta>,
    result: u8,
    successful: bool,
    #[serde(default)]
    err: LenientValue,
    #[serde(default)]
    summary_line_compact: String,
}

/// What a gossfile may say about a test for us; what else is there is skipped.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    severity: LenientValue,
    control: LenientValue,
    reference: LenientValue,
    remedy: LenientValue,
}

impl Test {
    fn id(&self) -> String {
        format!(
            "{}:{}:{}",
            self.resource_type.to_lowercase(),
            self.resource_id,
            self.property
        )
    }

    fn meta(&self, value: impl Fn(&Meta) -> &LenientValue) -> Option<&str> {
        value(self.meta.as_ref()?).text()
    }

    fn finding(&self, default: Severity) -> Finding {
        let line = if self.summary_line_compact.is_empty() {
            format!("{} is not as expected", self.id())
        } else {
            self.summary_line_compact.chars().take(500).collect()
        };
        let title = self.title.as_deref().filter(|title| !title.is_empty());
        Finding {
            id: self.id(),
            severity: self.meta(|meta| &meta.severity).map_or(default, super::severity),
            title: title.map_or_else(|| line.clone(), |title| format!("{title}: {line}")),
            subject: Some(self.resource_id.clone()),
            remedy: self.meta(|meta| &meta.remedy).map(str::to_owned),
            reference: self
                .meta(|meta| &meta.control)
                .or_else(|| self.meta(|meta| &meta.reference))
                .map(str::to_owned),
            ..Finding::default()
        }
    }
}

/// Programs that Goss asks about packages. Without any, "not installed" is what it always finds.
pub const PACKAGE_MANAGERS: [&str; 4] = ["dpkg-query", "rpm", "apk", "pacman"];

/// Reads the one JSON document that Goss wrote; `exit_code` must agree with it, and tests of packages count only where
/// the image has a package manager to ask.
pub fn read(
    json: &[u8],
    exit_code: Option<i32>,
    options: &Options,
    has_package_manager: bool,
) -> Result<Parsed, ReadError> {
    if json.len() > MAX_JSON {
        return Err(ReadError::TooLarge {
            tool: TOOL,
            what: "JSON",
            limit: MAX_JSON as u64,
        });
    }
    let document: Document = serde_json::from_slice(json).map_err(|error| ReadError::Malformed {
        tool: TOOL,
        why: format!("expected one JSON document of `validate --format json`, found: {error}"),
    })?;
    let mut parsed = Parsed::default();
    let mut failed = 0;
    for test in &document.results {
        count(test, options, &mut parsed, &mut failed);
    }
    if let Some(test) = document.results.iter().find(|test| test.resource_type == "Package")
        && !has_package_manager
    {
        parsed.problems.push(format!(
            "the test {} asks a package manager, and the image has none: test the files instead",
            test.id()
        ));
    }
    agree(&document, failed, parsed.not_applicable, exit_code)?;
    bounds(&document, options, &mut parsed);
    Ok(parsed)
}

/// Counts one test. Results: 0 passed, 1 failed or not carried out, 2 skipped, 3 unknown.
fn count(test: &Test, options: &Options, parsed: &mut Parsed, failed: &mut u64) {
    let err = match &test.err {
        LenientValue::Null => None,
        LenientValue::Text(err) | LenientValue::Number(err) => Some(err.as_str()),
        LenientValue::Other => Some("an error that is no text"),
    };
    match (test.result, test.successful, err) {
        (0, true, None) => {
            parsed.evaluated += 1;
            parsed.passed += 1;
        }
        (1, false, None) => {
            parsed.evaluated += 1;
            *failed += 1;
            parsed.findings.push(test.finding(options.default_severity));
        }
        (2, true, None) => parsed.not_applicable += 1,
        (result, successful, err) => {
            *failed += u64::from(!successful);
            let why = err.map_or_else(
                || format!("result {result} with successful={successful}"),
                str::to_owned,
            );
            parsed.problems.push(format!(
                "the test {} could not be carried out: {}",
                test.id(),
                why.chars().take(300).collect::<String>()
            ));
        }
    }
}

/// The list, the summary and the exit code must tell the same story: a torn or doctored document does not.
fn agree(document: &Document, failed: u64, skipped: u64, exit_code: Option<i32>) -> Result<(), ReadError> {
    let untrusted = |why: String| Err(ReadError::Untrusted { tool: TOOL, why });
    let said = &document.summary;
    let tests = document.results.len() as u64;
    if (tests, failed, skipped) != (said.tests, said.failed, said.skipped) {
        return untrusted(format!(
            "its summary says {} tests, {} failed, {} skipped; its list has {tests} tests, {failed} failed, {skipped} \
             skipped",
            said.tests, said.failed, said.skipped
        ));
    }
    let expected = i32::from(failed > 0);
    match exit_code {
        Some(code) if code == expected => Ok(()),
        Some(code) => untrusted(format!(
            "{failed} failed tests mean exit code {expected}, it ended with {code}"
        )),
        None => untrusted("it was ended by a signal".to_owned()),
    }
}

fn bounds(document: &Document, options: &Options, parsed: &mut Parsed) {
    let tests = document.results.len() as u64;
    if tests < options.min_tests.max(1) {
        parsed.problems.push(format!(
            "expected at least {} tests, found {tests}: is the gossfile empty?",
            options.min_tests.max(1)
        ));
    }
    if parsed.not_applicable > options.max_skipped {
        parsed.problems.push(format!(
            "{} tests were skipped, at most {} may be: repair them, remove `skip: true`, or raise maximumSkipped",
            parsed.not_applicable, options.max_skipped
        ));
    }
}

pub mod template;
#[cfg(test)]
mod tests;
