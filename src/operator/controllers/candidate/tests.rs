//! What a candidate's plan, Jobs and status must be, as data: no client, no clock.

use super::{
    apply::{self, Applied},
    decide::{self, Action, Decision},
    gate, jobs,
    observe::{CheckState, JobState, MAX_ATTEMPTS, Observed, Stage, Verification},
    status, validate,
};
use crate::{
    api::{
        ImageCandidate, ImageCandidateStatus,
        image_candidate::{CandidateResult, Step},
    },
    controllers::conditions,
    domain::{
        digest::Digest,
        report::{Finding, Outcome, Report, Severity, Tool, ToolName},
    },
    runner::frame::Delivery,
};
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::PodSpec};
use serde_json::json;

pub use crate::controllers::testing::settings;

mod exhaustive;
mod failure;
mod gates;
mod made_jobs;
mod page;
mod reevaluation;
mod rescan;
mod shell;
mod sight;
mod wakes;
mod walk;
mod wanted;
mod world;

/// One with a check of each kind, at its beginning.
pub(crate) fn candidate() -> ImageCandidate {
    serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
        "metadata": {"name": "debian-12-0123456789ab", "namespace": "platform", "uid": "u", "generation": 1},
        "spec": {
            "baseImage": "debian-12", "source": "up.local/debian", "sourceTag": "12",
            "sourceDigest": Digest::of(b"v1"), "inputsHash": Digest::of(b"inputs"), "staging": "r.local:5000/staging",
            "build": {"containerfile": "USER 65532", "caCertificates": ["PEM"], "removeUsers": ["games"]},
            "policies": [{"name": "hardened", "files": {"functional": {"goss.yaml": "file: {}"}}, "spec": {"checks": [
                {"name": "hardening", "native": {"suidAllowed": ["/opt/x"]}},
                {"name": "functional", "goss": {"gossfileRef": {"name": "g"}}},
                {"name": "cis", "openscap": {"profile": "cis_level1_server"}},
                {"name": "cves", "vulnerabilities": {}}
            ]}}],
            "promote": {"repository": "r.local:5000/base", "channelTag": "12", "pushSecretRef": {"name": "push"},
                        "signing": {"keyRef": {"name": "key"}}}
        }
    }))
    .unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn tool(name: ToolName) -> Tool {
    let database_built = (name == ToolName::Grype).then(|| at(1_000_000));
    Tool {
        name,
        version: "1".into(),
        content: None,
        database_built,
        database: None,
    }
}

fn report(check: &str, name: ToolName, findings: usize) -> Box<Report> {
    let mut report = Report::error(check, &Digest::of(b"built"), tool(name), "");
    report.outcome = Outcome::Completed;
    report.evaluated = 100;
    report.findings = (0..findings)
        .map(|n| Finding {
            id: format!("rule-{n}"),
            severity: Severity::High,
            title: "x".repeat(2000),
            subject: None,
            remedy: Some("y".repeat(2000)),
            reference: None,
            ..Finding::default()
        })
        .collect();
    Box::new(report)
}

fn delivery(report: Box<Report>) -> Box<Delivery> {
    Box::new(Delivery {
        report: *report,
        attached: Vec::new(),
    })
}

/// One check of the policy.
pub fn planned(name: &str) -> validate::PlannedCheck {
    let checks = validate::validate(&candidate()).unwrap().checks;
    checks.into_iter().find(|check| check.name == name).unwrap()
}

/// A report of it without findings.
pub fn completed(check: &validate::PlannedCheck, image: &Digest) -> Report {
    Report {
        image: image.clone(),
        ..*report(&check.name, check.tool, 0)
    }
}

/// The stage "checks" with each check in the state that `state` gives for its name and tool.
fn checking(state: impl Fn(&str, ToolName) -> CheckState) -> Observed {
    let checks = validate::validate(&candidate()).unwrap().checks;
    let checks = checks
        .into_iter()
        .map(|check| (check.clone(), state(&check.name, check.tool)))
        .collect();
    Observed {
        stage: Stage::Check {
            image: Digest::of(b"built"),
            env: vec!["PATH=/bin".into()],
            self_tests: Vec::new(),
            checks,
            evaluation_inputs: Box::default(),
        },
    }
}

fn summarize(observed: &Observed, applied: &Applied, old: Option<ImageCandidateStatus>) -> ImageCandidateStatus {
    let mut candidate = candidate();
    candidate.status = old;
    rendered(&candidate, observed, applied, 1_000_100)
}

/// What is decided for a candidate at a time.
fn decided(candidate: &ImageCandidate, observed: &Observed, now: i64) -> Decision {
    let validated = validate::validate(candidate).unwrap();
    decide::decide(candidate, &validated, observed.clone(), &settings(), at(now))
}

/// Its status once that is carried out.
fn rendered(candidate: &ImageCandidate, observed: &Observed, applied: &Applied, now: i64) -> ImageCandidateStatus {
    let validated = validate::validate(candidate).unwrap();
    status::render(
        candidate,
        &validated,
        &decided(candidate, observed, now),
        applied,
        at(now),
    )
    .0
}

