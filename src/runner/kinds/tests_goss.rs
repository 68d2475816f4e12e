//! The Goss step with a fake goss: whatever it does, a report comes out, and only a whole and fitting one passes.

use super::{
    goss,
    tests::{folder, message, parsed},
};
use crate::check::Examined;
use repave_core::report::Outcome;
use std::fs;

const GOSS: &str = include_str!("../../checks/testdata/goss-bad.json");

async fn run_goss(script: &str, options: &str) -> Examined {
    let files = [("out.json", GOSS), ("goss.yaml", "file: {}"), ("options.json", options)];
    let script = format!("case \"$*\" in *--version) echo goss version 0.4.9; exit 0;; esac\n{script}");
    let dir = folder("ld-linux-x86-64.so.2", &script, &files);
    let path = dir.path().to_str().unwrap();
    let gossfile = dir.path().join("goss.yaml");
    goss::run(&parsed(
        dir.path(),
        &["--goss", path, "--gossfile", gossfile.to_str().unwrap()],
    ))
    .await
}

#[tokio::test]
async fn goss_is_read_and_marked_as_executed_by_the_candidate() {
    let done = run_goss("cat out.json; exit 1", r#"{"maxSkipped":2}"#).await;
    assert_eq!(message(&done.report), "");
    assert_eq!((done.report.evaluated, done.report.findings.len()), (58, 16));
    assert!(done.report.candidate_executed);
    assert_eq!(done.report.tool.version, "0.4.9");
    assert!(done.report.tool.content.unwrap().starts_with("gossfile sha256:"));
}

#[tokio::test]
async fn a_goss_that_does_not_end_well_is_an_error() {
    for (script, words) in [
        (
            "echo 'found 0 tests, source: goss.yaml' >&2; exit 78",
            "exit code 78; it said last: found 0 tests",
        ),
        ("cat out.json; exit 0", "mean exit code 1, it ended with 0"),
        ("cat out.json; kill -9 $$", "out of memory"),
        ("head -c 9000 out.json; exit 1", "expected one JSON document"),
        ("cat out.json out.json; exit 1", "expected one JSON document"),
        ("exit 0", "expected one JSON document"),
        ("exit 139", "segmentation fault"),
        ("exec cat /dev/zero", "wrote more than is read"),
    ] {
        let done = run_goss(script, "{}").await;
        assert!(
            message(&done.report).contains(words),
            "{script}: {:?}",
            done.report.outcome
        );
        assert!(matches!(done.report.outcome, Outcome::Error { .. }));
        assert_eq!(done.report.passed, 0);
    }
}

#[tokio::test]
async fn options_that_are_not_understood_are_an_error_and_no_default() {
    for options in ["", "[]", r#"{"maxSkiped":2}"#, r#"{"minTests":"1"}"#] {
        let done = run_goss("cat out.json; exit 1", options).await;
        assert!(
            message(&done.report).contains("options are not understood"),
            "{options}"
        );
        assert!(done.ended.is_none(), "the tool must not run");
    }
}

#[tokio::test]
async fn a_missing_gossfile_or_bundle_is_an_error() {
    let dir = folder("unused", "", &[("goss.yaml", "")]);
    let gossfile = dir.path().join("goss.yaml");
    let gossfile = gossfile.to_str().unwrap();
    let no_bundle = goss::run(&parsed(dir.path(), &["--goss", "/nonexistent", "--gossfile", gossfile])).await;
    assert!(message(&no_bundle.report).contains("program cannot be read"));
    let no_file = goss::run(&parsed(
        dir.path(),
        &["--goss", "/nonexistent", "--gossfile", "/nonexistent"],
    ))
    .await;
    assert!(message(&no_file.report).contains("gossfile cannot be read"));
}

#[tokio::test]
async fn the_variables_of_a_gossfile_are_given_to_goss_and_named_in_the_report() {
    let script = "case \"$*\" in *--version) echo goss version 0.4.9; exit 0;; *\"--vars $PWD/vars.yaml\"*) cat out.json; exit 1;; esac; exit 9";
    let files = [
        ("out.json", GOSS),
        ("goss.yaml", "file: {}"),
        ("vars.yaml", "a: 1"),
        ("options.json", r#"{"maxSkipped":2}"#),
    ];
    let dir = folder("ld-linux-x86-64.so.2", script, &files);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (goss, gossfile, vars) = (path(""), path("goss.yaml"), path("vars.yaml"));
    let done = goss::run(&parsed(
        dir.path(),
        &["--goss", &goss, "--gossfile", &gossfile, "--vars", &vars],
    ))
    .await;
    assert_eq!(message(&done.report), "");
    assert!(done.report.tool.content.unwrap().contains(", vars sha256:"));
}

#[tokio::test]
async fn a_path_outside_of_the_root_is_an_error() {
    let dir = folder("unused", "", &[("goss.yaml", "")]);
    let gossfile = dir.path().join("goss.yaml");
    let own = [
        "--goss",
        "/root/goss",
        "--gossfile",
        gossfile.to_str().unwrap(),
        "--root",
        "/candidate",
    ];
    let done = goss::run(&parsed(dir.path(), &own)).await;
    assert!(
        message(&done.report).contains("program cannot be read"),
        "{:?}",
        done.report.outcome
    );
}

#[tokio::test]
async fn without_a_null_device_nothing_is_run_because_every_package_would_seem_absent() {
    let script = "case \"$*\" in *--version) echo goss version 0.4.9; exit 0;; esac; touch ran; exit 1";
    let dir = folder("ld-linux-x86-64.so.2", script, &[("goss.yaml", "file: {}")]);
    let root = dir.path().to_str().unwrap();
    let gossfile = dir.path().join("goss.yaml");
    let own = ["--goss", root, "--gossfile", gossfile.to_str().unwrap(), "--root", root];
    let without = goss::run(&parsed(dir.path(), &own)).await;
    assert!(matches!(&without.report.outcome, Outcome::Unsupported { message } if message.contains("dev/null")));
    fs::create_dir(dir.path().join("dev")).unwrap();
    std::os::unix::fs::symlink("/dev/null", dir.path().join("dev/null")).unwrap();
    let linked = goss::run(&parsed(dir.path(), &own)).await;
    assert!(message(&linked.report).contains("a symbolic link"));
    assert!(!dir.path().join("ran").exists());
}
