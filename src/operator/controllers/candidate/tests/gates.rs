//! Waivers, Audit, rules and the difference, from reports to the status.

use super::*;
use crate::{
    controllers::candidate::evaluation_inputs::{Before, EvaluationInputs, Previous},
    domain::waiver::{Kind, Pattern, Suppression},
};

/// A candidate with this enforcement and these rules.
fn under(enforcement: &str, rules: &serde_json::Value) -> ImageCandidate {
    let mut object = serde_json::to_value(candidate()).unwrap();
    object["spec"]["policies"][0]["spec"]["enforcement"] = json!(enforcement);
    object["spec"]["policies"][0]["spec"]["rules"] = rules.clone();
    serde_json::from_value(object).unwrap()
}

/// Its status once every check has reported; `cves` has this many findings.
fn judged(candidate: &ImageCandidate, findings: usize, evaluation_inputs: EvaluationInputs) -> ImageCandidateStatus {
    let validated = validate::validate(candidate).unwrap();
    let count = |name: &str| if name == "cves" { findings } else { 0 };
    let checks = validated.checks.iter().map(|check| {
        let delivered = delivery(report(&check.name, check.tool, count(&check.name)));
        (check.clone(), CheckState::Job(JobState::Delivered(delivered)))
    });
    let observed = Observed {
        stage: Stage::Check {
            image: Digest::of(b"built"),
            env: Vec::new(),
            self_tests: Vec::new(),
            checks: checks.collect(),
            evaluation_inputs: Box::new(evaluation_inputs),
        },
    };
    let reports = validated
        .checks
        .iter()
        .map(|check| (check.name.clone(), Digest::of(b"kept")));
    let applied = Applied {
        reports: reports.collect(),
        ..Applied::default()
    };
    rendered(candidate, &observed, &applied, 1_000_100)
}

