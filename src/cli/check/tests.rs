//! Whole runs over generated images: folders, archives of both kinds, a registry; what is judged, printed and returned.

use super::*;
use crate::check::{archive, image::Image};
use clap::Parser;
use repave_core::digest::Digest;
use repave_oci::registry::testing::{TestRegistry, push_image};
use serde_json::{Value, json};
use std::path::Path;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(words: &[&str]) -> Args {
    Cli::parse_from([&["check"], words].concat()).args
}

const POLICY: &str = "apiVersion: repave.dev/v1alpha1\nkind: ValidationPolicy\nmetadata: {name: p}\nspec:\n  checks:\n";

fn policy(folder: &Path, checks: &str) -> String {
    let path = folder.join("policy.yaml");
    fs::write(&path, format!("{POLICY}{checks}")).unwrap();
    path.to_str().unwrap().to_owned()
}

const NATIVE: &str = "  - {name: hardening, native: {}}\n";
const LOOSE: &str =
    "  - {name: hardening, native: {}, allow: {critical: 99, high: 99, medium: 99, low: 99, unknown: 99}}\n";

/// A layer with these files; one with mode 0666 is a finding.
fn layer(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn clean() -> Vec<u8> {
    let passwd = "root:x:0:0:root:/root:/bin/bash\napp:x:1000:1000::/:/usr/sbin/nologin\n";
    layer(&[
        ("etc/passwd", 0o644, passwd),
        ("etc/group", 0o644, "root:x:0:\napp:x:1000:\n"),
        ("etc/os-release", 0o644, "ID=debian\nVERSION_ID=13\n"),
        (
            "var/lib/dpkg/status",
            0o644,
            "Package: base-files\nStatus: install ok installed\nVersion: 13\n",
        ),
    ])
}

fn config(layers: &[Vec<u8>]) -> String {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    json!({"os": "linux", "architecture": "amd64", "config": {"User": "app"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string()
}

/// An archive with these files and symbolic links.
fn archive(path: &Path, files: &[(String, Vec<u8>)], links: &[(&str, &str)]) {
    let mut tar = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, target) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, name, target).unwrap();
    }
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Written as given: also names that the builder would refuse.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, bytes.as_slice()).unwrap();
    }
    tar.finish().unwrap();
}

/// What `docker save` wrote before it wrote OCI layouts, a link to a shared layer included.
fn docker_save(path: &Path, layers: &[Vec<u8>]) {
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = json!([{"Config": "c.json", "RepoTags": ["app:1"], "Layers": names}]).to_string();
    let mut files = vec![
        ("manifest.json".to_owned(), manifest.into_bytes()),
        ("c.json".to_owned(), config(layers).into_bytes()),
    ];
    files.extend(
        layers
            .iter()
            .enumerate()
            .map(|(n, bytes)| (format!("{n}.tar"), bytes.clone())),
    );
    let links: Vec<(String, String)> = (0..layers.len())
        .map(|n| (format!("{n}/layer.tar"), format!("../{n}.tar")))
        .collect();
    let links: Vec<(&str, &str)> = links
        .iter()
        .map(|(name, target)| (name.as_str(), target.as_str()))
        .collect();
    archive(path, &files, &links);
}

async fn open(name: &str, scratch: &Path) -> anyhow::Result<Image> {
    image::open(&args(&[name, "--policy", "p", "--platform", "linux/amd64"]), scratch).await
}

async fn ended_with(words: &[&str]) -> Ended {
    checked(&args(words)).await.unwrap()
}

#[tokio::test]
async fn a_docker_save_archive_and_its_layout_get_the_same_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    let policy = policy(folder.path(), NATIVE);
    docker_save(&tar, &[clean()]);
    let name = tar.to_str().unwrap();
    assert_eq!(ended_with(&[name, "--policy", &policy]).await, Ended::Passed);
    let scratch = folder.path().join("s");
    let image = open(name, &scratch).await.unwrap();
    assert!(image.notes[0].contains("the manifest made here"), "{:?}", image.notes);
    let layout = image.layout.to_str().unwrap();
    assert_eq!(ended_with(&[layout, "--policy", &policy]).await, Ended::Passed);

    docker_save(&tar, &[clean(), layer(&[("etc/cron.conf", 0o666, "x")])]);
    let report = folder.path().join("report.json");
    let words = [name, "--policy", &policy, "--report", report.to_str().unwrap()];
    assert_eq!(ended_with(&words).await, Ended::Failed);
    let reports: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let subjects: Vec<_> = reports[0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["subject"])
        .collect();
    assert_eq!(subjects, ["/etc/cron.conf"]);
}

