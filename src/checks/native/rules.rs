//! What a rule is, what it may look at, and where it puts what it finds; `evaluate` runs the rules of the table.
//!
//! A rule is a small function in the file of its subject. It either does not apply (and then counts neither as
//! evaluated nor as passed) or looks at everything that it is about. Must not decide whether a gate opens.

use super::accounts::Accounts;
use super::error::LayerFault;
use super::hidden::Hidden;
use super::layers::Merged;
use super::layout::ImageConfig;
use super::options::Options;
use super::packages::database::{self, Installed};
use super::tree::Tree;
use super::tree_read::text;
use repave_core::report::{Finding, MAX_FINDINGS, Severity, bounded};
use std::cell::OnceCell;

/// What a rule may look at.
pub(super) struct Context<'a> {
    pub tree: &'a Tree,
    pub config: &'a ImageConfig,
    pub options: &'a Options,
    pub accounts: Accounts,
    pub hidden: &'a Hidden,
    /// Bytes of all layers, unpacked.
    pub unpacked: u64,
    /// The time of the examination: an image must not say how old it is.
    pub now: jiff::Timestamp,
    packages: OnceCell<Option<Installed>>,
}

impl<'a> Context<'a> {
    pub fn new(
        merged: &'a Merged,
        config: &'a ImageConfig,
        options: &'a Options,
        now: jiff::Timestamp,
    ) -> Result<Self, LayerFault> {
        Ok(Self {
            tree: &merged.tree,
            config,
            options,
            accounts: Accounts::read(&merged.tree)?,
            hidden: &merged.hidden,
            unpacked: merged.unpacked,
            now,
            packages: OnceCell::new(),
        })
    }

    /// The installed packages, read when the first rule asks: who switches these rules off needs no readable database.
    pub fn packages(&self) -> Result<Option<&Installed>, LayerFault> {
        if self.packages.get().is_none() {
            let read = database::installed(self.tree)?;
            return Ok(self.packages.get_or_init(|| read).as_ref());
        }
        Ok(self.packages.get().and_then(Option::as_ref))
    }

    /// The content of a file that is kept, links followed inside the image.
    pub fn text(&self, path: &str) -> Result<Option<&'a [u8]>, LayerFault> {
        text(self.tree, path.as_bytes())
    }
}

/// Whether a rule had anything to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applies {
    Yes,
    No,
}

pub(super) type Evaluate = fn(&Context<'_>, &mut FindingSink<'_>) -> Result<Applies, LayerFault>;

/// One rule.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub id: &'static str,
    pub severity: Severity,
    /// Items of the CIS Debian Linux 12 Benchmark 1.1.0 or the CIS Docker Benchmark 1.6.0.
    pub reference: Option<&'static str>,
    /// What must not be, for the documentation.
    pub about: &'static str,
    pub remedy: &'static str,
    pub evaluate: Evaluate,
    /// Whether it is evaluated only on demand: an ordinary image of a distribution would not pass it.
    pub on_demand: bool,
}

impl Rule {
    pub fn wanted(&self, options: &Options) -> bool {
        let named =
            |list: &std::collections::BTreeSet<super::options::RuleId>| list.iter().any(|id| id.as_str() == self.id);
        (!self.on_demand || named(&options.rules_enabled)) && !named(&options.rules_disabled)
    }
}

/// Collects the findings of one rule.
pub(super) struct FindingSink<'a> {
    rule: &'a Rule,
    findings: Vec<Finding>,
}

impl<'a> FindingSink<'a> {
    pub fn of(rule: &'a Rule) -> Self {
        Self {
            rule,
            findings: Vec::new(),
        }
    }

    pub fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    pub fn add(&mut self, subject: &[u8], title: impl Into<String>) {
        self.add_as(self.rule.severity, subject, title);
    }

    /// For the few cases that weigh more or less than their rule.
    pub fn add_as(&mut self, severity: Severity, subject: &[u8], title: impl Into<String>) {
        // One more than a report carries: enough to mark it as cut, and no more memory than that.
        if self.findings.len() <= MAX_FINDINGS {
            self.findings.push(Finding {
                id: self.rule.id.to_owned(),
                severity,
                title: bounded(&title.into()),
                subject: Some(bounded(&show(subject))),
                remedy: Some(self.rule.remedy.to_owned()),
                reference: self.rule.reference.map(str::to_owned),
                ..Finding::default()
            });
        }
    }
}

/// Bytes of the image as text: what is not UTF-8 or is a control character is escaped, so that no two names look alike.
pub(super) fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}
