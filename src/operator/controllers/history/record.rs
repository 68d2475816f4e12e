//! One turn of a base image's history: read, decide, write. What follows from it is the BaseImage's controller's.

use super::{
    decide::{self, Decided, Known},
    rebuild::{self, Failures, Rebuild},
    store::{self, Error, Stored},
};
use crate::{
    api::{BaseImage, BaseImageStatus, ImageCandidate},
    controllers::{conditions::Conditions, context::Context, driver::EventRecord},
    domain::image_ref::Repository,
};
use jiff::Timestamp;
use kube::ResourceExt as _;

/// What was read of a history.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    stored: Option<Stored>,
    rebuild: Rebuild,
    production: Repository,
}

/// Reads the history. It asks nothing but the production registry, and that once: a release can be taken back while upstream, a
/// policy or a Secret is missing.
pub async fn read(
    ctx: &Context,
    failures: &Failures,
    base: &BaseImage,
    production: &Repository,
) -> Result<Past, Error> {
    let stored = store::read(ctx, &base.namespace().unwrap_or_default(), &base.name_any()).await?;
    let searched = stored.as_ref().and_then(|stored| stored.searched.as_ref());
    let rebuild = rebuild::rebuild(ctx, failures, base, production, searched).await;
    Ok(Past {
        stored,
        rebuild,
        production: production.clone(),
    })
}

impl Past {
    /// The history after this turn. Pure.
    #[must_use]
    pub fn next(self, base: &BaseImage, candidates: &[ImageCandidate], now: Timestamp) -> NextHistory {
        let known = Known {
            base,
            stored: self.stored.as_ref(),
            rebuild: &self.rebuild,
            candidates,
            production: &self.production,
        };
        NextHistory {
            decided: decide::decide(known, now),
            past: self,
        }
    }

    #[cfg(test)]
    /// One that needs no look at the registry, for tests of what follows from it.
    pub fn of(stored: Option<Stored>, production: Repository) -> Self {
        Self {
            stored,
            rebuild: Rebuild::NotNeeded,
            production,
        }
    }
}

/// The history after this turn.
#[derive(Debug, Clone, PartialEq)]
pub struct NextHistory {
    /// What was decided.
    pub decided: Decided,
    past: Past,
}

impl NextHistory {
    /// Whether the status says already what is released and what was taken back. If not, that goes before anything else.
    pub fn is_announced(&self, base: &BaseImage) -> bool {
        let (released, revoked) = base
            .status
            .as_ref()
            .map_or((None, &[][..]), |status| (status.released.as_ref(), &status.revoked));
        released == self.decided.released.as_ref() && revoked == self.decided.revoked
    }

    /// What it was decided on.
    pub fn into_past(self) -> Past {
        self.past
    }

    /// Stores it over what was read, if it differs.
    pub async fn write(&self, ctx: &Context, base: &BaseImage) -> Result<(), Error> {
        let Some(spec) = &self.decided.write else {
            return Ok(());
        };
        let (namespace, name) = (base.namespace().unwrap_or_default(), base.name_any());
        store::write(ctx, (&namespace, &name), self.past.stored.as_ref(), spec).await
    }

    /// Enters it into the status of the BaseImage.
    pub fn enter(&self, status: &mut BaseImageStatus, conditions: &mut Conditions) {
        status.released.clone_from(&self.decided.released);
        status.revoked.clone_from(&self.decided.revoked);
        self.decided
            .report(conditions, &self.past.rebuild, &self.past.production);
    }

    /// What people should hear of.
    pub fn events(&self) -> impl Iterator<Item = EventRecord> {
        self.decided.events.iter().cloned()
    }
}
