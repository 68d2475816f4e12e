//! Reports as SARIF 2.1.0: one run per report. Pure.
//!
//! Source: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>. A check that could not be carried out is
//! a run with `executionSuccessful: false` (section 3.20.14) and an error notification: an empty list of results must
//! never look like a clean image.

use super::{Exception, ExceptionKind, clean};
use repave_core::{
    digest::Digest,
    report::{Finding, Outcome, Report, Severity},
};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fmt::{Display, Write as _},
};

/// Where the schema of the format is.
const SCHEMA_URI: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// Name of the root that paths in the image are relative to.
const ROOT: &str = "IMAGE";
/// Longest text that is taken over, in characters.
const MAX: usize = 1_000;

/// The log of these reports about one image (a reference, or the name of a file and a digest), each with what does not count in it.
pub fn export(image: &dyn Display, reports: &[(&Report, &[Exception])]) -> Value {
    let runs: Vec<_> = reports
        .iter()
        .map(|(report, exceptions)| run(image, report, exceptions))
        .collect();
    json!({"$schema": SCHEMA_URI, "version": "2.1.0", "runs": runs})
}

fn run(image: &dyn Display, report: &Report, exceptions: &[Exception]) -> Value {
    let rules = rules(report);
    let index: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(n, id)| (*id, n)).collect();
    let results: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            let suppressed = Exception::of(exceptions, finding);
            let at = index.get(finding.id.as_str()).copied().unwrap_or_default();
            result(image, report, finding, at, suppressed)
        })
        .collect();
    json!({
        "tool": {"driver": {
            "name": tool_name(report),
            "version": version(report),
            "rules": rules.iter().map(|(id, findings)| rule(id, findings)).collect::<Vec<_>>(),
        }},
        "automationDetails": {"id": format!("repave/{}/", clean(&report.check, MAX))},
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the image's file system"}}},
        "columnKind": "unicodeCodePoints",
        "invocations": [invocation(report)],
        "results": results,
        "properties": properties(image, report),
    })
}

fn tool_name(report: &Report) -> Value {
    // The word of the report's own format.
    serde_json::to_value(report.tool.name).unwrap_or_else(|_| Value::from("unknown"))
}

/// The format demands a text of at least one character nowhere, but viewers do.
fn version(report: &Report) -> String {
    let version = clean(&report.tool.version, MAX);
    if version.is_empty() {
        "unknown".to_owned()
    } else {
        version
    }
}

/// The findings of each rule, by id.
fn rules(report: &Report) -> BTreeMap<&str, Vec<&Finding>> {
    let mut rules: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in &report.findings {
        rules.entry(&finding.id).or_default().push(finding);
    }
    rules
}

fn rule(id: &str, findings: &[&Finding]) -> Value {
    let worst = findings
        .iter()
        .map(|finding| finding.severity)
        .max()
        .unwrap_or_default();
    let reference = findings.iter().find_map(|finding| finding.reference.as_deref());
    let remedy = findings.iter().find_map(|finding| finding.remedy.as_deref());
    // A title names the place; only one that all findings share describes the rule.
    let mut titles = findings.iter().map(|finding| finding.title.as_str());
    let first = titles.next().unwrap_or(id);
    let title = if titles.all(|title| title == first) { first } else { id };
    let description = reference.map_or_else(|| title.to_owned(), |reference| format!("{title} ({reference})"));
    let mut rule = json!({
        "id": clean(id, MAX),
        "shortDescription": {"text": clean(&description, MAX)},
        "help": {"text": clean(remedy.unwrap_or("The tool names no remedy."), MAX)},
        "defaultConfiguration": {"level": level(worst)},
        "properties": severity_properties(worst, reference),
    });
    if let (Some(uri), Value::Object(rule)) = (help_uri(id), &mut rule) {
        rule.insert("helpUri".to_owned(), Value::from(uri));
    }
    rule
}

