//! The OpenSCAP step with a fake oscap: its content, its tailoring, its results, and what of them is an error.

use super::{
    openscap,
    tests::{folder, message, parsed},
};
use crate::check::Examined;
use repave_checks::openscap::tailoring;
use repave_core::report::{Outcome, Report};
use std::fs;

const RESULTS: &str = include_str!("../../checks/testdata/openscap-debian12-cis-l2-bad-containerenv.xml");
const STREAM: &str = include_str!("../../checks/testdata/openscap-small-ds.xml");

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