fn condition(status: &ImageCandidateStatus, type_: &str) -> (String, String, String) {
    let found = conditions::find(&status.conditions, type_).unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

fn open(status: &ImageCandidateStatus) -> bool {
    conditions::is_true(&status.conditions, "Validated") && conditions::is_true(&status.conditions, "Scanned")
}

/// Of what `cves` finds, until then.
pub(super) fn waiver(expires: i64) -> Suppression {
    Suppression {
        id: Pattern::glob("rule-*"),
        aliases: Vec::new(),
        package: None,
        subject: None,
        checks: vec!["cves".into()],
        maximum_severity: None,
        kind: Kind::Waiver {
            name: "accepted".into(),
            not_before: None,
            expires: at(expires),
        },
    }
}

#[test]
fn what_a_waiver_covers_opens_the_gate_until_it_is_over() {
    let with = |expires| EvaluationInputs {
        waivers: vec![waiver(expires)],
        in_force: "w".into(),
        previous: Previous::None,
    };
    let candidate = under("Enforce", &json!([]));
    let status = judged(&candidate, 3, with(1_000_101));
    assert!(open(&status), "{:?}", condition(&status, "Scanned"));
    assert_eq!(status.waivers, ["accepted"]);
    assert_eq!(status.checks[3].waived, 3);
    assert!(condition(&status, "Scanned").2.contains("waived 3 (accepted)"));
    let status = judged(&candidate, 3, with(1_000_100));
    assert!(!open(&status) && status.waivers.is_empty());
    assert!(condition(&status, "Scanned").2.contains("its waiver expired: accepted"));
}

#[test]
fn an_audit_policy_reports_everything_and_keeps_nothing_out() {
    let rule = json!([{"name": "never", "expression": "false", "message": "never holds"}]);
    let audit = under("Audit", &rule);
    let status = judged(&audit, 3, EvaluationInputs::default());
    assert!(open(&status), "{:?}", condition(&status, "Scanned"));
    assert_eq!(
        (status.result, status.failed_checks.as_deref()),
        (Some(CandidateResult::Running), None)
    );
    let (_, _, scanned) = condition(&status, "Scanned");
    assert!(
        scanned.contains("cves: 3 failed (high 3) (Audit: keeps nothing out)"),
        "{scanned}"
    );
    let (_, _, validated) = condition(&status, "Validated");
    assert!(
        validated.contains("rule never: never holds (Audit: keeps nothing out)"),
        "{validated}"
    );
    assert!(status.checks.iter().all(|check| !check.enforced));
    let written = serde_json::to_value(&status.checks[0]).unwrap();
    assert_eq!(written["enforced"], false);
    let enforced = judged(&under("Enforce", &json!([])), 3, EvaluationInputs::default());
    assert!(!open(&enforced) && serde_json::to_value(&enforced.checks[0]).unwrap()["enforced"].is_null());
}

#[test]
fn an_audit_check_that_came_to_nothing_is_reported_as_an_error_and_keeps_nothing_out() {
    let audit = under("Audit", &json!([]));
    let validated = validate::validate(&audit).unwrap();
    let broken = |check: &validate::PlannedCheck| {
        let state = JobState::Broken {
            attempt: MAX_ATTEMPTS,
            message: "killed".into(),
        };
        (check.clone(), CheckState::Job(state))
    };
    let observed = Observed {
        stage: Stage::Check {
            image: Digest::of(b"built"),
            env: Vec::new(),
            self_tests: Vec::new(),
            checks: validated.checks.iter().map(broken).collect(),
            evaluation_inputs: Box::default(),
        },
    };
    let status = rendered(&audit, &observed, &Applied::default(), 1);
    assert!(open(&status));
    assert!(status.checks.iter().all(|check| check.verdict == "Error"));
    assert!(condition(&status, "Scanned").2.contains("cves: Error ("));
}

#[test]
fn a_rule_that_is_not_true_keeps_the_candidate_out_and_says_why() {
    for (expression, reason, result, says) in [
        (
            "checks.cves.evaluated > 1000",
            "RulesFailed",
            CandidateResult::Rejected,
            "rule r: too few",
        ),
        (
            "checks.nothing.passed > 1",
            "RuleError",
            CandidateResult::Error,
            "rule r: it cannot be evaluated: ",
        ),
        (
            "checks.cves.evaluated",
            "RuleError",
            CandidateResult::Error,
            "expected true or false",
        ),
    ] {
        let rules = json!([{"name": "r", "expression": expression, "message": "too few"}]);
        let status = judged(&under("Enforce", &rules), 0, EvaluationInputs::default());
        let (truth, found, message) = condition(&status, "Validated");
        assert_eq!(
            (truth.as_str(), found.as_str()),
            ("False", reason),
            "{expression}: {message}"
        );
        assert!(message.contains(says), "{message}");
        assert_eq!((status.result, status.step), (Some(result), Some(Step::Validated)));
        assert_eq!(status.failed_checks.as_deref(), Some("rule r"));
    }
    let rules =
        json!([{"name": "r", "expression": "checks.cves.evaluated == 100 && image.digest != ''", "message": "m"}]);
    let mut ready = under("Enforce", &rules);
    ready.status = Some(ImageCandidateStatus {
        built_digest: Some(Digest::of(b"built")),
        ..ImageCandidateStatus::default()
    });
    assert!(open(&judged(&ready, 0, EvaluationInputs::default())));
}

#[test]
fn the_difference_to_the_release_before_is_said_and_never_keeps_anything_out() {
    let candidate = under("Enforce", &json!([]));
    let before = |name: &str, tool, findings, waived| {
        let report = report(name, tool, findings);
        (name.to_owned(), Before { report, waived })
    };
    let with = |checks: Vec<(String, Before)>| EvaluationInputs {
        waivers: vec![waiver(2_000_000)],
        in_force: "w".into(),
        previous: Previous::Known {
            candidate: "debian-12-old".into(),
            checks: checks.into_iter().collect(),
        },
    };
    let all = vec![
        before("cves", ToolName::Grype, 5, 1),
        before("hardening", ToolName::Native, 0, 0),
        before("functional", ToolName::Goss, 0, 0),
        before("cis", ToolName::Openscap, 2, 0),
    ];
    let status = judged(&candidate, 2, with(all));
    let known = status.difference.clone().unwrap();
    assert_eq!(known.summary, "5 fixed, 0 introduced, +1 waiver");
    assert_eq!(
        (
            known.fixed,
            known.introduced,
            known.unchanged,
            known.fixed_findings.len()
        ),
        (5, 0, 2, 5)
    );
    assert!(
        condition(&status, "Validated")
            .2
            .ends_with("against debian-12-old: 5 fixed, 0 introduced, +1 waiver")
    );
    let status = judged(&candidate, 2, with(vec![before("cves", ToolName::Grype, 2, 2)]));
    assert!(open(&status));
    let known = status.difference.unwrap();
    assert_eq!(
        known.summary,
        "0 fixed, 0 introduced; not known for hardening, functional, cis"
    );
}

#[test]
fn the_largest_status_with_all_of_this_stays_under_eight_kibibytes() {
    let rules: Vec<_> = (0..16)
        .map(|n| json!({"name": format!("r{n}"), "expression": "false", "message": "m".repeat(256)}))
        .collect();
    let mut candidate = under("Enforce", &json!(rules));
    let waivers: Vec<String> = (0..16).map(|n| format!("{n:02}{}", "w".repeat(61))).collect();
    candidate.status = Some(ImageCandidateStatus {
        waivers,
        ..ImageCandidateStatus::default()
    });
    let evaluation_inputs = EvaluationInputs {
        waivers: Vec::new(),
        in_force: "w".into(),
        previous: Previous::Known {
            candidate: "c".repeat(53),
            checks: [(
                "cves".to_owned(),
                Before {
                    report: report("cves", ToolName::Grype, 0),
                    waived: 0,
                },
            )]
            .into(),
        },
    };
    let status = judged(&candidate, 3000, evaluation_inputs);
    let bytes = serde_json::to_vec(&status).unwrap().len();
    assert!(bytes < 8 * 1024, "{bytes} bytes");
}
