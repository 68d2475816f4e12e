//! Whole runs over generated images: what is judged and returned.

use super::*;
use crate::check::image::Image;
use clap::Parser;
use repave_core::digest::Digest;
use serde_json::{Value, json};
use std::path::Path;

mod images;
mod printed;

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
