//! What a candidate's status says after a step. Pure.

use super::{
    apply::Applied,
    decision::{self, Broken},
    exceptions,
    judging::Judging,
    observe::{
        CheckState, JobState, MAX_ATTEMPTS, Observed, Stage, Verification,
        self_tests::{SelfTest, Trusted},
    },
    validate::{PlannedCheck, Wish},
    wanted::Wanted,
};
use crate::{
    api::{
        ImageCandidate, ImageCandidateStatus,
        image_candidate::{CandidateResult, CheckSummary, Step, TimelineEntry},
    },
    controllers::{
        conditions::{self, Conditions, Truth},
        context::Settings,
        driver::Notice,
        error::{Class, Classified, one_line},
    },
    domain::{digest::Digest, report::Report, verdict::Verdict},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

mod again;

/// Condition: a tool did not reject its known-bad fixtures.
pub const GATE_UNTRUSTED: &str = "GateUntrusted";

/// What is said while a Job may not start yet.
const QUEUED: &str = "All slots for Jobs are taken (controller.maxJobs, maxJobsPerNamespace of the operator): it starts when one is free; the annotation repave.dev/urgent on this candidate lets it go first";

mod released;
pub use released::STILL_PASSES;

/// A report that was stored in this reconcile.
struct Arrived<'a> {
    check: &'a PlannedCheck,
    report: &'a Report,
    /// Its artifact in staging.
    stored: &'a Digest,
    /// What decides what the check finds.
    key: Digest,
}

/// The reports that were stored, each with its check.
fn arrived<'a>(
    image: &'a Digest,
    checks: &'a [(PlannedCheck, CheckState)],
    applied: &'a Applied,
    settings: &'a Settings,
) -> impl Iterator<Item = Arrived<'a>> {
    applied.reports.iter().filter_map(move |(report, stored)| {
        let (check, _) = checks.iter().find(|(check, _)| check.name == report.check)?;
        Some(Arrived {
            check,
            report,
            stored,
            key: check.key(image, &settings.tools_image),
        })
    })
}

/// A status in the making.
struct Draft<'a> {
    wish: &'a Wish,
    status: ImageCandidateStatus,
    conditions: Conditions,
    now: Timestamp,
    notices: Vec<Notice>,
}

/// The status after steps that succeeded.
pub fn summarize(
    candidate: &ImageCandidate,
    wish: &Wish,
    observed: &Observed,
    applied: &Applied,
    settings: &Settings,
    now: Timestamp,
) -> (ImageCandidateStatus, Vec<Notice>) {
    let mut draft = Draft::new(candidate, wish, now);
    match &observed.stage {
        Stage::Finished => draft.superseded(),
        Stage::Unwanted { wanted, .. } => draft.unwanted(wanted),
        Stage::Released => draft.up_to_date(),
        Stage::Again {
            image,
            self_tests,
            judging,
            checks,
        } => {
            draft.trusted(self_tests);
            draft.evaluated_again(image, checks, applied, judging, settings);
        }
        Stage::Pull => draft.pulled(candidate, applied),
        Stage::Verify(verification) => draft.verified(verification),
        Stage::Build(state) => draft.built(state, applied),
        Stage::Check {
            image,
            self_tests,
            checks,
            judging,
            ..
        } => {
            draft.trusted(self_tests);
            draft.checked(image, checks, applied, judging, settings);
        }
        Stage::Judge(again) => draft.judged_again(again, settings),
        Stage::Promote(_) => draft.promoted(applied),
    }
    draft.page(applied);
    draft.finish()
}

/// The status after a step that failed outside of the candidate: the step's condition says why, nothing is decided.
///
/// A decided candidate keeps its status to the last byte: it was only looked at, and what is decided stays decided.
pub fn failed(candidate: &ImageCandidate, error: &super::Error, now: Timestamp) -> (ImageCandidateStatus, Vec<Notice>) {
    let mut status = candidate.status.clone().unwrap_or_default();
    if status.result.is_some_and(CandidateResult::is_final) {
        return (status, Vec::new());
    }
    let mut conditions = Conditions::from(&status.conditions, candidate.metadata.generation.unwrap_or(0), now);
    let next = Step::ALL
        .into_iter()
        .find(|step| !conditions::is_true(&status.conditions, step.as_str()));
    let (step, message) = (next.unwrap_or(Step::Pulled), one_line(error));
    conditions.set(step.as_str(), Truth::False, error.reason(), message.clone());
    conditions.failed(error, message.clone());
    status.step = Some(step);
    status.result = Some(CandidateResult::Waiting);
    status.observed_generation = candidate.metadata.generation;
    status.conditions = conditions.into_list();
    let changed = candidate
        .status
        .as_ref()
        .is_none_or(|old| old.conditions != status.conditions);
    let notices = changed.then(|| Notice {
        warning: true,
        reason: error.reason(),
        message,
    });
    (status, notices.into_iter().collect())
}

