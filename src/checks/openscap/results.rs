//! Reads an XCCDF results file: the benchmark with its rules, and the one TestResult in it.
//!
//! Counts rule results itself. Must not use the score or the exit code: both look fine when nothing was evaluated.
//! A result counts only if the platform is the expected one, the profile is the generated one, and enough rules were
//! really evaluated.

use super::{
    MAX_XML, Options, RULE_PREFIX, TOOL,
    tailoring::{Benchmark, Excluded, LeftOut},
    xml::{self, Sink, attribute},
};
use crate::{Parsed, ReadError};
use quick_xml::events::BytesStart;
use repave_core::report::{Finding, Severity};
use std::{collections::HashMap, fmt::Write as _, io::BufRead};

/// More rules or results than a benchmark has: a bound on memory.
const MAX_RULES: usize = 50_000;
const MAX_TITLE: usize = 300;
const MAX_REMEDY: usize = 400;

/// What a results file must be about.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The platform that must have been recognised, e.g. `cpe:/o:debian:debian_linux:12`.
    pub platform: &'a str,
    /// The benchmark that was evaluated.
    pub benchmark: &'a Benchmark,
    /// The id of the profile that was evaluated.
    pub profile: &'a str,
    /// The profile that it was derived from, for people.
    pub base_profile: &'a str,
    /// Rules whose result must not count, whatever it is.
    pub excluded: &'a Excluded,
    /// How many of them the profile had selected.
    pub left_out: &'a LeftOut,
    /// The policy's bounds.
    pub options: &'a Options,
}

#[derive(Debug, Default)]
struct Rule {
    severity: String,
    title: String,
    description: String,
    reference: Option<String>,
}

#[derive(Debug, Default)]
struct RuleResult {
    rule: String,
    severity: String,
    result: String,
}

/// Which text is being collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Title,
    Description,
    Reference,
    Result,
    Score,
}

#[derive(Default)]
struct Reading {
    path: Vec<String>,
    rules: HashMap<String, Rule>,
    rule: Option<(String, Rule)>,
    result: Option<RuleResult>,
    results: Vec<RuleResult>,
    /// What is being collected, and how deep its element is.
    field: Option<(Field, usize)>,
    text: String,
    reference_prefix: Option<&'static str>,
    test_results: usize,
    benchmark: String,
    version: String,
    scanner: String,
    profile: String,
    platforms: Vec<String>,
    score: String,
}

/// What is counted besides.
#[derive(Default)]
struct Tally {
    unknown: u64,
    not_applicable: u64,
    /// Rules that only a person can judge.
    by_hand: u64,
}

/// Reads the results of one evaluation.
pub fn read(file: impl BufRead, expected: &Expected<'_>) -> Result<Parsed, ReadError> {
    let mut reading = Reading::default();
    xml::read(file, "results file", &mut reading)?;
    reading.trusted(expected)?;
    let mut parsed = Parsed {
        version: reading
            .scanner
            .rsplit(':')
            .next()
            .filter(|v| !v.is_empty())
            .map(str::to_owned),
        content: Some(format!(
            "{} {}, profile {}",
            reading.benchmark.rsplit('_').next().unwrap_or_default(),
            reading.version,
            expected.base_profile
        )),
        not_applicable: expected.left_out.values().sum(),
        ..Parsed::default()
    };
    let mut tally = Tally::default();
    for result in &reading.results {
        reading.count(result, expected, &mut parsed, &mut tally);
    }
    parsed.summary = Some(summary(&parsed, &tally, expected.left_out, &reading.score));
    bounds(&mut parsed, tally.unknown, expected.options);
    Ok(parsed)
}

/// All counts in one line: what was evaluated, by severity; what was not, by kind; the score, for people only.
fn summary(parsed: &Parsed, tally: &Tally, left_out: &LeftOut, score: &str) -> String {
    let failed = |severity| {
        let found = parsed.findings.iter().filter(|finding| finding.severity == severity);
        let count = found.count() as u64;
        // What could not be evaluated has no severity either, and did not fail.
        let count = if severity == Severity::Unknown {
            count.saturating_sub(tally.unknown)
        } else {
            count
        };
        (count > 0).then(|| format!("{count} {severity}"))
    };
    let by_severity: Vec<String> = Severity::ALL.into_iter().filter_map(failed).collect();
    let failed = parsed.evaluated - parsed.passed;
    let mut text = format!(
        "{} rules evaluated: {} pass, {failed} fail",
        parsed.evaluated, parsed.passed
    );
    // Writing to a String cannot fail.
    if failed > 0 {
        let _ = write!(text, " ({})", by_severity.join(", "));
    }
    let _ = write!(
        text,
        "; {} unknown; {} not applicable; {} for people to judge",
        tally.unknown, tally.not_applicable, tally.by_hand
    );
    for (reason, count) in left_out {
        let _ = write!(text, "; left out: {count} ({reason})");
    }
    if let Ok(score) = score.parse::<f64>() {
        let _ = write!(text, "; score {score:.1}, which decides nothing");
    }
    text
}

