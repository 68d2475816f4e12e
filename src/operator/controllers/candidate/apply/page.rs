//! Writes the page for people from the stored reports and attaches it to the built image.
//!
//! The verdict does not rest on the page: whatever fails here is told and tried again, and must never hold up or undo
//! anything else.

use super::{Error, PageFailure, push_auth};
use crate::controllers::named::Named as _;
use crate::{
    api::{BaseImage, ImageCandidate, image_candidate::CheckSummary},
    controllers::{
        candidate::{evaluation_inputs, exceptions, validate::ValidatedCandidate},
        context::Context,
        error::{Classified as _, one_line},
    },
    domain::{digest::Digest, image_ref::Repository, report::Report},
    evidence,
    registry::{self, Auth, Descriptor},
    report::{
        self, Exception,
        page::{Page, Section},
    },
};
use bytes::Bytes;
use kube::Api;
use std::collections::BTreeMap;

/// The release that a candidate is compared with.
struct Previous {
    tag: String,
    digest: Digest,
    /// Its reports by check, in production.
    reports: BTreeMap<String, Digest>,
}

/// Publishes the page, or says why not.
pub(super) async fn publish(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
    image: &Digest,
) -> Result<Digest, PageFailure> {
    let published = Box::pin(try_publish(candidate, validated, ctx, image)).await;
    published.map_err(|error| {
        tracing::warn!(
            candidate = validated.name,
            namespace = validated.namespace,
            error = one_line(&error),
            "page not published"
        );
        PageFailure {
            reason: error.reason(),
            class: error.class(),
        }
    })
}

async fn try_publish(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
    image: &Digest,
) -> Result<Digest, Error> {
    let auth = push_auth(candidate, validated, ctx).await?;
    let subject = subject(ctx, &validated.staging, image, &auth).await?;
    let previous = previous(candidate, validated, ctx, image, &auth).await;
    let waivers = evaluation_inputs::waivers(ctx, &validated.namespace).await?;
    let excepted = |check: &str, report: &Report| -> Vec<Exception> {
        let check = validated.checks.iter().find(|planned| planned.name == check);
        let at = exceptions::judged_at(candidate);
        let accepted = check.map(|check| exceptions::accepted(check, report, &waivers, candidate, at));
        exceptions::shown(accepted.unwrap_or_default())
    };
    let mut sections = Vec::new();
    // One check after the other: at most two reports are in memory.
    for summary in candidate.status.iter().flat_map(|status| &status.checks) {
        sections.push(section(validated, ctx, image, summary, previous.as_ref(), &excepted, &auth).await?);
    }
    let compared = previous.map(|previous| format!("{} ({})", previous.tag, previous.digest));
    let html = Bytes::from(Page::new(candidate, sections, compared.as_deref()).html()?);
    ctx.leader.require()?;
    let page = evidence::attach_page(&ctx.registry, &validated.staging, &subject, html.clone(), &auth).await?;
    // It came too late for the promotion: then it is brought after.
    if let Some(promoted) = candidate.status.as_ref().and_then(|status| status.promoted.as_ref()) {
        let subject = self::subject(ctx, &promoted.repository, &promoted.digest, &auth).await?;
        ctx.leader.require()?;
        evidence::attach_page(&ctx.registry, &promoted.repository, &subject, html, &auth).await?;
    }
    Ok(page)
}

async fn subject(ctx: &Context, repository: &Repository, image: &Digest, auth: &Auth) -> Result<Descriptor, Error> {
    let image = repository.at(image);
    let found = ctx.registry.head(&image, auth).await?;
    found.ok_or_else(|| Error::Lost(image.to_string()))
}

async fn section(
    validated: &ValidatedCandidate,
    ctx: &Context,
    image: &Digest,
    summary: &CheckSummary,
    previous: Option<&Previous>,
    excepted: &(dyn Fn(&str, &Report) -> Vec<Exception> + Sync),
    auth: &Auth,
) -> Result<Section, Error> {
    let report = match &summary.report {
        Some(stored) => stored_report(ctx, &validated.staging, stored, &summary.name, image, auth).await?,
        None => None,
    };
    let before = previous.and_then(|previous| Some((previous, previous.reports.get(&summary.name)?)));
    let before = match before {
        // Without it there is only no comparison.
        Some((previous, stored)) => {
            let report = stored_report(
                ctx,
                &validated.production,
                stored,
                &summary.name,
                &previous.digest,
                auth,
            );
            report.await.unwrap_or_default()
        }
        None => None,
    };
    let exceptions = report.as_ref().map(|report| excepted(&summary.name, report));
    let exceptions = exceptions.unwrap_or_default();
    Ok(Section::new(summary, report.as_ref(), &exceptions, before.as_ref()))
}

/// `None` for one that this version cannot read: the page then says so.
async fn stored_report(
    ctx: &Context,
    repository: &Repository,
    stored: &Digest,
    check: &str,
    image: &Digest,
    auth: &Auth,
) -> Result<Option<Report>, registry::Error> {
    let json = evidence::fetch_report(&ctx.registry, repository, stored, auth).await?;
    Ok(report::read(&json, Some(check), image).ok())
}

/// What is released now, unless it is this very image. Whatever fails here costs only the comparison.
async fn previous(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
    image: &Digest,
    auth: &Auth,
) -> Option<Previous> {
    let bases = Api::<BaseImage>::namespaced(ctx.client.clone(), &validated.namespace);
    let base = bases.named(&candidate.spec.base_image).await.ok()??;
    let released = base.status?.released.filter(|released| released.digest != *image)?;
    let kind = Some(evidence::REPORT_ARTIFACT_TYPE);
    let kept = ctx
        .registry
        .referrers(&validated.production, &released.digest, kind, auth);
    let by_check = |entry: Descriptor| Some((entry.annotations.get(evidence::REPORT_KIND)?.clone(), entry.digest));
    Some(Previous {
        reports: kept.await.ok()?.into_iter().filter_map(by_check).collect(),
        tag: released.tag,
        digest: released.digest,
    })
}

/// The page in staging, for the promotion. Without it the promotion goes on: the page stays in staging.
pub(super) async fn stored(
    validated: &ValidatedCandidate,
    ctx: &Context,
    page: Option<&Digest>,
    auth: &Auth,
) -> Option<Bytes> {
    match evidence::fetch_page(&ctx.registry, &validated.staging, page?, auth).await {
        Ok(html) => Some(html),
        Err(error) => {
            tracing::warn!(
                candidate = validated.name,
                error = one_line(&error),
                "promoted without its page"
            );
            None
        }
    }
}