pub(super) fn pod(job: &Job) -> PodSpec {
    job.spec.clone().unwrap().template.spec.unwrap()
}

#[test]
fn verification_is_never_true_without_a_proof() {
    for (verification, result, reason) in [
        (
            Verification::NotConfigured,
            CandidateResult::Waiting,
            "VerificationNotConfigured",
        ),
        (
            Verification::SignaturePending("none".into()),
            CandidateResult::Waiting,
            "SignaturePending",
        ),
        (
            Verification::Refused("other key".into()),
            CandidateResult::Rejected,
            "VerificationFailed",
        ),
    ] {
        let status = summarize(
            &Observed {
                stage: Stage::Verify(verification),
            },
            &Applied::default(),
            None,
        );
        let condition = conditions::find(&status.conditions, "Verified").unwrap();
        assert_ne!(condition.status, "True");
        assert_eq!((status.result, condition.reason.as_str()), (Some(result), reason));
    }
    let genuine = Observed {
        stage: Stage::Verify(Verification::Succeeded("by key".into())),
    };
    assert!(conditions::is_true(
        &summarize(&genuine, &Applied::default(), None).conditions,
        "Verified"
    ));
}

/// All four checks are reported in one go; `failing` has findings.
fn all_reported(failing: &str) -> ImageCandidateStatus {
    let count = |name: &str| if name == failing { 3000 } else { 0 };
    let observed =
        checking(|name, tool| CheckState::Job(JobState::Delivered(delivery(report(name, tool, count(name))))));
    let Stage::Check { checks, .. } = &observed.stage else {
        unreachable!()
    };
    let reports = checks
        .iter()
        .map(|(check, _)| (check.name.clone(), Digest::of(b"kept")));
    let applied = Applied {
        reports: reports.collect(),
        ..Applied::default()
    };
    summarize(&observed, &applied, None)
}

#[test]
fn only_when_every_check_passed_both_gates_open() {
    let status = all_reported("");
    assert!(conditions::is_true(&status.conditions, "Validated") && conditions::is_true(&status.conditions, "Scanned"));
    assert_eq!(status.result, Some(CandidateResult::Running));
    for failing in ["hardening", "functional", "cis"] {
        let status = all_reported(failing);
        assert!(!conditions::is_true(&status.conditions, "Validated"), "{failing}");
        assert_eq!(
            (status.result, status.step),
            (Some(CandidateResult::Rejected), Some(Step::Validated))
        );
        assert_eq!(status.failed_checks.as_deref(), Some(failing));
    }
    let status = all_reported("cves");
    assert!(!conditions::is_true(&status.conditions, "Scanned"));
    assert_eq!(
        (status.result, status.step),
        (Some(CandidateResult::Rejected), Some(Step::Scanned))
    );
}

#[test]
fn a_check_without_a_report_is_an_error_and_never_a_pass() {
    let broken = |attempt| {
        CheckState::Job(JobState::Broken {
            attempt,
            message: "torn report".into(),
        })
    };
    let observed = checking(|_, _| broken(MAX_ATTEMPTS));
    let status = summarize(&observed, &Applied::default(), None);
    assert_eq!(status.result, Some(CandidateResult::Error));
    assert!(
        !conditions::is_true(&status.conditions, "Validated") && !conditions::is_true(&status.conditions, "Scanned")
    );
}

#[test]
fn the_largest_status_stays_under_eight_kibibytes() {
    let observed = checking(|name, tool| CheckState::Job(JobState::Delivered(delivery(report(name, tool, 3000)))));
    let Stage::Check { checks, .. } = &observed.stage else {
        unreachable!()
    };
    let reports = checks
        .iter()
        .map(|(check, _)| (check.name.clone(), Digest::of(b"kept")));
    let status = summarize(
        &observed,
        &Applied {
            reports: reports.collect(),
            ..Applied::default()
        },
        None,
    );
    let bytes = serde_json::to_vec(&status).unwrap().len();
    assert!(bytes < 8 * 1024, "{bytes} bytes");
}

#[test]
fn a_settled_status_does_not_change_when_it_is_looked_at_again() {
    let once = all_reported("cves");
    let finished = Observed { stage: Stage::Finished };
    assert_eq!(summarize(&finished, &Applied::default(), Some(once.clone())), once);
}

fn planned_for(status: ImageCandidateStatus, stage: Stage) -> Vec<Action> {
    let mut candidate = candidate();
    candidate.status = Some(status);
    decided(&candidate, &Observed { stage }, 1_000_200).actions
}

#[test]
fn a_signature_that_does_not_come_is_asked_for_less_and_less_often_and_never_given_up() {
    let mut candidate = candidate();
    let pending = Observed {
        stage: Stage::Verify(Verification::SignaturePending("none".into())),
    };
    candidate.status = Some(rendered(&candidate, &pending, &Applied::default(), 1_000_000));
    let pauses = [0_i64, 60, 600, 86_400, -3_600].map(|waited| {
        match decided(&candidate, &pending, 1_000_000 + waited).requeue {
            crate::controllers::driver::Requeue::After(pause) => pause.as_secs(),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(pauses, [20, 60, 600, 1_800, 20]);
}
