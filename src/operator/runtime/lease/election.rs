//! The election loop: read the Lease, decide, write it, publish the claim.
//!
//! Must not claim anything that was not confirmed by the API server, and must not go on after a claim ended.

use super::{
    super::clock::{SharedClock, within},
    leader::{Claim, Leader},
};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// No Lease of ours lasts longer; a longer one in the cluster is not from us and is not waited for.
pub const LONGEST_LEASE: Duration = Duration::from_secs(300);
const SHORTEST_LEASE: Duration = Duration::from_secs(3);
const LONGEST_RELEASE: Duration = Duration::from_secs(5);

/// Which Lease, and how long it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseParams {
    /// The namespace of the Lease: the operator's own.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// The name of this pod, the readable half of our identity.
    pub pod_name: String,
    /// How long others wait for a sign of life; whole seconds, from 3 seconds to 5 minutes.
    pub duration: Duration,
}

/// The lease is gone: another replica may act now, so this process must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// No renewal was confirmed in time.
    #[error(
        "the lease could not be renewed for {0:?}, so another replica may take it: the process ends and starts over; \
         check that the API server answers (last error: {1})"
    )]
    Expired(Duration, String),
    /// Another replica holds it.
    #[error("{0} holds the lease now: the process ends and starts over as a standby")]
    TakenBy(String),
}

/// How an election ended in peace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// We led and gave the lease back: another replica can take it at once.
    Released,
    /// We led, but giving it back was not confirmed: others wait until it runs out.
    NotConfirmed,
    /// We did not lead.
    Standby,
}

/// One replica's part in the election.
#[derive(Debug)]
pub struct Elector {
    api: Api<Lease>,
    params: LeaseParams,
    identity: Arc<str>,
    clock: SharedClock,
    claims: watch::Sender<Option<Claim>>,
    seen: Option<LastLease>,
    // The Lease may have changed since `seen`: read it before the next write.
    stale: bool,
    expires_at: Option<Instant>,
    last_error: String,
}

/// The Lease as we saw it, and since when it has been so by our own clock.
#[derive(Debug)]
struct LastLease {
    lease: Lease,
    since: Instant,
}

/// What to do next. Data, so that the decision can be read and tested on its own.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// We do not know the Lease: read it.
    Read,
    /// Ours or free: write it.
    Write,
    /// Another's: look again later.
    Wait,
}

/// What one round achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// The Lease was read.
    Read,
    /// A write was confirmed.
    Written,
    /// Refused, or not answered in time.
    Failed,
}

impl Elector {
    /// Takes part in the election of that Lease, without any request yet.
    pub fn new(client: Client, params: LeaseParams, clock: SharedClock) -> (Self, Leader) {
        let params = LeaseParams {
            duration: Duration::from_secs(params.duration.clamp(SHORTEST_LEASE, LONGEST_LEASE).as_secs()),
            ..params
        };
        // The suffix makes the identity one process's: a restarted container is another candidate.
        let suffix = RandomState::new().build_hasher().finish();
        let identity: Arc<str> = format!("{}_{suffix:016x}", params.pod_name).into();
        let (claims, receiver) = watch::channel(None);
        let leader = Leader::new(identity.clone(), clock.clone(), receiver);
        let elector = Self {
            api: Api::namespaced(client, &params.namespace),
            params,
            identity,
            clock,
            claims,
            seen: None,
            stale: true,
            expires_at: None,
            last_error: "none".into(),
        };
        (elector, leader)
    }

    /// Takes part until `release` is cancelled, then gives the lease back; or until it is lost.
    ///
    /// Cancel `release` after the work has drained, not before: until then the claim is renewed.
    pub async fn run(mut self, release: CancellationToken) -> Result<Ended, Lost> {
        loop {
            if release.is_cancelled() {
                return Ok(self.release().await);
            }
            let round = self.round().await;
            if let Err(lost) = self.still_ours() {
                self.claims.send_replace(None);
                return Err(lost);
            }
            let pause = self.pause(round);
            tokio::select! {
                () = release.cancelled() => {}
                () = self.clock.sleep_until(self.clock.now() + pause) => {}
            }
        }
    }