fn bounds(parsed: &mut Parsed, unknown: u64, options: &Options) {
    let least = options.min_evaluated.max(1);
    if parsed.evaluated < least {
        parsed.problems.push(format!(
            "expected at least {least} evaluated rules, found {} ({} did not apply): is the content for this OS?",
            parsed.evaluated, parsed.not_applicable
        ));
    }
    if unknown > options.max_unknown {
        parsed.problems.push(format!(
            "{unknown} rules could not be evaluated (unknown), at most {} may be",
            options.max_unknown
        ));
    }
}

fn short(rule: &str) -> &str {
    rule.strip_prefix(RULE_PREFIX).unwrap_or(rule)
}

impl Reading {
    fn trusted(&self, expected: &Expected<'_>) -> Result<(), ReadError> {
        let untrusted = |why: String| Err(ReadError::Untrusted { tool: TOOL, why });
        if self.test_results != 1 {
            return untrusted(format!("expected one TestResult, found {}", self.test_results));
        }
        if self.profile != expected.profile {
            return untrusted(format!(
                "expected profile {}, found {:?}: the tailoring was not applied",
                expected.profile, self.profile
            ));
        }
        let benchmark = Benchmark {
            id: self.benchmark.clone(),
            version: self.version.clone(),
        };
        if benchmark != *expected.benchmark {
            let Benchmark { id, version } = expected.benchmark;
            return untrusted(format!(
                "expected benchmark {id} {version} as in the data stream, found {:?} {:?}",
                benchmark.id, benchmark.version
            ));
        }
        let is_expected = |found: &str| {
            found
                .strip_prefix(expected.platform)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '.']))
        };
        if !self.platforms.iter().any(|platform| is_expected(platform)) {
            let found: Vec<&str> = self.platforms.iter().take(10).map(String::as_str).collect();
            return untrusted(format!(
                "expected platform {}, found {found:?}: the content does not fit the image, or the root was not read",
                expected.platform
            ));
        }
        Ok(())
    }

    fn count(&self, result: &RuleResult, expected: &Expected<'_>, parsed: &mut Parsed, tally: &mut Tally) {
        let name = short(&result.rule);
        if expected.excluded.contains_key(&result.rule) {
            // It should have been deselected, and is counted in `left_out`; a vacuous pass must not count even if it
            // was not.
            return;
        }
        match result.result.as_str() {
            "pass" => {
                parsed.evaluated += 1;
                parsed.passed += 1;
            }
            "fail" => {
                parsed.evaluated += 1;
                parsed.findings.push(self.finding(result, None));
            }
            "unknown" => {
                tally.unknown += 1;
                parsed
                    .findings
                    .push(self.finding(result, Some("could not be evaluated")));
            }
            "notapplicable" => {
                parsed.not_applicable += 1;
                tally.not_applicable += 1;
            }
            "notchecked" | "informational" => {
                parsed.not_applicable += 1;
                tally.by_hand += 1;
            }
            // Not in the profile at all.
            "notselected" => {}
            "error" => parsed.problems.push(format!("the rule {name} ended in an error")),
            // `fixed` means that something was changed, and nothing may be.
            other => parsed
                .problems
                .push(format!("the rule {name} has the unexpected result {other:?}")),
        }
    }

    fn finding(&self, result: &RuleResult, note: Option<&str>) -> Finding {
        let nothing = Rule::default();
        let rule = self.rules.get(&result.rule).unwrap_or(&nothing);
        let name = short(&result.rule);
        let title = if rule.title.is_empty() { name } else { &rule.title };
        let own = Some(result.severity.as_str()).filter(|severity| !severity.is_empty());
        Finding {
            id: name.to_owned(),
            severity: note.map_or_else(|| severity(own.unwrap_or(&rule.severity)), |_| Severity::Unknown),
            title: note.map_or_else(|| title.to_owned(), |note| format!("{title}: {note}")),
            subject: None,
            remedy: Some(rule.description.clone()).filter(|text| !text.is_empty()),
            reference: rule.reference.clone(),
            ..Finding::default()
        }
    }

    fn parent(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    fn collect(&mut self, field: Field) {
        // A nested element of the same name belongs to the text that is being collected.
        if self.field.is_none() {
            self.field = Some((field, self.path.len()));
            self.text.clear();
        }
    }

    fn test_result(&mut self, start: &BytesStart<'_>) -> Result<(), ReadError> {
        self.test_results += 1;
        if self.test_results > 1 {
            return Err(xml::malformed("results file", "it has more than one TestResult"));
        }
        self.version = attribute(start, "version").unwrap_or_default();
        self.scanner = attribute(start, "test-system").unwrap_or_default();
        Ok(())
    }

    fn store(&mut self, field: Field) {
        let text = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        match (field, &mut self.rule, &mut self.result) {
            (Field::Title, Some((_, rule)), _) => rule.title = shortened(&text, MAX_TITLE),
            (Field::Description, Some((_, rule)), _) => rule.description = shortened(&text, MAX_REMEDY),
            (Field::Reference, Some((_, rule)), _) => {
                let known = self.reference_prefix.take().filter(|_| rule.reference.is_none());
                let is_item = text.contains(|c: char| c.is_ascii_digit());
                rule.reference = rule
                    .reference
                    .take()
                    .or(known.filter(|_| is_item).map(|prefix| format!("{prefix} {text}")));
            }
            (Field::Result, _, Some(result)) => result.result = shortened(&text, MAX_TITLE),
            (Field::Score, _, _) => self.score = shortened(&text, MAX_TITLE),
            (Field::Title | Field::Description | Field::Reference | Field::Result, _, _) => {}
        }
    }
}

