//! Real output of Goss 0.4.9, good, bad and misleading.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const BAD: &[u8] = include_bytes!("../testdata/goss-bad.json");
const EVIDENCE: &[u8] = include_bytes!("../testdata/goss-evidence.json");
const DISTROLESS: &[u8] = include_bytes!("../testdata/goss-distroless.json");
const MOUNTED: &[u8] = include_bytes!("../testdata/goss-mounted-wrong.json");

fn skipping(max_skipped: u64) -> Options {
    Options {
        max_skipped,
        ..Options::default()
    }
}

fn read(json: &[u8], exit_code: Option<i32>, options: &Options) -> Result<Parsed, ReadError> {
    super::read(json, exit_code, options, true)
}

#[test]
fn a_package_test_without_a_package_manager_is_a_problem_because_it_would_always_pass() {
    let test = json!({"resource-type": "Package", "resource-id": "telnet", "property": "installed", "result": 0, "successful": true});
    let document = json!({"results": [test], "summary": {"test-count": 1, "failed-count": 0, "skipped-count": 0}});
    let text = serde_json::to_vec(&document).unwrap();
    assert_eq!(
        read(&text, Some(0), &Options::default()).unwrap().problems,
        Vec::<String>::new()
    );
    let parsed = super::read(&text, Some(0), &Options::default(), false).unwrap();
    assert!(parsed.problems[0].contains("package:telnet:installed asks a package manager"));
    // The same in what Goss really said about an image without one.
    let distroless = super::read(DISTROLESS, Some(1), &Options::default(), false).unwrap();
    assert!(
        distroless
            .problems
            .iter()
            .any(|problem| problem.contains("asks a package manager"))
    );
}

#[test]
fn a_bad_root_gives_one_finding_per_failed_test_with_what_the_gossfile_says_about_it() {
    let parsed = read(BAD, Some(1), &skipping(2)).unwrap();
    assert_eq!((parsed.evaluated, parsed.passed, parsed.not_applicable), (58, 42, 2));
    assert_eq!(parsed.findings.len(), 16);
    assert_eq!(parsed.problems, Vec::<String>::new());
    let found = parsed
        .findings
        .iter()
        .find(|f| f.id == "command:no-world-writable-files:stdout")
        .unwrap();
    assert_eq!(
        (found.severity, found.reference.as_deref()),
        (Severity::High, Some("CIS-7.1.11"))
    );
    assert!(
        found
            .title
            .starts_with("CIS 7.1.11 no world-writable regular files: Command:"),
        "{}",
        found.title
    );
    let mode = parsed
        .findings
        .iter()
        .find(|f| f.id == "file:/etc/shadow:mode")
        .unwrap();
    assert_eq!(
        (mode.severity, mode.subject.as_deref()),
        (Severity::Medium, Some("/etc/shadow"))
    );
}

#[test]
fn more_skipped_tests_than_allowed_are_an_error() {
    let parsed = read(BAD, Some(1), &Options::default()).unwrap();
    assert_eq!(parsed.problems.len(), 1);
    assert!(parsed.problems[0].contains("2 tests were skipped"));
    // Attributes of an account that does not exist are skipped, not failed.
    let mounted = read(MOUNTED, Some(1), &Options::default()).unwrap();
    assert!(mounted.problems[0].contains("1 tests were skipped"));
}

#[test]
fn a_test_that_could_not_be_carried_out_is_a_problem_and_not_a_finding() {
    for (json, id) in [
        (EVIDENCE, "command:timeout-test:exit-status"),
        (DISTROLESS, "command:c1:exit-status"),
    ] {
        let parsed = read(json, Some(1), &Options::default()).unwrap();
        assert!(parsed.problems[0].contains(id), "{:?}", parsed.problems);
        assert!(parsed.findings.iter().all(|finding| finding.id != id));
    }
}

#[test]
fn other_formats_are_not_read() {
    for text in [
        include_bytes!("../testdata/goss-prometheus.txt").as_slice(),
        include_bytes!("../testdata/goss-tap.txt"),
        b"",
        b"{}",
        b"null",
        b"Error: could not read gossfile",
    ] {
        assert!(matches!(
            read(text, Some(0), &Options::default()),
            Err(ReadError::Malformed { .. })
        ));
    }
    // `structured` always ends with 0 and says successful=false for a skipped test.
    let structured = include_bytes!("../testdata/goss-structured.txt");
    assert!(read(structured, Some(0), &skipping(2)).is_err());
}

#[test]
fn torn_and_repeated_documents_are_not_read() {
    assert!(read(&BAD[..BAD.len() / 2], Some(1), &skipping(2)).is_err());
    // `--retry-timeout` writes one document per attempt.
    assert!(read(&[BAD, BAD].concat(), Some(1), &skipping(2)).is_err());
    let huge = vec![b' '; MAX_JSON + 1];
    assert!(matches!(
        read(&huge, Some(0), &Options::default()),
        Err(ReadError::TooLarge { .. })
    ));
}

#[test]
fn the_exit_code_must_agree_with_the_document() {
    for code in [Some(0), Some(2), Some(78), None] {
        let error = read(BAD, code, &skipping(2)).unwrap_err();
        assert!(matches!(error, ReadError::Untrusted { .. }), "{error}");
    }
}

#[test]
fn a_document_whose_summary_hides_something_is_refused() {
    let mut document: Value = serde_json::from_slice(BAD).unwrap();
    document["summary"]["failed-count"] = json!(0);
    let text = serde_json::to_vec(&document).unwrap();
    assert!(
        read(&text, Some(0), &skipping(2))
            .unwrap_err()
            .to_string()
            .contains("0 failed")
    );
    let mut document: Value = serde_json::from_slice(BAD).unwrap();
    document["results"].as_array_mut().unwrap().truncate(3);
    let text = serde_json::to_vec(&document).unwrap();
    assert!(read(&text, Some(1), &skipping(2)).is_err());
}

