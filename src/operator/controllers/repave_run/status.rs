//! What a run says about itself: counts, waves, the rows a person wants to see, conditions, and when to look again. Pure.
//!
//! No message has a relative time in it: an unchanged world must give the same status, which is then not written.

use super::{
    apply::Halt,
    gate::Gate,
    observe::Observed,
    plan::BudgetExceeded,
    progress::{self, Progress},
    rows,
    set_back::SetBack,
    state::State,
    steady::Steady,
    target::Target,
    validate::Validated,
};
use crate::{
    api::{RepaveRunStatus, repave_run::Counts},
    controllers::{
        conditions::{ConditionStatus, Conditions},
        driver::{Outcome, Requeue},
    },
    domain::duration::Span,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

/// While anything rolls: events come too, this is for the deadlines and for lost events.
const WHILE_ROLLING: Duration = Duration::from_secs(5);
/// While nothing rolls but the run is not finished.
const WHILE_WAITING: Duration = Duration::from_secs(30);
/// After somebody else was faster.
const AFTER_LOST_RACE: Duration = Duration::from_secs(1);

/// Everything that the status is made of.
#[derive(Debug)]
pub struct Summary<'a> {
    /// The run, parsed.
    pub v: &'a Validated,
    /// The status as it was read.
    pub old: RepaveRunStatus,
    /// Generation of the run.
    pub generation: i64,
    /// What was observed.
    pub observed: &'a Observed,
    /// The targets, with what was just applied.
    pub targets: &'a [Target],
    /// The waves.
    pub progress: &'a Progress,
    /// Why nothing more is started.
    pub stop: Option<BudgetExceeded>,
    /// Why not all of the plan was carried out.
    pub halt: Option<Halt>,
    /// Whether a patch lost a race.
    pub lost_race: bool,
    /// Whether a refused patch is to be tried again.
    pub retrying: bool,
    /// What was set back.
    pub set_back: &'a SetBack,
    /// What has stayed healthy, and what has not.
    pub steady: &'a Steady,
    /// How many that counted against the budget are not seen.
    pub hidden_failures: usize,
    /// How many that were in flight are not seen.
    pub missing: usize,
    /// When the run began.
    pub started: Timestamp,
    /// The time that this look writes down.
    pub stamp: Timestamp,
    /// The time.
    pub now: Timestamp,
}

/// What is so: one word and one sentence.
struct Verdict {
    kind: Kind,
    reason: &'static str,
    message: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Working,
    Stuck,
    /// Over: `succeeded` when every target got there, `stuck` when the budget is used up.
    Finished {
        succeeded: bool,
        stuck: bool,
    },
}

/// The new status, and when to look again.
pub fn summarize(summary: &Summary<'_>) -> Outcome<RepaveRunStatus> {
    let verdict = summary.verdict();
    let finished = matches!(verdict.kind, Kind::Finished { .. });
    let old = &summary.old;
    let status = RepaveRunStatus {
        observed_generation: Some(summary.generation),
        target: Some(summary.v.digest.short().to_owned()),
        wave: summary.wave_label(),
        counts: counts(summary.targets),
        failures: summary.failures(),
        waves: progress::record(summary.v, summary.progress, summary.targets),
        steady_until: steady_until(summary),
        set_back: summary.set_back.kept(&old.set_back, &summary.observed.estate),
        attention: rows::attention(summary.targets, summary.v),
        started: Some(Time(summary.started)),
        finished: finished.then(|| old.finished.clone().unwrap_or(Time(summary.now))),
        conditions: summary.conditions(&verdict),
    };
    Outcome {
        next: summary.next(finished),
        events: rows::events(
            old,
            &status,
            &verdict.message,
            verdict.reason,
            verdict.kind == Kind::Stuck,
        ),
        status,
    }
}

fn steady_until(summary: &Summary<'_>) -> Option<Time> {
    let old = summary.old.steady_until.as_ref().map(|time| time.0);
    let courses = summary.targets.iter().map(Target::course);
    let until = summary.steady.until(courses, &summary.v.run_ref, old, summary.stamp);
    until.map(Time)
}

/// How many targets are in which state.
pub fn counts(targets: &[Target]) -> Counts {
    let mut counts = Counts::default();
    for target in targets {
        counts.total += 1;
        *match &target.state {
            State::Pending { .. } => &mut counts.pending,
            State::Rolling | State::Failing { .. } => &mut counts.rolling,
            State::Done => &mut counts.done,
            State::Failed { .. } => &mut counts.failed,
            State::Held { .. } => &mut counts.held,
            State::Skipped(_) => &mut counts.skipped,
        } += 1;
    }
    counts
}

