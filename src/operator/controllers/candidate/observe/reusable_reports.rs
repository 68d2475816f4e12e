//! Reports that another candidate of the same BaseImage has already: the same image, check, tools, content and database
//! give the same report, so the check is not run again.
//!
//! The native rules about age and the end of an operating system's life change with time alone, so their report is taken
//! over on the same day (UTC) only.
//!
//! What is taken over is named by digest in a status that only the operator writes, and is judged anew. A report that
//! cannot be read, or is about something else, is no report: the check runs.

use super::{Error, PlannedCheck, ValidatedCandidate};
use crate::{
    api::{
        ImageCandidate, ImageCandidateStatus,
        image_candidate::{CheckSummary, Step},
        refs::LABEL_BASE_IMAGE,
    },
    controllers::{context::Context, inputs, paging},
    domain::{digest::Digest, report::Outcome},
    evidence::{self, ReportArtifact},
    readable::Guarded,
    runner::frame::{Attached, Delivery},
};
use jiff::{civil::Date, tz::TimeZone};
use kube::{Api, ResourceExt, api::ListParams};

/// Most candidates of one BaseImage; the history keeps far fewer.
pub const MAX_SIBLINGS: usize = 5_000;

/// The day (UTC) that a check's result is of, where that changes with time alone: the one on which the candidate was built,
/// because that never changes afterwards and a check must not run every day for nothing.
pub fn day(check: &PlannedCheck, status: &ImageCandidateStatus, candidate: &ImageCandidate) -> Option<Date> {
    if !check.tool.facts().changes_daily {
        return None;
    }
    let built = status.timeline.iter().find(|entry| entry.step == Step::Built);
    let built = built.and_then(|entry| entry.finished.clone());
    let at = built.or_else(|| candidate.creation_timestamp())?.0;
    Some(at.to_zoned(TimeZone::UTC).date())
}

/// Reports of sibling candidates that may be reused.
#[derive(Debug, Default)]
pub struct ReusableReports(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    key: String,
    report: Digest,
}

impl ReusableReports {
    /// The reports of all other candidates of this BaseImage that were built to the same image.
    pub async fn of(
        candidate: &ImageCandidate,
        validated: &ValidatedCandidate,
        image: &Digest,
        ctx: &Context,
    ) -> Result<Self, Error> {
        let params = ListParams::default().labels(&format!("{LABEL_BASE_IMAGE}={}", candidate.spec.base_image));
        let api = Api::<Guarded<ImageCandidate>>::namespaced(ctx.client.clone(), &validated.namespace);
        let entries = |sibling: Guarded<ImageCandidate>| {
            let sibling = sibling.0.ok()?;
            let other = sibling.uid() != candidate.uid() && sibling.spec.staging == validated.staging;
            let status = sibling
                .status
                .filter(|status| other && status.built_digest.as_ref() == Some(image))?;
            let entry = |check: CheckSummary| {
                let (key, report) = (check.key?, check.report?);
                Some(Entry { key, report })
            };
            Some(status.checks.into_iter().filter_map(entry).collect::<Vec<_>>())
        };
        let found = paging::list(&api, params, MAX_SIBLINGS, entries).await?;
        Ok(Self(found.into_iter().flatten().collect()))
    }

    /// The report of this check, if it is known and was completed.
    pub async fn report(
        &self,
        check: &PlannedCheck,
        key: &Digest,
        image: &Digest,
        candidate: &ImageCandidate,
        validated: &ValidatedCandidate,
        ctx: &Context,
    ) -> Result<Option<Box<Delivery>>, Error> {
        let Some(entry) = self.0.iter().find(|entry| entry.key == key.hex()) else {
            return Ok(None);
        };
        let secret = candidate.spec.promote.push_secret_ref.as_ref();
        let auth = inputs::registry_auth(ctx, &validated.namespace, secret).await?;
        let kept =
            evidence::fetch_whole_report(&ctx.registry, &validated.staging, &entry.report, &check.name, &auth).await;
        let kept = match kept {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(candidate = validated.name, check = check.name, %error, "reusable report not read: the check runs");
                return Ok(None);
            }
        };
        Ok(believe(kept, check, image))
    }
}

