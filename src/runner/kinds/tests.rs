//! The check steps with fake tools: whatever a tool does, a report comes out, and only a whole and fitting one passes.

use super::{goss, openscap};
use crate::check::Examined;
use clap::Parser;
use repave_checks::openscap::tailoring;
use repave_core::report::{Outcome, Report, ToolName};
use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt as _, path::Path};
use tempfile::TempDir;

pub(super) const IMAGE: &str = "sha256:f2a4feecf8aa1e683e53e1522f23fcb977416ad06401d5c38083c290e8973657";
const RESULTS: &str = include_str!("../../checks/testdata/openscap-debian12-cis-l2-bad-containerenv.xml");
const STREAM: &str = include_str!("../../checks/testdata/openscap-small-ds.xml");
const GOSS: &str = include_str!("../../checks/testdata/goss-bad.json");

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
async fn no_kind_of_check_examines_anything_with_other_inputs_than_it_was_made_for() {
    let dir = folder("x", "", &[("options.json", "{}")]);
    let path = dir.path().join("options.json");
    let kinds: [(ToolName, &[&str]); 5] = [
        (ToolName::Native, &["--layout", "/x"]),
        (ToolName::Goss, &["--goss", "/x", "--gossfile", "/x"]),
        (
            ToolName::Openscap,
            &["--root", "/x", "--datastream", "auto", "--profile", "p"],
        ),
        (ToolName::Grype, &["--layout", "/x"]),
        (
            ToolName::Container,
            &["--result-format", "exit-code", "--result", "/x", "--", "true"],
        ),
    ];
    for (tool, own) in kinds {
        let common = [
            "--check",
            "c",
            "--image",
            IMAGE,
            "--options",
            path.to_str().unwrap(),
            "--inputs",
            IMAGE,
        ];
        let words = common.iter().chain(own).map(OsString::from).collect();
        let examined = super::Check::of(tool, words).unwrap().examined().await;
        let message = message(&examined.report);
        assert!(message.contains("expected the inputs"), "{tool:?}: {message}");
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

#[derive(Clone, Copy)]
struct Scan<'a> {
    script: &'a str,
    results: &'a str,
    os: &'a str,
    profile: &'a str,
}

impl Scan<'_> {
    async fn run(&self) -> Report {
        self.examine(&[], &[]).await.report
    }

    /// With more files, and more arguments; `@` at the start of an argument is the folder.
    async fn examine(&self, more: &[(&str, &str)], arguments: &[&str]) -> Examined {
        let script = format!(
            "[ \"$1\" = --version ] && {{ echo 'oscap 1.4.2'; exit 0; }}\n{}",
            self.script
        );
        let files = [
            ("results.xml", self.results),
            ("root/etc/os-release", self.os),
            ("content/ssg-debian12-ds.xml", STREAM),
        ];
        let dir = folder("oscap", &script, &[&files, more].concat());
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (root, content, program) = (path("root"), path("content"), path("oscap"));
        let own = ["--profile", self.profile, "--content", &content, "--program", &program];
        let in_folder = |word: &&str| word.strip_prefix('@').map_or_else(|| (*word).to_owned(), path);
        let arguments: Vec<String> = arguments.iter().map(in_folder).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let default_root = ["--root", &root];
        let default_root: &[&str] = if arguments.contains(&"--root") {
            &[]
        } else {
            &default_root
        };
        openscap::run(&parsed(dir.path(), &[&own[..], default_root, &arguments].concat())).await
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
    let wrong = include_str!("../../checks/testdata/openscap-wrong-content-all-notapplicable-rc0.xml");
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

const PAGE: &str = "cp results.xml \"$8\"; echo '<html>page</html>' > \"${10}\"; exit 2";

#[tokio::test]
async fn the_page_and_the_cut_result_go_with_the_report() {
    let results = tailored();
    let scan = Scan {
        script: PAGE,
        results: &results,
        os: DEBIAN,
        profile: "cis_level1_server",
    };
    let done = scan.examine(&[], &[]).await;
    assert_eq!(message(&done.report), "");
    let names: Vec<&str> = done.attached.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["testresult.xml", "report.html"]);
    assert_eq!(done.attached[1].unpack(100).unwrap(), b"<html>page</html>\n");
    let kept = String::from_utf8(done.attached[0].unpack(1_000_000).unwrap()).unwrap();
    assert!(kept.contains("<TestResult ") && !kept.contains("<Benchmark"));
    // Level 1 of the small stream selects one live and one partition rule.
    let summary = done.report.summary.unwrap();
    assert!(
        summary.contains("left out: 1 (partition probe: passes whatever is there)"),
        "{summary}"
    );
    let without = Scan {
        script: "cp results.xml \"$8\"; exit 2",
        ..scan
    }
    .examine(&[], &[])
    .await;
    assert_eq!((message(&without.report), without.attached.len()), ("", 1));
    assert!(without.report.summary.unwrap().contains("no report.html"));
}

#[tokio::test]
async fn a_page_that_is_too_large_is_left_out_and_the_verdict_stays() {
    let results = tailored();
    let script = "cp results.xml \"$8\"; truncate -s 40M \"${10}\"; exit 2";
    let done = Scan {
        script,
        results: &results,
        os: DEBIAN,
        profile: "cis_level1_server",
    }
    .examine(&[], &[])
    .await;
    assert_eq!((message(&done.report), done.attached.len()), ("", 1));
    assert!(
        done.report
            .summary
            .unwrap()
            .contains("no report.html: OpenSCAP wrote more than")
    );
}

#[tokio::test]
async fn results_that_are_huge_or_of_another_benchmark_are_an_error() {
    let results = tailored();
    for (script, words) in [
        (
            "cp results.xml \"$8\"; truncate -s 65M \"$8\"; exit 0",
            "more than 67108864 bytes of results file",
        ),
        (
            "printf '<a>' > \"$8\"; head -c 70000000 /dev/zero | tr '\\0' ' ' >> \"$8\"; exit 0",
            "more than 67108864 bytes of results file",
        ),
        (
            "cp results.xml \"$8\"; truncate -s 1M \"$8\"; exit 0",
            "text outside of its root element",
        ),
        (
            "sed s/0.1.82/0.1.99/ results.xml > \"$8\"; exit 0",
            "expected benchmark",
        ),
        ("cp results.xml \"$8\"; exit 139", "segmentation fault"),
    ] {
        let report = Scan {
            script,
            results: &results,
            os: DEBIAN,
            profile: "cis_level1_server",
        }
        .run()
        .await;
        assert!(message(&report).contains(words), "{script}: {:?}", report.outcome);
        assert!(matches!(report.outcome, Outcome::Error { .. }));
    }
}

/// A tailoring of level 1 with these elements.
fn tailoring_with(inner: &str) -> String {
    format!(
        "<Tailoring xmlns=\"http://checklists.nist.gov/xccdf/1.2\"><Profile id=\"x\" \
         extends=\"xccdf_org.ssgproject.content_profile_cis_level1_server\">{inner}</Profile></Tailoring>"
    )
}

#[tokio::test]
async fn the_users_tailoring_is_merged_and_cannot_bring_a_vacuous_rule_back() {
    let results = tailored();
    let rule = |name: &str, on: bool| {
        format!("<select idref=\"xccdf_org.ssgproject.content_rule_{name}\" selected=\"{on}\"/>")
    };
    let tailoring = tailoring_with(&[rule("world_writable", true), rule("for_containers_too", true)].concat());
    let script = "grep -q 'for_containers_too\" selected=\"true' \"$6\" && grep -q 'world_writable\" selected=\"false' \"$6\" \
                  && cp results.xml \"$8\" && exit 2; exit 1";
    let scan = Scan {
        script,
        results: &results,
        os: DEBIAN,
        profile: "cis_level1_server",
    };
    let report = scan
        .examine(&[("t.xml", &tailoring)], &["--tailoring", "@t.xml"])
        .await
        .report;
    assert_eq!(message(&report), "");
    assert!(
        report
            .summary
            .unwrap()
            .contains("1 rules that your tailoring selects stay out")
    );
    for (text, words) in [
        (tailoring_with(&rule("no_such", false)), "has no rule or group"),
        ("<!DOCTYPE a>".to_owned(), "your tailoring: the tailoring: it has a DTD"),
        (" ".repeat(1024 * 1024 + 1), "more than 1048576 bytes of tailoring"),
    ] {
        let report = scan
            .examine(&[("t.xml", &text)], &["--tailoring", "@t.xml"])
            .await
            .report;
        assert!(message(&report).contains(words), "{:?}", report.outcome);
        assert!(matches!(report.outcome, Outcome::Error { .. }));
    }
}

#[tokio::test]
async fn a_named_data_stream_is_used_and_a_missing_one_says_which_there_are() {
    let results = tailored();
    let script = "case \"${11}${9}\" in *other-ds.xml*) cp results.xml \"$8\"; exit 2;; esac; exit 1";
    let scan = Scan {
        script,
        results: &results,
        os: DEBIAN,
        profile: "xccdf_org.ssgproject.content_profile_cis_level1_server",
    };
    let report = scan
        .examine(&[("content/other-ds.xml", STREAM)], &["--datastream", "other-ds.xml"])
        .await
        .report;
    assert_eq!(message(&report), "");
    let missing = scan.examine(&[], &["--datastream", "ssg-none-ds.xml"]).await.report;
    assert!(
        message(&missing).contains("has no ssg-none-ds.xml: it has ssg-debian12-ds.xml"),
        "{:?}",
        missing.outcome
    );
    assert!(matches!(missing.outcome, Outcome::Error { .. }));
}

#[tokio::test]
async fn rpm_content_without_the_right_to_chroot_is_unsupported_and_never_a_pass() {
    let results = tailored();
    let rpm = STREAM
        .replace("file_object id=\"oval:ssg-plain", "rpminfo_object id=\"oval:ssg-plain")
        .replacen("</u:file_object>", "</u:rpminfo_object>", 1);
    let scan = Scan {
        script: PAGE,
        results: &results,
        os: DEBIAN,
        profile: "cis_level1_server",
    };
    for (status, supported) in [
        ("CapEff:\t0000000000000000\n", false),
        ("CapEff:\t0000000000040000\n", true),
    ] {
        let files = [("content/ssg-debian12-ds.xml", rpm.as_str()), ("status", status)];
        let report = scan.examine(&files, &["--process-status", "@status"]).await.report;
        assert_eq!(
            !matches!(report.outcome, Outcome::Unsupported { .. }),
            supported,
            "{:?}",
            report.outcome
        );
        assert_eq!(message(&report).contains("no CAP_SYS_CHROOT"), !supported);
    }
}

#[tokio::test]
async fn a_root_that_is_missing_or_whose_rules_would_read_the_scanner_is_an_error() {
    let results = tailored();
    let scan = Scan {
        script: PAGE,
        results: &results,
        os: DEBIAN,
        profile: "cis_level1_server",
    };
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("etc")).unwrap();
    fs::write(dir.path().join("etc/os-release"), DEBIAN).unwrap();
    std::os::unix::fs::symlink("/etc/profile", dir.path().join("etc/profile")).unwrap();
    for (root, words) in [
        ("/nonexistent", "expected a root with a folder etc"),
        (dir.path().to_str().unwrap(), "absolute link"),
    ] {
        let report = scan.examine(&[], &["--root", root]).await.report;
        assert!(message(&report).contains(words), "{:?}", report.outcome);
        assert!(matches!(report.outcome, Outcome::Error { .. }));
    }
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
