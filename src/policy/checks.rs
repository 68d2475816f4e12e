//! The checks and rules of a candidate's policies, each parsed once, with its gate. Pure.
//!
//! Must not judge a report: `src/core/verdict.rs` does, with the gate that is made here.

use crate::kinds::{self, ImageFacts};
use jiff::civil::Date;
use repave_api::{
    image_candidate::PolicySnapshot,
    validation_policy::{Check, Enforcement},
};
use repave_core::{
    digest::Digest,
    image_ref::ImageRef,
    report::{self, Report, ToolName},
    verdict::Gate,
};
use std::collections::BTreeMap;

/// A condition over the results of all checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRule {
    /// Name, made as that of a check.
    pub name: String,
    /// The policy that it is of.
    pub policy: String,
    /// The expression, in CEL.
    pub expression: String,
    /// What is said when it does not hold.
    pub message: String,
    /// Whether it keeps the candidate out.
    pub enforced: bool,
}

/// One check with everything that its Job and its gate need.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedCheck {
    /// Name, unique within the candidate: with several policies it carries the policy's name.
    pub name: String,
    /// What the policy says.
    pub spec: Check,
    /// The tool.
    pub tool: ToolName,
    /// What opens its gate.
    pub gate: Gate,
    /// Whether it keeps the candidate out when it does not pass; otherwise it is only reported.
    pub enforced: bool,
    /// The files that it needs: a gossfile, a tailoring, VEX documents.
    pub files: BTreeMap<String, String>,
    /// The check and its files as JSON: what of them decides the outcome.
    pub canonical: String,
    /// The vulnerability database, by digest; observed, not wished.
    pub database: Option<ImageRef>,
    /// The day of a check whose result changes with time alone; observed, not wished.
    pub day: Option<Date>,
}

impl PlannedCheck {
    /// Whether it belongs to the step Scanned (and not Validated).
    pub fn is_scan(&self) -> bool {
        self.tool.facts().scans
    }

    /// A report of this check that was stored: about this image and by the check's own tool, or why it is not one.
    pub fn stored(&self, json: &[u8], image: &Digest) -> Result<Report, String> {
        let report: Report = serde_json::from_slice(json).map_err(|_| {
            format!(
                "the stored report of check {} is not of the format {}",
                self.name,
                report::SCHEMA
            )
        })?;
        let report = report.validate(&self.name, image, self.tool);
        report.map_err(|error| error.to_string())
    }

    /// What its Job is told besides its arguments.
    pub fn options(&self, image: &ImageFacts<'_>) -> serde_json::Value {
        kinds::options(&self.spec.kind, &self.gate, image)
    }

    /// The files that the examination reads. VEX documents are none: the gate applies them.
    pub fn examined_files(&self) -> BTreeMap<&str, &str> {
        let vex: Vec<String> = self.spec.vex_files().collect();
        let files = self.files.iter().filter(|(name, _)| !vex.contains(name));
        files.map(|(name, text)| (name.as_str(), text.as_str())).collect()
    }

    /// A hash over the image and all that decides the outcome: names the check's Job.
    pub fn key(&self, image: &Digest, tools: &ImageRef) -> Digest {
        let database = self.database.as_ref().map(ImageRef::to_string).unwrap_or_default();
        let day = self.day.map(|day| format!("\n{day}")).unwrap_or_default();
        Digest::of(format!("{image}\n{tools}\n{database}\n{}\n{}{day}", self.name, self.canonical).as_bytes())
    }
}

/// A policy that the schema let through and that is still wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A check could not be written as JSON, so that its Job would have no name.
    #[error("a check of the policies is not serialisable: {0}")]
    Serialize(#[from] serde_json::Error),
}

/// The checks of these policies, in their order, each with its gate.
pub fn checks_of(policies: &[PolicySnapshot]) -> Result<Vec<PlannedCheck>, Error> {
    let mut checks = Vec::new();
    for policy in policies {
        for check in &policy.spec.checks {
            let name = full_name(policies, policy, &check.name);
            let files = policy.files.get(&check.name).cloned().unwrap_or_default();
            checks.push(PlannedCheck {
                name,
                spec: check.clone(),
                tool: check.kind.spec().tool(),
                canonical: canonical(check, &files)?,
                gate: Gate {
                    allow: check.allow.clone(),
                    ..kinds::gate(&check.kind)
                },
                enforced: policy.spec.enforcement == Enforcement::Enforce,
                files,
                database: None,
                day: None,
            });
        }
    }
    Ok(checks)
}

/// What names a check's Job rests on it, so one that could not be written is an error and never an empty text.
fn canonical(check: &Check, files: &BTreeMap<String, String>) -> Result<String, Error> {
    Ok(format!(
        "{}\n{}",
        serde_json::to_string(check)?,
        serde_json::to_string(files)?
    ))
}

/// With several policies a name carries the policy's.
pub(crate) fn full_name(policies: &[PolicySnapshot], policy: &PolicySnapshot, name: &str) -> String {
    if policies.len() == 1 {
        name.to_owned()
    } else {
        format!("{}.{name}", policy.name)
    }
}

/// The name of a check within its policy, if its whole name carries that of this policy.
pub fn own_name<'a>(policy: &str, full: &'a str) -> Option<&'a str> {
    full.strip_prefix(policy)?.strip_prefix('.')
}

/// The rules of these policies, in their order.
pub fn rules_of(policies: &[PolicySnapshot]) -> Vec<PlannedRule> {
    let rules = policies
        .iter()
        .flat_map(|policy| policy.spec.rules.iter().map(move |rule| (policy, rule)));
    rules
        .map(|(policy, rule)| PlannedRule {
            name: full_name(policies, policy, &rule.name),
            policy: policy.name.clone(),
            expression: rule.expression.clone(),
            message: rule.message.clone(),
            enforced: policy.spec.enforcement == Enforcement::Enforce,
        })
        .collect()
}
