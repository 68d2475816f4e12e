//! Which planted defects each tool finds, alone and behind the gate, and what they say of clean images.
//!
//! A tool has found a defect when it fails something that it does not fail on the clean image. The gate is judged the
//! same way: the runner's reports without the findings of the clean image, nothing tolerated.

use super::{
    defects::{Change, DEFECTS, Defect, Place as Where},
    image,
    place::Place,
    programs::{self, Runner},
};
use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use repave::domain::{
    digest::Digest,
    report::{Finding, Outcome, Report},
    verdict::{Gate, Verdict, judge},
    waiver::Exceptions,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The tests of Goss.
pub const GOSSFILE: &str = include_str!("goss.yaml");

/// Runs at once: one per core of a small machine.
const WORKERS: usize = 2;

/// How many ids a cell names.
const NAMED: usize = 2;

type Ids = BTreeSet<String>;

/// What all tools said of one image.
#[derive(Debug)]
struct Said {
    native: Report,
    grype: Report,
    /// Failed rules; `None` where no root shows the defect.
    oscap: Option<Ids>,
    goss: Option<Report>,
    /// Our own run of OpenSCAP, where it was needed.
    openscap: Option<Report>,
}

/// One row of the table.
#[derive(Debug)]
struct Row {
    name: &'static str,
    native: String,
    oscap: String,
    goss: String,
    grype: String,
    gate: String,
    open: bool,
}

/// What the run came to.
#[derive(Debug)]
pub struct Detection {
    /// The table of defects.
    pub table: String,
    /// What is said of the clean images.
    pub clean: String,
    /// One line per tool.
    pub summary: String,
    /// The tools with their versions.
    pub versions: String,
}

/// Plants everything and asks every tool. The clean image that defects are planted in has a USER, as ours have.
pub fn run(place: &Place) -> Result<Detection> {
    eprintln!("detection: clean images");
    let base = place.bench().join("layouts/clean");
    let mut config = image::config(&place.layout("debian-v3"))?;
    config["config"]["User"] = Value::from("65532");
    image::derive(&place.layout("debian-v3"), &base, &[], config)?;
    let clean = place.root("clean", &base)?;
    let baseline = clean_image(place, "clean-with-user", &base)?;
    let others = ["debian-v1", "debian-v3"].map(|name| clean_image(place, name, &place.layout(name)));
    let [v1, v3] = others;
    let (v1, v3) = (v1?, v3?);
    let rows = all(place, &base, &clean, &baseline)?;
    Ok(Detection {
        table: table(&rows),
        clean: clean_table(&[
            ("debian-v1", &v1),
            ("debian-v3", &v3),
            ("debian-v3 with USER", &baseline),
        ]),
        summary: summary(&rows),
        versions: versions(&baseline),
    })
}

/// What is said of an image without planted defects. A tool that does not work here would seem to find everything.
fn clean_image(place: &Place, name: &str, layout: &Path) -> Result<Said> {
    let digest = image::digest(layout)?;
    let mut said = ask(place, name, layout, &digest, "{}", Where::Files)?;
    let root = place.root(&format!("{name}-ours"), layout)?;
    said.openscap = Some(Runner::openscap(place, &root, &digest, &env(layout)?)?.report()?);
    let reports = [
        Some(&said.native),
        Some(&said.grype),
        said.goss.as_ref(),
        said.openscap.as_ref(),
    ];
    for report in reports.into_iter().flatten() {
        ensure!(
            report.outcome == Outcome::Completed,
            "{name}: {:?} {:?}",
            report.tool,
            report.outcome
        );
    }
    Ok(said)
}

fn all(place: &Place, base: &Path, clean: &Path, baseline: &Said) -> Result<Vec<Row>> {
    let next = AtomicUsize::new(0);
    let rows: Mutex<BTreeMap<usize, Result<Row>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(defect) = DEFECTS.get(number) else { return };
                    eprintln!("detection: {} of {}, {}", number + 1, DEFECTS.len(), defect.name);
                    let row = one(place, base, clean, baseline, number, defect).context(defect.name);
                    rows.lock().unwrap_or_else(PoisonError::into_inner).insert(number, row);
                }
            });
        }
    });
    let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.into_values().collect()
}

fn one(place: &Place, base: &Path, clean: &Path, baseline: &Said, number: usize, defect: &Defect) -> Result<Row> {
    let mut change = Change::new(clean, base)?;
    (defect.make)(&mut change)?;
    let (layers, config, options) = change.finish()?;
    let name = format!("defect-{number}");
    let layout = place.bench().join("layouts").join(&name);
    let digest = image::derive(base, &layout, &layers, config)?;
    let mut said = ask(place, &name, &layout, &digest, &options.to_string(), defect.place)?;
    if gate(&said, baseline).is_empty() && defect.place != Where::Image {
        let root = place.root(&format!("{name}-ours"), &layout)?;
        said.openscap = Some(Runner::openscap(place, &root, &digest, &env(&layout)?)?.report()?);
        fs::remove_dir_all(root)?;
    }
    fs::remove_dir_all(layout)?;
    Ok(row(defect, &said, baseline))
}

