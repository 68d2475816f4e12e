//! The normalised report: what every tool's output becomes before anything is decided about it.
//!
//! It is the wire format between the runner (in the Job pod) and the operator, and what is kept as evidence. It
//! carries facts only: whether a gate opens is decided in `verdict.rs` by the operator, never by the runner.
//! Everything in a received report is hostile text until [`Report::validate`] has bounded it.

use super::digest::Digest;
use super::text::is_shown;
pub use super::tool::ToolName;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};
use std::{fmt, marker::PhantomData};

/// Version of the format; a report with another one is not read.
pub const SCHEMA: &str = "repave.dev/report/v1";

/// Most findings that a report may carry; the runner sets [`Report::truncated`] when there were more.
pub const MAX_FINDINGS: usize = 10_000;

/// EPSS of what is certain.
pub const EPSS_CERTAIN: u16 = 10_000;

/// Most other ids of one finding.
pub const MAX_ALIASES: usize = 16;

/// Most attachments of a report.
pub const MAX_ATTACHMENTS: usize = 8;

/// Longest text of one field, in bytes.
pub const MAX_TEXT: usize = 2_000;

/// How bad a finding is. The order is by weight: `Critical` is the greatest.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The tool gave none, or one that we do not know: never less than `Low` for a gate.
    #[default]
    Unknown,
    /// Worth knowing.
    Low,
    /// Should be repaired (CAT III to II).
    Medium,
    /// Must be repaired (CAT I).
    High,
    /// Exploitable as it stands.
    Critical,
}

impl Severity {
    /// All severities, worst first: the order in which people read counts.
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Unknown];

    /// The lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The tool, its version, and the content and database that it judged by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// Which tool.
    pub name: ToolName,
    /// Its version as it prints it.
    pub version: String,
    /// What it judged by: the data stream and profile, the gossfile's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// When the vulnerability database was built, RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub database_built: Option<jiff::Timestamp>,
    /// Which vulnerability database: its image's digest, or what the tool calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

impl Tool {
    /// A tool of which nothing but its version is known.
    pub fn new(name: ToolName, version: impl Into<String>) -> Self {
        Self {
            name,
            version: version.into(),
            content: None,
            database_built: None,
            database: None,
        }
    }
}

/// How the tool's run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Outcome {
    /// The tool ran to its end and its output was read whole.
    Completed,
    /// The tool crashed, was killed, or its output could not be trusted; never the candidate's fault.
    Error {
        /// What was expected, what was found.
        message: String,
    },
    /// The check does not apply to this image (an unknown OS, no package database).
    Unsupported {
        /// Why.
        message: String,
    },
}

/// One thing that is wrong with the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable id: `native.world-writable`, `CVE-2026-1234`, `accounts_umask_etc_profile`, `file:/etc/passwd:mode`.
    #[schemars(length(max = MAX_TEXT))]
    pub id: String,
    /// How bad.
    pub severity: Severity,
    /// What was found where, in one line.
    #[schemars(length(max = MAX_TEXT))]
    pub title: String,
    /// The path, package or account that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What to do, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The benchmark item: `CIS 6.1.10`, `STIG V-…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// For vulnerabilities: the version that repairs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_version: Option<String>,
    /// For vulnerabilities: the package as a package URL without qualifiers, `pkg:deb/debian/openssl@3.0.15-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Other ids of the same thing (GHSA, DSA, CVE).
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_most::<_, _, MAX_ALIASES>"
    )]
    #[schemars(length(max = MAX_ALIASES))]
    pub aliases: Vec<String>,
    /// Whether it is known to be exploited (CISA KEV), as far as the database knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub known_exploited: bool,
    /// Probability that it is exploited within 30 days (EPSS), in hundredths of a percent: 10 000 is certainty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = EPSS_CERTAIN))]
    pub epss: Option<u16>,
}

/// Something that the tool wrote besides the report: its own HTML page, its raw result, the list of packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// File name: `report.html`, `testresult.xml`, `sbom.cdx.json`.
    pub name: String,
    /// Media type of the unpacked bytes.
    pub media_type: String,
    /// Digest of the gzipped bytes.
    #[schemars(with = "String", regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: Digest,
    /// Their size, in bytes.
    pub size: u64,
}

/// What one check found in one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Name and version of this format.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// The check's name in the policy.
    pub check: String,
    /// The manifest digest of the image that was examined.
    #[schemars(with = "String", regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub image: Digest,
    /// The tool.
    pub tool: Tool,
    /// How it ended.
    pub outcome: Outcome,
    /// How many rules, tests or packages were really evaluated: 0 is never a pass.
    pub evaluated: u64,
    /// How many of them were fine.
    pub passed: u64,
    /// How many did not apply or were excluded.
    pub not_applicable: u64,
    /// What is wrong, worst first.
    #[serde(deserialize_with = "at_most::<_, _, MAX_FINDINGS>")]
    #[schemars(length(max = MAX_FINDINGS))]
    pub findings: Vec<Finding>,
    /// There were more findings than the report may carry.
    #[serde(default)]
    pub truncated: bool,
    /// Whether code of the candidate ran: such a report is only as honest as the candidate.
    #[serde(default)]
    pub candidate_executed: bool,
    /// Milliseconds that the tool itself took.
    pub tool_millis: u64,
    /// The tool's own counts that decide nothing, in one line for people: kinds of rules left out, the score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What travels and is kept with the report.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_most::<_, _, MAX_ATTACHMENTS>"
    )]
    #[schemars(length(max = MAX_ATTACHMENTS))]
    pub attachments: Vec<Attachment>,
}

