//! A step that fails outside of the candidate: what is decided stays decided.

use super::*;
use crate::controllers::{
    candidate::{Candidates, observe},
    driver::Outcome,
    reconciler::{Failure, Reconciler as _},
    transfers::GivenUp,
};

/// One error of each step and class.
fn errors() -> Vec<Failure> {
    let policy = validate::PolicyError::Serialize(serde_json::from_str::<u8>("").unwrap_err());
    let refused = |code| {
        let mut status = kube::core::Status::failure("the server is busy", "TooManyRequests");
        status.code = code;
        kube::Error::Api(Box::new(status))
    };
    vec![
        validate::Error::from(policy).into(),
        observe::Error::Api(refused(429)).into(),
        observe::Error::Api(refused(503)).into(),
        observe::Error::Database(crate::controllers::databases::Error::Missing(settings().tools_image)).into(),
        apply::Error::Api(refused(503)).into(),
        apply::Error::Lost("the report of check cves".into()).into(),
        apply::Error::GivenUp(GivenUp::TooSlow { what: "the promotion" }).into(),
    ]
}

/// All six steps are True, as after a promotion.
fn stored(result: CandidateResult) -> ImageCandidate {
    let mut candidate = candidate();
    let conditions = Step::ALL.map(|step| {
        json!({"type": step.as_str(), "status": "True", "reason": "Done", "message": "",
               "lastTransitionTime": "2026-11-20T00:00:00Z"})
    });
    let status = json!({"step": "Promoted", "result": result, "conditions": conditions, "observedGeneration": 1,
        "builtDigest": Digest::of(b"built")});
    candidate.status = Some(serde_json::from_value(status).unwrap());
    candidate
}

#[test]
fn no_error_of_any_step_changes_a_decided_candidate() {
    for result in [
        CandidateResult::Passed,
        CandidateResult::Rejected,
        CandidateResult::Error,
    ] {
        let candidate = stored(result);
        for error in errors() {
            let Outcome { status, events, .. } = Candidates::on_failure(&candidate, &error, at(2_000_000));
            assert_eq!(Some(&status), candidate.status.as_ref(), "{result:?} after: {error:?}");
            assert_eq!(events, [], "{error:?}");
        }
    }
}

#[test]
fn an_error_on_the_way_is_said_at_the_step_that_was_next_and_the_steps_before_stay_done() {
    for error in errors() {
        let mut candidate = stored(CandidateResult::Running);
        let status = candidate.status.as_mut().unwrap();
        status.conditions.retain(|condition| condition.type_ != "Promoted");
        let Outcome { status, events, .. } = Candidates::on_failure(&candidate, &error, at(2_000_000));
        assert_eq!(
            (status.step, status.result, events.len()),
            (Some(Step::Promoted), Some(CandidateResult::Waiting), 1),
            "{error:?}"
        );
        for step in &Step::ALL[..5] {
            assert!(
                conditions::is_true(&status.conditions, step.as_str()),
                "{step:?}: {error:?}"
            );
        }
    }
}