impl<'a> Draft<'a> {
    fn new(candidate: &ImageCandidate, wish: &'a Wish, now: Timestamp) -> Self {
        let mut status = candidate.status.clone().unwrap_or_default();
        let generation = candidate.metadata.generation;
        let conditions = Conditions::from(&status.conditions, generation.unwrap_or(0), now);
        status.observed_generation = generation;
        Self {
            wish,
            status,
            conditions,
            now,
            notices: Vec::new(),
        }
    }

    fn finish(mut self) -> (ImageCandidateStatus, Vec<Notice>) {
        self.status.conditions = self.conditions.into_list();
        (self.status, self.notices)
    }

    /// A step is done.
    fn done(&mut self, step: Step, reason: &'static str, message: impl Into<String>) {
        self.conditions.set(step.as_str(), Truth::True, reason, message);
        self.begin(step);
        if let Some(entry) = self.status.timeline.iter_mut().find(|entry| entry.step == step) {
            entry.finished.get_or_insert(Time(self.now));
        }
        self.status.step = Some(step);
        self.status.result = Some(CandidateResult::Running);
        self.conditions
            .reconciling(reason, format!("{} is done", step.as_str()));
    }

    /// A step is on its way.
    fn running(&mut self, step: Step, reason: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.conditions
            .set(step.as_str(), Truth::Unknown, reason, message.clone());
        self.begin(step);
        self.status.step = Some(step);
        self.status.result = Some(CandidateResult::Running);
        self.conditions.reconciling(reason, message);
    }

    /// A step waits for something that a person or upstream provides.
    fn waiting(&mut self, step: Step, reason: &'static str, message: String) {
        self.running(step, reason, message);
        self.status.result = Some(CandidateResult::Waiting);
    }

    /// Nothing goes on until the BaseImage says that it wants this candidate; the steps that are done stay done.
    fn held(&mut self, reason: &'static str, message: String) {
        self.status.result = Some(CandidateResult::Waiting);
        self.conditions.reconciling(reason, message);
    }

    fn unwanted(&mut self, wanted: &Wanted) {
        match wanted {
            // A moment between two writes of the BaseImage's controller is not worth one of ours.
            Wanted::NotYetKnown { why } if self.status.result.is_none() => {
                self.held("BaseImageNotObserved", format!("{why}; nothing is done until then"));
            }
            Wanted::Yes | Wanted::NotYetKnown { .. } => {}
            Wanted::Suspended => {
                let message = "its BaseImage is suspended: no new step is taken until spec.suspend is false";
                self.held("Suspended", message.to_owned());
            }
            Wanted::BaseImageGone { why } => {
                self.held(
                    "BaseImageGone",
                    format!("{why}: no new step is taken, and nothing is promoted"),
                );
            }
            Wanted::No { instead } => {
                let message = format!(
                    "superseded: BaseImage {} wants {instead} now. This candidate is not promoted",
                    self.wish.base_image
                );
                self.status.result = Some(CandidateResult::Superseded);
                self.conditions.stalled("Superseded", message.clone());
                self.notices.push(Notice {
                    warning: false,
                    reason: "Superseded",
                    message,
                });
            }
        }
    }