    /// Time between renewals, and between looks at another's lease.
    fn period(&self) -> Duration {
        self.params.duration / 3
    }

    /// How long a confirmed write lets us act.
    fn claim_length(&self) -> Duration {
        self.params.duration * 4 / 5
    }

    /// One read or write.
    async fn round(&mut self) -> Round {
        let (answer, round) = match self.next_step() {
            Step::Read | Step::Wait => (self.read().await, Round::Read),
            Step::Write => (self.write().await, Round::Written),
        };
        match answer {
            Ok(()) => round,
            Err(error) => {
                tracing::warn!(lease = %self.params.name, error, "lease request failed");
                self.last_error = error;
                Round::Failed
            }
        }
    }

    fn pause(&self, round: Round) -> Duration {
        let usual = match (round, self.next_step()) {
            // What was read is ours or free: write at once, the claim may be short.
            (Round::Read, Step::Write) => Duration::ZERO,
            (Round::Read | Round::Written, Step::Read | Step::Write | Step::Wait) => self.period(),
            // Soon again, but never in a hot loop.
            (Round::Failed, Step::Read | Step::Write | Step::Wait) => self.params.duration / 15,
        };
        // Never sleep over the end of the claim.
        self.expires_at
            .map_or(usual, |end| usual.min(end.saturating_duration_since(self.clock.now())))
    }

    fn next_step(&self) -> Step {
        let Some(seen) = self.seen.as_ref().filter(|_| !self.stale) else {
            return Step::Read;
        };
        let spec = seen.lease.spec.as_ref();
        let holder = spec
            .and_then(|spec| spec.holder_identity.as_deref())
            .unwrap_or_default();
        if holder.is_empty() || holder == &*self.identity {
            return Step::Write;
        }
        let theirs = spec
            .and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(self.params.duration, Duration::from_secs)
            .min(LONGEST_LEASE)
            .max(self.params.duration);
        if self.clock.now().saturating_duration_since(seen.since) >= theirs {
            Step::Write
        } else {
            Step::Wait
        }
    }

    /// A request may take one period, and never longer than the claim still lasts.
    fn limit(&self) -> Duration {
        let left = self
            .expires_at
            .map(|end| end.saturating_duration_since(self.clock.now()));
        left.map_or(self.period(), |left| left.min(self.period()))
    }

