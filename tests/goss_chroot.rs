//! `repave runner goss-chroot` and `runner goss --root` as processes, with a real changed root.
//!
//! They need CAP_SYS_CHROOT (root in a container has it) and a program that runs in an empty root: our own, when it is
//! linked statically, else Goss's bundle. What is missing is printed and skipped.

#![expect(clippy::unwrap_used, reason = "only tests and what they share are in this file")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const REPAVE: &str = env!("CARGO_BIN_EXE_repave");
const IMAGE: &str = "sha256:f2a4feecf8aa1e683e53e1522f23fcb977416ad06401d5c38083c290e8973657";

fn bundle() -> Option<PathBuf> {
    let bundle = std::env::var_os("REPAVE_GOSS_BUNDLE").map_or_else(|| "/opt/goss".into(), PathBuf::from);
    bundle.join("goss").exists().then_some(bundle)
}

/// Whether this process may change its root at all.
fn may_chroot() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    // CAP_SYS_CHROOT is number 18.
    u64::from_str_radix(effective.trim(), 16).unwrap() & (1 << 18) != 0
}

/// An image's root without any program, with what the Job mounts in it.
fn candidate(bundle: &Path, gossfile: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("tmp/.repave-tools/goss")).unwrap();
    for folder in ["etc", "dev"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    fs::write(root.path().join("dev/null"), "").unwrap();
    for entry in fs::read_dir(bundle).unwrap() {
        let entry = entry.unwrap();
        fs::copy(
            entry.path(),
            root.path().join("tmp/.repave-tools/goss").join(entry.file_name()),
        )
        .unwrap();
    }
    fs::write(root.path().join("etc/marker"), "inside\n").unwrap();
    fs::set_permissions(root.path().join("etc/marker"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(root.path().join("tmp/goss.yaml"), gossfile).unwrap();
    root
}

fn goss(root: &Path) -> (Output, String) {
    let work = tempfile::tempdir().unwrap();
    let log = work.path().join("termination");
    let done = Command::new(REPAVE)
        .env("REPAVE_TERMINATION_LOG", &log)
        .env("REPAVE_CHECK_OPTIONS", "{\"minTests\":2}")
        .args([
            "runner",
            "goss",
            "--check",
            "c",
            "--image",
            IMAGE,
            "--timeout",
            "60",
            "--work",
        ])
        .arg(work.path())
        .arg("--root")
        .arg(root)
        .arg("--goss")
        .arg(root.join("tmp/.repave-tools/goss"))
        .arg("--gossfile")
        .arg(root.join("tmp/goss.yaml"))
        .output()
        .unwrap();
    (done, fs::read_to_string(log).unwrap_or_default())
}

#[test]
fn goss_runs_in_the_root_of_an_image_that_has_nothing() {
    let Some(bundle) = bundle().filter(|_| may_chroot()) else {
        println!("SKIPPED: no Goss at /opt/goss or $REPAVE_GOSS_BUNDLE, or no CAP_SYS_CHROOT");
        return;
    };
    // A file that only the image has, one that only this machine has, and the rights that Goss itself has there.
    let root = candidate(
        &bundle,
        "file:\n  /etc/marker: {exists: true, mode: \"0640\", contents: [inside]}\n  /proc/self: {exists: false}\n",
    );
    let (done, termination) = goss(root.path());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let termination: serde_json::Value = serde_json::from_str(&termination).unwrap();
    assert_eq!(
        (&termination["outcome"], &termination["evaluated"]),
        (&"completed".into(), &4.into())
    );
    assert_eq!(termination["counts"]["medium"], 0, "{termination}");
    // The same tests on an image without the file: they can fail.
    fs::remove_file(root.path().join("etc/marker")).unwrap();
    let (_, termination) = goss(root.path());
    assert!(!termination.contains("\"medium\":0"), "{termination}");
}

#[test]
fn the_program_in_the_new_root_has_no_capability_and_gets_none_back() {
    if !may_chroot() {
        println!("SKIPPED: no CAP_SYS_CHROOT");
        return;
    }
    // The same root, so that there is a program that reads /proc.
    let done = Command::new(REPAVE)
        .args([
            "runner",
            "goss-chroot",
            "--root",
            "/",
            "--",
            "/bin/cat",
            "/proc/self/status",
        ])
        .output()
        .unwrap();
    let status = String::from_utf8(done.stdout).unwrap();
    for line in [
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapInh:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{status}");
    }
}

#[test]
fn what_cannot_be_entered_or_started_is_said_with_a_code_that_goss_never_ends_with() {
    let root = tempfile::tempdir().unwrap();
    for (root, words) in [
        (root.path().to_owned(), "cannot be started inside"),
        (root.path().join("none"), "expected to enter"),
    ] {
        let done = Command::new(REPAVE)
            .args(["runner", "goss-chroot", "--root"])
            .arg(&root)
            .args(["--", "/nothing"])
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(125));
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(said.contains(words) || !may_chroot(), "{said}");
    }
}