#[tokio::test]
async fn an_oci_archive_keeps_its_digest_also_when_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    docker_save(&tar, &[clean()]);
    let made = open(tar.to_str().unwrap(), &folder.path().join("a")).await.unwrap();
    let packed = folder.path().join("oci.tar.gz");
    let gzip = flate2::write::GzEncoder::new(fs::File::create(&packed).unwrap(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(gzip);
    builder.append_dir_all(".", &made.layout).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    let read = open(packed.to_str().unwrap(), &folder.path().join("b")).await.unwrap();
    assert_eq!((read.digest, read.notes.len()), (made.digest, 0));
    let policy = policy(folder.path(), NATIVE);
    assert_eq!(
        ended_with(&[packed.to_str().unwrap(), "--policy", &policy]).await,
        Ended::Passed
    );
}

#[tokio::test]
async fn an_archive_that_lies_or_reaches_out_is_refused_and_writes_nothing_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("a.tar");
    let file = |name: &str| (name.to_owned(), b"x".to_vec());
    let zero = format!("blobs/sha256/{}", "0".repeat(64));
    let manifest = |layer: &str| {
        let text = json!([{"Config": "c.json", "Layers": [layer]}]).to_string();
        vec![("manifest.json".to_owned(), text.into_bytes()), file("c.json")]
    };
    for (files, links, says) in [
        (vec![file("../../escaped")], vec![], "leads out of the archive"),
        (vec![file("/escaped")], vec![], "expected a relative path"),
        (vec![file("a"), file("./a")], vec![], "a is in the archive twice"),
        (vec![file(&zero)], vec![], "damaged or forged"),
        (vec![file("a")], vec![], "found neither"),
        (
            manifest("l"),
            vec![("l", "../../etc/passwd")],
            "leads out of the archive",
        ),
        (manifest("l"), vec![("l", "/etc/passwd")], "expected a relative path"),
        (
            manifest("l"),
            vec![("l", "k"), ("k", "l")],
            "more than 8 links in a row",
        ),
        (manifest("l"), vec![], "the archive has no l"),
        (
            vec![("manifest.json".to_owned(), b"[]".to_vec())],
            vec![],
            "expected one image in the archive, found 0",
        ),
    ] {
        archive(&tar, &files, &links);
        let error = archive::into_layout(&tar, &folder.path().join("in/out")).unwrap_err();
        assert!(format!("{error:#}").contains(says), "{says}: {error:#}");
    }
    fs::write(&tar, b"no archive").unwrap();
    assert!(archive::into_layout(&tar, &folder.path().join("in/out")).is_err());
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["a.tar", "in"]);
}

#[tokio::test]
async fn of_several_images_the_platform_chooses_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    docker_save(&tar, &[clean()]);
    let layout = open(tar.to_str().unwrap(), &folder.path().join("a"))
        .await
        .unwrap()
        .layout;
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let entry = |architecture: &str, fake: bool| {
        let mut entry = index["manifests"][0].clone();
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        if fake {
            entry["digest"] = json!(Digest::of(architecture.as_bytes()));
        }
        entry
    };
    let write = |entries: &[Value]| {
        fs::write(
            layout.join("index.json"),
            json!({"schemaVersion": 2, "manifests": entries}).to_string(),
        )
        .unwrap();
    };
    let name = layout.to_str().unwrap();
    write(&[entry("arm64", true), entry("amd64", false), entry("unknown", true)]);
    let image = open(name, &folder.path().join("b")).await.unwrap();
    assert_eq!(json!(image.digest), index["manifests"][0]["digest"]);
    assert!(image.notes[0].contains("linux/amd64"));
    let policy = policy(folder.path(), NATIVE);
    assert_eq!(
        ended_with(&[name, "--policy", &policy, "--platform", "linux/amd64"]).await,
        Ended::Passed
    );
    write(&[entry("arm64", true), entry("s390x", true)]);
    let none = open(name, &folder.path().join("c")).await.unwrap_err().to_string();
    assert!(none.contains("no image for linux/amd64"), "{none}");
    let mut other = entry("amd64", true);
    other["digest"] = json!(Digest::of(b"other"));
    write(&[entry("amd64", false), other]);
    let several = open(name, &folder.path().join("d")).await.unwrap_err().to_string();
    assert!(several.contains("2 images for linux/amd64"), "{several}");
}