/// Only for ids of the exact form `CVE-<year>-<number>`: nothing else of a report becomes an address.
fn help_uri(id: &str) -> Option<String> {
    let (year, number) = id.strip_prefix("CVE-")?.split_once('-')?;
    let digits =
        |text: &str, least, most| (least..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    (digits(year, 4, 4) && digits(number, 4, 10)).then(|| format!("https://nvd.nist.gov/vuln/detail/{id}"))
}

fn result(
    image: &dyn Display,
    report: &Report,
    finding: &Finding,
    rule: usize,
    suppressed: Option<&Exception>,
) -> Value {
    let mut properties = severity_properties(finding.severity, finding.reference.as_deref());
    let mut more = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            properties.insert(key.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(|text| Value::from(clean(text, MAX)));
    more("package", text(&finding.package));
    more("fixedVersion", text(&finding.fixed_version));
    more("remedy", text(&finding.remedy));
    more("knownExploited", finding.known_exploited.then_some(Value::Bool(true)));
    more("epss", finding.epss.map(|epss| Value::from(f64::from(epss) / 10_000.0)));
    let mut result = json!({
        "ruleId": clean(&finding.id, MAX),
        "ruleIndex": rule,
        "level": level(finding.severity),
        "message": {"text": message(finding)},
        "locations": [location(image, finding)],
        "partialFingerprints": {"repave/v1": fingerprint(report, finding)},
        "properties": properties,
    });
    // An absent list says "nobody looked", an empty one "nothing is suppressed" (section 3.27.23): the latter is meant.
    let suppressions: Vec<_> = suppressed.map(suppression).into_iter().collect();
    if let Value::Object(result) = &mut result {
        result.insert("suppressions".to_owned(), Value::from(suppressions));
    }
    result
}

fn message(finding: &Finding) -> String {
    let mut text = clean(&finding.title, MAX);
    if let Some(remedy) = &finding.remedy {
        // Writing to a String cannot fail.
        let _ = write!(text, ". {}", clean(remedy, MAX));
    }
    text
}

fn suppression(exception: &Exception) -> Value {
    let until = exception.expires.map_or_else(String::new, |at| format!(", until {at}"));
    let justification = match exception.kind {
        ExceptionKind::Waiver => format!("{} (waived by {}{until})", exception.reason, exception.owner),
        ExceptionKind::Vex => format!("{} (VEX of {}{until})", exception.reason, exception.owner),
    };
    json!({"kind": "external", "status": "accepted", "justification": clean(&justification, MAX)})
}

/// A path in the image, a package, or else the image itself.
fn location(image: &dyn Display, finding: &Finding) -> Value {
    let subject = finding.subject.as_deref().unwrap_or_default();
    if let Some(package) = &finding.package {
        let name = if subject.is_empty() { package } else { subject };
        return logical(name, package, "package");
    }
    if let Some(uri) = subject.strip_prefix('/').and_then(relative_uri) {
        return json!({"physicalLocation": {"artifactLocation": {"uri": uri, "uriBaseId": ROOT}}});
    }
    let name = if subject.is_empty() {
        image.to_string()
    } else {
        subject.to_owned()
    };
    logical(&name, &format!("{image}#{name}"), "resource")
}

fn logical(name: &str, qualified: &str, kind: &str) -> Value {
    json!({"logicalLocations": [{
        "name": clean(name, MAX), "fullyQualifiedName": clean(qualified, MAX), "kind": kind,
    }]})
}

/// Percent-encodes a path (RFC 3986, section 2.3). `None` for one that climbs: viewers resolve `..`, encoded or not.
fn relative_uri(path: &str) -> Option<String> {
    let mut uri = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part == "." || part == ".." {
            return None;
        }
        if !uri.is_empty() {
            uri.push('/');
        }
        for byte in part.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                uri.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    (!uri.is_empty()).then_some(uri)
}

/// Names the same finding in the next image too.
fn fingerprint(report: &Report, finding: &Finding) -> String {
    // The version is no part of what is wrong: a package URL ends in @VERSION.
    let package = finding.package.as_deref().map(|package| package.split('@').next());
    let parts = (&report.check, &finding.id, &finding.subject, package);
    Digest::of(format!("{parts:?}").as_bytes()).hex().to_owned()
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium | Severity::Unknown => "warning",
        Severity::Low => "note",
    }
}

/// A number in the middle of the band that code hosts use: above 9 is critical, from 7 high, from 4 medium, below low.
/// An unknown severity claims none.
fn security_severity(severity: Severity) -> Option<&'static str> {
    match severity {
        Severity::Critical => Some("9.5"),
        Severity::High => Some("8.0"),
        Severity::Medium => Some("5.5"),
        Severity::Low => Some("2.0"),
        Severity::Unknown => None,
    }
}

fn severity_properties(severity: Severity, reference: Option<&str>) -> Map<String, Value> {
    let mut properties = Map::new();
    properties.insert("severity".to_owned(), Value::from(severity.as_str()));
    if let Some(number) = security_severity(severity) {
        properties.insert("security-severity".to_owned(), Value::from(number));
    }
    if let Some(reference) = reference {
        properties.insert("reference".to_owned(), Value::from(clean(reference, MAX)));
    }
    properties
}

fn invocation(report: &Report) -> Value {
    let notifications: Vec<_> = why_untrusted(report)
        .map(|(id, text)| json!({"level": "error", "descriptor": {"id": id}, "message": {"text": clean(&text, MAX)}}))
        .into_iter()
        .collect();
    json!({"executionSuccessful": notifications.is_empty(), "toolExecutionNotifications": notifications})
}

/// Why a report says nothing about the image, whatever its findings are.
fn why_untrusted(report: &Report) -> Option<(&'static str, String)> {
    match &report.outcome {
        Outcome::Error { message } => return Some(("repave/error", message.clone())),
        Outcome::Unsupported { message } => return Some(("repave/unsupported", message.clone())),
        Outcome::Completed => {}
    }
    if report.truncated {
        let text = "there were more findings than a report may carry: the list is not whole";
        return Some(("repave/truncated", text.to_owned()));
    }
    (report.evaluated == 0).then(|| {
        (
            "repave/nothing-evaluated",
            "nothing was evaluated: this is no pass".to_owned(),
        )
    })
}

fn properties(image: &dyn Display, report: &Report) -> Value {
    let tool = &report.tool;
    json!({
        "image": clean(&image.to_string(), MAX),
        "check": clean(&report.check, MAX),
        "evaluated": report.evaluated,
        "passed": report.passed,
        "notApplicable": report.not_applicable,
        "candidateExecuted": report.candidate_executed,
        "content": tool.content.as_deref().map(|text| clean(text, MAX)),
        "database": tool.database.as_deref().map(|text| clean(text, MAX)),
        "databaseBuilt": tool.database_built.map(|at| at.to_string()),
        "toolMillis": report.tool_millis,
    })
}
