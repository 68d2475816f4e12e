//! Looks through the production repository for releases that the history does not know: after it was lost, after a restore,
//! and once for every production repository. Reads only.
//!
//! What is found is only history: it never takes the place of what is out. So nothing waits for a registry that does not answer;
//! it is asked again.

use crate::{
    api::BaseImage,
    controllers::{
        context::Context,
        error::{Classified as _, one_line},
        inputs,
    },
    domain::{
        image_ref::Repository,
        promotion::{Entry, Promotion, State},
    },
    evidence::{
        releases::{self, Found, Proven},
        signing::PromotionKey,
    },
    registry,
};
use kube::ResourceExt as _;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a failure is believed.
const RETRY: Duration = Duration::from_secs(120);
/// Failures that are remembered.
const MAX_FAILURES: usize = 10_000;

/// Failed attempts by UID of the BaseImage, so that not every look at it asks the registry again.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<String, (Instant, Rebuild)>>);

impl Failures {
    fn recent(&self, uid: &str) -> Option<Rebuild> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = failures.get(uid).filter(|(at, _)| at.elapsed() < RETRY);
        recent.map(|(_, failed)| failed.clone())
    }

    fn remember(&self, uid: String, failed: &Rebuild) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_FAILURES {
            failures.retain(|_, (at, _)| at.elapsed() < RETRY);
        }
        if failures.len() < MAX_FAILURES {
            failures.insert(uid, (Instant::now(), failed.clone()));
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebuild {
    /// The repository was looked through before.
    NotNeeded,
    /// It was looked through now.
    Done {
        /// What it proves.
        entries: Vec<Entry>,
        /// Tags that look like releases and prove none.
        unproven: usize,
        /// Whether there were more than are looked at.
        cut: bool,
    },
    /// It could not be looked through; it is tried again.
    Failed {
        /// A static word.
        reason: &'static str,
        /// What is so, and what to do.
        message: String,
    },
}

/// Looks, unless that was done, or failed a moment ago.
pub async fn rebuild(
    ctx: &Context,
    failures: &Failures,
    base: &BaseImage,
    production: &Repository,
    searched: Option<&Repository>,
) -> Rebuild {
    if searched == Some(production) {
        return Rebuild::NotNeeded;
    }
    let uid = base.uid().unwrap_or_default();
    if let Some(failed) = failures.recent(&uid) {
        return failed;
    }
    let rebuild = look(ctx, base, production).await;
    match &rebuild {
        Rebuild::Failed { .. } => failures.remember(uid, &rebuild),
        Rebuild::NotNeeded | Rebuild::Done { .. } => {}
    }
    rebuild
}

async fn look(ctx: &Context, base: &BaseImage, production: &Repository) -> Rebuild {
    let namespace = base.namespace().unwrap_or_default();
    let reference = &base.spec.promote.signing.key_ref;
    let failed = |reason, message| Rebuild::Failed { reason, message };
    let auth = inputs::registry_auth(ctx, &namespace, base.spec.promote.push_secret_ref.as_ref()).await;
    let auth = match auth {
        Ok(auth) => auth,
        Err(error) => return failed(error.reason(), one_line(&error)),
    };
    let pem = match inputs::secret_key(ctx, &namespace, reference, "cosign.key").await {
        Ok(pem) => pem,
        Err(error) => return failed(error.reason(), one_line(&error)),
    };
    let key = match PromotionKey::from_pem(&pem) {
        Ok(key) => key.public(),
        Err(error) => {
            return failed(
                "SigningKeyUnusable",
                format!("signing key (Secret {:?}): {error}", reference.name),
            );
        }
    };
    let name = format!("{namespace}/{}", base.name_any());
    match releases::find(&ctx.registry, production, &name, &key, &auth).await {
        Ok(found) => done(found, production),
        Err(error) => failed(error.reason(), registry_message(production, &error)),
    }
}

/// No seconds in it: a message that changes at every look would wake the next one.
fn registry_message(production: &Repository, error: &registry::Error) -> String {
    if error.retry_after().is_some() {
        return format!("the registry of {production} throttles us: it is asked again later");
    }
    one_line(error)
}

fn done(found: Found, production: &Repository) -> Rebuild {
    let entry = |Proven { digest, summary }: Proven| Entry {
        promotion: Promotion {
            sequence: summary.release.sequence,
            digest,
            source_digest: summary.release.source_digest,
            chain_id: summary.release.chain_id,
            layers: summary.release.layers,
            repository: production.clone(),
            tag: summary.release.tag,
            candidate: summary.release.candidate,
            promoted_at: summary.time_verified,
        },
        state: State::Superseded,
    };
    Rebuild::Done {
        entries: found.releases.into_iter().map(entry).collect(),
        unproven: found.unproven,
        cut: found.cut,
    }
}
