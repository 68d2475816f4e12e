//! What the tests of the check steps share: their arguments and fake tools; and what holds for every kind.

use clap::Parser;
use repave_core::report::{Outcome, Report, ToolName};
use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt as _, path::Path};
use tempfile::TempDir;

pub(super) const IMAGE: &str = "sha256:f2a4feecf8aa1e683e53e1522f23fcb977416ad06401d5c38083c290e8973657";

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
