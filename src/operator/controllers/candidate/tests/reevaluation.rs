//! A refused candidate when the waivers are others than those it was judged with.

use super::*;
use crate::{
    controllers::candidate::{
        evaluation_inputs::{EvaluationInputs, Previous},
        observe::reevaluation::{Reevaluate, refused_for_findings},
    },
    domain::waiver::{Kind, Pattern, Suppression},
};

fn evaluation_inputs(names: &[&str], in_force: &str) -> EvaluationInputs {
    let waivers = names.iter().map(|name| Suppression {
        id: Pattern::glob("rule-*"),
        aliases: Vec::new(),
        package: None,
        subject: None,
        checks: vec!["cves".into()],
        maximum_severity: None,
        kind: Kind::Waiver {
            name: (*name).to_owned(),
            not_before: None,
            expires: at(2_000_000_000),
        },
    });
    EvaluationInputs {
        waivers: waivers.collect(),
        in_force: in_force.to_owned(),
        previous: Previous::None,
    }
}

/// Refused for the findings of `cves`, with a page.
fn refused() -> ImageCandidateStatus {
    ImageCandidateStatus {
        built_digest: Some(Digest::of(b"built")),
        page: Some(Digest::of(b"page")),
        ..all_reported("cves")
    }
}

fn again(reports: Result<usize, &str>, evaluation_inputs: EvaluationInputs) -> Observed {
    let checks = validate::validate(&candidate()).unwrap().checks;
    let stored = |findings| {
        let stored = checks.iter().map(|check| {
            let count = if check.name == "cves" { findings } else { 0 };
            (report(&check.name, check.tool, count), Digest::of(b"kept"))
        });
        stored.collect()
    };
    Observed {
        stage: Stage::Reevaluate(Box::new(Reevaluate {
            image: Digest::of(b"built"),
            reports: reports.map(stored).map_err(str::to_owned),
            evaluation_inputs,
        })),
    }
}

/// The status at a time after the judgement.
fn at_time(observed: &Observed, old: &ImageCandidateStatus, now: i64) -> ImageCandidateStatus {
    let mut candidate = candidate();
    candidate.status = Some(old.clone());
    rendered(&candidate, observed, &Applied::default(), now)
}

#[test]
fn a_waiver_that_covers_everything_opens_the_gate_and_nothing_runs() {
    let old = refused();
    let observed = again(Ok(3000), evaluation_inputs(&["accepted"], "new"));
    assert_eq!(planned_for(old.clone(), observed.stage.clone()), []);
    let new = at_time(&observed, &old, 1_000_200);
    assert!(conditions::is_true(&new.conditions, "Validated") && conditions::is_true(&new.conditions, "Scanned"));
    assert!(conditions::is_true(&new.conditions, "Reevaluated"));
    assert_eq!(
        (new.result, &new.failed_checks),
        (Some(CandidateResult::Running), &None)
    );
    assert_eq!(conditions::find(&new.conditions, "Stalled"), None);
    assert_eq!((new.waivers, new.page), (vec!["accepted".to_owned()], None));
    assert_eq!(new.waivers_hash.as_deref(), Some("new"));
    assert_eq!((new.checks[3].waived, &new.checks[3].key), (3000, &old.checks[3].key));
    let decided = new.timeline.iter().find(|entry| entry.step == Step::Scanned).unwrap();
    assert_eq!(decided.finished.as_ref().unwrap().0, at(1_000_200));
}

#[test]
fn without_a_waiver_that_helps_it_stays_refused_and_is_not_judged_a_third_time() {
    let old = refused();
    let new = at_time(&again(Ok(3000), evaluation_inputs(&[], "new")), &old, 1_000_200);
    assert_eq!(
        (new.result, new.step),
        (Some(CandidateResult::Rejected), Some(Step::Scanned))
    );
    assert_eq!(new.failed_checks.as_deref(), Some("cves"));
    assert!(!conditions::is_true(&new.conditions, "Scanned") && conditions::is_true(&new.conditions, "Stalled"));
    assert_eq!(new.waivers_hash.as_deref(), Some("new"));
}

