//! The step with fake tools, and with the real ones where they are built.

use super::super::tests::{folder, message, parsed};
use super::*;
use repave_core::report::{Outcome, Report, ToolName};
use repave_oci::registry::testing::tool;
use std::fs;

const GRYPE: &str = include_str!("../../../checks/testdata/grype-kev.json");
const SYFT: &str = include_str!("../../../checks/testdata/sbom-syft.json");
const TRIVY: &str = include_str!("../../../checks/testdata/trivy-kev.json");
const TRIVY_LIST: &str = include_str!("../../../checks/testdata/sbom-trivy.json");
const METADATA: &str = r#"{"Version":2,"UpdatedAt":"2026-11-24T06:59:20Z"}"#;

/// The image that the fixtures are about.
fn image() -> Digest {
    sbom::read(SYFT.as_bytes(), "T").unwrap().manifest.unwrap()
}

struct Fake<'a> {
    scanner: &'a str,
    list: &'a str,
    scan: &'a str,
    more: &'a [&'a str],
    sbom: &'a str,
    json: &'a str,
    image: Digest,
}

impl Fake<'_> {
    async fn run(&self) -> Examined {
        let trivy = format!("case $1 in image) {};; sbom) {};; esac", self.list, self.scan);
        let script = if self.scanner == "grype" { self.scan } else { &trivy };
        let files = [
            ("report.json", self.json),
            ("bom.json", self.sbom),
            ("database/6/vulnerability.db", ""),
            ("database/db/metadata.json", METADATA),
        ];
        let dir = folder(self.scanner, script, &files);
        let path = dir.path().to_str().unwrap().to_owned();
        fs::write(
            format!("{path}/syft"),
            format!("#!/bin/sh\ncd '{path}'\n{}\n", self.list),
        )
        .unwrap();
        fs::set_permissions(
            format!("{path}/syft"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let database = format!("{path}/database");
        let list = format!("{path}/bom.json");
        let layout = self.more.contains(&"--layout");
        let kept = ["--sbom", &list];
        let own = ["--scanner", self.scanner, "--database", &database, "--programs", &path];
        let words = [&own[..], self.more, if layout { &[] } else { &kept }].concat();
        let mut args: Args = parsed(dir.path(), &words);
        args.common.image = self.image.clone();
        run(&args).await
    }
}

/// Over a kept list.
fn grype(scan: &str) -> Fake<'_> {
    Fake {
        scanner: "grype",
        list: "exit 9",
        scan,
        more: &[],
        sbom: SYFT,
        json: GRYPE,
        image: image(),
    }
}

fn trivy(scan: &str) -> Fake<'_> {
    Fake {
        scanner: "trivy",
        sbom: TRIVY_LIST,
        json: TRIVY,
        ..grype(scan)
    }
}

const GRYPE_WRITES: &str = "cp report.json \"${3#json=}\"";
const TRIVY_WRITES: &str = "while [ \"$1\" != --output ]; do shift; done; cp report.json \"$2\"";

#[tokio::test]
async fn a_kept_list_is_scanned_and_goes_with_the_report() {
    for (fake, tool) in [
        (grype(GRYPE_WRITES), ToolName::Grype),
        (trivy(TRIVY_WRITES), ToolName::Trivy),
    ] {
        let id = Digest::of(b"database");
        let fake = Fake {
            more: &["--database-id", id.as_str()],
            ..fake
        };
        let done = fake.run().await;
        assert_eq!(message(&done.report), "");
        assert_eq!((done.report.evaluated, done.report.findings.len()), (8, 2));
        assert_eq!(
            (done.report.tool.name, done.report.tool.database.as_deref()),
            (tool, Some(id.as_str()))
        );
        assert!(done.report.tool.database_built.is_some());
        assert_eq!(done.attached[0].name, NAME);
        assert_eq!(done.attached[0].unpack(MAX_SBOM).unwrap(), fake.sbom.as_bytes());
    }
}

#[tokio::test]
async fn syft_lists_a_layout_first() {
    let list = "[ \"$2\" = oci-dir:/oci ] && cp bom.json \"${4#cyclonedx-json@1.6=}\"";
    let fake = Fake {
        list,
        more: &["--layout", "/oci"],
        ..grype(GRYPE_WRITES)
    };
    let done = fake.run().await;
    assert_eq!(
        (message(&done.report), done.report.evaluated, done.attached.len()),
        ("", 8, 1)
    );
    let crashed = Fake {
        list: "echo 'no such layout' >&2; exit 1",
        ..fake
    };
    assert!(
        message(&crashed.run().await.report)
            .contains("Syft did not complete: exit code 1; it said last: no such layout")
    );
}

