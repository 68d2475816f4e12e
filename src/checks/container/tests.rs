//! Results as tools write them, and as somebody hostile would.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fmt::Write as _;

const GOSS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="goss" errors="0" tests="3" failures="1" skipped="1" time="0.381" timestamp="2026-11-23T18:29:40Z">
<testcase name="Command only-root-uid0 exit-status" time="0.000">
<skipped/><system-out>Command: only-root-uid0: exit-status: skipped</system-out>
</testcase>
<testcase name="Command shells exit-status" time="0.032">
<system-out>Command: shells: exit-status: matches expectation: 0</system-out>
</testcase>
<testcase name="Command shells stdout" time="0.000">
<system-err>x</system-err>
<failure>Command: shells: stdout: Expected &#34;object&#34; to have patterns [&#34;!/.+/&#34;]</failure>
</testcase>
</testsuite>
"#;

fn image() -> Digest {
    Digest::of(b"image")
}

fn junit(xml: &str) -> Result<Parsed, ReadError> {
    read(Format::Junit, xml.as_bytes(), 0, &image(), &Options::default())
}

fn sarif(log: &Value) -> Result<Parsed, ReadError> {
    let text = serde_json::to_vec(log).unwrap();
    read(Format::Sarif, &text, 0, &image(), &Options::default())
}

/// A run with two rules and these results.
fn run(results: &Value) -> Value {
    json!({"version": "2.1.0", "runs": [{
        "tool": {"driver": {"name": "lint", "version": "1.2", "rules": [
            {"id": "R1", "defaultConfiguration": {"level": "note"}, "helpUri": "https://lint.example/R1",
             "messageStrings": {"default": {"text": "{0} is not {1}"}}},
            {"id": "R2", "properties": {"security-severity": "9.8"}, "shortDescription": {"text": "second rule"}},
        ]}},
        "results": results,
    }]})
}

fn own(report: &Value) -> Result<Parsed, ReadError> {
    let text = serde_json::to_vec(report).unwrap();
    read(Format::Repave, &text, 0, &image(), &Options::default())
}

#[test]
fn exit_codes_0_and_1_are_a_pass_and_a_finding_and_all_others_nothing() {
    let said = ["a", "b"].map(String::from);
    let passed = exit_code(Some(0), &said).unwrap();
    assert_eq!((passed.evaluated, passed.passed, passed.findings.len()), (1, 1, 0));
    let failed = exit_code(Some(1), &said).unwrap();
    assert_eq!((failed.evaluated, failed.passed), (1, 0));
    assert_eq!(failed.findings[0].title, "the command ended with exit code 1: a | b");
    for code in [Some(2), Some(126), Some(127), Some(137), None] {
        assert_eq!(exit_code(code, &said), None);
    }
    let long = exit_code(Some(1), &["ä".repeat(5_000), "the end".into()]).unwrap();
    assert!(long.findings[0].title.len() <= MAX_TEXT && long.findings[0].title.ends_with("the end"));
}

#[test]
fn junit_of_a_real_tool_is_read() {
    let parsed = junit(GOSS).unwrap();
    assert_eq!((parsed.evaluated, parsed.passed, parsed.not_applicable), (2, 1, 1));
    assert_eq!(parsed.findings[0].id, "goss.Command shells stdout");
    assert!(
        parsed.findings[0]
            .title
            .contains("Expected \"object\" to have patterns")
    );
    assert_eq!(parsed.problems, Vec::<String>::new());
}

#[test]
fn a_junit_error_is_a_problem_of_the_run_and_a_failure_a_finding() {
    let suites = r#"<testsuites><testsuite name="s"><testcase classname="c" name="a"><error message="no network"/></testcase>
        <testcase classname="c" name="b"><failure message="m">text</failure></testcase><testcase name="c"/></testsuite></testsuites>"#;
    let parsed = junit(suites).unwrap();
    assert_eq!(parsed.problems, ["the test c.a could not run: no network"]);
    assert_eq!((parsed.evaluated, parsed.passed), (2, 1));
    assert_eq!(
        (parsed.findings[0].id.as_str(), parsed.findings[0].title.as_str()),
        ("c.b", "c.b failed: mtext")
    );
}

