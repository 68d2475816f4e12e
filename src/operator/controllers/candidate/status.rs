//! What a candidate's status and events say once a decision is carried out. Pure, and output only: decides nothing, and
//! nothing decides by what is printed here.

use super::{
    apply::Applied,
    decide::{Course, Decision, WaitingOn},
    evaluation::Evaluation,
    gate::{GateState, Refusal, Verdict},
    validate::ValidatedCandidate,
};
use crate::{
    api::{
        ImageCandidate, ImageCandidateStatus,
        image_candidate::{CandidateResult, Step, TimelineEntry},
        phase::Phase,
    },
    controllers::{
        conditions::{self, ConditionStatus, Conditions},
        desired::wanted::Wanted,
        driver::EventRecord,
        error::Class,
        reconciler::Failure,
        transfers::Pending,
    },
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

mod reevaluation;
mod rescan;
mod waiting;

pub use rescan::RESCAN_PASSED;

/// Condition: a tool did not reject its known-bad fixtures.
pub const SELF_TEST_FAILED: &str = "SelfTestFailed";

/// What is said while a Job may not start yet.
const QUEUED: &str = "All slots for Jobs are taken (controller.maxJobs, maxJobsPerNamespace of the operator): it starts when one is free; the annotation repave.dev/urgent on this candidate lets it go first";

/// A status in the making.
struct Draft<'a> {
    validated: &'a ValidatedCandidate,
    applied: &'a Applied,
    phase: Phase,
    status: ImageCandidateStatus,
    conditions: Conditions,
    now: Timestamp,
    events: Vec<EventRecord>,
}

/// The status after a decision was carried out, and the events of what is new in it.
pub fn render(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    decision: &Decision,
    applied: &Applied,
    now: Timestamp,
) -> (ImageCandidateStatus, Vec<EventRecord>) {
    let mut draft = Draft::new(candidate, validated, applied, now);
    match &decision.course {
        Course::Stay => {}
        Course::Settled => draft.settled(),
        Course::Current => draft.current(),
        Course::Rescanned { scans, distrusted } => {
            draft.trusted(distrusted);
            draft.rescanned(scans, &decision.waiting_on);
        }
        Course::Done {
            step,
            next,
            built,
            reason,
            message,
        } => {
            if let Some(built) = built {
                draft.status.built_digest = Some(built.clone());
            }
            if let Some(pending) = &applied.under_way {
                draft.under_way(*step, pending);
            } else {
                draft.done(*step, reason, message.clone());
                draft.phase = *next;
            }
        }
        Course::Judged {
            evaluation,
            verdict,
            distrusted,
        } => {
            draft.trusted(distrusted);
            draft.judged(evaluation, verdict);
        }
        Course::Reevaluated { in_force, result } => draft.reevaluated(in_force, result),
        Course::Promoted => draft.promoted(),
        Course::Out(refusal) => draft.out(refusal),
    }
    if matches!(decision.course, Course::Stay | Course::Judged { .. }) {
        draft.waiting(&decision.waiting_on);
    }
    draft.page();
    draft.finish()
}

/// The status after a step that failed outside of the candidate: the step's condition says why, nothing is decided.
///
/// A decided candidate keeps its status to the last byte: it was only looked at, and what is decided stays decided.
pub fn failed(
    candidate: &ImageCandidate,
    failure: &Failure,
    now: Timestamp,
) -> (ImageCandidateStatus, Vec<EventRecord>) {
    let mut status = candidate.status.clone().unwrap_or_default();
    let phase = Phase::of(&status);
    let Some(step) = phase.step() else {
        return (status, Vec::new());
    };
    let first_gate_is_open = step == Step::Validated && conditions::is_true(&status.conditions, step.as_str());
    let step = if first_gate_is_open { Step::Scanned } else { step };
    let mut conditions = Conditions::from(&status.conditions, candidate.metadata.generation.unwrap_or(0), now);
    let message = failure.message.clone();
    conditions.set(step.as_str(), ConditionStatus::False, failure.reason, message.clone());
    conditions.failed_as(failure.class, failure.reason, message.clone());
    status.phase = Some(phase);
    status.step = Some(step);
    status.result = Some(CandidateResult::Waiting);
    status.observed_generation = candidate.metadata.generation;
    status.conditions = conditions.into_list();
    let changed = candidate
        .status
        .as_ref()
        .is_none_or(|old| old.conditions != status.conditions);
    let events = changed.then_some(EventRecord {
        warning: true,
        reason: failure.reason,
        message,
    });
    (status, events.into_iter().collect())
}

impl<'a> Draft<'a> {
    fn new(
        candidate: &ImageCandidate,
        validated: &'a ValidatedCandidate,
        applied: &'a Applied,
        now: Timestamp,
    ) -> Self {
        let mut status = candidate.status.clone().unwrap_or_default();
        let generation = candidate.metadata.generation;
        let conditions = Conditions::from(&status.conditions, generation.unwrap_or(0), now);
        status.observed_generation = generation;
        Self {
            validated,
            applied,
            phase: Phase::of(&status),
            status,
            conditions,
            now,
            events: Vec::new(),
        }
    }

    fn finish(mut self) -> (ImageCandidateStatus, Vec<EventRecord>) {
        self.status.phase = Some(self.phase);
        if let Some(result) = self.phase.result() {
            self.status.result = Some(result);
        }
        self.status.conditions = self.conditions.into_list();
        (self.status, self.events)
    }

    /// A step is done.
    fn done(&mut self, step: Step, reason: &'static str, message: impl Into<String>) {
        self.conditions
            .set(step.as_str(), ConditionStatus::True, reason, message);
        self.ended(step);
        self.status.step = Some(step);
        self.status.result = Some(CandidateResult::Running);
        self.conditions
            .reconciling(reason, format!("{} is done", step.as_str()));
    }