fn env(layout: &Path) -> Result<Vec<String>> {
    let config = image::config(layout)?;
    let env = config.pointer("/config/Env").and_then(Value::as_array);
    let words = env.into_iter().flatten().filter_map(Value::as_str);
    Ok(words.map(str::to_owned).collect())
}

fn ask(place: &Place, name: &str, layout: &Path, digest: &Digest, options: &str, at: Where) -> Result<Said> {
    let mut said = Said {
        native: Runner::native(place, layout, digest, options)?.report()?,
        grype: Runner::vulnerabilities(place, "grype", layout, digest)?.report()?,
        oscap: None,
        goss: None,
        openscap: None,
    };
    if at != Where::Image {
        let root = place.root(name, layout)?;
        let results = place.bench().join(format!("out/{name}.xml"));
        programs::oscap(place, &root, &results, None, &env(layout)?.join("\n"))?.output()?;
        said.oscap = Some(failed_rules(&fs::read_to_string(&results)?));
        fs::remove_file(results)?;
        place.with_goss(&root, GOSSFILE)?;
        said.goss = Some(Runner::goss(place, &root, digest)?.report()?);
        fs::remove_dir_all(root)?;
    }
    Ok(said)
}

/// The rules with the result `fail`, by their short name. Our own reader would leave out what it does not trust.
fn failed_rules(results: &str) -> Ids {
    let mut failed = Ids::new();
    for part in results.split("<rule-result ").skip(1) {
        let body = part.split("</rule-result>").next().unwrap_or_default();
        let id = body.split("idref=\"").nth(1).and_then(|rest| rest.split('"').next());
        if body.contains("<result>fail</result>") {
            failed.extend(id.map(|id| id.trim_start_matches(repave::checks::openscap::RULE_PREFIX).to_owned()));
        }
    }
    failed
}

fn key(finding: &Finding) -> (&str, &str) {
    (&finding.id, finding.subject.as_deref().unwrap_or_default())
}

/// The report without what the clean image has as well.
fn without(report: &Report, clean: &Report) -> Report {
    let known: BTreeSet<_> = clean.findings.iter().map(key).collect();
    let mut new = report.clone();
    new.findings.retain(|finding| !known.contains(&key(finding)));
    new
}

/// What shuts the gate: the ids of what counts, or the verdict where there is none.
fn shut(report: &Report, clean: &Report) -> Ids {
    let gate = Gate {
        allow: BTreeMap::new(),
        minimum_evaluated: 1,
        only_fixable: false,
        database_max_age: None,
        deny_known_exploited: true,
        epss_at_least: None,
        allow_end_of_life: false,
    };
    let judged = judge(&without(report, clean), &gate, &Exceptions::default(), Timestamp::now());
    match judged.verdict {
        Verdict::Passed => Ids::new(),
        Verdict::Failed => judged.worst.into_iter().map(|finding| finding.id).collect(),
        Verdict::Error | Verdict::NotEvaluated | Verdict::Unsupported => {
            Ids::from([format!("{}: {}", judged.verdict.as_str(), judged.message)])
        }
    }
}

/// Which checks shut the gate, with what.
fn gate(said: &Said, clean: &Said) -> BTreeMap<&'static str, Ids> {
    let mut all = BTreeMap::from([
        ("native", shut(&said.native, &clean.native)),
        ("Grype", shut(&said.grype, &clean.grype)),
    ]);
    if let (Some(goss), Some(known)) = (&said.goss, &clean.goss) {
        all.insert("Goss", shut(goss, known));
    }
    if let (Some(openscap), Some(known)) = (&said.openscap, &clean.openscap) {
        all.insert("OpenSCAP", shut(openscap, known));
    }
    all.retain(|_, ids| !ids.is_empty());
    all
}

fn cell(ids: &Ids) -> String {
    if ids.is_empty() {
        return "-".to_owned();
    }
    let shown: Vec<String> = ids.iter().take(NAMED).map(|id| format!("`{}`", short(id))).collect();
    match ids.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A cell must not break its table, and not be wider than a page.
fn short(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !"|`\n".contains(*c)).collect();
    match plain.char_indices().nth(90) {
        Some((at, _)) => format!("{}…", plain.get(..at).unwrap_or_default()),
        None => plain,
    }
}

