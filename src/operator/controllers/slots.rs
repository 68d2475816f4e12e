//! The line in which Jobs wait for their turn: one per process, in memory; who may start is decided in `domain::queue`.
//!
//! What runs is listed from the API server before every start and never remembered, and nobody else starts a Job between
//! the list and the create. So neither a restart nor a stale cache can exceed the limits; a restart only forgets who
//! waited longest.

use super::context::Context;
use crate::{
    api::refs::LABEL_BASE_IMAGE,
    domain::queue::{self, Claim, Limits},
};
use k8s_openapi::api::batch::v1::Job;
use kube::{Api, ResourceExt, api::ListParams};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, MutexGuard};

/// How soon a candidate that waits asks again.
pub const ASK_AGAIN: Duration = Duration::from_secs(5);
/// A claim that was not renewed for so long is forgotten: its candidate is gone or needs it no more.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// Most claims in the line; further ones wait outside until their candidate asks again.
const MAX_CLAIMS: usize = 50_000;
/// Jobs per page of the list, and most pages: more unfinished Jobs than that means that nothing may start.
const PAGE: u32 = 500;
const MAX_PAGES: usize = 20;

/// The line.
#[derive(Debug)]
pub struct Slots {
    limits: Limits,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: BTreeMap<(String, String), (Claim, Instant)>,
    next: u64,
}

/// Which Jobs of a candidate may be created now. Hold it until they are.
pub struct Admitted<'a> {
    jobs: BTreeSet<String>,
    _line: MutexGuard<'a, Line>,
}

impl Admitted<'_> {
    /// Whether this Job may be created.
    pub fn contains(&self, job: &str) -> bool {
        self.jobs.contains(job)
    }
}

impl Slots {
    /// An empty line with these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            line: Mutex::default(),
        }
    }

    /// Puts the Jobs of one namespace in the line, or renews their place, and says which ones may start.
    pub async fn admit(
        &self,
        ctx: &Context,
        namespace: &str,
        jobs: &[String],
        urgent: bool,
    ) -> Result<Admitted<'_>, kube::Error> {
        let mut line = self.line.lock().await;
        line.enter(namespace, jobs, urgent, Instant::now());
        let running = running(ctx, self.limits).await?;
        let waiting = line.waiting.values().map(|(claim, _)| claim.clone()).collect();
        let admitted = queue::admit(&running, &waiting, self.limits);
        let mine: BTreeSet<String> = admitted
            .into_iter()
            .filter(|claim| claim.namespace == namespace && jobs.contains(&claim.job))
            .map(|claim| claim.job)
            .collect();
        for job in &mine {
            line.waiting.remove(&(namespace.to_owned(), job.clone()));
        }
        Ok(Admitted {
            jobs: mine,
            _line: line,
        })
    }
}

impl Line {
    fn enter(&mut self, namespace: &str, jobs: &[String], urgent: bool, now: Instant) {
        self.waiting
            .retain(|_, (_, renewed)| now.duration_since(*renewed) < FORGOTTEN);
        for job in jobs {
            let key = (namespace.to_owned(), job.clone());
            if let Some((claim, renewed)) = self.waiting.get_mut(&key) {
                claim.urgent = urgent;
                *renewed = now;
            } else if self.waiting.len() < MAX_CLAIMS {
                let claim = Claim {
                    namespace: namespace.to_owned(),
                    job: job.clone(),
                    urgent,
                    since: self.next,
                };
                self.next += 1;
                self.waiting.insert(key, (claim, now));
            }
        }
    }
}

/// Unfinished Jobs of ours per namespace. When there are more than can be counted, the whole limit is taken.
async fn running(ctx: &Context, limits: Limits) -> Result<BTreeMap<String, usize>, kube::Error> {
    let mut running = BTreeMap::new();
    // Succeeded ones stay for a day and are many: the server leaves them out.
    let mut params = ListParams::default()
        .labels(LABEL_BASE_IMAGE)
        .fields("status.successful=0")
        .limit(PAGE);
    for _ in 0..MAX_PAGES {
        let page = Api::<Job>::all(ctx.client.clone()).list(&params).await?;
        for job in page.items.iter().filter(|job| !is_finished(job)) {
            *running.entry(job.namespace().unwrap_or_default()).or_insert(0) += 1;
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(running),
        }
    }
    Ok(BTreeMap::from([(String::new(), limits.total)]))
}

/// Whether a Job has ended, well or badly.
pub fn is_finished(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter()
            .any(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_keeps_its_place_while_it_is_renewed_and_is_forgotten_otherwise() {
        let (mut line, start) = (Line::default(), Instant::now());
        line.enter("a", &["one".into()], false, start);
        line.enter("a", &["two".into()], false, start + Duration::from_secs(20));
        line.enter("a", &["one".into()], true, start + Duration::from_secs(25));
        let place = |line: &Line, job: &str| {
            let found = line.waiting.get(&("a".to_owned(), job.to_owned()));
            found.map(|(claim, _)| (claim.since, claim.urgent))
        };
        assert_eq!(place(&line, "one"), Some((0, true)));
        line.enter("b", &[], false, start + Duration::from_secs(51));
        assert_eq!((place(&line, "one"), place(&line, "two")), (Some((0, true)), None));
    }
}
