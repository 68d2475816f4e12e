//! Reads what a judgement takes besides the reports: the namespace's waivers, and what the release before had. Reads only.
//!
//! Waivers must be readable, because a candidate is judged once. The release before only informs: whatever of it cannot be
//! read is "not known" and keeps nothing up.

use super::{
    exceptions,
    validate::{PlannedCheck, ValidatedCandidate},
};
use crate::controllers::named::Named as _;
use crate::{
    api::{BaseImage, ImageCandidate, Waiver},
    controllers::{
        context::Context,
        error::{Class, Classified, one_line},
        inputs,
        paging::{self, ListError},
    },
    domain::{digest::Digest, report::Report, waiver::Suppression},
    evidence,
    readable::Guarded,
};
use kube::{Api, api::ListParams};
use std::collections::BTreeMap;

/// Most Waivers of a namespace. Nothing is judged on a part of more: the one that is not read could be the one that counts.
pub const MAX_WAIVERS: usize = 2_000;

/// What a judgement takes besides the reports.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvaluationInputs {
    /// The waivers that are about this image, whatever the time is.
    pub waivers: Vec<Suppression>,
    /// Which of them are in force now ([`exceptions::in_force`]).
    pub in_force: String,
    /// The release before.
    pub previous: Previous,
}

/// The release before.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Previous {
    /// There is none.
    #[default]
    None,
    /// There is one and it cannot be read.
    NotKnown,
    /// What it had.
    Known {
        /// Its candidate.
        candidate: String,
        /// Its checks that are judged now, by name.
        checks: BTreeMap<String, Before>,
    },
}

/// One check of the release before.
#[derive(Debug, Clone, PartialEq)]
pub struct Before {
    /// Its report.
    pub report: Box<Report>,
    /// How many findings were waived.
    pub waived: u32,
}

/// Reads it for the checks whose report has come; nothing where there is none.
pub async fn evaluation_inputs(
    ctx: &Context,
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    image: &Digest,
    now: &[&PlannedCheck],
) -> Result<EvaluationInputs, WaiversError> {
    if now.is_empty() {
        return Ok(EvaluationInputs::default());
    }
    let waivers = waivers(ctx, &validated.namespace).await?;
    Ok(with(ctx, candidate, validated, image, now, &waivers).await)
}

/// The same for these checks and waivers.
pub async fn with(
    ctx: &Context,
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    image: &Digest,
    now: &[&PlannedCheck],
    waivers: &[Waiver],
) -> EvaluationInputs {
    let previous = previous(ctx, candidate, validated, now).await.unwrap_or_else(|error| {
        tracing::warn!(
            candidate = validated.name,
            error = one_line(&error),
            "the release before cannot be read"
        );
        Previous::NotKnown
    });
    EvaluationInputs {
        waivers: exceptions::of_waivers(waivers, candidate, image),
        in_force: exceptions::in_force(waivers, candidate, image, ctx.now()),
        previous,
    }
}

/// The Waivers of a namespace cannot be read, all of them.
#[derive(Debug, thiserror::Error)]
pub enum WaiversError {
    /// There are too many.
    #[error(
        "expected at most {MAX_WAIVERS} Waivers in this namespace, found more: nothing is judged on a part of them. Delete those that have ended (kubectl get waivers)"
    )]
    TooMany,
    /// The Kubernetes API.
    #[error(transparent)]
    List(ListError),
}

impl From<ListError> for WaiversError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::TooMany { .. } => Self::TooMany,
            ListError::Api(_) | ListError::Unreadable { .. } | ListError::LongSelector { .. } | ListError::Stuck => {
                Self::List(error)
            }
        }
    }
}

impl Classified for WaiversError {
    fn reason(&self) -> &'static str {
        match self {
            Self::TooMany => "TooManyWaivers",
            Self::List(_) => "ApiError",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::TooMany => Class::Stalled,
            Self::List(_) => Class::Transient,
        }
    }
}