#[test]
fn junit_that_hides_something_is_refused() {
    for (xml, words) in [
        ("", "it is empty"),
        ("<html/>", "found the element \"html\""),
        ("<testsuite name='s'><testcase/>", "ends in the middle"),
        (
            "<testsuite><testcase><Failure/></testcase></testsuite>",
            "found the element \"Failure\"",
        ),
        ("<testsuite><case/></testsuite>", "found the element \"case\""),
        ("<testsuite/><testsuite/>", "found the element \"testsuite\""),
        ("<testsuite>all fine</testsuite>", "found the text \"all fine\""),
        (
            "<testsuite tests='2'><testcase name='a'/></testsuite>",
            "announces 2 tests, its list has 1",
        ),
        (
            "<testsuite failures='1'><testcase name='a'/></testsuite>",
            "announces 1 failures, its list has 0",
        ),
        (
            "<testsuites errors='1'><testsuite><testcase/></testsuite></testsuites>",
            "announces 1 errors",
        ),
        ("<testsuite tests='many'/>", "a count of tests"),
        ("<testsuite><testcase name='a' name='b'/></testsuite>", "JUnit XML"),
        ("<testsuite><testcase name='&x;'/></testsuite>", "JUnit XML"),
        (
            "<testsuite><testcase><failure>&x;</failure></testcase></testsuite>",
            "unknown entity",
        ),
        ("<testsuite></testsuites>", "JUnit XML"),
    ] {
        let error = junit(xml).unwrap_err().to_string();
        assert!(error.contains(words), "{xml}: {error}");
    }
    let parsed = junit("<testsuite><testcase name='a' status='failed'/><testcase name='b'/></testsuite>").unwrap();
    assert!(parsed.problems[0].contains("says \"failed\" without saying why"));
    let skipped = junit("<testsuite><testcase name='a' status='notrun'/></testsuite>").unwrap();
    assert_eq!(
        (skipped.evaluated, skipped.not_applicable, skipped.problems.len()),
        (0, 1, 1)
    );
}

#[test]
fn an_xml_bomb_is_refused_before_it_goes_off() {
    let mut bomb = String::from("<!DOCTYPE lolz [<!ENTITY lol0 \"lol\">");
    for n in 1..10 {
        let _ = write!(bomb, "<!ENTITY lol{n} \"{}\">", format!("&lol{};", n - 1).repeat(10));
    }
    bomb.push_str("]><testsuite><testcase><failure>&lol9;</failure></testcase></testsuite>");
    assert!(
        junit(&bomb)
            .unwrap_err()
            .to_string()
            .contains("a DTD, which is never read")
    );
    let external = "<!DOCTYPE x SYSTEM \"file:///etc/passwd\"><testsuite/>";
    assert!(junit(external).unwrap_err().to_string().contains("a DTD"));
    let deep = "<testsuite>".repeat(1_000_000);
    assert!(junit(&deep).unwrap_err().to_string().contains("nested too deeply"));
    let ignored = format!("<testsuite><system-out>{}", "<a>".repeat(100_000));
    assert!(junit(&ignored).unwrap_err().to_string().contains("nested too deeply"));
}

#[test]
fn a_megabyte_in_one_field_is_not_carried_along_and_escapes_reach_no_terminal() {
    let long = "x".repeat(1_000_000);
    let xml = format!(
        "<testsuite><testcase name='{long}' classname='{long}'><failure message='{long}'>{long}</failure></testcase></testsuite>"
    );
    let finding = junit(&xml).unwrap().findings.remove(0);
    assert!(finding.id.len() <= 1_100 && finding.title.len() <= 2_000);
    let escape = "<testsuite><testcase name='&#27;[2J'><failure>\u{1b}]0;x\u{7}</failure></testcase></testsuite>";
    // What XML forbids may be refused; what is not refused is cleaned where reports are made.
    if let Ok(parsed) = junit(escape) {
        let run = crate::Run {
            check: "c",
            image: &image(),
            tool: repave_core::report::ToolName::Container,
            version: "",
            content: None,
            took: std::time::Duration::ZERO,
            candidate_executed: false,
        };
        let report = serde_json::to_string(&crate::assemble(run, Ok(parsed))).unwrap();
        assert!(!report.contains("\\u001b") && !report.contains('\u{1b}') && !report.contains("\\u0007"));
    }
}

#[test]
fn sarif_levels_scores_rules_and_places_become_findings() {
    let results = json!([
        {"ruleId": "R1", "message": {"id": "default", "arguments": ["a", "b"]},
         "locations": [{"physicalLocation": {"artifactLocation": {"uri": "etc/x"}, "region": {"startLine": 7}}}]},
        {"ruleIndex": 1, "message": {"text": "text"}},
        {"ruleId": "R3", "message": {"text": "new"}, "level": "error",
         "locations": [{"logicalLocations": [{"fullyQualifiedName": "pkg.fn"}]}]},
        {"rule": {"id": "R4/sub"}, "message": {"text": "no level"}},
        {"ruleId": "R5", "message": {"text": "score"}, "properties": {"security-severity": 7.0}, "level": "note"},
    ]);
    let parsed = sarif(&run(&results)).unwrap();
    let found: Vec<_> = parsed
        .findings
        .iter()
        .map(|f| format!("{} {} {} {:?}", f.id, f.severity, f.title, f.subject))
        .collect();
    assert_eq!(
        found,
        [
            "R1 low a is not b Some(\"etc/x:7\")",
            "R2 critical text None",
            "R3 high new Some(\"pkg.fn\")",
            "R4/sub medium no level None",
            "R5 high score None"
        ]
    );
    assert_eq!(parsed.findings[0].reference.as_deref(), Some("https://lint.example/R1"));
    assert_eq!((parsed.evaluated, parsed.passed), (5, 0));
    assert_eq!(parsed.content.as_deref(), Some("SARIF of lint 1.2"));
}

