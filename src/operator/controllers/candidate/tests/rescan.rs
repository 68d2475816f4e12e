//! A release under a new database: what is started, what is said, and what is taken back.

use super::*;
use crate::{
    api::image_candidate::CheckSummary,
    controllers::candidate::{
        evaluation_inputs::EvaluationInputs,
        observe::self_tests::{SelfTest, SelfTestState},
    },
};

/// A released candidate whose scan passed with the database of its time.
fn released() -> ImageCandidate {
    let mut candidate = candidate();
    let check: CheckSummary = serde_json::from_value(json!({
        "name": "cves", "verdict": "Passed", "message": "passed", "evaluated": 70, "toolMillis": 1,
        "report": Digest::of(b"first report"), "key": "of another database",
    }))
    .unwrap();
    candidate.status = Some(ImageCandidateStatus {
        result: Some(CandidateResult::Passed),
        built_digest: Some(Digest::of(b"built")),
        checks: vec![check],
        ..ImageCandidateStatus::default()
    });
    candidate
}

fn again(state: JobState<Box<Delivery>>, self_tests: Vec<SelfTest>) -> Observed {
    Observed {
        stage: Stage::Rescan {
            image: Digest::of(b"built"),
            self_tests,
            evaluation_inputs: Box::<EvaluationInputs>::default(),
            checks: vec![(planned("cves"), CheckState::Job(state))],
        },
    }
}

fn status_after(candidate: &ImageCandidate, observed: &Observed, applied: &Applied) -> ImageCandidateStatus {
    rendered(candidate, observed, applied, 1_000_100)
}

fn said(status: &ImageCandidateStatus, type_: &str) -> Option<(String, String)> {
    let found = conditions::find(&status.conditions, type_)?;
    Some((found.status.clone(), found.message.clone()))
}

#[test]
fn the_list_of_packages_is_fetched_and_scanned_in_one_job_named_by_all_that_decides() {
    let candidate = released();
    let observed = again(JobState::Absent(1), Vec::new());
    let actions = decided(&candidate, &observed, 1_000_100).actions;
    let [Action::CreateJob { job, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    let key = planned("cves").key(&Digest::of(b"built"), &settings().tools_image);
    assert_eq!(job.metadata.name, Some(jobs::rescan_name(&key)));
    let text = serde_json::to_string(job).unwrap();
    assert!(text.contains("fetch-sbom") && text.contains(Digest::of(b"first report").as_str()));
    let over = again(
        JobState::Broken {
            attempt: MAX_ATTEMPTS,
            message: "killed".into(),
        },
        Vec::new(),
    );
    assert_eq!(decided(&candidate, &over, 1_000_100).actions, []);
}

#[test]
fn what_is_found_stands_beside_the_verdict_of_the_release_and_goes_when_it_is_gone() {
    let candidate = released();
    let found = Applied {
        reports: vec![("cves".to_owned(), Digest::of(b"kept"))],
        ..Applied::default()
    };
    let delivered = again(
        JobState::Delivered(delivery(report("cves", ToolName::Grype, 2))),
        Vec::new(),
    );
    let status = status_after(&candidate, &delivered, &found);
    assert_eq!((status.checks.len(), status.checks[0].verdict.as_str()), (1, "Passed"));
    assert_eq!(
        (status.reevaluations.len(), status.reevaluations[0].verdict.as_str()),
        (1, "Failed")
    );
    let (truth, message) = said(&status, status::RESCAN_PASSED).unwrap();
    assert!(
        truth == "False" && message.contains("would not be released: cves 2 failed"),
        "{message}"
    );
    assert_eq!(
        status.result,
        Some(CandidateResult::Passed),
        "nothing is taken back by itself"
    );

    let mut later = candidate.clone();
    later.status = Some(status);
    let clean = Applied {
        reports: vec![("cves".to_owned(), Digest::of(b"kept"))],
        ..Applied::default()
    };
    let delivered = again(
        JobState::Delivered(delivery(report("cves", ToolName::Grype, 0))),
        Vec::new(),
    );
    let status = status_after(&later, &delivered, &clean);
    assert_eq!(status.reevaluations.len(), 1);
    assert_eq!(said(&status, status::RESCAN_PASSED).unwrap().0, "True");

    later.status = Some(status);
    let over = Observed { stage: Stage::Finished };
    assert_eq!(
        said(&status_after(&later, &over, &Applied::default()), status::RESCAN_PASSED),
        None
    );
}

#[test]
fn a_blind_scanner_is_told_and_forgotten_when_it_is_not_used_any_more() {
    let candidate = released();
    let blind = SelfTest {
        tool: ToolName::Grype,
        database: None,
        state: SelfTestState::No("Grype does not find CVE-2021-44228".into()),
    };
    let observed = again(JobState::Running("its report does not count".into()), vec![blind]);
    let status = status_after(&candidate, &observed, &Applied::default());
    assert_eq!(said(&status, status::SELF_TEST_FAILED).unwrap().0, "True");
    assert_eq!(said(&status, status::RESCAN_PASSED).unwrap().0, "Unknown");
    let mut later = candidate.clone();
    later.status = Some(status);
    let observed = Observed { stage: Stage::Released };
    assert_eq!(
        said(
            &status_after(&later, &observed, &Applied::default()),
            status::SELF_TEST_FAILED
        ),
        None
    );
}