    /// The candidate is out, for good.
    fn shut(&mut self, step: Step, result: CandidateResult, reason: &'static str, message: String) {
        self.conditions
            .set(step.as_str(), Truth::False, reason, message.clone());
        self.begin(step);
        self.status.step = Some(step);
        self.status.result = Some(result);
        self.conditions.stalled(reason, message.clone());
        self.notices.push(Notice {
            warning: true,
            reason,
            message,
        });
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

    fn pulled(&mut self, candidate: &ImageCandidate, applied: &Applied) {
        if applied.copied {
            let spec = &candidate.spec;
            let message = format!(
                "{} (tag {}) is in {}",
                self.wish.source, spec.source_tag, self.wish.staging
            );
            self.done(Step::Pulled, "Copied", message);
        }
    }

    fn verified(&mut self, verification: &Verification) {
        let step = Step::Verified;
        match verification {
            Verification::Genuine(proof) => self.done(step, "Genuine", proof.clone()),
            Verification::Refused(why) => self.shut(step, CandidateResult::Rejected, "NotGenuine", why.clone()),
            Verification::NotSignedYet(why) => self.waiting(step, "NotSignedYet", why.clone()),
            Verification::NothingDeclared => {
                let message = "nothing says how to tell that upstream is genuine: declare it in the BaseImage, either spec.verify: [{cosign: {keyRef: {name: <Secret with cosign.pub>}}}] or [{digests: [sha256:…]}]";
                self.shut(step, CandidateResult::Waiting, "NothingDeclared", message.to_owned());
            }
        }
    }

    fn built(&mut self, state: &JobState<Digest>, applied: &Applied) {
        let step = Step::Built;
        if !self.wish.violations.is_empty() {
            let broken: Vec<_> = self
                .wish
                .violations
                .iter()
                .map(|v| format!("{} ({})", v.message, v.rule))
                .collect();
            let message = format!(
                "spec.customize.containerfile: {}. Nothing was built.",
                broken.join("; ")
            );
            self.shut(step, CandidateResult::Rejected, "BuildConfigRejected", message);
            return;
        }
        match state {
            JobState::Delivered(digest) => {
                let message = format!("{} is in staging", self.wish.staging.at(digest));
                self.status.built_digest = Some(digest.clone());
                self.done(step, "Built", message);
            }
            JobState::Absent(_) if !applied.queued.is_empty() => self.running(step, "Queued", QUEUED),
            JobState::Absent(_) => self.running(step, "BuildStarted", "the build Job is created"),
            JobState::Running(what) => self.running(step, "Building", what.clone()),
            JobState::Broken { attempt, message } if *attempt < MAX_ATTEMPTS => {
                self.running(
                    step,
                    "BuildRetried",
                    format!("attempt {attempt} of {MAX_ATTEMPTS} failed: {message}"),
                );
            }
            JobState::Broken { message, .. } => {
                let job = super::jobs::build_name(&self.wish.name);
                let message = format!(
                    "the build failed {MAX_ATTEMPTS} times: {message}. Nothing was promoted. See: kubectl logs job/{job} --all-containers"
                );
                self.shut(step, CandidateResult::Error, "BuildFailed", message);
            }
        }
    }

    /// Says which tools are not believed. Their reports are withheld, so no gate can open on them.
    fn trusted(&mut self, self_tests: &[SelfTest]) {
        let refused: Vec<&str> = self_tests
            .iter()
            .filter_map(|test| match &test.state {
                Trusted::No(why) => Some(why.as_str()),
                Trusted::Yes | Trusted::NotYet(_) => None,
            })
            .collect();
        if refused.is_empty() {
            self.conditions.clear(GATE_UNTRUSTED);
            return;
        }
        let message = format!("{}. Nothing is promoted until it is.", refused.join("; "));
        let said = conditions::find(&self.status.conditions, GATE_UNTRUSTED).is_some_and(|old| old.message == message);
        self.conditions
            .set(GATE_UNTRUSTED, Truth::True, "SelfTestFailed", message.clone());
        if !said {
            self.notices.push(Notice {
                warning: true,
                reason: GATE_UNTRUSTED,
                message,
            });
        }
    }

    fn checked(
        &mut self,
        image: &Digest,
        checks: &[(PlannedCheck, CheckState)],
        applied: &Applied,
        judging: &Judging,
        settings: &Settings,
    ) {
        for (check, state) in checks {
            if let CheckState::Job(JobState::Broken { attempt, message }) = state
                && *attempt >= MAX_ATTEMPTS
            {
                self.judge_missing(check, message);
            }
        }
        for arrived in arrived(image, checks, applied, settings) {
            self.judge_report(&arrived, judging);
        }
        self.gate(Step::Validated, image, checks, false, applied);
        self.gate(Step::Scanned, image, checks, true, applied);
        self.headline();
    }

    fn judge_report(&mut self, arrived: &Arrived<'_>, judging: &Judging) {
        let Arrived {
            check,
            report,
            stored,
            key,
        } = arrived;
        let judgement = exceptions::judge(check, report, &judging.waivers, self.now);
        decision::judged_with(&mut self.status, &judging.in_force);
        decision::note(&mut self.status, report, &judgement, judging);
        let summary = decision::summary(check, report, &judgement, stored, key);
        self.status.checks.push(summary);
    }

    fn judge_missing(&mut self, check: &PlannedCheck, message: &str) {
        self.status.checks.push(CheckSummary {
            name: check.name.clone(),
            verdict: Verdict::Error.as_str().to_owned(),
            message: format!("no report after {MAX_ATTEMPTS} attempts: {message}")
                .chars()
                .take(decision::CHECK_MESSAGE)
                .collect(),
            counts: std::collections::BTreeMap::new(),
            evaluated: 0,
            passed: 0,
            enforced: check.enforced,
            waived: 0,
            suppressed: 0,
            database_built: None,
            top: Vec::new(),
            report: None,
            tool_millis: 0,
            key: None,
        });
    }

    /// Sets the condition of one of the two gates from the checks that belong to it.
    fn gate(
        &mut self,
        step: Step,
        image: &Digest,
        checks: &[(PlannedCheck, CheckState)],
        scans: bool,
        applied: &Applied,
    ) {
        let names: Vec<_> = checks
            .iter()
            .filter(|(check, _)| check.is_scan() == scans)
            .map(|(c, _)| &c.name)
            .collect();
        let judged: Vec<_> = self
            .status
            .checks
            .iter()
            .filter(|summary| names.contains(&&summary.name))
            .cloned()
            .collect();
        if judged.len() < names.len() {
            let open: Vec<_> = names
                .iter()
                .filter(|name| !judged.iter().any(|s| s.name == ***name))
                .map(|n| n.as_str())
                .collect();
            let waiting = if applied.queued.is_empty() {
                String::new()
            } else {
                format!(". {QUEUED}")
            };
            self.running(
                step,
                "ChecksRunning",
                format!("running on {}: {}{waiting}", image.short(), open.join(", ")),
            );
            return;
        }
        // Rules look at all results, so Validated waits for the scans where there are any.
        let rules = if scans { Vec::new() } else { self.broken_rules() };
        if !scans && !self.wish.rules.is_empty() && self.status.checks.len() < self.wish.checks.len() {
            self.running(
                step,
                "RulesWaiting",
                "its own checks are done; the rules look at all results, and scans still run",
            );
            return;
        }
        if let Some((reason, message)) = refusal(self.wish, &judged, &rules) {
            self.conditions.set(step.as_str(), Truth::False, reason, message);
            self.begin(step);
        } else {
            let mut said: Vec<_> = judged.iter().map(describe_passed).collect();
            said.extend(
                rules
                    .iter()
                    .map(|rule| format!("rule {}: {} (Audit: keeps nothing out)", rule.name, rule.message)),
            );
            said.extend(self.difference());
            let message = if judged.is_empty() && self.wish.rules.is_empty() {
                "no check of this kind is demanded".to_owned()
            } else {
                said.join("; ")
            };
            self.done(step, "ChecksPassed", message);
        }
        if let Some(entry) = self.status.timeline.iter_mut().find(|entry| entry.step == step) {
            entry.finished.get_or_insert(Time(self.now));
        }
    }

    /// The rules that do not hold; none while a check is not judged.
    fn broken_rules(&self) -> Vec<Broken> {
        if self.status.checks.len() < self.wish.checks.len() {
            return Vec::new();
        }
        decision::broken(self.wish, &self.status, self.now)
    }

    fn difference(&self) -> Option<String> {
        let known = self.status.difference.as_ref()?;
        Some(format!("against {}: {}", known.since, known.summary))
    }

    /// What the table and the kstatus trio say while and after the checks.
    fn headline(&mut self) {
        let failed: Vec<_> = self
            .status
            .checks
            .iter()
            .filter(|s| s.enforced && s.verdict != Verdict::Passed.as_str())
            .collect();
        let rules = self.broken_rules();
        let enforced: Vec<&Broken> = rules.iter().filter(|rule| rule.enforced).collect();
        let names = failed.iter().map(|s| s.name.clone());
        let names: Vec<_> = names
            .chain(enforced.iter().map(|rule| format!("rule {}", rule.name)))
            .collect();
        self.status.failed_checks = (!names.is_empty()).then(|| names.join(", "));
        if self.status.checks.len() < self.wish.checks.len() {
            return;
        }
        let step = if enforced.is_empty() && failed.iter().all(|s| self.is_scan(&s.name)) {
            Step::Scanned
        } else {
            Step::Validated
        };
        let only_findings =
            failed.iter().all(|s| s.verdict == Verdict::Failed.as_str()) && enforced.iter().all(|rule| !rule.error);
        let owned: Vec<CheckSummary> = failed.into_iter().cloned().collect();
        if let Some((reason, message)) = refusal(self.wish, &owned, &rules) {
            let result = if only_findings {
                CandidateResult::Rejected
            } else {
                CandidateResult::Error
            };
            self.status.step = Some(step);
            self.status.result = Some(result);
            self.conditions.stalled(reason, message.clone());
            self.notices.push(Notice {
                warning: true,
                reason: "Rejected",
                message,
            });
        }
    }

    fn is_scan(&self, name: &str) -> bool {
        self.wish
            .checks
            .iter()
            .any(|check| check.name == name && check.is_scan())
    }

    /// The page decides nothing: neither the result nor the kstatus trio changes with it. The message has only the
    /// reason in it, because one that changed on every try would wake the next try at once.
    fn page(&mut self, applied: &Applied) {
        match &applied.page {
            None => {}
            Some(Ok(page)) => {
                let message = format!(
                    "kubectl repave report {} -n {} --open",
                    self.wish.name, self.wish.namespace
                );
                self.status.page = Some(page.clone());
                self.conditions.set("Reported", Truth::True, "PagePublished", message);
            }
            Some(Err(failure)) => {
                let again = match failure.class {
                    Class::Stalled => "it is not tried again; kubectl repave report writes it from the reports",
                    Class::Waiting(_) | Class::Transient => "it is tried again; nothing waits for it",
                };
                let message = format!("the page for people is not published: {again}");
                self.conditions.set("Reported", Truth::False, failure.reason, message);
            }
        }
    }

    fn promoted(&mut self, applied: &Applied) {
        let Some(promoted) = &applied.promoted else {
            self.running(Step::Promoted, "Promoting", "being copied to production");
            return;
        };
        let mut message = format!(
            "{}@{} is signed and released as {}",
            promoted.repository, promoted.digest, promoted.tag
        );
        if let Some(difference) = self.difference() {
            message = format!("{message}; {difference}");
        }
        self.status.promoted = Some(promoted.clone());
        self.done(Step::Promoted, "Promoted", message.clone());
        self.status.result = Some(CandidateResult::Passed);
        self.conditions.ready("Promoted", message.clone());
        self.notices.push(Notice {
            warning: false,
            reason: "Promoted",
            message,
        });
    }
}

/// Why a gate stays shut: what failed, then what could not be judged, then the worst findings.
fn refusal(wish: &Wish, judged: &[CheckSummary], rules: &[Broken]) -> Option<(&'static str, String)> {
    let shut: Vec<_> = judged
        .iter()
        .filter(|s| s.enforced && s.verdict != Verdict::Passed.as_str())
        .collect();
    let rules: Vec<_> = rules.iter().filter(|rule| rule.enforced).collect();
    let reason = if shut.iter().any(|s| s.verdict == Verdict::Failed.as_str()) {
        "ChecksFailed"
    } else if !shut.is_empty() {
        "ChecksNotTrusted"
    } else if rules.iter().any(|rule| rule.error) {
        "RuleError"
    } else if !rules.is_empty() {
        "RulesFailed"
    } else {
        return None;
    };
    let mut lines: Vec<_> = shut.iter().map(|s| describe_check(s)).collect();
    lines.extend(rules.iter().map(|rule| format!("rule {}: {}", rule.name, rule.message)));
    let top: Vec<_> = shut.iter().flat_map(|s| s.top.iter().map(String::as_str)).collect();
    let top = if top.is_empty() {
        String::new()
    } else {
        format!(" Top: {}.", top.join("; "))
    };
    Some((
        reason,
        format!(
            "{}. Nothing was promoted. Report: kubectl repave report {} -n {}.{top}",
            lines.join("; "),
            wish.name,
            wish.namespace,
        ),
    ))
}

/// A check that keeps nothing out: it passed, or it is only reported.
fn describe_passed(summary: &CheckSummary) -> String {
    if summary.verdict == Verdict::Passed.as_str() {
        format!("{}: {}", summary.name, summary.message)
    } else {
        format!("{} (Audit: keeps nothing out)", describe_check(summary))
    }
}

fn describe_check(summary: &CheckSummary) -> String {
    if summary.verdict == Verdict::Failed.as_str() {
        format!("{}: {}", summary.name, summary.message)
    } else {
        format!("{}: {} ({})", summary.name, summary.verdict, summary.message)
    }
}
