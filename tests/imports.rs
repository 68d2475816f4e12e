//! No module of a crate imports, over whatever others, one that imports it: what stands above is named, never what stands below.
//!
//! It reads `use` declarations and paths as text, not as a compiler: a macro can hide an import from it. What a module takes
//! from the modules around it (`super`, its own crate's root) does not count, or every file with helpers would be a cycle.
//! Code of tests does not count either. Between crates cargo refuses a cycle by itself.

// Functions of tests; the lint knows test functions only.
#![allow(clippy::unwrap_used)]

use regex::Regex;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::LazyLock,
};

/// A declaration of a module that is compiled for tests or for fuzzing only.
static TEST_MODULE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"#\[cfg\((?:test|any\(test[^\]]*|feature = "fuzzing")\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([a-z]+\))? )?mod (\w+);"#,
    )
    .unwrap()
});
static COMMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"//[^\n]*").unwrap());
static INLINE_TESTS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"#\[cfg\(test\)\]\s*mod \w+ \{").unwrap());
static USE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\buse\s+([^;]+);").unwrap());
static PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(?:[a-z_][a-z_0-9]*::)+\w+").unwrap());

/// A module as the parts of its path below the crate; the root has none.
type Module = Vec<String>;
type Imports = BTreeMap<Module, BTreeSet<Module>>;

fn files(folder: &Path, below: &[String], found: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let module = |part: &str| below.iter().cloned().chain([part.to_owned()]).collect::<Module>();
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), &module(&name), found);
        } else if let Some(stem) = name.strip_suffix(".rs") {
            let module = if matches!(stem, "lib" | "mod") {
                below.to_vec()
            } else {
                module(stem)
            };
            found.insert(module, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

/// The modules that are compiled for tests or for fuzzing only.
fn for_tests(sources: &BTreeMap<Module, String>) -> Vec<Module> {
    let of = |(module, text): (&Module, &String)| {
        let names: Vec<_> = TEST_MODULE
            .captures_iter(text)
            .map(|found| found[1].to_owned())
            .collect();
        let child = |name: String| module.iter().cloned().chain([name]).collect();
        names.into_iter().map(child).collect::<Vec<Module>>()
    };
    sources.iter().flat_map(of).collect()
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn spread(tree: &str) -> Vec<String> {
    let Some((before, rest)) = tree.split_once('{') else {
        return vec![tree.trim().to_owned()];
    };
    let (mut depth, mut part, mut parts) = (0_i32, String::new(), Vec::new());
    for letter in rest.chars() {
        match letter {
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            '}' if depth == 0 => break,
            _ => {
                depth += i32::from(letter == '{') - i32::from(letter == '}');
                part.push(letter);
            }
        }
    }
    parts.push(part);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts
        .flat_map(|part| spread(&part))
        .map(|part| format!("{}{part}", before.trim()))
        .collect()
}

/// What a module names of the other modules of its crate.
fn named(module: &Module, text: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    let code = COMMENT.replace_all(text, "");
    let code = INLINE_TESTS
        .find(&code)
        .map_or(&code[..], |tests| &code[..tests.start()]);
    let declared = USE.captures_iter(code).flat_map(|tree| spread(&tree[1]));
    let rest = USE.replace_all(code, "");
    let inline: Vec<String> = PATH.find_iter(&rest).map(|path| path.as_str().to_owned()).collect();
    for path in declared.chain(inline) {
        let parts: Vec<&str> = path.split("::").map(str::trim).collect();
        let above = parts.iter().take_while(|part| **part == "super").count();
        let (mut target, parts) = match parts[0] {
            "crate" => (Module::new(), &parts[1..]),
            "self" => (module.clone(), &parts[1..]),
            "super" => (module[..module.len().saturating_sub(above)].to_vec(), &parts[above..]),
            _ => (module.clone(), &parts[..]),
        };
        for part in parts {
            let name = part.split(' ').next().unwrap_or_default();
            let deeper: Module = target.iter().cloned().chain([name.to_owned()]).collect();
            if !all.contains_key(&deeper) {
                break;
            }
            target = deeper;
        }
        if !module.starts_with(&target) {
            found.insert(target);
        }
    }
    found
}

fn imports(folder: &Path) -> Imports {
    let mut sources = BTreeMap::new();
    files(folder, &[], &mut sources);
    let tests = for_tests(&sources);
    sources.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
    sources
        .iter()
        .map(|(module, text)| (module.clone(), named(module, text, &sources)))
        .collect()
}

fn reaches(imports: &Imports, from: &Module) -> BTreeSet<Module> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(module) = next.pop() {
        for target in imports.get(&module).into_iter().flatten() {
            if seen.insert(target.clone()) {
                next.push(target.clone());
            }
        }
    }
    seen
}

/// Groups of modules each of which reaches all others of its group.
fn cycles(imports: &Imports) -> BTreeSet<Vec<String>> {
    let all: BTreeMap<_, _> = imports
        .keys()
        .map(|module| (module, reaches(imports, module)))
        .collect();
    let group = |module: &Module| -> Vec<String> {
        let mutual = all[module]
            .iter()
            .filter(|other| all.get(other).is_some_and(|back| back.contains(module)));
        mutual.map(|other| other.join("/")).collect()
    };
    all.keys()
        .map(|module| group(module))
        .filter(|group| group.len() > 1)
        .collect()
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeSet::new();
    let mut modules = 0;
    for entry in fs::read_dir(root).unwrap().map(Result::unwrap) {
        if entry.path().join("Cargo.toml").is_file() {
            let name = entry.file_name().into_string().unwrap();
            let imports = imports(&entry.path());
            modules += imports.len();
            found.extend(cycles(&imports).into_iter().map(|cycle| (name.clone(), cycle)));
        }
    }
    assert!(modules > 200, "only {modules} modules were read");
    assert!(
        found.is_empty(),
        "these modules import each other: move what both need below them: {found:#?}"
    );
}

#[test]
fn a_circle_over_three_files_is_found_and_a_child_that_uses_its_parent_is_none() {
    let source = |text: &str| text.to_owned();
    let all: BTreeMap<Module, String> = [
        (vec![], source("mod a; mod b; mod c;")),
        (vec!["a".into()], source("use crate::b::{self, B};\nfn f() { b::g() }")),
        (vec!["b".into()], source("use super::{c::{d::D}, x};")),
        (vec!["c".into()], source("mod d; use d::D;")),
        (
            vec!["c".into(), "d".into()],
            source("use super::helper; fn f() { crate::a::f() }\n// use crate::b;"),
        ),
    ]
    .into();
    let imports: Imports = all
        .iter()
        .map(|(module, text)| (module.clone(), named(module, text, &all)))
        .collect();
    assert_eq!(
        cycles(&imports),
        BTreeSet::from([vec!["a".to_owned(), "b".into(), "c/d".into()]])
    );
}