#[tokio::test]
async fn the_only_image_is_of_the_platform_that_is_asked_for_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    docker_save(&tar, &[clean()]);
    let (name, policy) = (tar.to_str().unwrap(), policy(folder.path(), NATIVE));
    let layout = open(name, &folder.path().join("a")).await.unwrap().layout;
    let layout = layout.to_str().unwrap();
    let words = |image, platform| args(&[image, "--policy", &policy, "--platform", platform]);
    for image in [name, layout] {
        for other in ["linux/arm64", "windows/amd64", "linux/amd64/v3"] {
            let error = checked(&words(image, other)).await.unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "this image is linux/amd64, asked for {other}: name the platform with --platform, or another layout"
                )
            );
        }
        assert_eq!(checked(&words(image, "linux/amd64")).await.unwrap(), Ended::Passed);
    }
    // Without the option any platform is examined, and told.
    let said = async |scratch: &str| {
        let image = image::open(&args(&[layout, "--policy", "p"]), &folder.path().join(scratch)).await;
        image.unwrap().notes.join("\n")
    };
    assert!(
        said("b")
            .await
            .contains("the only image is examined, it is linux/amd64"),
        "{}",
        said("b").await
    );

    let index = Path::new(layout).join("index.json");
    let mut entries: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    // What the index says does not make it another image: neither alone nor among others.
    entries["manifests"][0]["platform"] = json!({"os": "linux", "architecture": "arm64"});
    fs::write(&index, entries.to_string()).unwrap();
    let error = checked(&words(layout, "linux/arm64")).await.unwrap_err().to_string();
    assert!(
        error.starts_with("this image is linux/amd64, asked for linux/arm64"),
        "{error}"
    );
    let mut other = entries["manifests"][0].clone();
    other["platform"]["architecture"] = json!("s390x");
    entries["manifests"].as_array_mut().unwrap().push(other);
    fs::write(&index, entries.to_string()).unwrap();
    let error = checked(&words(layout, "linux/arm64")).await.unwrap_err().to_string();
    assert!(
        error.starts_with("this image is linux/amd64, asked for linux/arm64"),
        "{error}"
    );
}

#[tokio::test]
async fn what_to_do_about_a_registry_is_said_to_who_runs_this_and_not_to_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy(folder.path(), NATIVE);
    let error = checked(&args(&["localhost:1/foo:bar", "--policy", &policy]))
        .await
        .unwrap_err();
    let said = errors::told(&error, "");
    assert!(
        said.ends_with("allow it with --insecure-host localhost:1") && !said.contains("operator"),
        "{said}"
    );
}

#[tokio::test]
async fn a_reference_is_pulled_and_judged_by_the_digest_it_has_there() {
    let registry = TestRegistry::docker().await;
    let repository = registry.repository("base/debian");
    let pushed = push_image(&registry.client(), &repository, "1", &[b"not a tar archive"]).await;
    let folder = tempfile::tempdir().unwrap();
    let name = repository.tagged("1").unwrap().to_string();
    let words = [
        &name,
        "--insecure-host",
        registry.host(),
        "--policy",
        "p",
        "--platform",
        "linux/amd64",
    ];
    let image = image::open(&args(&words), &folder.path().join("image")).await.unwrap();
    assert_eq!(image.digest, pushed.digest);
    // What cannot be read as layers is an error of the check, and never a pass.
    let policy = policy(folder.path(), LOOSE);
    let words = [
        &name,
        "--insecure-host",
        registry.host(),
        "--policy",
        &policy,
        "--platform",
        "linux/amd64",
    ];
    assert_eq!(ended_with(&words).await, Ended::Failed);
}

