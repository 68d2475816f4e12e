//! Evaluations of what is decided: a refusal with other waivers, a release with newer databases. Pure.

use super::{
    CHECK_MESSAGE, Course, Decision, Evaluation, FINDING_LINE, Inputs, Rescanned, WaitingOn, distrusted, next_of_check,
    out,
};
use crate::{
    api::{image_candidate::Step, phase::Phase},
    controllers::candidate::{
        evaluation_inputs::EvaluationInputs,
        exceptions, gate, jobs,
        observe::{CheckState, JobState, MAX_ATTEMPTS, reevaluation::Reevaluate, rescan, self_tests::SelfTest},
        validate::PlannedCheck,
    },
    domain::{digest::Digest, report::Report, verdict},
};

impl Inputs<'_> {
    /// The stored reports of a refusal, judged with the waivers of now. It opens what findings alone kept shut: an error is
    /// never made of a refusal, nor a pass of one.
    pub(super) fn reevaluate(self, again: &Reevaluate) -> Decision {
        let result = again.reports.as_ref().map_err(Clone::clone).and_then(|reports| {
            let status = self.candidate.status.clone().unwrap_or_default();
            let mut evaluation = Evaluation {
                image: Some(again.image.clone()),
                // Also where no check has a report that could say it.
                waivers_hash: Some(again.evaluation_inputs.in_force.clone()),
                ..Evaluation::default()
            };
            for check in &self.validated.checks {
                let old = status.check(&check.name);
                match reports.iter().find(|(report, _)| report.check == check.name) {
                    Some((report, stored)) => {
                        let key = old.and_then(|old| format!("sha256:{}", old.key.as_deref()?).parse().ok());
                        let key = key.unwrap_or_else(|| check.key(&again.image, &self.settings.tools_image));
                        evaluation.add(check, report, Some(stored), &key, &again.evaluation_inputs, self.now);
                    }
                    // Only a check that is not enforced may be without a report.
                    None => evaluation.checks.extend(old.cloned()),
                }
            }
            let verdict = gate::verdict(self.validated, &evaluation, self.now);
            match verdict.phase() {
                Phase::Promote | Phase::Rejected => Ok((Box::new(evaluation), Box::new(verdict))),
                Phase::Pull
                | Phase::Verify
                | Phase::Build
                | Phase::Check
                | Phase::Released
                | Phase::Error
                | Phase::Superseded => Err(not_usable(&evaluation, &self.validated.checks)),
            }
        });
        if let (Err(why), Phase::Promote) = (&result, Phase::of(&self.candidate.status.clone().unwrap_or_default())) {
            let message = format!(
                "its gates opened under other waivers or more than a day ago, and the stored reports cannot be judged again: {why}. Nothing was promoted. Delete this ImageCandidate: its BaseImage makes it again, and its checks run"
            );
            return out(Phase::Error, Step::Promoted, "ReportsNotUsable", message);
        }
        Decision::go_on(Course::Reevaluated {
            in_force: again.evaluation_inputs.in_force.clone(),
            result,
        })
    }

    pub(super) fn rescan(
        self,
        image: &Digest,
        self_tests: &[SelfTest],
        evaluation_inputs: &EvaluationInputs,
        checks: Vec<(PlannedCheck, CheckState)>,
    ) -> Decision {
        let status = self.candidate.status.clone().unwrap_or_default();
        let (mut scans, mut waiting_on) = (Vec::new(), Vec::new());
        let mut actions = self.self_test_jobs(self_tests);
        for (check, state) in checks {
            let CheckState::Job(state) = state else { continue };
            let key = check.key(image, &self.settings.tools_image);
            match &state {
                JobState::Delivered(delivery) => {
                    scans.push(self.rescanned(&check, &delivery.report, key.clone(), evaluation_inputs));
                }
                JobState::Absent(_) => waiting_on.push((check.name.clone(), None)),
                JobState::Running(what) | JobState::Foreign(what) => {
                    waiting_on.push((check.name.clone(), Some(what.clone())));
                }
                JobState::Broken { attempt, message } if *attempt >= MAX_ATTEMPTS => {
                    waiting_on.push((
                        check.name.clone(),
                        Some(format!("could not be evaluated again: {message}")),
                    ));
                }
                JobState::Broken { message, .. } => waiting_on.push((check.name.clone(), Some(message.clone()))),
            }
            let Some(artifact) = rescan::artifact(&status, &check.name) else {
                continue;
            };
            actions.extend(next_of_check(image, state, |attempt| {
                let staged = self.validated.staging.at(image);
                let again = jobs::Rescan {
                    image: &staged,
                    digest: image,
                    artifact,
                };
                let name = jobs::attempt_name(&jobs::rescan_name(&key), attempt);
                jobs::rescan(self.candidate, self.validated, self.settings, &check, again, &name)
            }));
        }
        let distrusted = distrusted(self_tests);
        let mut decision = Decision::go_on(Course::Rescanned { scans, distrusted }).with(actions);
        decision.waiting_on = waiting_on
            .into_iter()
            .map(|(check, what)| WaitingOn::Rescan { check, what })
            .collect();
        decision
    }

    pub(super) fn rescanned(
        self,
        check: &PlannedCheck,
        report: &Report,
        key: Digest,
        evaluation_inputs: &EvaluationInputs,
    ) -> Rescanned {
        let judgement = exceptions::judge(check, report, &evaluation_inputs.waivers, self.now);
        let fixable = report.findings.iter().filter(|finding| finding.fixed_version.is_some());
        let worst = judgement.worst.iter();
        Rescanned {
            check: check.name.clone(),
            key,
            verdict: judgement.verdict,
            message: judgement.message.chars().take(CHECK_MESSAGE).collect(),
            fixable: u32::try_from(fixable.count()).unwrap_or(u32::MAX),
            top: worst
                .map(|finding| verdict::describe_finding(finding, FINDING_LINE))
                .collect(),
            counts: judgement.counts,
        }
    }
}

/// Why the stored reports come to no verdict any more.
fn not_usable(evaluation: &Evaluation, checks: &[PlannedCheck]) -> String {
    let known = [verdict::Verdict::Passed.as_str(), verdict::Verdict::Failed.as_str()];
    let enforced = checks.iter().filter(|check| check.enforced);
    let lines: Vec<_> = enforced
        .filter_map(|check| evaluation.check(&check.name))
        .filter(|summary| !known.contains(&summary.verdict.as_str()))
        .map(|summary| format!("{}: {}", summary.name, summary.message))
        .collect();
    if lines.is_empty() {
        "a rule of the policy cannot be evaluated".to_owned()
    } else {
        lines.join("; ")
    }
}