#[tokio::test]
async fn a_scanner_that_does_not_end_well_is_an_error() {
    for (writes, of) in [(GRYPE_WRITES, grype as fn(&str) -> Fake<'_>), (TRIVY_WRITES, trivy)] {
        for (after, words) in [
            (
                "; echo 'failed to load vulnerability db' >&2; exit 1",
                "failed to load vulnerability db",
            ),
            ("; exit 2", "exit code 2"),
            ("; exit 100", "exit code 100"),
            ("; exit 137", "out of memory"),
            ("; kill -SEGV $$", "segmentation fault"),
            ("; exec cat /dev/zero", "wrote more than is read"),
        ] {
            let script = format!("({writes}){after}");
            let report = of(&script).run().await.report;
            assert!(matches!(report.outcome, Outcome::Error { .. }));
            assert!(message(&report).contains(words), "{script}: {:?}", report.outcome);
        }
        assert!(message(&of("exit 0").run().await.report).contains("JSON report cannot be read"));
    }
}

#[tokio::test]
async fn a_list_of_another_image_and_an_empty_one_are_not_scanned() {
    let other = Fake {
        image: Digest::of(b"other"),
        ..grype(GRYPE_WRITES)
    };
    assert!(message(&other.run().await.report).contains("expected a list of the packages of sha256:"));
    let empty = "{\"bomFormat\":\"CycloneDX\",\"metadata\":{\"component\":{},\"tools\":{\"components\":[]}}}";
    assert!(
        message(
            &Fake {
                sbom: empty,
                ..trivy(TRIVY_WRITES)
            }
            .run()
            .await
            .report
        )
        .contains("found one of no image")
    );
    let mut sbom: serde_json::Value = serde_json::from_str(SYFT).unwrap();
    sbom["components"] = serde_json::json!([]);
    let report = Fake {
        sbom: &sbom.to_string(),
        ..grype(GRYPE_WRITES)
    }
    .run()
    .await
    .report;
    assert!(
        matches!(report.outcome, Outcome::Unsupported { .. }),
        "{:?}",
        report.outcome
    );
}

#[tokio::test]
async fn a_missing_database_is_an_error_that_says_what_to_set() {
    for (fake, words) in [
        (grype(GRYPE_WRITES), "vulnerabilityDatabase.grype.image"),
        (trivy(TRIVY_WRITES), "vulnerabilityDatabase.trivy.image"),
    ] {
        let report = Fake {
            more: &["--database", "/nonexistent"],
            ..fake
        };
        let dir = folder(report.scanner, "", &[("bom.json", report.sbom)]);
        let list = dir.path().join("bom.json");
        let mut args: Args = parsed(
            dir.path(),
            &[
                "--scanner",
                report.scanner,
                "--database",
                "/nonexistent",
                "--sbom",
                list.to_str().unwrap(),
            ],
        );
        args.common.image = image();
        let examined = run(&args).await.report;
        assert!(message(&examined).contains(words), "{:?}", examined.outcome);
    }
}

/// With `REPAVE_TEST_IMAGES`: a folder with the layouts `distroless-kev`, `debian-v1` and the unpacked databases
/// `grype-db` and `trivy-db`; skipped (with a line of output) where it or the tools are missing.
#[tokio::test]
async fn the_real_tools_give_the_same_result_from_the_image_and_from_the_kept_list() {
    let (Some(images), Some(syft)) = (std::env::var_os("REPAVE_TEST_IMAGES"), tool("syft")) else {
        println!("skipped: set REPAVE_TEST_IMAGES and build syft, grype and trivy");
        return;
    };
    let images = PathBuf::from(images);
    for scanner in ["grype", "trivy"] {
        let layout = images.join("distroless-kev");
        let image: Digest = fs::read_to_string(layout.join(".digest"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let database = images.join(format!("{scanner}-db"));
        let programs = syft.parent().unwrap();
        let own = [
            "--scanner",
            scanner,
            "--database",
            database.to_str().unwrap(),
            "--programs",
            programs.to_str().unwrap(),
        ];
        let report = async |more: &[&str]| -> (Report, Vec<Attached>) {
            let mut args: Args = parsed(dir.path(), &[&own[..], more].concat());
            args.common.image = image.clone();
            let done = run(&args).await;
            (done.report, done.attached)
        };
        let (first, attached) = report(&["--layout", layout.to_str().unwrap()]).await;
        assert_eq!(message(&first), "", "{scanner}");
        assert!(first.findings.iter().any(|finding| finding.id == "CVE-2026-1300"));
        let kept = dir.path().join("kept.json");
        fs::write(&kept, attached[0].unpack(MAX_SBOM).unwrap()).unwrap();
        let (again, _) = report(&["--sbom", kept.to_str().unwrap()]).await;
        assert_eq!(
            Report {
                tool_millis: 0,
                ..first
            },
            Report {
                tool_millis: 0,
                ..again
            },
            "{scanner}"
        );
    }
}

#[test]
fn the_programs_may_be_in_different_folders_and_the_first_one_counts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["a", "b"] {
        fs::create_dir(at(name)).unwrap();
    }
    for name in ["a/syft", "b/syft", "b/grype"] {
        fs::write(at(name), "").unwrap();
    }
    let both = format!("{}:{}", at("a").display(), at("b").display());
    let args: Args = parsed(folder.path(), &["--sbom", "x", "--programs", &both]);
    assert_eq!(program(&args, "syft"), at("a/syft"));
    assert_eq!(program(&args, "grype"), at("b/grype"));
    assert_eq!(program(&args, "trivy"), at("a/trivy"));
    let args: Args = parsed(folder.path(), &["--sbom", "x"]);
    assert_eq!(program(&args, "grype"), Path::new("grype"));
}
