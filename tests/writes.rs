//! Every write of a controller to the Kubernetes API goes through one file, which asks for the lease right before it sends
//! and counts what was written.
//!
//! It reads the sources as text: no other file of the controllers may call what writes, or name the parameters that it needs.

// Functions of tests; the lint knows test functions only.
#![allow(clippy::unwrap_used)]

use regex::Regex;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// The files that write: all of it, and the status of what a reconcile was about.
// access.rs posts a SubjectAccessReview: a question, which changes nothing.
const WRITERS: &[&str] = &["writes.rs", "driver.rs", "access.rs"];

/// Calls of kube that write, and what only they take. A `replace` of kube has three arguments, one of a text has two.
static WRITE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"\.(?:create|patch|delete|(?:create|patch|replace)_(?:status|scale|subresource|metadata|ephemeral_containers)|delete_collection|evict|publish)\(|\.replace\([^(),]+,[^(),]+,|\b(?:Post|Patch|Delete|Evict)Params\b",
    )
    .unwrap()
});
static COMMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"//[^\n]*").unwrap());
static INLINE_TESTS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"#\[cfg\(test\)\]\s*mod \w+ \{").unwrap());

/// Every file of the controllers that is no test.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let is_test = name.starts_with("test");
        if path.is_dir() && !is_test {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !is_test {
            found.push(path);
        }
    }
}

/// What in a source writes.
fn writes(text: &str) -> Vec<String> {
    let code = COMMENT.replace_all(text, "");
    let end = INLINE_TESTS.find(&code).map_or(code.len(), |tests| tests.start());
    WRITE
        .find_iter(&code[..end])
        .map(|found| found.as_str().to_owned())
        .collect()
}

#[test]
fn no_controller_writes_but_through_the_file_that_asks_for_the_lease() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/operator/controllers");
    let mut all = Vec::new();
    files(&root, &mut all);
    assert!(all.len() > 80, "only {} files were read", all.len());
    for path in all {
        let name = path.strip_prefix(&root).unwrap();
        let found = writes(&fs::read_to_string(&path).unwrap());
        if WRITERS.iter().any(|writer| name == Path::new(writer)) {
            assert!(!found.is_empty(), "{} does not write any more", name.display());
        } else {
            assert!(
                found.is_empty(),
                "{} writes by itself ({found:?}): let it call controllers/writes.rs, which asks for the lease",
                name.display()
            );
        }
    }
}

#[test]
fn no_controller_reads_by_a_name_but_through_the_file_that_parses_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/operator/controllers");
    let mut all = Vec::new();
    files(&root, &mut all);
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        let code = COMMENT.replace_all(&text, "");
        let end = INLINE_TESTS.find(&code).map_or(code.len(), |tests| tests.start());
        let name = path.strip_prefix(&root).unwrap();
        let reads = [".get_opt(", ".get_metadata(", ".get_metadata_opt("]
            .iter()
            .any(|call| code[..end].contains(call));
        assert_eq!(
            reads,
            name == Path::new("named.rs"),
            "{} reads by a name that nobody parsed: let it call controllers/named.rs",
            name.display()
        );
    }
}

#[test]
fn each_way_to_write_is_found_and_a_text_that_is_changed_is_none() {
    for call in [
        "api.create(&params, &object)",
        "jobs.delete(&job.name, &params)",
        "api.patch(name, &p, &patch)",
        "api.patch_status(name, &p, &patch)",
        "api.replace(&name, &Default::default, &lease)",
        "ctx.recorder.publish(&event, &about)",
        "let params = PatchParams::apply(MANAGER);",
    ] {
        assert_eq!(writes(call).len(), 1, "{call}");
    }
    for text in [
        "key.replace('~', \"~0\")",
        "// api.create(&params)",
        "history.promote(one, &mut changes)",
    ] {
        assert_eq!(writes(text), [""; 0], "{text}");
    }
}
