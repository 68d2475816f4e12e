//! The check steps with fake tools: whatever a tool does, a report comes out, and only a whole and fitting one passes.

use super::{check::Examined, goss, openscap};
use crate::{
    checks::openscap::tailoring,
    domain::report::{Outcome, Report},
};
use clap::Parser;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use tempfile::TempDir;

pub(super) const IMAGE: &str = "sha256:f2a4feecf8aa1e683e53e1522f23fcb977416ad06401d5c38083c290e8973657";
const RESULTS: &str = include_str!("../checks/testdata/openscap-debian12-cis-l2-bad-containerenv.xml");
const STREAM: &str = include_str!("../checks/testdata/openscap-small-ds.xml");
const GOSS: &str = include_str!("../checks/testdata/goss-bad.json");

#[derive(Parser)]
struct Cli<T: clap::Args> {
    #[command(flatten)]
    args: T,
}

/// The arguments as a pod gives them: the common ones, then the check's own.
pub(super) fn parsed<T: clap::Args>(dir: &Path, own: &[&str]) -> T {
    let work = dir.to_str().unwrap();
    let common = ["x", "--check", "c", "--image", IMAGE, "--timeout", "20", "--work", work];
    let options = dir.join("options.json");
    let given = ["--options", options.to_str().unwrap()];
    let given: &[&str] = if options.exists() { &given } else { &[] };
    Cli::parse_from([&common, given, own].concat()).args
}

/// A folder with files, and with a fake tool that runs this script.
pub(super) fn folder(tool: &str, script: &str, files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let path = dir.path().join(tool);
    fs::write(&path, format!("#!/bin/sh\ncd '{}'\n{script}\n", dir.path().display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

pub(super) fn message(report: &Report) -> &str {
    match &report.outcome {
        Outcome::Completed => "",
        Outcome::Error { message } | Outcome::Unsupported { message } => message,
    }
}

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

struct Scan<'a> {
    script: &'a str,
    results: &'a str,
    os: &'a str,
    profile: &'a str,
}

impl Scan<'_> {
    async fn run(&self) -> Report {
        let script = format!(
            "[ \"$1\" = --version ] && {{ echo 'oscap 1.4.2'; exit 0; }}\n{}",
            self.script
        );
        let files = [
            ("results.xml", self.results),
            ("root/etc/os-release", self.os),
            ("content/ssg-debian12-ds.xml", STREAM),
        ];
        let dir = folder("oscap", &script, &files);
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (root, content, program) = (path("root"), path("content"), path("oscap"));
        let own = [
            "--root",
            &root,
            "--profile",
            self.profile,
            "--content",
            &content,
            "--program",
            &program,
        ];
        openscap::run(&parsed(dir.path(), &own)).await.report
    }
}

fn tailored() -> String {
    let profile = "<profile idref=\"xccdf_org.ssgproject.content_profile_cis_level2_server\"";
    RESULTS.replace(profile, &format!("<profile idref=\"{}\"", tailoring::PROFILE))
}

const DEBIAN: &str = "ID=debian\nVERSION_ID=\"12\"\n";

#[tokio::test]
async fn openscap_runs_with_the_generated_tailoring_and_its_results_are_read() {
    let results = tailored();
    let scan = Scan {
        script: "[ \"$4\" = xccdf_dev.repave_profile_container ] && grep -q world_writable \"$6\" && [ -d \"$OSCAP_PROBE_ROOT/etc\" ] \
                 && [ \"$OSCAP_CHECK_ENGINE_PLUGIN_DIR\" = /nonexistent ] && cp results.xml \"$8\" && exit 2; exit 1",
        results: &results,
        os: DEBIAN,
        profile: "cis_level1_server",
    };
    let report = scan.run().await;
    assert_eq!(message(&report), "");
    assert!(report.passed > 10 && report.findings.len() > 10);
    assert_eq!(report.tool.version, "1.4.2");
    assert_eq!(
        report.tool.content.as_deref(),
        Some("DEBIAN-12 0.1.82, profile cis_level1_server")
    );
    assert!(!report.candidate_executed);
}

#[tokio::test]
async fn an_openscap_that_crashes_or_writes_nothing_is_an_error() {
    let results = tailored();
    for (script, words) in [
        ("cp results.xml \"$8\"; kill -ABRT $$", "aborted (signal 6)"),
        ("cp results.xml \"$8\"; exit 134", "exit code 134: aborted"),
        ("cp results.xml \"$8\"; exit 137", "out of memory"),
        ("cp results.xml \"$8\"; exit 1", "exit code 1"),
        ("exit 0", "results cannot be read"),
        ("head -c 15000 results.xml > \"$8\"; exit 0", "cannot read the output"),
        ("mkfifo \"$8\"; exit 0", "not a regular file"),
    ] {
        let scan = Scan {
            script,
            results: &results,
            os: DEBIAN,
            profile: "cis_level1_server",
        };
        let report = scan.run().await;
        assert!(message(&report).contains(words), "{script}: {:?}", report.outcome);
        assert!(matches!(report.outcome, Outcome::Error { .. }));
    }
}

#[tokio::test]
async fn exit_code_0_with_nothing_applicable_is_an_error() {
    let wrong = include_str!("../checks/testdata/openscap-wrong-content-all-notapplicable-rc0.xml");
    let wrong = wrong.replace("content_profile_stig\" />", "x\" />");
    for (results, words) in [
        (wrong.as_str(), "tailoring was not applied"),
        (
            &tailored()
                .replace(">pass<", ">notapplicable<")
                .replace(">fail<", ">notapplicable<"),
            "at least 20 evaluated",
        ),
        (
            &tailored().replace("idref=\"cpe:/o:debian:debian_linux:12\"", "idref=\"#machine\""),
            "expected platform",
        ),
    ] {
        let scan = Scan {
            script: "cp results.xml \"$8\"; exit 0",
            results,
            os: DEBIAN,
            profile: "cis_level1_server",
        };
        let report = scan.run().await;
        assert!(message(&report).contains(words), "{:?}", report.outcome);
    }
}

#[tokio::test]
async fn an_os_without_content_is_unsupported_and_an_unknown_profile_an_error() {
    let scan = |os, profile| Scan {
        script: "exit 0",
        results: "",
        os,
        profile,
    };
    for os in ["ID=alpine\nVERSION_ID=3.20\n", "ID=rhel\nVERSION_ID=9.4\n"] {
        let report = scan(os, "cis").run().await;
        assert!(
            matches!(report.outcome, Outcome::Unsupported { .. }),
            "{:?}",
            report.outcome
        );
    }
    let report = scan(DEBIAN, "stig").run().await;
    assert!(
        message(&report).contains("choose one of cis_level1_server, cis_level2_server"),
        "{:?}",
        report.outcome
    );
}
