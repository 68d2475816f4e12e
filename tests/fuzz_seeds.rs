//! Replays the seeds of `fuzz/seeds` with a few hundred changes to each, always the same ones, within a memory bound.
//!
//! A short stand-in for `make fuzz`, which searches with coverage. Must not depend on the machine: no time, no chance.

// Functions of tests; the lint knows test functions only.
#![allow(clippy::unwrap_used)]

use repave::{
    domain::tool::ToolName,
    fuzz::{TARGETS, Target, of_tool},
};
use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// Changes to each seed, and to one of a parser that takes long for each input.
const CHANGES: u64 = 300;
const CHANGES_SLOW: u64 = 12;
/// YAML is expanded up to its budget; the schema is made anew for each policy.
const SLOW: &[&str] = &["policy-file", "waiver"];

/// Largest seed, in bytes: large inputs belong to the tests of the parser itself.
const MAX_SEED: u64 = 64 * 1024;

/// Most resident memory that all of this may ever take, in KiB. The test itself takes about a tenth.
const MAX_RESIDENT: u64 = 256 * 1024;

/// A generator of numbers that look random (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; 0 for a bound of 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound.max(1) as u64)).unwrap()
    }
}

/// Bytes that parsers trip over.
const ODD: &[&[u8]] = &[
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x1b[2J",
    b"\"",
    b"\\u0000",
    b"{",
    b"[[[[[[[[",
    b"<",
    b"&a;",
    b"]]>",
    b"-1",
    b"18446744073709551615",
    b"1e999",
    b"null",
    b"../",
    b"\n",
    b"\r\n",
    "\u{202e}".as_bytes(),
    b"%00",
    b":",
    b"@",
    b"=",
];

fn changed(seed: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=numbers.below(3) {
        let (a, b) = (numbers.below(bytes.len()), numbers.below(bytes.len()));
        let (from, to) = (a.min(b), a.max(b));
        match numbers.below(7) {
            0 if !bytes.is_empty() => bytes[a] ^= 1 << numbers.below(8),
            1 if !bytes.is_empty() => bytes[a] = u8::try_from(numbers.below(256)).unwrap(),
            2 => bytes.truncate(a),
            3 => {
                let part = bytes[from..to].to_vec();
                let _ = bytes.splice(a..a, part);
            }
            4 => drop(bytes.drain(from..to)),
            5 => {
                let (x, y) = (numbers.below(other.len()), numbers.below(other.len()));
                let _ = bytes.splice(from..to, other[x.min(y)..x.max(y)].iter().copied());
            }
            _ => {
                let odd = ODD[numbers.below(ODD.len())];
                let _ = bytes.splice(a..a, odd.iter().copied());
            }
        }
        bytes.truncate(256 * 1024);
    }
    bytes
}

fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("expected seeds in {}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        assert!(
            fs::metadata(path).unwrap().len() <= MAX_SEED,
            "{} is too large for a seed",
            path.display()
        );
        (
            path.file_name().unwrap().to_string_lossy().into_owned(),
            fs::read(path).unwrap(),
        )
    };
    files.iter().map(read).collect()
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// Runs one input; the first broken rule of a target is kept as a file that can be replayed.
fn one(name: &str, target: Target, seed: &str, bytes: &[u8], broken: &mut Vec<String>) -> bool {
    if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_ok() {
        return true;
    }
    let file = std::env::temp_dir().join(format!("repave-fuzz-{name}"));
    fs::write(&file, bytes).unwrap();
    broken.push(format!("{name}: a change of {seed}, kept as {}", file.display()));
    false
}

#[test]
fn no_seed_and_no_change_of_one_breaks_a_rule_of_its_parser() {
    let only = std::env::var("REPAVE_FUZZ_TARGET").ok();
    let (mut broken, mut inputs) = (Vec::new(), 0_u64);
    for (name, target) in TARGETS {
        if only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        let (started, seeds) = (std::time::Instant::now(), seeds(name));
        assert!(seeds.len() >= 2, "{name} has {} seeds", seeds.len());
        let changes = if SLOW.contains(name) { CHANGES_SLOW } else { CHANGES };
        let mut numbers = Numbers(1);
        'target: for (n, (seed, bytes)) in seeds.iter().enumerate() {
            let other = &seeds[(n + 1) % seeds.len()].1;
            inputs += 1 + changes;
            if !one(name, *target, seed, bytes, &mut broken) {
                break;
            }
            // Long texts cost more than they show: fewer changes of them.
            for _ in 0..changes.min(1 + 2_000_000 / (1 + bytes.len() as u64)) {
                if !one(name, *target, seed, &changed(bytes, other, &mut numbers), &mut broken) {
                    break 'target;
                }
            }
        }
        println!("{name}: {:?}, {} KiB", started.elapsed(), resident());
        assert!(resident() <= MAX_RESIDENT, "{name} took {} KiB of memory", resident());
    }
    println!("{inputs} inputs");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_parser_has_a_fuzz_target_and_seeds_and_nothing_else_has() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        entries
            .map(name)
            .map(|name| name.trim_end_matches(".rs").to_owned())
            .collect()
    };
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known.len(), TARGETS.len());
    for tool in ToolName::ALL {
        let parsers = of_tool(*tool);
        assert!(
            !parsers.is_empty() && parsers.iter().all(|name| known.contains(*name)),
            "{tool:?}: {parsers:?}"
        );
    }
    assert_eq!(names("seeds"), known);
    assert_eq!(names("fuzz_targets"), known);
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for name in &known {
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "fuzz/Cargo.toml lacks {name}"
        );
        let source = fs::read_to_string(root.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            source.contains(&format!("run(\"{name}\", bytes)")),
            "{name} runs something else"
        );
    }
}

/// All sources below a folder, as one text.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    text
}

#[test]
fn every_test_that_the_table_of_failures_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("docs/checks/failures.md")).unwrap();
    let sources = sources(&root.join("src"));
    let rows = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| what goes wrong"));
    let mut named = 0;
    for row in rows {
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let tests: Vec<&str> = last.split(", ").map(|test| test.trim_matches('`')).collect();
        named += tests.len();
        for test in tests {
            let declared = format!("fn {test}(");
            let at = sources.find(&declared);
            let at = at.unwrap_or_else(|| panic!("the table names the test {test:?}, which is not in src: {row}"));
            // Its attribute is on the line before, or before that in a property.
            let before = &sources[sources[..at].rfind("\n\n").unwrap_or(0)..at];
            assert!(before.contains("test]"), "{test:?} is no test");
        }
    }
    assert!(named > 80, "only {named} tests are named: is the table still read?");
}
