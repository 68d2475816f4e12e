//! How a workload is judged that this run moved: whether it arrives, stays, or fails, and what it gets back then. Pure.
//!
//! Must not give back anything but a known release of this base image: whoever may annotate a workload may write there.

use super::{Judge, moved_by_others, moved_long_ago};
use crate::{
    api::repave_plan::FailureAction,
    controllers::{
        access::Barred,
        repave_run::{
            estate::ObservedWorkload,
            refusals::Standing,
            sightings::Times,
            state::{Skip, State},
        },
    },
    domain::{cause::cause, duration::Span, image_ref::ImageRef, moved::Whose, workload::Rollout},
};
use std::collections::BTreeMap;

impl Judge<'_> {
    /// This run moved it, it is not settled, and its wave has not soaked since.
    pub(super) fn after_the_move(&self, seen: &ObservedWorkload, wave: Option<usize>) -> State {
        match seen.workload.whose() {
            None => State::Skipped(Skip::NoRecord),
            Some(Whose::Others) => moved_by_others(&seen.workload),
            Some(Whose::Ours) if self.is_of_long_ago(seen, wave) => moved_long_ago(&seen.workload),
            Some(Whose::Ours) => match self.our_rollout(seen) {
                // In doubt nothing is rolled back.
                State::Failing { reason, .. } | State::Failed { reason } if self.is_in_doubt(seen, wave) => {
                    State::Skipped(Skip::TimeNotBelieved(reason))
                }
                state => state,
            },
        }
    }

    /// Kubernetes' own verdict comes first, then what the pods say, then our deadline.
    fn our_rollout(&self, seen: &ObservedWorkload) -> State {
        let crash = seen.evidence.crash.clone();
        let times = self.known.elapsed.of(&seen.workload.uid);
        match &seen.workload.rollout {
            Rollout::Settled => self.staying(seen, times),
            Rollout::Paused => State::Skipped(Skip::Paused),
            Rollout::Unhealthy { reason } => self.failing(seen, no_progress(seen, reason)),
            Rollout::Rolling { .. } => match crash {
                Some(crash) => self.failing(seen, crash),
                None if self.within_deadline(times.rolling) => State::Rolling,
                None => self.failing(seen, self.too_late(seen)),
            },
            Rollout::Degraded { unavailable_since } => match (crash, unavailable_since) {
                (Some(crash), _) => self.failing(seen, crash),
                // The Deployment tolerates what is missing.
                (None, None) => self.staying(seen, times),
                (None, Some(_)) if self.within_deadline(times.unready) => State::Rolling,
                (None, Some(_)) => {
                    let reason = format!(
                        "was healthy on the new image, and then had too few replicas for {}",
                        self.deadline()
                    );
                    self.failing(seen, reason)
                }
            },
        }
    }

    /// It is complete: done once it has stayed so. One that does not, because a container is started again and again, has as much
    /// time for that as for its roll-out, from when it was complete first: how long it took to start is another matter.
    fn staying(&self, seen: &ObservedWorkload, times: Times) -> State {
        if self.has_stayed(seen) {
            return State::Done;
        }
        if !times.relapsed || self.within_deadline(times.staying) {
            return State::Rolling;
        }
        let late = format!("it did not stay healthy within {}", self.deadline());
        let ended = seen.evidence.ended.as_ref();
        let reason = ended.map(|ended| format!("{ended} and is started again: {late}"));
        self.failing(seen, reason.unwrap_or(late))
    }

    fn deadline(&self) -> Span {
        Span::seconds(self.v.rollout_deadline.as_secs().unsigned_abs())
    }

    fn too_late(&self, seen: &ObservedWorkload) -> String {
        let deadline = self.deadline();
        match cause(&seen.workload, &seen.evidence) {
            Some(cause) => format!("not healthy within {deadline}: {cause}"),
            None => format!("not healthy within {deadline}"),
        }
    }

    fn failing(&self, seen: &ObservedWorkload, reason: String) -> State {
        match self.v.action {
            FailureAction::Pause => State::Failed { reason },
            FailureAction::RollbackWorkload => match self.previous(seen) {
                Some(_) if let Some(barred @ Barred::NotAllowed { .. }) = &seen.barred => State::Failed {
                    reason: format!("{reason}; not rolled back: {barred}"),
                },
                Some(previous) => match self.standing(&seen.workload) {
                    Standing::GivenUp(words) => State::Failed {
                        reason: format!("{reason}; not rolled back, because the API server refused it: {words}"),
                    },
                    standing @ (Standing::Free | Standing::Pausing) => State::Failing {
                        due: standing == Standing::Free,
                        reason,
                        previous,
                    },
                },
                None => State::Failed {
                    reason: format!(
                        "{reason}; not rolled back, because what it ran before is not a known release or was revoked"
                    ),
                },
            },
        }
    }

    /// What it ran before, for every container on the target, if all of that are releases of this base image that were not
    /// revoked. The annotation could have been written by anyone.
    fn previous(&self, seen: &ObservedWorkload) -> Option<BTreeMap<String, ImageRef>> {
        let mut previous = BTreeMap::new();
        for (container, image) in seen.workload.containers.iter().zip(&seen.images) {
            if image.digest.as_ref() != Some(&self.v.digest) {
                continue;
            }
            let Some(before) = seen.workload.annotations.previous.get(&container.name) else {
                // It was on the target before this run came.
                continue;
            };
            let release = before
                .digest
                .as_ref()
                .and_then(|digest| self.observed.releases.by_digest(digest))?;
            let genuine = release.base_image == self.v.base_image
                && release.digest != self.v.digest
                && before.repository == self.v.repository
                && !release.revoked;
            if !genuine {
                return None;
            }
            previous.insert(container.name.clone(), self.v.repository.at(&release.digest));
        }
        (!previous.is_empty()).then_some(previous)
    }
}

/// Kubernetes says that it made no progress; who knows more says why.
fn no_progress(seen: &ObservedWorkload, reason: &str) -> String {
    match (&seen.evidence.crash, cause(&seen.workload, &seen.evidence)) {
        (Some(crash), _) => crash.clone(),
        (None, Some(cause)) => format!("{reason}: {cause}"),
        (None, None) => reason.to_owned(),
    }
}
