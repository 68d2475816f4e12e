//! The container check with programs that do as they like: only a whole and fitting result passes.

use super::{
    container,
    tests::{IMAGE, folder, message, parsed},
};
use crate::check::Examined;
use repave_core::report::Outcome;

async fn run_container(format: &str, script: &str) -> Examined {
    let files = [(
        "options.json",
        r#"{"minTests":1,"image":"registry.example/check@sha256:1"}"#,
    )];
    let dir = folder("check", script, &files);
    let (program, result) = (dir.path().join("check"), dir.path().join("result"));
    let own = [
        "--result-format",
        format,
        "--result",
        result.to_str().unwrap(),
        "--",
        program.to_str().unwrap(),
        "a b",
    ];
    container::run(&parsed(dir.path(), &own)).await
}

#[tokio::test]
async fn a_container_check_is_read_by_its_exit_code() {
    let script = format!("[ \"$1\" = 'a b' ] && [ $REPAVE_IMAGE = {IMAGE} ]");
    let fine = run_container("exit-code", &script).await;
    assert_eq!(
        (message(&fine.report), fine.report.evaluated, fine.report.passed),
        ("", 1, 1)
    );
    assert_eq!(fine.report.tool.version, "registry.example/check@sha256:1");
    assert!(!fine.report.candidate_executed);
    let failed = run_container("exit-code", "echo one; printf 'two\\033[2J\\n' >&2; exit 1").await;
    assert_eq!(
        failed.report.findings[0].title,
        "the command ended with exit code 1: one | two\u{fffd}[2J"
    );
    for (script, words) in [
        ("exit 2", "exit code 2"),
        ("exit 137", "out of memory"),
        ("kill -SEGV $$", "segmentation fault"),
    ] {
        let done = run_container("exit-code", script).await;
        assert!(
            message(&done.report).contains(words),
            "{script}: {:?}",
            done.report.outcome
        );
        assert_eq!(done.report.passed, 0);
    }
}

#[tokio::test]
async fn the_result_of_a_container_check_is_a_plain_whole_file_or_an_error() {
    let fine = "<testsuite><testcase name=\"a\"/></testsuite>";
    let done = run_container("junit", &format!("echo '{fine}' > $REPAVE_RESULT")).await;
    assert_eq!((message(&done.report), done.report.passed), ("", 1));
    for (format, script, words) in [
        (
            "junit",
            "echo nothing to do >&2".to_owned(),
            "No such file or directory (os error 2); it said last: nothing to do",
        ),
        ("junit", "mkfifo $REPAVE_RESULT".to_owned(), "expected a plain file"),
        (
            "junit",
            format!("echo '{fine}' > elsewhere; ln -s elsewhere $REPAVE_RESULT"),
            "expected a plain file",
        ),
        (
            "junit",
            format!("echo '{fine}' > $REPAVE_RESULT; exit 3"),
            "exit code 3",
        ),
        (
            "junit",
            format!("echo '{fine}' > $REPAVE_RESULT; exit 1"),
            "names nothing that is wrong",
        ),
        ("sarif", format!("echo '{fine}' > $REPAVE_RESULT"), "the SARIF"),
        // A sparse file of a gigabyte is a gigabyte of zeros for whoever reads it.
        (
            "repave",
            "dd if=/dev/null of=$REPAVE_RESULT bs=1 seek=1073741824 2>/dev/null".to_owned(),
            "more than 16777216 bytes",
        ),
    ] {
        let done = run_container(format, &script).await;
        assert!(
            message(&done.report).contains(words),
            "{script}: {:?}",
            done.report.outcome
        );
        assert!(matches!(done.report.outcome, Outcome::Error { .. }));
    }
}

#[tokio::test]
async fn a_gigabyte_of_output_costs_no_memory_and_only_its_end_is_kept() {
    let script = "head -c 1073741824 /dev/zero; echo; echo the end; exit 1";
    let done = run_container("exit-code", script).await;
    let title = &done.report.findings[0].title;
    assert!(
        title.ends_with("the end") && title.len() <= 2_000,
        "{:?}",
        done.report.outcome
    );
}

#[tokio::test]
async fn a_result_that_was_there_before_is_nobodys() {
    let files = [("result", "<testsuite><testcase/></testsuite>"), ("options.json", "{}")];
    let dir = folder("check", "exit 0", &files);
    let (program, result) = (dir.path().join("check"), dir.path().join("result"));
    let own = [
        "--result-format",
        "junit",
        "--result",
        result.to_str().unwrap(),
        "--",
        program.to_str().unwrap(),
    ];
    let done = container::run(&parsed(dir.path(), &own)).await;
    assert!(message(&done.report).contains("was there before it ran"));
}