#[test]
fn sarif_passes_and_accepted_suppressions_are_no_findings_and_open_ones_a_problem() {
    let results = json!([
        {"ruleId": "R9", "kind": "pass", "level": "none", "message": {"text": "fine"}},
        {"ruleId": "R1", "message": {"text": "x"}, "suppressions": [{"kind": "external", "status": "accepted"}, {"kind": "inSource"}]},
        {"ruleId": "R1", "message": {"text": "gone"}, "baselineState": "absent"},
        {"ruleId": "R1", "message": {"text": "x"}, "kind": "notApplicable"},
    ]);
    let parsed = sarif(&run(&results)).unwrap();
    assert_eq!((parsed.evaluated, parsed.passed, parsed.not_applicable), (3, 3, 3));
    assert!(parsed.findings.is_empty() && parsed.problems.is_empty());
    for suppressions in [
        json!([]),
        json!([{"status": "underReview"}]),
        json!([{"status": "rejected"}, {}]),
        Value::Null,
    ] {
        let results = json!([{"ruleId": "R1", "message": {"text": "x"}, "suppressions": suppressions}]);
        assert_eq!(sarif(&run(&results)).unwrap().findings.len(), 1, "{results}");
    }
    let open = json!([{"ruleId": "R1", "kind": "open", "message": {"text": "x"}}]);
    assert!(sarif(&run(&open)).unwrap().problems[0].contains("could not be decided"));
}

#[test]
fn sarif_of_a_tool_that_did_not_really_run_is_an_error() {
    let mut absent = run(&json!([]));
    absent["runs"][0].as_object_mut().unwrap().remove("results");
    assert!(
        sarif(&absent)
            .unwrap_err()
            .to_string()
            .contains("did not examine anything")
    );
    assert!(sarif(&run(&Value::Null)).is_err());
    let mut failed = run(&json!([]));
    failed["runs"][0]["invocations"] = json!([{"executionSuccessful": false, "toolExecutionNotifications":
        [{"level": "error", "message": {"text": "out of disk"}}, {"message": {"text": "a warning"}}]}]);
    let problems = sarif(&failed).unwrap().problems;
    assert_eq!(
        problems,
        [
            "its tool says that it did not run successfully",
            "its tool says: out of disk"
        ]
    );
    let mut external = run(&json!([]));
    external["runs"][0]["externalPropertyFileReferences"] = json!({"results": [{"location": {"uri": "x"}}]});
    assert!(sarif(&external).unwrap_err().to_string().contains("in other files"));
}