    async fn read(&mut self) -> Result<(), String> {
        let api = self.api.clone();
        let answer = within(&self.clock, self.limit(), api.get_opt(&self.params.name)).await;
        match answer.map_err(|elapsed| elapsed.to_string())? {
            Ok(Some(lease)) => {
                self.saw(lease);
                Ok(())
            }
            // It does not exist: an empty one without a resourceVersion stands for "create it".
            Ok(None) => {
                self.saw(Lease::default());
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn saw(&mut self, lease: Lease) {
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        let since = match &self.seen {
            Some(seen) if seen.lease.metadata.resource_version == lease.metadata.resource_version => seen.since,
            Some(_) | None => self.clock.now(),
        };
        self.seen = Some(LastLease { lease, since });
        self.stale = false;
        // Our own claim is published by a confirmed write only.
        if let Some(holder) = holder.filter(|holder| !holder.is_empty() && **holder != *self.identity) {
            self.publish(Claim {
                holder: holder.into(),
                expires_at: None,
            });
        }
    }

    fn publish(&self, claim: Claim) {
        self.claims.send_if_modified(|current| {
            let changed = current.as_ref() != Some(&claim);
            *current = Some(claim);
            changed
        });
    }

    async fn write(&mut self) -> Result<(), String> {
        let Some(seen) = &self.seen else { return Ok(()) };
        let desired = self.desired(&seen.lease);
        let (api, params) = (self.api.clone(), PostParams::default());
        let sent = self.clock.now();
        // Until it is confirmed, what the Lease says now is unknown.
        self.stale = true;
        let call = async {
            if desired.metadata.resource_version.is_none() {
                api.create(&params, &desired).await
            } else {
                api.replace(&self.params.name, &params, &desired).await
            }
        };
        match within(&self.clock, self.limit(), call).await {
            Ok(Ok(lease)) => self.confirmed(lease, sent),
            Ok(Err(error)) => Err(error.to_string()),
            Err(elapsed) => Err(elapsed.to_string()),
        }
    }

    fn confirmed(&mut self, lease: Lease, sent: Instant) -> Result<(), String> {
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        if holder.as_deref() != Some(&*self.identity) {
            return Err(format!(
                "expected the Lease we wrote to name {}, the API server answered with {holder:?}",
                self.identity
            ));
        }
        self.saw(lease);
        // A claim that ended meanwhile is not revived, even though nobody took the lease.
        if self.expires_at.is_some_and(|end| end <= self.clock.now()) {
            return Ok(());
        }
        if self.expires_at.is_none() {
            tracing::info!(lease = %self.params.name, identity = %self.identity, "leading");
        }
        let end = sent + self.claim_length();
        self.expires_at = Some(end);
        self.publish(Claim {
            holder: self.identity.clone(),
            expires_at: Some(end),
        });
        Ok(())
    }

    fn desired(&self, current: &Lease) -> Lease {
        let now = MicroTime(self.clock.wall());
        let old = current.spec.clone().unwrap_or_default();
        let renewal = old.holder_identity.as_deref() == Some(&*self.identity);
        let transitions = old.lease_transitions.unwrap_or_default();
        let first = current.metadata.resource_version.is_none();
        Lease {
            metadata: ObjectMeta {
                name: Some(self.params.name.clone()),
                namespace: Some(self.params.namespace.clone()),
                ..current.metadata.clone()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.to_string()),
                lease_duration_seconds: i32::try_from(self.params.duration.as_secs()).ok(),
                acquire_time: old.acquire_time.filter(|_| renewal).or_else(|| Some(now.clone())),
                lease_transitions: Some(if renewal || first {
                    transitions
                } else {
                    transitions.saturating_add(1)
                }),
                renew_time: Some(now),
                ..old
            }),
        }
    }

    /// Fails once we led and do not any more.
    fn still_ours(&self) -> Result<(), Lost> {
        let Some(end) = self.expires_at else { return Ok(()) };
        let holder = self
            .seen
            .as_ref()
            .and_then(|seen| seen.lease.spec.as_ref())
            .and_then(|spec| spec.holder_identity.as_deref());
        if let Some(other) = holder.filter(|holder| *holder != &*self.identity) {
            return Err(Lost::TakenBy(other.to_owned()));
        }
        if self.clock.now() >= end {
            return Err(Lost::Expired(self.claim_length(), self.last_error.clone()));
        }
        Ok(())
    }

    /// Stops leading first, then tells the others, so that there is no moment with two leaders.
    async fn release(mut self) -> Ended {
        self.claims.send_replace(None);
        if self.expires_at.is_none() {
            return Ended::Standby;
        }
        if self.stale && self.read().await.is_err() {
            return Ended::NotConfirmed;
        }
        let Some(LastLease { mut lease, .. }) = self.seen.take() else {
            return Ended::NotConfirmed;
        };
        if let Some(spec) = &mut lease.spec {
            if spec.holder_identity.as_deref() != Some(&*self.identity) {
                return Ended::NotConfirmed;
            }
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(self.clock.wall()));
        }
        let params = PostParams::default();
        let call = self.api.replace(&self.params.name, &params, &lease);
        match within(&self.clock, LONGEST_RELEASE.min(self.period()), call).await {
            Ok(Ok(_)) => {
                tracing::info!(lease = %self.params.name, "lease released");
                Ended::Released
            }
            Ok(Err(error)) => {
                tracing::warn!(lease = %self.params.name, %error, "the lease was not released; it runs out by itself");
                Ended::NotConfirmed
            }
            Err(elapsed) => {
                tracing::warn!(lease = %self.params.name, %elapsed, "the lease was not released; it runs out by itself");
                Ended::NotConfirmed
            }
        }
    }
}
