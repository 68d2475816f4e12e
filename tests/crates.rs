//! What each crate may see: the borders between pure code, IO and the programs.
//!
//! cargo refuses a cycle between crates by itself. Here stands what it cannot know: which outside crates mean IO.

// Functions of tests; the lint knows test functions only.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, process::Command};

/// Crates that decide or describe, and reach nothing outside.
const PURE: &[&str] = &["core", "api", "report", "policy", "checks"];

/// Outside crates that open a socket, start a runtime or talk to an API server.
const IO: &[&str] = &[
    "tokio",
    "reqwest",
    "hyper",
    "kube-client",
    "kube-runtime",
    "rustls",
    "axum",
];

/// What a crate of ours may depend on among ours; the order of the map in `src/lib.rs`.
const SEES: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("api", &["core"]),
    ("report", &["core", "api"]),
    ("checks", &["core"]),
    ("policy", &["core", "api", "report", "checks"]),
    ("oci", &["core"]),
    ("cluster", &[]),
    ("runner", &["core", "checks", "oci"]),
    (
        "cli",
        &["core", "api", "report", "checks", "policy", "oci", "cluster", "runner"],
    ),
    (
        "operator",
        &["core", "api", "report", "checks", "policy", "oci", "cluster"],
    ),
];

/// Everything that a crate is built from, without what only its tests need.
fn built_from(name: &str) -> BTreeSet<String> {
    let package = format!("repave-{name}");
    let arguments = [
        "tree",
        "--locked",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--package",
        &package,
    ];
    let tree = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let lines = String::from_utf8(tree.stdout).unwrap();
    let names = lines.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|one| *one != package).map(str::to_owned).collect()
}

#[test]
fn what_is_pure_is_built_without_anything_that_does_io() {
    for name in PURE {
        let found = built_from(name);
        assert!(found.contains("serde"), "{name}: cargo tree says nothing: {found:?}");
        let io: Vec<_> = IO.iter().filter(|one| found.contains(**one)).collect();
        assert!(
            io.is_empty(),
            "src/{name} must stay pure, and is built with {io:?}: move what needs it to a crate that may"
        );
    }
}

#[test]
fn the_names_of_crates_that_do_io_are_still_theirs() {
    let operator = built_from("operator");
    let gone: Vec<_> = IO.iter().filter(|one| !operator.contains(**one)).collect();
    assert!(
        gone.is_empty(),
        "the operator is built without {gone:?}: the list above is out of date"
    );
}

#[test]
fn a_crate_of_ours_sees_only_what_stands_above_it() {
    for (name, allowed) in SEES {
        let found = built_from(name);
        let ours: BTreeSet<_> = found.iter().filter_map(|one| one.strip_prefix("repave-")).collect();
        let allowed: BTreeSet<_> = allowed.iter().copied().collect();
        let more: Vec<_> = ours.difference(&allowed).collect();
        assert!(more.is_empty(), "src/{name} may not see {more:?}");
    }
    let listed: BTreeSet<_> = SEES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let all = built_from_root();
    assert_eq!(listed, all, "every crate has its row in SEES");
}

fn built_from_root() -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let lines = manifest.lines().filter_map(|line| line.strip_prefix("repave-"));
    let paths = lines.filter_map(|line| line.split_once(" = { path"));
    paths.map(|(name, _)| name.to_owned()).collect()
}