    /// A step is on its way.
    fn running(&mut self, step: Step, reason: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.conditions
            .set(step.as_str(), ConditionStatus::Unknown, reason, message.clone());
        self.begin(step);
        self.status.step = Some(step);
        self.status.result = Some(CandidateResult::Running);
        self.conditions.reconciling(reason, message);
    }

    fn begin(&mut self, step: Step) {
        if !self.status.timeline.iter().any(|entry| entry.step == step) {
            self.status.timeline.push(TimelineEntry {
                step,
                started: Time(self.now),
                finished: None,
            });
        }
    }

    fn ended(&mut self, step: Step) {
        self.begin(step);
        if let Some(entry) = self.status.timeline.iter_mut().find(|entry| entry.step == step) {
            entry.finished.get_or_insert(Time(self.now));
        }
    }

    /// The candidate is out.
    fn out(&mut self, refusal: &Refusal) {
        let (phase, step, reason) = (refusal.phase, refusal.step, refusal.reason);
        let message = refusal.message.clone();
        // A step that was not taken because nobody wants it did not fail.
        if phase != Phase::Superseded {
            self.conditions
                .set(step.as_str(), ConditionStatus::False, reason, message.clone());
            self.begin(step);
        }
        self.phase = phase;
        self.status.step = Some(step);
        self.conditions.stalled(reason, message.clone());
        self.events.push(EventRecord {
            warning: phase != Phase::Superseded,
            reason,
            message,
        });
    }

    /// Says which tools are not believed.
    fn trusted(&mut self, distrusted: &[String]) {
        if distrusted.is_empty() {
            self.conditions.clear(SELF_TEST_FAILED);
            return;
        }
        let message = format!("{}. Nothing is promoted until it is.", distrusted.join("; "));
        let said =
            conditions::find(&self.status.conditions, SELF_TEST_FAILED).is_some_and(|old| old.message == message);
        self.conditions.set(
            SELF_TEST_FAILED,
            ConditionStatus::True,
            "SelfTestFailed",
            message.clone(),
        );
        if !said {
            self.events.push(EventRecord {
                warning: true,
                reason: SELF_TEST_FAILED,
                message,
            });
        }
    }

    /// Writes what reports came to, with the artifacts that they were stored as in this reconcile.
    fn judged(&mut self, evaluation: &Evaluation, verdict: &Verdict) {
        let stored = |check: &str| self.applied.reports.iter().find(|(name, _)| name == check);
        let mut checks = evaluation.checks.clone();
        for summary in checks.iter_mut().filter(|summary| summary.report.is_none()) {
            summary.report = stored(&summary.name).map(|(_, digest)| digest.clone());
        }
        self.status.checks = checks;
        self.status.waivers.clone_from(&evaluation.waivers);
        self.status.waivers_hash.clone_from(&evaluation.waivers_hash);
        self.status.difference.clone_from(&evaluation.difference);
        self.status.failed_checks.clone_from(&verdict.failed_checks);
        self.gate(Step::Validated, &verdict.validated);
        self.gate(Step::Scanned, &verdict.scanned);
        if let Some(refusal) = &verdict.refusal {
            self.phase = refusal.phase;
            self.status.step = Some(refusal.step);
            self.conditions.stalled(refusal.reason, refusal.message.clone());
            self.events.push(EventRecord {
                warning: true,
                reason: "Rejected",
                message: refusal.message.clone(),
            });
        } else {
            self.phase = verdict.phase();
        }
    }

    fn gate(&mut self, step: Step, gate: &GateState) {
        match gate {
            // Said with everything else that is waited for.
            GateState::Running { .. } | GateState::RulesWaiting => {}
            GateState::Open { message } => self.done(step, "ChecksPassed", message.clone()),
            GateState::Shut { reason, message } => {
                self.conditions
                    .set(step.as_str(), ConditionStatus::False, reason, message.clone());
                self.ended(step);
            }
        }
    }

    /// The page decides nothing: neither the result nor the kstatus trio changes with it. The message has only the
    /// reason in it, because one that changed on every try would wake the next try at once.
    fn page(&mut self) {
        match &self.applied.page {
            None => {}
            Some(Ok(page)) => {
                let message = format!(
                    "kubectl repave report {} -n {} --open",
                    self.validated.name, self.validated.namespace
                );
                self.status.page = Some(page.clone());
                self.conditions
                    .set("Reported", ConditionStatus::True, "PagePublished", message);
            }
            Some(Err(failure)) => {
                let again = match failure.class {
                    Class::Stalled => "it is not tried again; kubectl repave report writes it from the reports",
                    Class::Waiting(_) | Class::Transient => "it is tried again; nothing waits for it",
                };
                let message = format!("the page for people is not published: {again}");
                self.conditions
                    .set("Reported", ConditionStatus::False, failure.reason, message);
            }
        }
    }

    fn promoted(&mut self) {
        let Some(promoted) = &self.applied.promoted else {
            let pending = self.applied.under_way.as_ref().unwrap_or(&Pending::Running);
            self.under_way(Step::Promoted, pending);
            return;
        };
        let mut message = format!(
            "{}@{} is signed and released as {}",
            promoted.repository, promoted.digest, promoted.tag
        );
        if let Some(difference) = Evaluation::of(&self.status).difference() {
            message = format!("{message}; {difference}");
        }
        self.status.promoted = Some(promoted.clone());
        self.done(Step::Promoted, "Promoted", message.clone());
        self.phase = Phase::Released;
        self.conditions.ready("Promoted", message.clone());
        self.events.push(EventRecord {
            warning: false,
            reason: "Promoted",
            message,
        });
    }
}
