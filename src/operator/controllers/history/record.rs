//! One turn of a base image's history: read, decide, write. What follows from it is the BaseImage's controller's.

use super::{
    decide::{self, Decided, Known},
    rebuild::{self, Failures, Rebuild},
    store::{self, Error},
};
use crate::{
    api::{BaseImage, BaseImageStatus, ImageCandidate},
    controllers::{conditions::Conditions, context::Context, driver::EventRecord},
    domain::image_ref::Repository,
};
use jiff::Timestamp;
use kube::ResourceExt as _;

/// The history as it is stored now.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// What was decided.
    pub decided: Decided,
    rebuild: Rebuild,
    production: Repository,
}

/// Brings the history up to date. It asks nothing but the production registry, and that once: a release can be taken back while
/// upstream, a policy or a Secret is missing.
pub async fn record(
    ctx: &Context,
    failures: &Failures,
    base: &BaseImage,
    production: &Repository,
    candidates: &[ImageCandidate],
    now: Timestamp,
) -> Result<Recorded, Error> {
    let (namespace, name) = (base.namespace().unwrap_or_default(), base.name_any());
    let stored = store::read(ctx, &namespace, &name).await?;
    let searched = stored.as_ref().and_then(|stored| stored.searched.as_ref());
    let rebuild = rebuild::rebuild(ctx, failures, base, production, searched).await;
    let known = Known {
        base,
        stored: stored.as_ref(),
        rebuild: &rebuild,
        candidates,
        production,
    };
    let decided = decide::decide(known, now); // pure
    if let Some(spec) = &decided.write {
        store::write(ctx, (&namespace, &name), stored.as_ref(), spec).await?;
    }
    Ok(Recorded {
        decided,
        rebuild,
        production: production.clone(),
    })
}

#[cfg(test)]
impl Recorded {
    /// A history that was decided, for tests of what follows from it.
    pub fn of(decided: Decided, production: Repository) -> Self {
        Self {
            decided,
            rebuild: Rebuild::NotNeeded,
            production,
        }
    }
}

impl Recorded {
    /// Enters it into the status of the BaseImage.
    pub fn enter(&self, status: &mut BaseImageStatus, conditions: &mut Conditions) {
        status.released.clone_from(&self.decided.released);
        status.revoked.clone_from(&self.decided.revoked);
        self.decided.report(conditions, &self.rebuild, &self.production);
    }

    /// What people should hear of.
    pub fn events(&self) -> impl Iterator<Item = EventRecord> {
        self.decided.events.iter().cloned()
    }
}
