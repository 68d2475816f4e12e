//! What takes findings of a candidate out of the count: the waivers of its namespace, the VEX documents of its checks. Pure.
//!
//! A document that cannot be read makes its check an error: half of somebody's exceptions is nobody's decision. Must not
//! count anything itself: `src/core/verdict.rs` does.

use crate::checks::PlannedCheck;
use crate::waiver::{period, suppressions};
use jiff::Timestamp;
use kube::ResourceExt;
use repave_api::{ImageCandidate, Waiver};
use repave_core::{
    digest::Digest,
    report::{Finding, Outcome, Report},
    verdict::{self, Judgement},
    vex::{self, Document, VexError},
    waiver::{Exceptions, Standing, Suppression},
};
use repave_report::{self as report, ExceptionKind};
use std::collections::BTreeMap;

/// A VEX document of a check that has no effect, and neither has its check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentRefused {
    /// The policy names it and it was not kept.
    #[error("VEX document {0} of the policy is not among the candidate's files: delete the candidate to read it again")]
    Missing(String),
    /// It cannot be read.
    #[error("VEX document {name}: {why}. Correct the ConfigMap that vexRefs names")]
    Unreadable {
        /// Its name in the check's Job.
        name: String,
        /// What was expected, what was found.
        why: VexError,
    },
}

/// The VEX documents of a check.
pub fn documents(check: &PlannedCheck) -> Result<Vec<Document>, DocumentRefused> {
    check
        .spec
        .vex_files()
        .map(|name| match check.files.get(&name) {
            None => Err(DocumentRefused::Missing(name)),
            Some(text) => vex::parse(text.as_bytes()).map_err(|why| DocumentRefused::Unreadable { name, why }),
        })
        .collect()
}

/// Judges a report with everything that takes findings out of it.
pub fn judge(check: &PlannedCheck, report: &Report, waivers: &[Suppression], now: Timestamp) -> Judgement {
    match documents(check) {
        Ok(documents) => verdict::judge(report, &check.gate, &all(&documents, report, waivers), now),
        Err(why) => {
            let refused = Report::error(&report.check, &report.image, report.tool.clone(), why.to_string());
            verdict::judge(&refused, &check.gate, &Exceptions::default(), now)
        }
    }
}

fn all(documents: &[Document], report: &Report, waivers: &[Suppression]) -> Exceptions {
    let waivers = waivers.iter().cloned();
    waivers.chain(vex::suppressions(documents, report)).collect()
}

/// What these waivers take out of the reports of a candidate's image, whatever the time is.
pub fn of_waivers(waivers: &[Waiver], candidate: &ImageCandidate, image: &Digest) -> Vec<Suppression> {
    let about = |waiver| {
        suppressions(
            waiver,
            &candidate.spec.base_image,
            &[image, &candidate.spec.source_digest],
        )
    };
    waivers.iter().flat_map(about).collect()
}

/// Says which waivers are in force for an image: equal texts mean that judging again would change nothing.
pub fn in_force(waivers: &[Waiver], candidate: &ImageCandidate, image: &Digest, now: Timestamp) -> String {
    let active = |waiver: &&Waiver| {
        let about = !of_waivers(std::slice::from_ref(*waiver), candidate, image).is_empty();
        let period = period(waiver).ok();
        about && period.is_some_and(|p| p.expires > now && p.not_before.is_none_or(|start| start <= now))
    };
    let mut lines: Vec<String> = waivers
        .iter()
        .filter(active)
        .map(|w| {
            let generation = w.metadata.generation.unwrap_or_default();
            format!("{} {} {generation}\n", w.name_any(), w.uid().unwrap_or_default())
        })
        .collect();
    lines.sort();
    Digest::of(lines.concat().as_bytes()).short().to_owned()
}

/// A finding that does not count, with everything that is to be told about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// For the page and SARIF.
    pub shown: report::Exception,
    /// For other programs; only of a vulnerability.
    pub vex: Option<vex::Exception>,
}