#[tokio::test]
async fn what_needs_the_cluster_is_named_and_is_no_pass() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    docker_save(&tar, &[clean()]);
    let name = tar.to_str().unwrap();
    let others = "  - {name: works, goss: {gossfile: 'file: {}'}}\n  - {name: cis, openscap: {profile: cis}}\n  \
                  - {name: cves, vulnerabilities: {scanner: Trivy}}\n";
    let none = folder.path().join("none");
    fs::create_dir(&none).unwrap();
    let none = none.to_str().unwrap();
    let both = policy(folder.path(), &format!("{NATIVE}{others}"));
    let alone = [name, "--policy", &both, "--scanner-path", none];
    assert_eq!(ended_with(&alone).await, Ended::NotRun);
    assert_eq!(
        ended_with(&[&alone[..], &["--allow-not-run"]].concat()).await,
        Ended::Passed
    );
    let only = policy(folder.path(), others);
    assert_eq!(
        ended_with(&[name, "--policy", &only, "--scanner-path", none, "--allow-not-run"]).await,
        Ended::NotRun
    );
}

#[tokio::test]
async fn a_rule_decides_like_a_check_and_waits_for_what_it_asks_about() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    docker_save(&tar, &[clean()]);
    let name = tar.to_str().unwrap();
    let goss = "  - {name: works, goss: {gossfile: 'file: {}'}}\n";
    for (expression, more, expected) in [
        ("checks.hardening.passed > 3", "", Ended::Passed),
        ("checks.hardening.passed > 3000", "", Ended::Failed),
        ("checks[\"of.another\"].passed > 3", "", Ended::Failed),
        ("checks.hardening.passed", "", Ended::Failed),
        ("checks.hardening.passed > 3000", goss, Ended::Failed),
        ("checks.works.passed > 3", goss, Ended::NotRun),
        ("previous.introduced == 0", "", Ended::NotRun),
    ] {
        let rules = format!("{NATIVE}{more}  rules: [{{name: r, expression: '{expression}', message: m}}]\n");
        let rules = policy(folder.path(), &rules);
        assert_eq!(ended_with(&[name, "--policy", &rules]).await, expected, "{expression}");
    }
    let audit = "  enforcement: Audit\n  rules: [{name: r, expression: 'false', message: m}]\n";
    let audit = policy(folder.path(), &format!("{NATIVE}{audit}"));
    assert_eq!(ended_with(&[name, "--policy", &audit]).await, Ended::Passed);
}

/// A second file, with a waiver of `/etc/cron.conf` that ends then.
fn waivers(folder: &Path, expires: &str, images: &str) -> String {
    let path = folder.join("waivers.yaml");
    let text = format!(
        "apiVersion: repave.dev/v1alpha1\nkind: Waiver\nmetadata: {{name: cron}}\nspec:\n  owner: platform\n  \
         reason: the file is empty\n  expiresAt: {expires}\n  scope:\n    images: {images}\n    findings: \
         [{{id: native.world-writable, subject: /etc/cron.conf}}]\n"
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_waiver_of_the_file_is_applied_until_its_end_and_where_it_is_bound_to() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    docker_save(&tar, &[clean(), layer(&[("etc/cron.conf", 0o666, "x")])]);
    let policy = policy(folder.path(), NATIVE);
    let soon = (Timestamp::now() + jiff::SignedDuration::from_hours(48)).to_string();
    let late = (Timestamp::now() + jiff::SignedDuration::from_hours(24 * 400)).to_string();
    let ended = async |expires: &str, images: &str, more: &[&str]| {
        let waivers = waivers(folder.path(), expires, images);
        let words = [tar.to_str().unwrap(), "--policy", &policy, "--policy", &waivers];
        ended_with(&[&words[..], more].concat()).await
    };
    let bound = "{baseImages: [debian-12]}";
    assert_eq!(ended(&soon, "{}", &[]).await, Ended::Passed);
    assert_eq!(ended("2026-01-01T00:00:00Z", "{}", &[]).await, Ended::Failed);
    assert_eq!(ended(&late, "{}", &[]).await, Ended::Failed);
    assert_eq!(ended(&soon, bound, &[]).await, Ended::Failed);
    assert_eq!(ended(&soon, bound, &["--base-image", "debian-13"]).await, Ended::Failed);
    assert_eq!(ended(&soon, bound, &["--base-image", "debian-12"]).await, Ended::Passed);
    let too_long = policy_file::read(
        &[waivers(folder.path(), &late, "{}").into(), (&policy).into()],
        "--policy",
        Timestamp::now(),
    );
    let given = args(&["x", "--policy", "p"]);
    let note = no_effect(&too_long.unwrap().waivers[0], &given).unwrap();
    assert!(
        note.contains("waiver cron: expected spec.expiresAt at most 366 days"),
        "{note}"
    );
}

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
    let schema = include_str!("../../report/testdata/sarif-2.1.0.schema.json").replace("{2}]?$", "{2}?$");
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

#[tokio::test]
async fn autoadd_needs_no_policy_and_takes_none() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    docker_save(&tar, &[clean()]);
    assert_eq!(ended_with(&["--autoadd", tar.to_str().unwrap()]).await, Ended::Passed);
    for words in [vec!["check", "x"], vec!["check", "--autoadd", "x", "--policy", "p"]] {
        assert!(Cli::try_parse_from(words).is_err());
    }
}

