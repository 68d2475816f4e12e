//! What the rest of the process sees of the lease: who leads, and until when.
//!
//! Must not extend a claim; only the election does, after a confirmed write.

use super::super::clock::{SharedClock, SystemClock};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The right to act, as far as this process knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who leads.
    pub holder: Arc<str>,
    /// Until when that is certain, by our monotonic clock. Known only for our own claim.
    pub expires_at: Option<Instant>,
}

/// A write was about to happen without the right to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this replica ({identity}) is not the leader, {holder} is: nothing was written; the leader does the work")]
pub struct NotLeader {
    /// This process.
    pub identity: Arc<str>,
    /// The last known holder.
    pub holder: Arc<str>,
}

/// A cheap handle that answers "may I act now?". Clone it freely.
#[derive(Debug, Clone)]
pub struct Leader {
    identity: Arc<str>,
    clock: SharedClock,
    claims: watch::Receiver<Option<Claim>>,
    // Keeps the channel open where no election runs.
    _always: Option<Arc<watch::Sender<Option<Claim>>>>,
}

impl Leader {
    pub(super) fn new(identity: Arc<str>, clock: SharedClock, claims: watch::Receiver<Option<Claim>>) -> Self {
        Self {
            identity,
            clock,
            claims,
            _always: None,
        }
    }

    /// A leader without an election (`--no-leader-election`): right only where a second replica cannot exist.
    pub fn always(identity: &str) -> Self {
        let identity: Arc<str> = identity.into();
        let clock = SystemClock::shared();
        // About 30 years: the process does not live that long.
        let claim = Claim {
            holder: identity.clone(),
            expires_at: Some(clock.now() + Duration::from_secs(30 * 365 * 86_400)),
        };
        let (sender, claims) = watch::channel(Some(claim));
        Self {
            identity,
            clock,
            claims,
            _always: Some(Arc::new(sender)),
        }
    }

    /// A replica that never leads.
    #[cfg(test)]
    pub fn never(identity: &str) -> Self {
        let (sender, claims) = watch::channel(None);
        Self {
            identity: identity.into(),
            clock: SystemClock::shared(),
            claims,
            _always: Some(Arc::new(sender)),
        }
    }

    /// This process, as it appears in the Lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The holder that was seen last, ourselves or another; nobody at first.
    pub fn holder(&self) -> Option<Arc<str>> {
        self.claims.borrow().as_ref().map(|claim| claim.holder.clone())
    }

    /// How long the right to act is still certain; `None` when we do not lead.
    pub fn remaining(&self) -> Option<Duration> {
        let claims = self.claims.borrow();
        let claim = claims.as_ref().filter(|claim| claim.holder == self.identity)?;
        claim
            .expires_at?
            .checked_duration_since(self.clock.now())
            .filter(|left| !left.is_zero())
    }

    /// Whether we lead at this moment: the claim is ours and has not expired.
    pub fn is_leader(&self) -> bool {
        self.remaining().is_some()
    }

    /// The gate before each write: ask it as late as possible.
    pub fn require(&self) -> Result<(), NotLeader> {
        if self.is_leader() {
            Ok(())
        } else {
            Err(NotLeader {
                identity: self.identity.clone(),
                holder: self.holder().unwrap_or_else(|| "nobody known".into()),
            })
        }
    }

    /// Waits until we lead. Ends with `false` when the election is over and we never will.
    pub async fn acquired(&self) -> bool {
        let mut claims = self.claims.clone();
        loop {
            claims.mark_unchanged();
            if self.is_leader() {
                return true;
            }
            if claims.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Waits until the Lease has been seen with a holder, ourselves or another. Ends with `false` when it never will.
    pub async fn known(&self) -> bool {
        self.claims.clone().wait_for(Option::is_some).await.is_ok()
    }
}