#[test]
fn reports_that_cannot_be_judged_any_more_change_no_verdict() {
    let old = refused();
    // The database of the stored report is too old by then; and a report that is gone.
    let stale = at_time(
        &again(Ok(3000), evaluation_inputs(&["accepted"], "new")),
        &old,
        100_000_000,
    );
    let gone = at_time(
        &again(Err("it is gone"), evaluation_inputs(&["accepted"], "new")),
        &old,
        1_000_200,
    );
    for (new, words) in [(stale, "cves: the vulnerability database is"), (gone, "it is gone")] {
        assert_eq!(
            (new.result, &new.checks, &new.page),
            (old.result, &old.checks, &old.page)
        );
        assert!(!conditions::is_true(&new.conditions, "Scanned"));
        let said = conditions::find(&new.conditions, "Reevaluated").unwrap();
        assert_eq!(
            (said.status.as_str(), said.reason.as_str()),
            ("False", "ReportsNotUsable")
        );
        assert!(
            said.message.contains(words) && said.message.contains("Delete this ImageCandidate"),
            "{}",
            said.message
        );
        assert_eq!(
            new.waivers_hash.as_deref(),
            Some("new"),
            "it is not tried again with the same waivers"
        );
    }
}

#[test]
fn only_findings_are_judged_again_and_never_an_error() {
    let checks = validate::validate(&candidate()).unwrap().checks;
    assert!(refused_for_findings(&refused(), &checks).is_some());
    let changed = |change: &dyn Fn(&mut ImageCandidateStatus)| {
        let mut status = refused();
        change(&mut status);
        status
    };
    for status in [
        changed(&|status| status.result = Some(CandidateResult::Error)),
        changed(&|status| status.result = Some(CandidateResult::Passed)),
        changed(&|status| status.built_digest = None),
        changed(&|status| drop(status.checks.pop())),
        changed(&|status| status.checks[0].verdict = "Error".into()),
        changed(&|status| status.checks[0].verdict = "NotEvaluated".into()),
        changed(&|status| status.checks[0].verdict = "Unsupported".into()),
    ] {
        assert_eq!(refused_for_findings(&status, &checks), None, "{status:?}");
    }
}

#[test]
fn checks_judged_with_different_waivers_are_remembered_as_such() {
    let mut evaluation = crate::controllers::candidate::evaluation::Evaluation::default();
    for (in_force, expected) in [("a", "a"), ("a", "a"), ("b", "several"), ("a", "several")] {
        evaluation.waivers_hash(in_force);
        assert_eq!(evaluation.waivers_hash.as_deref(), Some(expected));
    }
}

/// A policy that only audits, and no check of it could be run (its tools image is not to be had): the gates are open, there
/// is no report, and so nothing says which waivers were in force. It is judged again at every look, and never promoted.
#[test]
fn open_gates_without_any_report_are_judged_again_once_and_then_promoted() {
    use crate::{
        api::{phase::Phase, validation_policy::Enforcement},
        controllers::candidate::{evaluation::Evaluation, observe::reevaluation::is_due},
    };
    let mut candidate = candidate();
    candidate.spec.policies[0].spec.enforcement = Enforcement::Audit;
    let validated = validate::validate(&candidate).unwrap();
    let mut evaluation = Evaluation::default();
    for check in &validated.checks {
        evaluation.add_missing(check, "the image cannot be pulled");
    }
    let mut status = ImageCandidateStatus {
        built_digest: Some(Digest::of(b"built")),
        checks: evaluation.checks,
        phase: Some(Phase::Promote),
        ..ImageCandidateStatus::default()
    };
    let mut looks = Vec::new();
    for look in 0..5 {
        if !is_due(&status, "none", at(1_000_200 + look)) {
            break;
        }
        candidate.status = Some(status.clone());
        let observed = Observed {
            stage: Stage::Reevaluate(Box::new(Reevaluate {
                image: Digest::of(b"built"),
                reports: Ok(Vec::new()),
                evaluation_inputs: evaluation_inputs(&[], "none"),
            })),
        };
        let next = rendered(&candidate, &observed, &Applied::default(), 1_000_200 + look);
        looks.push((Phase::of(&next), next != status));
        status = next;
    }
    assert!(
        looks.len() <= 1,
        "judged again at every look, and written each time: {looks:?}"
    );
}

/// The gates opened while the clock was ten days ahead, and it was put right since: nobody knows how old that judgement is.
#[test]
fn gates_that_opened_at_a_time_that_has_not_come_yet_are_judged_again_before_the_promotion() {
    use crate::controllers::candidate::observe::reevaluation::is_due;
    let (now, day) = (2_000_000, 24 * 3600);
    for (judged, expected) in [(now - 3600, false), (now - day - 1, true), (now + 10 * day, true)] {
        let time = at(judged).to_string();
        let mut status = all_reported("cves");
        status.waivers_hash = Some("h".to_owned());
        status.timeline =
            serde_json::from_value(json!([{"step": "Scanned", "started": time, "finished": time}])).unwrap();
        assert_eq!(is_due(&status, "h", at(now)), expected, "{} s before", now - judged);
    }
}