#[tokio::test]
async fn an_audit_policy_reports_and_keeps_nothing_out() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    docker_save(&tar, &[layer(&[("etc/x", 0o666, "x")])]);
    let name = tar.to_str().unwrap();
    let enforced = policy(folder.path(), NATIVE);
    assert_eq!(ended_with(&[name, "--policy", &enforced]).await, Ended::Failed);
    let audit = policy(folder.path(), &format!("{NATIVE}  enforcement: Audit\n"));
    assert_eq!(ended_with(&[name, "--policy", &audit]).await, Ended::Passed);
}

#[tokio::test]
async fn what_cannot_be_read_is_neither_a_pass_nor_a_failed_gate() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy(folder.path(), NATIVE);
    for (name, says) in [
        ("./nowhere", "no such file or folder"),
        ("gone.tar.gz", "no such file or folder"),
        ("Not A Reference", "neither a file or folder nor an image reference"),
        (folder.path().to_str().unwrap(), "expected an OCI layout"),
    ] {
        let error = checked(&args(&[name, "--policy", &policy])).await.unwrap_err();
        assert!(format!("{error:#}").contains(says), "{error:#}");
    }
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

/// With `REPAVE_TEST_IMAGES`: a folder with the layouts `debian-v2`, `debian-v3` and the unpacked databases `grype-db` and
/// `trivy-db`; skipped (with a line of output) where it or the tools are missing.
#[tokio::test]
async fn the_real_scanners_say_the_same_about_the_planted_vulnerability() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin");
    let Some(images) = std::env::var_os("REPAVE_TEST_IMAGES").filter(|_| tools.join("syft").is_file()) else {
        println!("skipped: set REPAVE_TEST_IMAGES and build syft, grype and trivy");
        return;
    };
    let at = |name: &str| Path::new(&images).join(name).to_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let (grype, trivy, report) = (at("grype-db"), at("trivy-db"), folder.path().join("report.json"));
    for scanner in ["Grype", "Trivy"] {
        let scan = format!("  - {{name: cves, vulnerabilities: {{scanner: {scanner}, databaseMaxAge: 9999h}}}}\n");
        let policy = policy(folder.path(), &scan);
        for (image, expected, found) in [
            ("debian-v2", Ended::Failed, vec!["CVE-2026-1234"]),
            ("debian-v3", Ended::Passed, vec![]),
        ] {
            let (image, tools) = (at(image), tools.to_str().unwrap());
            let words = [
                &image,
                "--policy",
                &policy,
                "--scanner-path",
                tools,
                "--database",
                &grype,
            ];
            let more = ["--database", &trivy, "--report", report.to_str().unwrap()];
            assert_eq!(
                ended_with(&[&words[..], &more].concat()).await,
                expected,
                "{scanner} {image}"
            );
            let reports: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
            let findings = reports[0]["findings"].as_array().unwrap();
            let ids: Vec<_> = findings.iter().map(|finding| finding["id"].as_str().unwrap()).collect();
            assert_eq!(ids, found, "{scanner} {image}");
        }
    }
}
