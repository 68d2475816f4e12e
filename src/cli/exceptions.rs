//! What takes findings of a check out of the count: waivers, and the VEX documents that the check refers to.
//!
//! Collects only: which finding is taken out is decided in `domain::waiver`, as in the operator. A VEX document that
//! cannot be read is an error of its check, not a document less.

use jiff::Timestamp;
use kube::ResourceExt as _;
use repave_api::Waiver;
use repave_core::{
    digest::Digest,
    report::{Finding, Report},
    vex::{self, Document},
    waiver::{Exceptions, Kind, Standing, Suppression},
};
use repave_policy::{PlannedCheck, waiver as validate};
use repave_report::{Exception, ExceptionKind};

/// Most waivers: as many as the operator reads of a namespace.
pub const MAX_WAIVERS: usize = 500;

/// What was granted, and for which image.
#[derive(Debug, Clone, Copy)]
pub struct Granted<'a> {
    /// All waivers that are known.
    pub waivers: &'a [Waiver],
    /// Name of the base image; empty where it is not known, and then nothing bound to one applies.
    pub base_image: &'a str,
    /// The image's digests: as built, and as at its source.
    pub digests: &'a [&'a Digest],
    /// When it is asked.
    pub now: Timestamp,
}

/// What concerns one report.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// What the gate is given. It holds at the time that was asked for, whatever time the report is judged at.
    pub exceptions: Exceptions,
    /// Which findings it takes out and why, for showing.
    pub shown: Vec<Exception>,
}

impl Granted<'_> {
    /// What concerns the report of this check; otherwise why its VEX documents cannot be used.
    pub fn to(&self, check: &PlannedCheck, report: &Report) -> Result<Applied, String> {
        let documents = documents(check)?;
        let waivers = self.waivers.iter();
        let waived = waivers.flat_map(|waiver| validate::suppressions(waiver, self.base_image, self.digests));
        let exceptions: Exceptions = vex::suppressions(&documents, report)
            .into_iter()
            .chain(waived.filter_map(|suppression| as_of(suppression, self.now)))
            .collect();
        let shown = self.shown(&exceptions, &documents, report);
        Ok(Applied { exceptions, shown })
    }

    fn shown(&self, exceptions: &Exceptions, documents: &[Document], report: &Report) -> Vec<Exception> {
        let of = |finding| self.exception(exceptions, documents, report, finding);
        // One without a subject stands for all findings with its id: shown only if it is so.
        let is_whole = |finding: &Finding| {
            let mut same = report.findings.iter().filter(|other| other.id == finding.id);
            finding.subject.is_some() || same.all(|other| of(other).is_some())
        };
        let findings = report.findings.iter().filter(|finding| is_whole(finding));
        findings.filter_map(of).collect()
    }

    fn exception(
        &self,
        exceptions: &Exceptions,
        documents: &[Document],
        report: &Report,
        finding: &Finding,
    ) -> Option<Exception> {
        let (owner, reason, expires, kind) = match exceptions.standing(&report.check, finding, self.now) {
            Standing::Counts { .. } => return None,
            Standing::Waived { waiver } => {
                let waiver = self.waivers.iter().find(|known| known.name_any() == waiver)?;
                let (spec, end) = (&waiver.spec, waiver.spec.expires_at.0);
                (
                    spec.owner.clone(),
                    spec.reason.clone(),
                    Some(end),
                    ExceptionKind::Waiver,
                )
            }
            Standing::Suppressed { .. } => {
                let (document, statement) = vex::suppression(documents, finding, &report.image)?;
                (document.author.clone(), statement.reason(), None, ExceptionKind::Vex)
            }
        };
        Some(Exception {
            finding: finding.id.clone(),
            subject: finding.subject.clone(),
            package: finding.package.clone(),
            owner,
            reason,
            expires,
            kind,
        })
    }
}

/// What a waiver is worth at this time, for all times: a stored report is judged as of its release, a waiver as of today.
fn as_of(mut suppression: Suppression, now: Timestamp) -> Option<Suppression> {
    if let Kind::Waiver {
        not_before, expires, ..
    } = &mut suppression.kind
    {
        let over = *expires <= now;
        if !over && not_before.is_some_and(|start| start > now) {
            return None;
        }
        *not_before = None;
        *expires = if over { Timestamp::MIN } else { Timestamp::MAX };
    }
    Some(suppression)
}

/// The VEX documents that a check refers to.
fn documents(check: &PlannedCheck) -> Result<Vec<Document>, String> {
    let vex: Vec<String> = check.spec.vex_files().collect();
    let references = check.spec.file_references();
    let references = references.iter().filter(|(name, ..)| vex.contains(name));
    let read = references.map(|(name, at, default)| {
        let key = at.key.as_deref().unwrap_or(default);
        let shown = format!("the VEX document {key:?} of ConfigMap {:?}", at.name);
        let text = check.files.get(name).ok_or_else(|| format!("{shown} is missing"))?;
        vex::parse(text.as_bytes()).map_err(|error| format!("{shown}: {error}"))
    });
    read.collect()
}

#[cfg(test)]
mod tests;