/// The report as it was delivered, if it is one of this check and image that ran to its end.
fn believe(kept: ReportArtifact, check: &PlannedCheck, image: &Digest) -> Option<Box<Delivery>> {
    let report = check.stored(&kept.json, image).ok()?;
    if report.outcome != Outcome::Completed {
        return None;
    }
    let attached: Vec<Attached> = report
        .attachments
        .iter()
        .zip(kept.attached)
        .map(|(named, layer)| Attached {
            name: named.name.clone(),
            media_type: named.media_type.clone(),
            gzip: layer.bytes.to_vec(),
        })
        .collect();
    let whole = attached.len() == report.attachments.len()
        && attached
            .iter()
            .zip(&report.attachments)
            .all(|(one, named)| Digest::of(&one.gzip) == named.digest);
    whole.then(|| Box::new(Delivery { report, attached }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controllers::candidate::tests::{completed, planned},
        domain::report::Report,
        registry::ArtifactLayer,
    };
    use bytes::Bytes;
    use std::collections::BTreeMap;

    fn kept(report: &Report, layers: &[&[u8]]) -> ReportArtifact {
        ReportArtifact {
            kind: report.check.clone(),
            json: Bytes::from(serde_json::to_vec(report).unwrap()),
            attached: layers
                .iter()
                .map(|bytes| ArtifactLayer {
                    media_type: "text/html+gzip".into(),
                    bytes: Bytes::copy_from_slice(bytes),
                    annotations: BTreeMap::new(),
                })
                .collect(),
        }
    }

    #[test]
    fn what_changes_with_time_alone_is_taken_over_on_the_same_day_only() {
        let candidate = crate::controllers::candidate::tests::candidate();
        let built = |at: &str| -> ImageCandidateStatus {
            let entry = serde_json::json!({"step": "Built", "started": "2026-01-01T00:00:00Z", "finished": at});
            serde_json::from_value(serde_json::json!({"timeline": [entry]})).unwrap()
        };
        let (image, tools) = (
            Digest::of(b"built"),
            crate::controllers::candidate::tests::settings().tools_image,
        );
        let key = |name: &str, at: &str| {
            let mut check = planned(name);
            check.day = day(&check, &built(at), &candidate);
            check.key(&image, &tools)
        };
        let (morning, evening, next) = ("2026-01-02T00:00:01Z", "2026-01-02T23:59:59Z", "2026-01-03T00:00:00Z");
        assert_eq!(key("hardening", morning), key("hardening", evening));
        assert_ne!(key("hardening", evening), key("hardening", next));
        for timeless in ["functional", "cis", "cves"] {
            assert_eq!(key(timeless, morning), key(timeless, next), "{timeless}");
        }
    }

    #[test]
    fn only_a_completed_whole_report_about_this_image_and_check_is_taken_over() {
        let (check, image) = (planned("hardening"), Digest::of(b"built"));
        let mut report = completed(&check, &image);
        report.attachments = vec![crate::domain::report::Attachment {
            name: "report.html".into(),
            media_type: "text/html".into(),
            digest: Digest::of(b"page"),
            size: 4,
        }];
        assert!(believe(kept(&report, &[b"page"]), &check, &image).is_some());
        assert!(believe(kept(&report, &[]), &check, &image).is_none());
        assert!(believe(kept(&report, &[b"other"]), &check, &image).is_none());
        assert!(believe(kept(&report, &[b"page"]), &check, &Digest::of(b"other")).is_none());
        assert!(believe(kept(&report, &[b"page"]), &planned("functional"), &image).is_none());
        report.outcome = Outcome::Error {
            message: "killed".into(),
        };
        assert!(believe(kept(&report, &[b"page"]), &check, &image).is_none());
    }
}