/// Why a received report is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the report of check {check:?} is not believed: {why}")]
pub struct ReportRefused {
    /// The check that was asked.
    pub check: String,
    /// What was expected, what was found.
    pub why: String,
}

impl Report {
    /// A report that says only that the check could not be carried out.
    pub fn error(check: &str, image: &Digest, tool: Tool, message: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            check: check.to_owned(),
            image: image.clone(),
            tool,
            outcome: Outcome::Error {
                message: bounded(&message.into()),
            },
            evaluated: 0,
            passed: 0,
            not_applicable: 0,
            findings: Vec::new(),
            truncated: false,
            candidate_executed: false,
            tool_millis: 0,
            summary: None,
            attachments: Vec::new(),
        }
    }

    /// Sorts, bounds and cleans the findings and every other text. The runner calls it last; it never hides that it cut something.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.findings.sort_by(|a, b| {
            b.severity
                .cmp(&a.severity)
                .then_with(|| (&a.id, &a.subject).cmp(&(&b.id, &b.subject)))
        });
        if self.findings.len() > MAX_FINDINGS {
            self.findings.truncate(MAX_FINDINGS);
            self.truncated = true;
        }
        self.summary = self.summary.as_deref().map(bounded);
        self.tool.version = bounded(&self.tool.version);
        self.tool.content = self.tool.content.as_deref().map(bounded);
        self.tool.database = self.tool.database.as_deref().map(bounded);
        match &mut self.outcome {
            Outcome::Completed => {}
            Outcome::Error { message } | Outcome::Unsupported { message } => *message = bounded(message),
        }
        for finding in &mut self.findings {
            finding.id = bounded(&finding.id);
            finding.title = bounded(&finding.title);
            for text in [
                &mut finding.subject,
                &mut finding.remedy,
                &mut finding.reference,
                &mut finding.fixed_version,
                &mut finding.package,
            ] {
                *text = text.as_deref().map(bounded);
            }
            finding.aliases.truncate(MAX_ALIASES);
            for alias in &mut finding.aliases {
                *alias = bounded(alias);
            }
            finding.epss = finding.epss.map(|epss| epss.min(EPSS_CERTAIN));
        }
        self
    }

    /// Accepts a received report only if it is about this check and this image, made by this tool, and within bounds.
    pub fn validate(self, check: &str, image: &Digest, tool: ToolName) -> Result<Self, ReportRefused> {
        let refuse = |why: String| {
            Err(ReportRefused {
                check: check.to_owned(),
                why,
            })
        };
        if self.schema != SCHEMA {
            return refuse(format!("expected schema {SCHEMA}, found {:?}", bounded(&self.schema)));
        }
        if self.check != check {
            return refuse(format!("it names check {:?}", bounded(&self.check)));
        }
        if self.image != *image {
            return refuse(format!("expected image {image}, found {}", self.image));
        }
        if self.tool.name != tool {
            return refuse(format!("expected tool {tool:?}, found {:?}", self.tool.name));
        }
        if let Some(odd) = self.attachments.iter().find(|a| !a.is_sane()) {
            return refuse(format!("an attachment is called {:?}", bounded(&odd.name)));
        }
        Ok(self.bounded())
    }
}

impl Attachment {
    /// Whether name and media type are plain words: they become annotations, file names and media types.
    fn is_sane(&self) -> bool {
        let plain = |text: &str, more: &[u8]| {
            !text.is_empty()
                && text.len() <= 100
                && !text.starts_with('.')
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
        };
        plain(&self.name, b".-_") && plain(&self.media_type, b".-+/")
    }
}

/// A list of at most `MOST`. The first entry beyond it is an error, before the rest is in memory: an empty text takes three
/// bytes as JSON and many times that as a value.
pub(crate) fn at_most<'de, D, T, const MOST: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T, const MOST: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Bounded<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MOST}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(entry) = entries.next_element()? {
                if list.len() == MOST {
                    return Err(A::Error::invalid_length(MOST + 1, &self));
                }
                list.push(entry);
            }
            Ok(list)
        }
    }

    from.deserialize_seq(Bounded::<T, MOST>(PhantomData))
}

/// The text without characters that are not shown (a terminal escape in a file name must not reach a terminal), cut to
/// [`MAX_TEXT`] bytes on a character boundary.
pub fn bounded(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars() {
        let c = if is_shown(c) { c } else { '\u{fffd}' };
        if clean.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        clean.push(c);
    }
    clean
}

#[cfg(test)]
mod tests;