/// CIS numbers and STIG ids only: a rule has dozens of references.
fn reference_prefix(href: &str) -> Option<&'static str> {
    if href.contains("cisecurity.org/benchmark") {
        Some("CIS")
    } else if href.contains("cyber.mil/stigs") && href.contains("unix-linux") {
        Some("STIG")
    } else {
        None
    }
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn severity(word: &str) -> Severity {
    match word {
        "high" => Severity::High,
        "medium" => Severity::Medium,
        "low" | "info" => Severity::Low,
        _ => Severity::Unknown,
    }
}

impl Sink for Reading {
    fn start(&mut self, name: &str, start: &BytesStart<'_>) -> Result<(), ReadError> {
        let id = |name| attribute(start, name).unwrap_or_default();
        match (self.parent(), name) {
            (_, "Rule") if self.test_results == 0 => {
                let rule = Rule {
                    severity: id("severity"),
                    ..Rule::default()
                };
                self.rule = Some((id("id"), rule));
            }
            ("Rule", "title") => self.collect(Field::Title),
            ("Rule", "description") => self.collect(Field::Description),
            ("Rule", "reference") => {
                self.reference_prefix = reference_prefix(&id("href"));
                self.collect(Field::Reference);
            }
            (_, "TestResult") => self.test_result(start)?,
            ("TestResult", "benchmark") => self.benchmark = id("id"),
            ("TestResult", "profile") => self.profile = id("idref"),
            ("TestResult", "platform") if self.platforms.len() < MAX_RULES => self.platforms.push(id("idref")),
            ("TestResult", "rule-result") => {
                self.result = Some(RuleResult {
                    rule: id("idref"),
                    severity: id("severity"),
                    result: String::new(),
                });
            }
            ("TestResult", "score") => self.collect(Field::Score),
            ("rule-result", "result") => self.collect(Field::Result),
            _ => {}
        }
        self.path.push(name.to_owned());
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), ReadError> {
        // Much more than what is kept, so that white space does not eat it.
        if self.field.is_some() && self.text.len() < 16 * 1024 {
            self.text.push_str(text);
        }
        Ok(())
    }

    fn end(&mut self, name: &str) -> Result<(), ReadError> {
        self.path.pop();
        if let Some((field, depth)) = self.field
            && depth == self.path.len()
        {
            self.store(field);
            self.field = None;
        }
        match name {
            "Rule" => self.rules.extend(self.rule.take()),
            "rule-result" => self.results.extend(self.result.take()),
            _ => {}
        }
        if self.rules.len() > MAX_RULES || self.results.len() > MAX_RULES {
            return Err(ReadError::TooLarge {
                tool: TOOL,
                what: "rules",
                limit: MAX_XML,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
