//! The steps on the way to production: copy, verify, build, check, promote. Pure.

use super::{
    Action, Course, Decision, Evaluation, Inputs, SAFETY_NET, SIGNATURE_PAUSE, WaitingOn, create, distrusted,
    next_attempt, next_of_check, out,
};
use crate::{
    api::{image_candidate::Step, phase::Phase},
    controllers::{
        candidate::{
            evaluation_inputs::EvaluationInputs,
            gate::{self, GateState, Verdict},
            jobs,
            observe::{CheckState, JobState, MAX_ATTEMPTS, Verification, self_tests::SelfTest},
            validate::PlannedCheck,
        },
        driver::Requeue,
    },
    domain::digest::Digest,
};
use jiff::SignedDuration;
use std::{collections::BTreeMap, time::Duration};

impl Inputs<'_> {
    pub(super) fn pull(self) -> Decision {
        let validated = self.validated;
        let tag = &self.candidate.spec.source_tag;
        Decision::go_on(Course::Done {
            step: Step::Pulled,
            next: Phase::Verify,
            built: None,
            reason: "Copied",
            message: format!("{} (tag {tag}) is in {}", validated.source, validated.staging),
        })
        .with([Action::CopyToStaging])
    }

    pub(super) fn verify(self, verification: Verification) -> Decision {
        match verification {
            Verification::Succeeded(proof) => Decision::go_on(Course::Done {
                step: Step::Verified,
                next: Phase::Build,
                built: None,
                reason: "VerificationSucceeded",
                message: proof,
            }),
            Verification::Refused(message) => out(Phase::Rejected, Step::Verified, "VerificationFailed", message),
            Verification::SignaturePending(why) => {
                let pause = Requeue::After(self.signature_pause());
                Decision::wait(WaitingOn::Signature(why), pause)
            }
            // Nothing that could appear would change it: only another BaseImage, and that is another candidate.
            Verification::NotConfigured => Decision::wait(WaitingOn::VerificationConfigured, Requeue::AwaitChange),
        }
    }

    /// As long as it has waited already, within bounds: an upstream that signs late is asked often at first, and one that
    /// does not sign is not asked every few seconds for ever.
    pub(super) fn signature_pause(self) -> Duration {
        let status = self.candidate.status.iter();
        let began = status
            .flat_map(|status| &status.timeline)
            .find(|entry| entry.step == Step::Verified);
        let waited = began.map_or(SignedDuration::ZERO, |entry| self.now.duration_since(entry.started.0));
        Duration::try_from(waited)
            .unwrap_or(SAFETY_NET)
            .clamp(SAFETY_NET, SIGNATURE_PAUSE)
    }

    pub(super) fn build(self, state: &JobState<Digest>) -> Decision {
        let (validated, step) = (self.validated, Step::Built);
        if !validated.violations.is_empty() {
            let broken = validated
                .violations
                .iter()
                .map(|v| format!("{} ({})", v.message, v.rule));
            let broken: Vec<_> = broken.collect();
            let message = format!(
                "spec.customize.containerfile: {}. Nothing was built.",
                broken.join("; ")
            );
            return out(Phase::Rejected, step, "BuildConfigRejected", message);
        }
        let attempt = next_attempt(state);
        let create = attempt.map(|attempt| create(jobs::build(self.candidate, validated, self.settings, attempt)));
        let waits =
            |reason, what: String| Decision::wait(WaitingOn::Build { reason, what }, Requeue::After(SAFETY_NET));
        match state {
            JobState::Delivered(digest) => Decision::go_on(Course::Done {
                step,
                next: Phase::Check,
                built: Some(digest.clone()),
                reason: "Built",
                message: format!("{} is in staging", validated.staging.at(digest)),
            }),
            JobState::Absent(_) => waits("BuildStarted", "the build Job is created".to_owned()),
            JobState::Running(what) => waits("Building", what.clone()),
            JobState::Foreign(why) => waits("ForeignJob", why.clone()),
            JobState::Broken { attempt, message } if *attempt < MAX_ATTEMPTS => waits(
                "BuildRetried",
                format!("attempt {attempt} of {MAX_ATTEMPTS} failed: {message}"),
            ),
            JobState::Broken { message, .. } => {
                let job = jobs::build_name(&validated.name);
                let message = format!(
                    "the build failed {MAX_ATTEMPTS} times: {message}. Nothing was promoted. See: kubectl logs job/{job} --all-containers"
                );
                out(Phase::Error, step, "BuildFailed", message)
            }
        }
        .with(create)
    }

    pub(super) fn check(
        self,
        image: &Digest,
        env: &[String],
        self_tests: &[SelfTest],
        checks: Vec<(PlannedCheck, CheckState)>,
        evaluation_inputs: &EvaluationInputs,
    ) -> Decision {
        let status = self.candidate.status.clone().unwrap_or_default();
        let mut evaluation = Evaluation::of(&status);
        let mut foreign = BTreeMap::new();
        for (check, state) in &checks {
            match state {
                CheckState::Job(JobState::Broken { attempt, message }) if *attempt >= MAX_ATTEMPTS => {
                    evaluation.add_missing(check, message);
                }
                CheckState::Job(JobState::Delivered(delivery)) => {
                    let key = check.key(image, &self.settings.tools_image);
                    evaluation.add(check, &delivery.report, None, &key, evaluation_inputs, self.now);
                }
                CheckState::Job(JobState::Foreign(why)) => drop(foreign.insert(check.name.clone(), why.clone())),
                CheckState::Judged
                | CheckState::Job(JobState::Absent(_) | JobState::Running(_) | JobState::Broken { .. }) => {}
            }
        }
        let verdict = gate::verdict(self.validated, &evaluation, self.now);
        let mut actions = self.self_test_jobs(self_tests);
        for (check, state) in checks {
            let CheckState::Job(state) = state else { continue };
            actions.extend(next_of_check(image, state, |attempt| {
                jobs::check(
                    self.candidate,
                    self.validated,
                    self.settings,
                    &check,
                    image,
                    env,
                    attempt,
                )
            }));
        }
        let waiting_on = waiting_gates(&verdict, image, &foreign);
        let mut decision = Decision::go_on(Course::Judged {
            evaluation: Box::new(evaluation),
            verdict: Box::new(verdict),
            distrusted: distrusted(self_tests),
        })
        .with(actions);
        decision.waiting_on = waiting_on;
        decision
    }

    pub(super) fn promote(self) -> Decision {
        match gate::proof(self.candidate, self.validated) {
            Ok(proof) => Decision::go_on(Course::Promoted).with([Action::Promote(proof)]),
            Err(why) => {
                let message = format!(
                    "its gates are open and it is not proven: {why}. Nothing was promoted. Delete this ImageCandidate: its BaseImage makes it again, and its checks run"
                );
                out(Phase::Error, Step::Promoted, "NotProven", message)
            }
        }
    }
}

/// The gates that are not decided; `foreign` says of a check what else has the name of its Job.
fn waiting_gates(verdict: &Verdict, image: &Digest, foreign: &BTreeMap<String, String>) -> Vec<WaitingOn> {
    let gates = [(Step::Validated, &verdict.validated), (Step::Scanned, &verdict.scanned)];
    let waiting = gates.into_iter().filter_map(|(step, gate)| match gate {
        GateState::Running { open } => Some(WaitingOn::Checks {
            step,
            image: image.short().to_owned(),
            open: open
                .iter()
                .map(|check| match foreign.get(check) {
                    Some(why) => format!("{check} ({why})"),
                    None => check.clone(),
                })
                .collect(),
        }),
        GateState::RulesWaiting => Some(WaitingOn::Rules),
        GateState::Open { .. } | GateState::Shut { .. } => None,
    });
    waiting.collect()
}