#[test]
fn zero_tests_or_fewer_than_expected_are_an_error() {
    let empty = br#"{"results":[],"summary":{"test-count":0,"failed-count":0,"skipped-count":0}}"#;
    let parsed = read(empty, Some(0), &Options::default()).unwrap();
    assert!(parsed.problems[0].contains("at least 1 tests"));
    let options = Options {
        min_tests: 61,
        max_skipped: 2,
        ..Options::default()
    };
    assert!(read(BAD, Some(1), &options).unwrap().problems[0].contains("at least 61 tests, found 60"));
}

#[test]
fn a_result_that_nobody_documented_is_a_problem() {
    let test =
        json!({"resource-type": "File", "resource-id": "/x", "property": "mode", "result": 3, "successful": true});
    let document = json!({"results": [test], "summary": {"test-count": 1, "failed-count": 0, "skipped-count": 0}});
    let parsed = read(&serde_json::to_vec(&document).unwrap(), Some(0), &Options::default()).unwrap();
    assert!(parsed.problems[0].contains("result 3"));
    assert_eq!(parsed.passed, 0);
}

#[test]
fn an_unknown_severity_word_is_unknown_and_options_are_strict() {
    assert_eq!(crate::severity("HIGH"), Severity::High);
    assert_eq!(crate::severity("catastrophic"), Severity::Unknown);
    assert!(serde_json::from_str::<Options>(r#"{"minTest":1}"#).is_err());
    assert_eq!(serde_json::from_str::<Options>("{}").unwrap(), Options::default());
}

#[test]
fn goss_is_called_through_its_own_loader_and_without_a_shell() {
    let invocation = invocation(
        Path::new("/t"),
        Path::new("/g/goss.yaml"),
        Some(Path::new("/g/vars.yaml")),
    );
    let args: Vec<_> = invocation.args.iter().map(|arg| arg.to_string_lossy()).collect();
    assert_eq!(invocation.program, Path::new("/t/ld-linux-x86-64.so.2"));
    assert_eq!(
        args.join(" "),
        "--library-path /t /t/goss --vars /g/vars.yaml -g /g/goss.yaml validate --format json --format-options sort \
         --no-color --max-concurrent 4"
    );
}

#[test]
fn what_is_free_form_is_skipped_and_an_error_of_any_kind_is_an_error() {
    let test = |err: Value, meta: Value| {
        json!({"resource-type": "File", "resource-id": "/x", "property": "mode", "result": 1, "successful": false,
            "err": err, "meta": meta})
    };
    let read_one = |test: Value| {
        let document = json!({"results": [test], "summary": {"test-count": 1, "failed-count": 1, "skipped-count": 0}});
        read(&serde_json::to_vec(&document).unwrap(), Some(1), &Options::default()).unwrap()
    };
    for err in [json!("timed out"), json!({}), json!([]), json!(false), json!(0)] {
        let parsed = read_one(test(err.clone(), Value::Null));
        assert_eq!((parsed.problems.len(), parsed.findings.len()), (1, 0), "{err}");
    }
    let parsed = read_one(test(
        Value::Null,
        json!({"severity": ["high"], "owner": {"team": [1, 2]}, "remedy": "chmod"}),
    ));
    assert_eq!(parsed.findings[0].severity, Severity::Medium);
    assert_eq!(parsed.findings[0].remedy.as_deref(), Some("chmod"));
}

#[test]
fn a_command_that_printed_three_megabytes_is_read_without_its_output() {
    // Goss repeats what a command printed several times: 3 MB became 15 MB of JSON.
    let lines = vec!["x".repeat(99); 150_000];
    let test = json!({"resource-type": "Command", "resource-id": "c", "property": "stdout", "result": 1,
        "successful": false, "err": null, "summary-line-compact": lines.concat(), "matcher-result": {"actual": []}});
    let document = json!({"results": [test], "summary": {"test-count": 1, "failed-count": 1, "skipped-count": 0}});
    let text = serde_json::to_vec(&document).unwrap();
    assert!(text.len() > 14_000_000 && text.len() < MAX_JSON);
    let parsed = read(&text, Some(1), &Options::default()).unwrap();
    assert!(parsed.findings[0].title.len() <= 500);
}

#[test]
fn another_root_is_entered_by_our_own_program_and_the_inner_call_stays_what_it_is() {
    let inner = invocation(Path::new("/tmp/t"), Path::new("/tmp/i/goss.yaml"), None);
    let outer = below_root(Path::new("/bin/repave"), Path::new("/candidate"), inner.clone());
    let words: Vec<_> = outer.args.iter().map(|arg| arg.to_string_lossy()).collect();
    assert_eq!(outer.program, Path::new("/bin/repave"));
    assert_eq!(words[..5].join(" "), "runner goss-chroot --root /candidate --");
    assert_eq!(words[5], inner.program.to_string_lossy());
    assert_eq!(outer.args[6..], inner.args);
    assert_eq!(outer.env, inner.env);
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(read(&bytes, Some(0), &Options::default()).is_err());
    }

    #[test]
    fn a_changed_byte_never_turns_a_failure_into_a_pass(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = BAD.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(parsed) = read(&bytes, Some(1), &skipping(2)) {
            prop_assert!(parsed.findings.len() + parsed.problems.len() >= 16);
        }
    }
}