impl Summary<'_> {
    fn superseded(&self) -> bool {
        matches!(self.observed.gate, Gate::Superseded { .. })
    }

    fn finished(&self) -> bool {
        let ended = self.targets.iter().all(Target::ended);
        let gate_allows = match self.observed.gate {
            Gate::Open(_) | Gate::Suspended => self.progress.over() && self.observed.estate.not_yet == 0,
            Gate::Superseded { .. } | Gate::Ended { .. } => true,
            Gate::Shut { .. } => false,
        };
        ended && gate_allows && self.missing == 0 && self.halt.is_none()
    }

    fn failures(&self) -> u32 {
        let seen = self.targets.iter().filter(|target| target.counts_as_failure()).count();
        u32::try_from(seen.saturating_add(self.hidden_failures)).unwrap_or(u32::MAX)
    }

    fn verdict(&self) -> Verdict {
        let verdict = |kind, reason, message| Verdict { kind, reason, message };
        if self.finished() {
            return self.end();
        }
        if let Gate::Shut { reason, message } = &self.observed.gate {
            return verdict(Kind::Stuck, reason, message.clone());
        }
        if let Some(Halt::Unavailable { message, .. }) = &self.halt {
            let message = format!("the API server does not take more changes now: {message}; the rest follows");
            return verdict(Kind::Working, "KubernetesUnavailable", message);
        }
        match self.stop {
            Some(BudgetExceeded { failures, budget }) => verdict(
                Kind::Stuck,
                "FailureBudgetExceeded",
                format!(
                    "{failures} targets failed and {budget} may (onFailure.budget): nothing more is started. See status.attention; \
                     then release what is held (remove the annotation repave.dev/hold) to go on without it, or wait for the next release"
                ),
            ),
            None => self
                .unproven()
                .or_else(|| self.hidden())
                .unwrap_or_else(|| self.working()),
        }
    }

    /// The next wave does not begin, because nobody has seen the release do well in this one.
    fn unproven(&self) -> Option<Verdict> {
        let at = self.progress.unproven()?;
        let waits = self
            .targets
            .iter()
            .filter(|target| target.wave == Some(at))
            .all(Target::ended);
        let moves = self.targets.iter().any(|target| target.in_flight);
        let name = &self.v.waves[at].name;
        (waits && !moves && self.observed.gate.is_open()).then(|| Verdict {
            kind: Kind::Stuck,
            reason: "WaveNotProven",
            message: format!(
                "wave {name} was moved to {}, and nothing of it is healthy there: what was moved is gone, was set back, paused, held or changed. \
                 The next wave begins once a workload of {name} is healthy on {} and has soaked: set its image, resume or release it, \
                 or give another one the wave's labels",
                self.v.tag, self.v.tag
            ),
        })
    }

    /// The next wave does not begin, because nothing of this one is seen, and what is hidden may be of it.
    fn hidden(&self) -> Option<Verdict> {
        let at = self.progress.hidden()?;
        let moves = self.targets.iter().any(|target| target.in_flight);
        let name = &self.v.waves[at].name;
        let unseen = self.observed.estate.unseen;
        (!moves && self.observed.gate.is_open()).then(|| Verdict {
            kind: Kind::Stuck,
            reason: "WaveNotSeen",
            message: format!(
                "nothing of wave {name} is seen, and {unseen} of the selected namespaces are not seen whole: what is there may be of {name}, so \
                 it does not pass by being empty. See RepavePlan {} for what may not be read, and let it be read, do not select those \
                 namespaces, or remove the wave",
                self.v.plan
            ),
        })
    }

    /// The next wave does not begin, because another run of the plan has all that could show how the release does.
    fn waits_for_another(&self) -> Option<String> {
        let at = self.progress.waiting()?;
        let mut members = self.targets.iter().filter(|target| target.wave == Some(at));
        let run = members.find_map(Target::waits_for)?;
        let name = &self.v.waves[at].name;
        Some(format!(
            "RepaveRun {run} moved another image of what is in wave {name}: that is moved to {} once that run has finished",
            self.v.tag
        ))
    }

    fn working(&self) -> Verdict {
        let verdict = |reason, message| Verdict {
            kind: Kind::Working,
            reason,
            message,
        };
        let counts = counts(self.targets);
        let wave = self.progress.current.map(|at| (at, &self.v.waves[at].name));
        if counts.rolling > 0 {
            let size = self
                .targets
                .iter()
                .filter(|t| t.direct && t.wave == wave.map(|(at, _)| at))
                .count();
            let name = wave.map_or("none", |(_, name)| name);
            return verdict("Rolling", format!("moving {} of {size} in wave {name}", counts.rolling));
        }
        if self.observed.gate == Gate::Suspended {
            return verdict(
                "Suspended",
                format!("RepavePlan {} is suspended: nothing is started", self.v.plan),
            );
        }
        if self.superseded() {
            return verdict(
                "Superseded",
                "a newer release has its own run; what is on its way is finished".to_owned(),
            );
        }
        if let Some(waits) = self.waits_for_another() {
            return verdict("WaitsForRun", waits);
        }
        let soak = wave.and_then(|(at, name)| Some((name, self.v.waves[at].soak, self.progress.waves[at].settled_at?)));
        if let Some((name, soak, settled_at)) = soak {
            let soak = Span::seconds(soak.as_secs().unsigned_abs());
            return verdict(
                "Soaking",
                format!("{name} soaks for {soak}, since {}", settled_at.strftime("%H:%M:%S UTC")),
            );
        }
        if counts.pending > 0 {
            return verdict(
                "Waiting",
                format!(
                    "{} pending: busy with a roll-out of their own, or their turn comes next",
                    counts.pending
                ),
            );
        }
        if self.targets.iter().any(Target::rolls_back) {
            return verdict(
                "RollingBack",
                "what failed gets its old image back, and is held".to_owned(),
            );
        }
        verdict(
            "Inspecting",
            format!(
                "the layers of {} images are being looked up",
                self.observed.estate.not_yet
            ),
        )
    }

    fn end(&self) -> Verdict {
        let done = rows::done_message(self.targets, self.observed.estate.unknown);
        let verdict = |succeeded, stuck, reason, message| Verdict {
            kind: Kind::Finished { succeeded, stuck },
            reason,
            message,
        };
        if let Gate::Superseded { by } = &self.observed.gate {
            let message = format!("superseded by {}; {done}", by.short());
            return verdict(false, false, "Superseded", message);
        }
        if let Gate::Ended { reason, message } = &self.observed.gate {
            return verdict(false, false, reason, format!("{message}; {done}"));
        }
        if self.stop.is_some() {
            return verdict(
                false,
                true,
                "FailureBudgetExceeded",
                format!("{done}. See status.attention"),
            );
        }
        if self.targets.iter().any(Target::missed) {
            return verdict(false, false, "Completed", format!("{done}. See status.attention"));
        }
        verdict(true, false, "Finished", done)
    }

    fn conditions(&self, verdict: &Verdict) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
        let mut conditions = Conditions::from(&self.old.conditions, self.generation, self.now);
        let message = verdict.message.as_str();
        let (succeeded, reason) = match verdict.kind {
            Kind::Working => {
                conditions.reconciling(verdict.reason, message);
                (ConditionStatus::Unknown, "Running")
            }
            Kind::Stuck => {
                conditions.stalled(verdict.reason, message);
                (ConditionStatus::Unknown, verdict.reason)
            }
            Kind::Finished { stuck: true, .. } => {
                conditions.stalled(verdict.reason, message);
                (ConditionStatus::False, verdict.reason)
            }
            Kind::Finished { succeeded, .. } => {
                conditions.ready(verdict.reason, message);
                (
                    if succeeded {
                        ConditionStatus::True
                    } else {
                        ConditionStatus::False
                    },
                    verdict.reason,
                )
            }
        };
        conditions.set("Succeeded", succeeded, reason, message);
        conditions.into_list()
    }

    fn wave_label(&self) -> Option<String> {
        let total = self.v.waves.len();
        let at = self.progress.current.unwrap_or_else(|| total.saturating_sub(1));
        self.v
            .waves
            .get(at)
            .map(|wave| format!("{} ({}/{total})", wave.name, at + 1))
    }

    fn next(&self, finished: bool) -> Requeue {
        if finished {
            return Requeue::AwaitChange;
        }
        match &self.halt {
            Some(Halt::Unavailable { quiet, .. }) => return Requeue::After(*quiet),
            Some(Halt::NotLeader | Halt::NotWanted) => return Requeue::After(AFTER_LOST_RACE),
            None => {}
        }
        if self.lost_race {
            return Requeue::After(AFTER_LOST_RACE);
        }
        let in_flight = self.missing > 0 || self.targets.iter().any(|target| target.in_flight);
        let wait = if in_flight || self.retrying {
            WHILE_ROLLING
        } else {
            WHILE_WAITING
        };
        let until_soaked = self.progress.next_end().map(|wait| wait.max(Duration::from_secs(1)));
        Requeue::After(until_soaked.map_or(wait, |soaked| soaked.min(wait)))
    }
}
