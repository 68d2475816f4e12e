//! Released images are evaluated again when the vulnerability database changes: from the stored list of packages, without
//! pulling the image. Reads only.
//!
//! Only the release that is current is looked at, and only what another database or tool could judge differently.

use super::{CheckState, Error, Stage, ValidatedCandidate, self_tests, withhold};
use crate::controllers::named::Named as _;
use crate::{
    api::{BaseImage, ImageCandidate, ImageCandidateStatus},
    controllers::{
        candidate::{evaluation_inputs, jobs},
        context::Context,
    },
    domain::digest::Digest,
};
use kube::{Api, ResourceExt};

/// What is to be evaluated again (`Stage::Rescan`), that nothing is for now (`Stage::Released`), or never (`Stage::Finished`).
pub async fn observe(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    status: &ImageCandidateStatus,
    ctx: &Context,
) -> Result<Stage, Error> {
    let (Some(image), true) = (
        &status.built_digest,
        validated.checks.iter().any(super::PlannedCheck::is_scan),
    ) else {
        return Ok(Stage::Finished);
    };
    if !is_current(candidate, validated, status, ctx).await? {
        return Ok(Stage::Finished);
    }
    let mut checks = Vec::new();
    // As with the first evaluation: one report at a time.
    let mut one_is_there = false;
    for check in validated.checks.iter().filter(|check| check.is_scan()) {
        let Some(database) = ctx.databases.current(&ctx.registry, &ctx.settings, check.tool).await? else {
            continue;
        };
        let mut check = check.clone();
        check.database = Some(database);
        let key = check.key(image, &ctx.settings.tools_image);
        let Some(list) = artifact(status, &check.name).filter(|_| last_key(status, &check.name) != Some(key.hex()))
        else {
            continue;
        };
        if one_is_there {
            break;
        }
        let name = jobs::rescan_name(&key);
        let at = validated.staging.at(image);
        let again = jobs::Rescan {
            image: &at,
            digest: image,
            artifact: list,
        };
        let asked = |attempt| {
            let name = jobs::attempt_name(&name, attempt);
            jobs::rescan(candidate, validated, &ctx.settings, &check, again, &name).1
        };
        let state = super::report_of(ctx, validated, &name, asked, (&check, image)).await?;
        one_is_there = matches!(state, super::JobState::Delivered(_));
        checks.push((check, CheckState::Job(state)));
    }
    if checks.is_empty() {
        return Ok(Stage::Released);
    }
    let open: Vec<_> = checks.iter().map(|(check, _)| check).collect();
    let self_tests = self_tests::observe(&open, ctx).await?;
    for (check, state) in &mut checks {
        withhold(check, state, &self_tests);
    }
    let evaluation_inputs = Box::new(
        evaluation_inputs::evaluation_inputs(ctx, candidate, validated, image, &super::delivered(&checks)).await?,
    );
    Ok(Stage::Rescan {
        image: image.clone(),
        self_tests,
        evaluation_inputs,
        checks,
    })
}

/// Whether this candidate is what its BaseImage has released, or is about to say so.
async fn is_current(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    status: &ImageCandidateStatus,
    ctx: &Context,
) -> Result<bool, Error> {
    let bases = Api::<BaseImage>::namespaced(ctx.client.clone(), &validated.namespace);
    let base = bases.named(&candidate.spec.base_image).await?;
    if status.promoted.is_none() {
        return Ok(false);
    }
    let released = base.and_then(|base| base.status).and_then(|status| status.released);
    Ok(released.is_none_or(|released| {
        released.candidate == candidate.name_any() || released.sequence < candidate.spec.sequence
    }))
}

/// The key of the newest evaluation of a check.
fn last_key<'a>(status: &'a ImageCandidateStatus, check: &str) -> Option<&'a str> {
    let again = status.reevaluations.iter().find(|again| again.name == check);
    let first = status.check(check).and_then(|summary| summary.key.as_deref());
    again.map(|again| again.key.as_str()).or(first)
}

/// The artifact with the list of packages: that of the report the candidate was judged by.
pub fn artifact<'a>(status: &'a ImageCandidateStatus, check: &str) -> Option<&'a Digest> {
    status.check(check)?.report.as_ref()
}