/// The findings of a report that did not count at a time, by its own order. Nothing of a report that is no result.
pub fn accepted(
    check: &PlannedCheck,
    report: &Report,
    waivers: &[Waiver],
    candidate: &ImageCandidate,
    at: Timestamp,
) -> Vec<Accepted> {
    let Ok(documents) = documents(check) else {
        return Vec::new();
    };
    if report.outcome != Outcome::Completed {
        return Vec::new();
    }
    let used = candidate
        .status
        .as_ref()
        .map(|status| status.waivers.as_slice())
        .unwrap_or_default();
    // One that was made after the judgement took nothing out; the clocks of API server and operator may differ a little.
    let was_there = |waiver: &&Waiver| {
        let made = waiver.creation_timestamp();
        used.contains(&waiver.name_any()) || made.is_some_and(|made| made.0 <= at)
    };
    let waivers: Vec<Waiver> = waivers.iter().filter(was_there).cloned().collect();
    let exceptions = all(&documents, report, &of_waivers(&waivers, candidate, &report.image));
    let by_name: BTreeMap<String, &Waiver> = waivers.iter().map(|waiver| (waiver.name_any(), waiver)).collect();
    let counted = report.findings.iter().filter(|finding| check.gate.concerns(finding));
    counted
        .filter_map(|finding| match exceptions.standing(&report.check, finding, at) {
            Standing::Counts { .. } => None,
            Standing::Waived { waiver } => Some(waived(check, finding, by_name.get(waiver)?)),
            Standing::Suppressed { .. } => suppressed(&documents, finding, &report.image),
        })
        .collect()
}

fn waived(check: &PlannedCheck, finding: &Finding, waiver: &Waiver) -> Accepted {
    let (spec, expires) = (&waiver.spec, waiver.spec.expires_at.0);
    let begins = spec.not_before.clone().or_else(|| waiver.creation_timestamp());
    let reason = format!(
        "risk accepted by {} until {expires} (Waiver {}): {}",
        spec.owner,
        waiver.name_any(),
        spec.reason
    );
    let vulnerability = check.is_scan().then(|| vex::Exception {
        vulnerability: finding.id.clone(),
        package: finding.package.clone(),
        status: vex::Status::Affected,
        reason,
        since: begins.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    });
    Accepted {
        shown: report::Exception {
            finding: finding.id.clone(),
            subject: finding.subject.clone(),
            package: finding.package.clone(),
            owner: spec.owner.clone(),
            reason: spec.reason.clone(),
            expires: Some(expires),
            kind: ExceptionKind::Waiver,
        },
        vex: vulnerability,
    }
}

fn suppressed(documents: &[Document], finding: &Finding, image: &Digest) -> Option<Accepted> {
    let (document, statement) = vex::suppression(documents, finding, image)?;
    Some(Accepted {
        shown: report::Exception {
            finding: finding.id.clone(),
            subject: finding.subject.clone(),
            package: finding.package.clone(),
            owner: document.author.clone(),
            reason: statement.reason(),
            expires: None,
            kind: ExceptionKind::Vex,
        },
        vex: Some(vex::Exception {
            vulnerability: finding.id.clone(),
            package: finding.package.clone(),
            status: statement.status,
            reason: format!("{} ({})", statement.reason(), document.author),
            since: statement.said(document),
        }),
    })
}

/// What the page and SARIF show, in the order in which they look it up.
pub fn shown(accepted: Vec<Accepted>) -> Vec<report::Exception> {
    let mut shown: Vec<_> = accepted.into_iter().map(|one| one.shown).collect();
    report::Exception::sort(&mut shown);
    shown
}

/// When a candidate's gates were decided; a candidate whose gates are open has it, and it never changes.
pub fn judged_at(candidate: &ImageCandidate) -> Timestamp {
    use repave_api::image_candidate::Step;
    let timeline = candidate.status.iter().flat_map(|status| &status.timeline);
    timeline
        .filter(|entry| matches!(entry.step, Step::Validated | Step::Scanned))
        .filter_map(|entry| entry.finished.as_ref().map(|time| time.0))
        .max()
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The OpenVEX document of an image, with every vulnerability that did not count; `None` where there is none. The same
/// reports and exceptions give the same bytes.
pub fn openvex(image: &Digest, accepted: &[Accepted], at: Timestamp) -> Option<Document> {
    let mut said: Vec<vex::Exception> = accepted.iter().filter_map(|one| one.vex.clone()).collect();
    said.sort_by(|a, b| (&a.vulnerability, &a.package, &a.reason).cmp(&(&b.vulnerability, &b.package, &b.reason)));
    said.dedup();
    said.truncate(vex::MAX_STATEMENTS);
    (!said.is_empty()).then(|| vex::write(image, "repave", at, &said))
}

#[cfg(test)]
mod tests;
