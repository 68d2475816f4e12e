//! Reads the stored reports of a refused candidate when the waivers are others than those it was judged with, and of one
//! that is about to be promoted when its gates opened under other waivers, or a day ago. Reads only; nothing runs again.
//!
//! An error is never looked at this way: a waiver takes findings out of a count, and an error has none.

use super::{Error, ValidatedCandidate};
use crate::{
    api::{ImageCandidate, ImageCandidateStatus, Waiver, image_candidate::Step, phase::Phase},
    controllers::{
        candidate::{
            evaluation_inputs::{self, EvaluationInputs},
            exceptions,
            validate::PlannedCheck,
        },
        context::Context,
        desired::{ask, wanted::Wanted},
        inputs,
    },
    domain::{digest::Digest, report::Report, verdict::Verdict},
    evidence,
    registry::Auth,
};
use jiff::{SignedDuration, Timestamp};

/// How long open gates hold until the promotion. Scans are judged by the age of their database too, so that what stood still
/// for weeks is not promoted on what was known then.
const HOLDS: SignedDuration = SignedDuration::from_hours(24);

/// A report with the digest of its artifact in staging.
pub type Stored = (Box<Report>, Digest);

/// What is judged anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Reevaluate {
    /// The built image.
    pub image: Digest,
    /// The stored reports, or why they cannot be used any more.
    pub reports: Result<Vec<Stored>, String>,
    /// The waivers of now, and the release before.
    pub evaluation_inputs: EvaluationInputs,
}

/// The image of a candidate that findings alone keep out; only such a one may be judged anew.
pub fn refused_for_findings<'a>(status: &'a ImageCandidateStatus, checks: &[PlannedCheck]) -> Option<&'a Digest> {
    let judged = |check: &PlannedCheck| {
        let summary = status.check(&check.name);
        let words = [Verdict::Passed.as_str(), Verdict::Failed.as_str()];
        summary.is_some_and(|summary| !check.enforced || words.contains(&summary.verdict.as_str()))
    };
    let refused = Phase::of(status) == Phase::Rejected;
    let whole = refused && !checks.is_empty() && checks.iter().all(judged);
    status.built_digest.as_ref().filter(|_| whole)
}

/// Reads it, where a waiver has appeared, changed or ended since the judgement, and the image is still wanted: a waiver opens
/// nothing that was left behind.
pub async fn observe(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    status: &ImageCandidateStatus,
    ctx: &Context,
) -> Result<Option<Reevaluate>, Error> {
    let Some(image) = refused_for_findings(status, &validated.checks) else {
        return Ok(None);
    };
    let waivers = evaluation_inputs::waivers(ctx, &validated.namespace).await?;
    let in_force = exceptions::in_force(&waivers, candidate, image, ctx.now());
    if status.waivers_hash.as_deref() == Some(in_force.as_str()) || ask::wanted(candidate, ctx).await? != Wanted::Yes {
        return Ok(None);
    }
    read(candidate, validated, status, image, &waivers, ctx).await.map(Some)
}

/// Reads it for a candidate whose gates are open: it may have waited long (suspended, a registry that was away), and what
/// opened them need not hold any more.
pub async fn before_promotion(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    status: &ImageCandidateStatus,
    image: &Digest,
    ctx: &Context,
) -> Result<Option<Reevaluate>, Error> {
    let waivers = evaluation_inputs::waivers(ctx, &validated.namespace).await?;
    let in_force = exceptions::in_force(&waivers, candidate, image, ctx.now());
    if !is_due(status, &in_force, ctx.now()) {
        return Ok(None);
    }
    read(candidate, validated, status, image, &waivers, ctx).await.map(Some)
}

/// Whether the gates that opened for this candidate must be judged again before anything of it gets to production: asked
/// again while it is promoted, of the status that the promotion began with.
pub async fn is_due_now(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    image: &Digest,
    ctx: &Context,
) -> Result<bool, evaluation_inputs::WaiversError> {
    let waivers = evaluation_inputs::waivers(ctx, &validated.namespace).await?;
    let in_force = exceptions::in_force(&waivers, candidate, image, ctx.now());
    let judged = candidate.status.as_ref();
    Ok(judged.is_none_or(|status| is_due(status, &in_force, ctx.now())))
}

/// Whether open gates are judged again before the promotion: the waivers are others now, or [`HOLDS`] is over.
pub fn is_due(status: &ImageCandidateStatus, in_force: &str, now: Timestamp) -> bool {
    let gates = status
        .timeline
        .iter()
        .filter(|entry| matches!(entry.step, Step::Validated | Step::Scanned));
    let judged = gates
        .filter_map(|entry| entry.finished.as_ref())
        .map(|time| time.0)
        .max();
    // A time that has not come yet says nothing about how old the judgement is.
    let old = judged.is_some_and(|at| now.duration_since(at).abs() > HOLDS);
    !status.checks.is_empty() && (old || status.waivers_hash.as_deref() != Some(in_force))
}

async fn read(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    status: &ImageCandidateStatus,
    image: &Digest,
    waivers: &[Waiver],
    ctx: &Context,
) -> Result<Reevaluate, Error> {
    let auth = inputs::registry_auth(
        ctx,
        &validated.namespace,
        candidate.spec.promote.push_secret_ref.as_ref(),
    )
    .await?;
    let checks: Vec<&PlannedCheck> = validated.checks.iter().collect();
    Ok(Reevaluate {
        image: image.clone(),
        reports: reports(validated, status, image, ctx, &auth).await?,
        evaluation_inputs: evaluation_inputs::with(ctx, candidate, validated, image, &checks, waivers).await,
    })
}

async fn reports(
    validated: &ValidatedCandidate,
    status: &ImageCandidateStatus,
    image: &Digest,
    ctx: &Context,
    auth: &Auth,
) -> Result<Result<Vec<Stored>, String>, Error> {
    let mut reports = Vec::new();
    for check in &validated.checks {
        let Some(stored) = status.check(&check.name).and_then(|summary| summary.report.as_ref()) else {
            continue;
        };
        match evidence::fetch_report(&ctx.registry, &validated.staging, stored, auth).await {
            Ok(json) => match check.stored(&json, image) {
                Ok(report) => reports.push((Box::new(report), stored.clone())),
                Err(why) => return Ok(Err(why)),
            },
            Err(error) if error.is_not_found() => {
                let name = &check.name;
                return Ok(Err(format!(
                    "the report of check {name} is not in the staging repository any more"
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Ok(reports))
}