#[test]
fn sarif_that_is_none_is_refused() {
    let mut old = run(&json!([]));
    old["version"] = json!("2.0.0");
    for (log, words) in [
        (old, "expected version 2.1.0"),
        (json!({"version": "2.1.0", "runs": []}), "1 to 100 runs, found 0"),
        (json!({}), "missing field"),
        (json!([]), "SARIF"),
        (run(&json!([{"message": {"text": "x"}}])), "names no rule"),
        (
            run(&json!([{"ruleIndex": 99, "message": {"text": "x"}}])),
            "names no rule",
        ),
        (
            run(&json!([{"ruleId": "R1", "level": "severe", "message": {"text": "x"}}])),
            "unknown variant",
        ),
        (
            run(&json!([{"ruleId": "R1", "kind": "passed", "message": {"text": "x"}}])),
            "unknown variant",
        ),
    ] {
        let error = sarif(&log).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    // Neither rules nor results: nothing says that anything was looked at.
    let silent = json!({"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "x"}}, "results": []}]});
    let parsed = sarif(&silent).unwrap();
    assert!(parsed.problems[0].contains("at least 1 tests or rules, found 0"));
}

#[test]
fn json_bombs_and_oversized_results_are_refused() {
    for format in [Format::Sarif, Format::Repave] {
        let refuse = |bytes: &[u8]| read(format, bytes, 0, &image(), &Options::default()).unwrap_err();
        assert!(matches!(
            refuse("[".repeat(1_000_000).as_bytes()),
            ReadError::Malformed { .. }
        ));
        let bomb = format!("{{\"properties\":{}", "{\"a\":".repeat(1_000_000));
        assert!(matches!(refuse(bomb.as_bytes()), ReadError::Malformed { .. }));
        let large = vec![b' '; usize::try_from(MAX_RESULT).unwrap() + 1];
        assert!(matches!(refuse(&large), ReadError::TooLarge { .. }));
        assert!(matches!(refuse(b""), ReadError::Malformed { .. }));
    }
    // Fifteen megabytes of what nobody asked for cost no tree.
    let mut log = run(&json!([]));
    log["runs"][0]["properties"] = json!({"x": "[0,0,0]".repeat(2_000_000)});
    assert_eq!(sarif(&log).unwrap().passed, 2);
}

#[test]
fn our_own_format_is_taken_as_it_is_when_it_agrees_with_itself() {
    let finding = json!({"id": "x.1", "severity": "high", "title": "t", "fixedVersion": "2"});
    let report = json!({"schema": "repave.dev/report/v1", "evaluated": 3, "passed": 2, "findings": [finding], "tool": {"any": 1}});
    let parsed = own(&report).unwrap();
    assert_eq!((parsed.evaluated, parsed.passed, parsed.findings.len()), (3, 2, 1));
    assert_eq!(parsed.findings[0].severity, Severity::High);
    for (key, value, words) in [
        ("schema", json!("repave.dev/report/v2"), "expected schema"),
        ("image", json!(Digest::of(b"other")), "expected a report about"),
        ("passed", json!(4), "4 of 3 rules passed"),
        ("passed", json!(3), "3 of 3 rules passed"),
        ("findings", json!([]), "names 0 findings"),
        (
            "findings",
            json!([{"id": " ", "severity": "low", "title": "t"}]),
            "no id",
        ),
        (
            "findings",
            json!([{"id": "a", "severity": "worst", "title": "t"}]),
            "unknown variant",
        ),
        ("evaluated", json!(-1), "invalid value"),
        ("evaluated", json!(1_000_000_000), "at most 200000 rules"),
        ("finding", json!([]), "unknown field"),
        (
            "outcome",
            json!({"kind": "error", "message": "no licence"}),
            "did not complete: no licence",
        ),
        (
            "outcome",
            json!({"kind": "unsupported", "message": "no rpm"}),
            "cannot examine this image: no rpm",
        ),
    ] {
        let mut report = report.clone();
        report[key] = value;
        let error = own(&report).unwrap_err().to_string();
        assert!(error.contains(words), "{key}: {error}");
    }
    let mut cut = report;
    cut["truncated"] = json!(true);
    assert!(own(&cut).unwrap().problems[0].contains("its report is cut"));
}

#[test]
fn exit_code_and_minimum_must_fit_the_result() {
    let options = Options {
        min_tests: 3,
        ..Options::default()
    };
    let few = read(Format::Junit, GOSS.as_bytes(), 1, &image(), &options).unwrap();
    assert!(few.problems[0].contains("at least 3 tests or rules, found 2"));
    let fine = "<testsuite><testcase/></testsuite>";
    let odd = read(Format::Junit, fine.as_bytes(), 1, &image(), &Options::default()).unwrap();
    assert!(odd.problems[0].contains("exit code 1, but its result names nothing"));
}

#[test]
fn the_command_gets_its_images_environment_and_nothing_of_the_cluster() {
    let given = [
        ("PATH", "/opt/bin"),
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ("REPAVE_CHECK_OPTIONS", "{}"),
        ("HOME", "/root"),
    ];
    let env = given.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let command = ["/bin/check", "$(reboot)", "--x"].map(OsString::from);
    let called = invocation(&command, env.into_iter(), &"/result/result".into(), &image()).unwrap();
    assert_eq!(
        (called.program.as_path(), called.args.len()),
        (std::path::Path::new("/bin/check"), 2)
    );
    let env: Vec<String> = called
        .env
        .iter()
        .map(|(name, value)| format!("{name}={}", value.display()))
        .collect();
    let digest = format!("REPAVE_IMAGE={}", image());
    assert_eq!(
        env,
        [
            "HOME=/tmp",
            "PATH=/opt/bin",
            digest.as_str(),
            "REPAVE_RESULT=/result/result"
        ]
    );
    assert_eq!(invocation(&[], std::iter::empty(), &"x".into(), &image()), None);
}

proptest! {
    #[test]
    fn noise_never_passes(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        for format in [Format::Junit, Format::Sarif, Format::Repave] {
            prop_assert!(read(format, &bytes, 0, &image(), &Options::default()).is_err());
        }
    }

    #[test]
    fn a_torn_document_never_passes(at in 0..GOSS.trim_end().len()) {
        if let Some(torn) = GOSS.get(..at) {
            prop_assert!(junit(torn).is_err());
        }
        let whole = serde_json::to_string(&run(&json!([{"ruleId": "R1", "message": {"text": "x"}}]))).unwrap();
        let torn = &whole.as_bytes()[..at.min(whole.len() - 1)];
        prop_assert!(read(Format::Sarif, torn, 0, &image(), &Options::default()).is_err());
    }
}