fn row(defect: &Defect, said: &Said, clean: &Said) -> Row {
    let unseen = || "cannot see".to_owned();
    let shut_by = gate(said, clean);
    let oscap = match (&said.oscap, &clean.oscap) {
        (Some(failed), Some(known)) => cell(&failed.difference(known).cloned().collect()),
        (Some(_) | None, _) => unseen(),
    };
    let goss = match (&said.goss, &clean.goss) {
        (Some(report), Some(known)) => cell(&shut(report, known)),
        (Some(_) | None, _) => unseen(),
    };
    let names: Vec<&str> = shut_by.keys().copied().collect();
    Row {
        name: defect.name,
        native: cell(&shut(&said.native, &clean.native)),
        oscap,
        goss,
        grype: cell(&shut(&said.grype, &clean.grype)),
        gate: match names.as_slice() {
            [] => "**open**".to_owned(),
            names => format!("shut by {}", names.join(", ")),
        },
        open: names.is_empty(),
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = "| defect | native | plain `oscap` | Goss | Grype | gate |\n|---|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let Row {
            name,
            native,
            oscap,
            goss,
            grype,
            gate,
            ..
        } = row;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {name} | {native} | {oscap} | {goss} | {grype} | {gate} |");
    }
    text
}

fn summary(rows: &[Row]) -> String {
    let count = |cell: fn(&Row) -> &str| {
        rows.iter()
            .filter(|row| !["-", "cannot see"].contains(&cell(row)))
            .count()
    };
    let missed: Vec<&str> = rows.iter().filter(|row| row.open).map(|row| row.name).collect();
    let all = rows.len();
    format!(
        "| | found of {all} |\n|---|---|\n| native | {} |\n| plain `oscap` | {} |\n| Goss | {} |\n| Grype | {} |\n\
         | the gate | {} |\n\nMissed by the gate: {}.\n",
        count(|row| &row.native),
        count(|row| &row.oscap),
        count(|row| &row.goss),
        count(|row| &row.grype),
        all - missed.len(),
        if missed.is_empty() {
            "nothing".to_owned()
        } else {
            missed.join("; ")
        }
    )
}

fn clean_table(images: &[(&str, &Said)]) -> String {
    let mut text = "| clean image | check | findings |\n|---|---|---|\n".to_owned();
    for (name, said) in images {
        let reports = [
            ("native", Some(&said.native)),
            ("OpenSCAP by the runner", said.openscap.as_ref()),
            ("Goss", said.goss.as_ref()),
            ("Grype", Some(&said.grype)),
        ];
        let plain = said.oscap.clone().unwrap_or_default();
        let mut line = |check: &str, ids: &Ids| {
            let list: Vec<String> = ids.iter().map(|id| format!("`{}`", short(id))).collect();
            let list = if list.is_empty() {
                "none".to_owned()
            } else {
                list.join(", ")
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {name} | {check} | {}: {list} |", ids.len());
        };
        line("plain `oscap`", &plain);
        for (check, report) in reports {
            if let Some(report) = report {
                line(
                    check,
                    &report.findings.iter().map(|finding| finding.id.clone()).collect(),
                );
            }
        }
    }
    text
}

fn versions(said: &Said) -> String {
    let reports = [
        Some(&said.native),
        said.openscap.as_ref(),
        said.goss.as_ref(),
        Some(&said.grype),
    ];
    let names = ["repave", "oscap", "Goss", "Grype"];
    let named = names.iter().zip(reports).filter_map(|(name, report)| {
        let tool = &report?.tool;
        let content = tool.content.as_deref().filter(|_| *name != "Goss").unwrap_or_default();
        Some(format!("{name} {} ({})", tool.version, short(content)).replace(" ()", ""))
    });
    named.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_that_fail_are_failed_rules() {
        let results = "<rule-result idref=\"xccdf_org.ssgproject.content_rule_a\" severity=\"low\"><result>fail</result></rule-result>\
            <rule-result idref=\"xccdf_org.ssgproject.content_rule_b\"><result>pass</result></rule-result><x>fail</x>";
        assert_eq!(failed_rules(results), Ids::from(["a".to_owned()]));
    }

    #[test]
    fn a_cell_never_breaks_its_table() {
        assert_eq!(
            cell(&Ids::from(["a|b".to_owned(), "c".into(), "d".into()])),
            "`ab`, `c` and 1 more"
        );
        assert_eq!(cell(&Ids::new()), "-");
    }

    #[test]
    fn there_are_at_least_forty_defects_with_names_of_their_own() {
        let names: BTreeSet<&str> = DEFECTS.iter().map(|defect| defect.name).collect();
        assert_eq!(names.len(), DEFECTS.len());
        assert!(names.len() >= 40, "{}", names.len());
    }
}