/// Reads all Waivers of a namespace that can be read, in the order of their names.
pub async fn waivers(ctx: &Context, namespace: &str) -> Result<Vec<Waiver>, WaiversError> {
    let api = Api::<Guarded<Waiver>>::namespaced(ctx.client.clone(), namespace);
    Ok(paging::list(&api, ListParams::default(), MAX_WAIVERS, |guarded| guarded.0.ok()).await?)
}

/// Why the release before is not known.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Input(#[from] inputs::Error),
}

async fn previous(
    ctx: &Context,
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    now: &[&PlannedCheck],
) -> Result<Previous, Unread> {
    let bases = Api::<BaseImage>::namespaced(ctx.client.clone(), &validated.namespace);
    let base = bases.named(&candidate.spec.base_image).await?;
    let Some(released) = base.and_then(|base| base.status).and_then(|status| status.released) else {
        return Ok(Previous::None);
    };
    let candidates = Api::<ImageCandidate>::namespaced(ctx.client.clone(), &validated.namespace);
    let Some(before) = candidates.named(&released.candidate).await? else {
        return Ok(Previous::NotKnown);
    };
    let auth = inputs::registry_auth(ctx, &validated.namespace, before.spec.promote.push_secret_ref.as_ref()).await?;
    let mut checks = BTreeMap::new();
    let summaries = before.status.iter().flat_map(|status| &status.checks);
    for summary in summaries {
        let check = now.iter().find(|check| check.name == summary.name);
        let (Some(check), Some(artifact)) = (check, &summary.report) else {
            continue;
        };
        let json = match evidence::fetch_report(&ctx.registry, &before.spec.staging, artifact, &auth).await {
            Ok(json) => json,
            Err(error) => {
                tracing::warn!(
                    candidate = validated.name,
                    check = summary.name,
                    error = one_line(&error),
                    "a report of the release before cannot be read"
                );
                continue;
            }
        };
        if let Ok(report) = check.stored(&json, &released.digest) {
            let (report, waived) = (Box::new(report), summary.waived);
            checks.insert(check.name.clone(), Before { report, waived });
        }
    }
    Ok(Previous::Known {
        candidate: released.candidate,
        checks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::{
        candidate::{
            tests::{candidate, planned},
            validate,
        },
        testing::Api as Server,
    };
    use serde_json::{Value, json};

    fn waiver(number: usize, base_image: &str) -> Value {
        json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "Waiver",
            "metadata": {"name": format!("w{number:05}"), "namespace": "platform", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"owner": "team-a", "reason": "not reachable", "expiresAt": "2026-03-01T00:00:00Z",
                "scope": {"images": {"baseImages": [base_image]}, "findings": [{"id": "CVE-2026-1"}]}},
        })
    }

    async fn judged_with(server: &Server) -> Result<EvaluationInputs, WaiversError> {
        let candidate = candidate();
        let validated = validate::validate(&candidate).unwrap();
        let image = Digest::of(b"built");
        evaluation_inputs(&server.context(), &candidate, &validated, &image, &[&planned("cves")]).await
    }

    #[tokio::test]
    async fn of_many_waivers_the_last_one_counts_and_with_too_many_nothing_is_judged() {
        let server = Server::default();
        for number in 0..500 {
            server.put(&waiver(number, "another"));
        }
        server.put(&waiver(500, "debian-12"));
        let found = judged_with(&server).await.unwrap().waivers;
        assert_eq!(found.len(), 1, "{found:?}");
        for number in 501..=MAX_WAIVERS {
            server.put(&waiver(number, "another"));
        }
        let error = judged_with(&server).await.unwrap_err();
        assert_eq!((error.reason(), error.class()), ("TooManyWaivers", Class::Stalled));
        assert!(
            error
                .to_string()
                .starts_with("expected at most 2000 Waivers in this namespace, found more"),
            "{error}"
        );
    }
}
