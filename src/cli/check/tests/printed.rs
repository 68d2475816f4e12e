//! What is printed, and written as SARIF: nothing looks clean that was not judged.

use super::*;

#[tokio::test]
async fn in_sarif_nothing_looks_clean_that_was_not_judged() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    docker_save(
        &tar,
        &[
            clean(),
            layer(&[("etc/cron.conf", 0o666, "x"), ("etc/other", 0o666, "x")]),
        ],
    );
    let goss = "  - {name: works, goss: {gossfile: 'file: {}'}}\n";
    let rules = "  rules: [{name: bad, expression: 'checks.hardening.passed > 999', message: too few}, \
                 {name: later, expression: 'checks.works.passed > 0', message: m}]\n";
    let policy = policy(folder.path(), &format!("{NATIVE}{goss}{rules}"));
    let soon = (Timestamp::now() + jiff::SignedDuration::from_hours(48)).to_string();
    let files = [policy.into(), waivers(folder.path(), &soon, "{}").into()];
    let policies = policy_file::read(&files, "--policy", Timestamp::now()).unwrap();
    let image = open(tar.to_str().unwrap(), &folder.path().join("s")).await.unwrap();
    let granted = Granted {
        waivers: &policies.waivers,
        base_image: "",
        digests: &[&image.digest],
        now: Timestamp::now(),
    };
    let tools = Tools::default();
    let judged = run::all(&policies, &image, &tools, &granted, folder.path())
        .await
        .unwrap();
    let log = sarif::log("app.tar", &image.digest, &judged);
    // As published by OASIS, but for a stray bracket that makes one of its patterns no regular expression.
    let schema = include_str!("../../../report/testdata/sarif-2.1.0.schema.json").replace("{2}]?$", "{2}?$");
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let errors: Vec<_> = validator.iter_errors(&log).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0]);
    let runs = log["runs"].as_array().unwrap();
    let success = |n: usize| runs[n]["invocations"][0]["executionSuccessful"].as_bool().unwrap();
    assert_eq!(
        (runs.len(), success(0), success(1), success(2)),
        (3, true, false, false)
    );
    assert_eq!(runs[0]["properties"]["image"], format!("app.tar@{}", image.digest));
    let suppressed = |path: &str| {
        let results = runs[0]["results"].as_array().unwrap();
        let at = "/locations/0/physicalLocation/artifactLocation/uri";
        let result = results
            .iter()
            .find(|result| result.pointer(at) == Some(&json!(path)))
            .unwrap();
        result["suppressions"].as_array().unwrap().len()
    };
    assert_eq!((suppressed("etc/cron.conf"), suppressed("etc/other")), (1, 0));
    let why = runs[1]["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"].as_str();
    assert!(why.unwrap().contains("not run here: Goss"), "{why:?}");
    assert_eq!(runs[2]["results"][0]["message"]["text"], "too few");
    assert_eq!(runs[2]["results"].as_array().unwrap().len(), 1);
}

#[test]
fn sarif_of_a_report_that_the_gate_does_not_believe_is_no_success() {
    let image = Digest::of(b"image");
    let mut few = judged_native(&image);
    let CheckRun::Report { report, judgement, .. } = &mut few.ran else {
        panic!()
    };
    report.findings.clear();
    judgement.verdict = repave_core::verdict::Verdict::NotEvaluated;
    judgement.message = "expected at least 90 evaluated, found 30".into();
    let log = sarif::log("x", &image, &[few]);
    let invocation = &log["runs"][0]["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    assert_eq!(log["runs"].as_array().unwrap().len(), 1);
}

/// The native check with one finding.
fn judged_native(image: &Digest) -> Judged {
    let tool = repave_core::report::Tool::new(repave_core::report::ToolName::Native, "1");
    let mut report = repave_core::report::Report::error("hardening", image, tool, "");
    report.outcome = repave_core::report::Outcome::Completed;
    report.evaluated = 30;
    report.findings = vec![repave_core::report::Finding {
        id: "native.world-writable".into(),
        severity: repave_core::report::Severity::High,
        title: "/x is writable by everybody".into(),
        remedy: Some("chmod o-w /x".into()),
        ..Default::default()
    }];
    let gate = repave_core::verdict::Gate {
        allow: std::collections::BTreeMap::new(),
        minimum_evaluated: 1,
        only_fixable: false,
        database_max_age: None,
        deny_known_exploited: false,
        epss_at_least: None,
        allow_end_of_life: false,
    };
    let none = repave_core::waiver::Exceptions::default();
    Judged {
        check: "hardening".into(),
        tool: Some(repave_core::report::ToolName::Native),
        enforced: true,
        ran: CheckRun::Report {
            judgement: crate::judge::judge(&report, &gate, &none, jiff::Timestamp::UNIX_EPOCH),
            report: Box::new(report),
            exceptions: Vec::new(),
        },
    }
}

#[test]
fn the_table_shows_what_ran_and_what_did_not() {
    let image = Digest::of(b"image");
    let judged = [
        judged_native(&image),
        Judged {
            check: "works".into(),
            tool: Some(repave_core::report::ToolName::Goss),
            enforced: false,
            ran: CheckRun::NotRun {
                why: "not run here: Goss needs a container of the image, in the cluster".into(),
            },
        },
        Judged {
            check: "rule enough".into(),
            tool: None,
            enforced: true,
            ran: CheckRun::Rule {
                verdict: repave_core::verdict::Verdict::Failed,
                message: "fewer than 40 rules were evaluated".into(),
            },
        },
    ];
    let ended = ended(&judged, false);
    insta::assert_snapshot!(output::text(&image, &judged, ended, false));
    let coloured = output::text(&image, &judged, ended, true);
    assert!(coloured.contains("\u{1b}[31mFailed\u{1b}[0m "), "{coloured}");
    let machine = serde_json::to_value(output::json(&judged)).unwrap();
    assert_eq!(machine[0]["verdict"], "Failed");
    assert_eq!(machine[0]["counts"], json!({"high": 1}));
    assert_eq!(machine[1]["verdict"], "NotRun");
    assert_eq!(machine[1]["report"], Value::Null);
}
