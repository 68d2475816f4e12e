//! Looks through the production repository for releases that the history does not know: after it was lost, after a restore,
//! and once for every production repository. Reads only.
//!
//! What is found is only history: it never takes the place of what is out. So nothing that is out waits for a registry that does
//! not answer; it is asked again.

use crate::{
    api::BaseImage,
    controllers::{
        bounded::BoundedMap,
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
        signing::{PromotionKey, PublicKey},
    },
    registry::{self, Auth},
};
use kube::ResourceExt as _;
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a failure is believed.
const RETRY: Duration = Duration::from_secs(120);
/// Failures that are remembered.
const MAX_FAILURES: usize = 10_000;

/// Failed searches, so that not every look at a BaseImage asks the registry again. A search is remembered with all that it was made
/// with, so that a corrected Secret or repository is tried at once.
#[derive(Debug)]
pub struct Failures {
    recent: Mutex<BoundedMap<String, Failure>>,
    /// Credentials are compared by their hash, with a key that is nowhere else.
    random: RandomState,
}

#[derive(Debug, Clone)]
struct Failure {
    at: Instant,
    made_with: u64,
    failed: Rebuild,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            recent: Mutex::new(BoundedMap::new(MAX_FAILURES)),
            random: RandomState::new(),
        }
    }
}

impl Failures {
    fn recent(&self, uid: &str, made_with: u64) -> Option<Rebuild> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |failure: &&Failure| failure.made_with == made_with && failure.at.elapsed() < RETRY;
        recent.get(uid).filter(same).map(|failure| failure.failed.clone())
    }

    fn remember(&self, uid: &str, made_with: u64, failed: &Rebuild) {
        let failure = Failure {
            at: Instant::now(),
            made_with,
            failed: failed.clone(),
        };
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.insert(uid.to_owned(), failure);
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
    /// The registry does not let it be looked through (it lists no tags, say), and asking again changes nothing: nothing waits
    /// for it. It is asked again at later looks all the same.
    Refused {
        /// A static word.
        reason: &'static str,
        /// What is so, and what to do.
        message: String,
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
    match inputs(ctx, base).await {
        Ok(inputs) => search(ctx, failures, base, production, &inputs).await,
        Err(failed) => failed,
    }
}

/// What a search is made with.
struct Inputs {
    auth: Auth,
    key: PublicKey,
    pem: String,
}

async fn inputs(ctx: &Context, base: &BaseImage) -> Result<Inputs, Rebuild> {
    let namespace = base.namespace().unwrap_or_default();
    let reference = &base.spec.promote.signing.key_ref;
    let failed = |reason, message| Rebuild::Failed { reason, message };
    let auth = inputs::registry_auth(ctx, &namespace, base.spec.promote.push_secret_ref.as_ref())
        .await
        .map_err(|error| failed(error.reason(), one_line(&error)))?;
    let pem = inputs::secret_key(ctx, &namespace, reference, "cosign.key")
        .await
        .map_err(|error| failed(error.reason(), one_line(&error)))?;
    let key = PromotionKey::from_pem(&pem).map_err(|error| {
        let message = format!("signing key (Secret {:?}): {error}", reference.name);
        failed("SigningKeyUnusable", message)
    })?;
    Ok(Inputs {
        auth,
        key: key.public(),
        pem,
    })
}

async fn search(
    ctx: &Context,
    failures: &Failures,
    base: &BaseImage,
    production: &Repository,
    inputs: &Inputs,
) -> Rebuild {
    let uid = base.uid().unwrap_or_default();
    let made_with = failures
        .random
        .hash_one((production.to_string(), &inputs.auth, &inputs.pem));
    if let Some(failed) = failures.recent(&uid, made_with) {
        return failed;
    }
    let name = format!("{}/{}", base.namespace().unwrap_or_default(), base.name_any());
    match releases::find(&ctx.registry, production, &name, &inputs.key, &inputs.auth).await {
        Ok(found) => done(found, production),
        Err(error) => {
            let failed = failed(production, &error);
            failures.remember(&uid, made_with, &failed);
            failed
        }
    }
}

fn failed(production: &Repository, error: &registry::Error) -> Rebuild {
    let (reason, message) = (error.reason(), registry_message(production, error));
    if error.is_for_good() {
        Rebuild::Refused { reason, message }
    } else {
        Rebuild::Failed { reason, message }
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
            chain_id: Some(summary.release.chain_id),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_does_not_list_tags_is_not_waited_for_and_one_that_is_away_is() {
        let production: Repository = "r.test/debian".parse().unwrap();
        let refused = |code| registry::Error::Refused {
            host: "r.test".to_owned(),
            verb: "list_tags",
            target: "debian".to_owned(),
            code,
            oci_code: "UNSUPPORTED".to_owned(),
        };
        let unavailable = |code| registry::Error::Unavailable {
            host: "r.test".to_owned(),
            verb: "list_tags",
            code,
        };
        let throttled = registry::Error::Throttled {
            host: "r.test".to_owned(),
            verb: "list_tags",
            code: 429,
            retry_after: None,
        };
        let denied = registry::Error::Unauthorized {
            host: "r.test".to_owned(),
            verb: "list_tags",
            target: "debian".to_owned(),
            code: 403,
            with: registry::error::CredentialUse::Configured,
        };
        let too_many = registry::Error::TooLarge {
            host: "r.test".to_owned(),
            what: "the list of tags (tags)",
            limit: 1,
        };
        for (error, waits) in [
            (refused(405), false),
            (refused(400), false),
            (unavailable(501), false),
            (too_many, false),
            (refused(408), true),
            (unavailable(500), true),
            (throttled, true),
            (denied, true),
        ] {
            let waited_for = matches!(failed(&production, &error), Rebuild::Failed { .. });
            assert_eq!(waited_for, waits, "{error}");
        }
    }

    #[test]
    fn a_failed_search_is_remembered_for_what_it_was_made_with_and_for_nothing_else() {
        let failures = Failures::default();
        let failed = Rebuild::Failed {
            reason: "Denied",
            message: "401".to_owned(),
        };
        failures.remember("u", 1, &failed);
        assert_eq!(failures.recent("u", 1), Some(failed));
        assert_eq!(failures.recent("u", 2), None, "the Secret was corrected");
        assert_eq!(failures.recent("another", 1), None);
    }
}
