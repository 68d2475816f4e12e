//! SARIF 2.1.0 (OASIS): `runs[].results[]` become findings, `runs[].tool` says which rules there were.
//!
//! What counts as evaluated are distinct rules: those that the tool declares, and those that results name. Must not
//! take a run without `results` for a clean one (3.14.23: no scan was attempted), nor a failed invocation for a
//! result, nor a suppression that nobody accepted for one.

use super::{MAX_TESTS, cut, malformed};
use crate::{Parsed, ReadError, lenient::LenientValue};
use repave_core::report::{Finding, Severity};
use serde::{Deserialize, de::IgnoredAny};
use std::collections::{BTreeMap, BTreeSet};

const WHAT: &str = "SARIF";
const MAX_RUNS: usize = 100;

#[derive(Deserialize)]
struct Log {
    version: String,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    /// Absent or null: the tool did not come to have any (3.14.23).
    #[serde(default)]
    results: Option<Vec<SarifResult>>,
    #[serde(default)]
    invocations: Vec<Invocation>,
    #[serde(default)]
    external_property_file_references: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
    #[serde(default)]
    tool_execution_notifications: Vec<Notification>,
    #[serde(default)]
    tool_configuration_notifications: Vec<Notification>,
}

#[derive(Deserialize)]
struct Notification {
    #[serde(default)]
    level: Option<Level>,
    #[serde(default)]
    message: Message,
}

#[derive(Deserialize)]
struct Tool {
    driver: Component,
    #[serde(default)]
    extensions: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    name: String,
    #[serde(default)]
    version: LenientValue,
    #[serde(default, rename = "semanticVersion")]
    semantic_version: LenientValue,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: String,
    #[serde(default)]
    default_configuration: Option<Configuration>,
    #[serde(default)]
    short_description: Message,
    #[serde(default)]
    message_strings: BTreeMap<String, Message>,
    #[serde(default)]
    help_uri: LenientValue,
    #[serde(default)]
    properties: Properties,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    level: Option<Level>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Properties {
    /// A number from 0 to 10, as GitHub defined it.
    #[serde(rename = "security-severity")]
    security_severity: LenientValue,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    text: LenientValue,
    id: LenientValue,
    arguments: Vec<LenientValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SarifResult {
    #[serde(default)]
    rule_id: Option<String>,
    #[serde(default)]
    rule_index: Option<i64>,
    #[serde(default)]
    rule: Option<Reference>,
    #[serde(default)]
    level: Option<Level>,
    #[serde(default)]
    kind: Kind,
    message: Message,
    #[serde(default)]
    locations: Vec<Location>,
    #[serde(default)]
    suppressions: Option<Vec<Suppression>>,
    #[serde(default)]
    baseline_state: LenientValue,
    #[serde(default)]
    properties: Properties,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    index: Option<i64>,
}

/// 3.27.10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    None,
    Note,
    Warning,
    Error,
}

/// 3.27.9.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Pass,
    Open,
    Informational,
    NotApplicable,
    Review,
    #[default]
    Fail,
}

#[derive(Deserialize)]
struct Suppression {
    #[serde(default)]
    status: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Location {
    physical_location: Option<Physical>,
    logical_locations: Vec<Logical>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Physical {
    artifact_location: Artifact,
    region: Region,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Artifact {
    uri: LenientValue,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Region {
    start_line: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Logical {
    fully_qualified_name: LenientValue,
}

/// Reads one whole document.
pub(super) fn read(json: &[u8]) -> Result<Parsed, ReadError> {
    let log: Log = serde_json::from_slice(json).map_err(|error| malformed(WHAT, error))?;
    if log.version != "2.1.0" {
        return Err(malformed(
            WHAT,
            format!("expected version 2.1.0, found {:?}", cut(&log.version)),
        ));
    }
    if log.runs.is_empty() || log.runs.len() > MAX_RUNS {
        return Err(malformed(
            WHAT,
            format!("expected 1 to {MAX_RUNS} runs, found {}", log.runs.len()),
        ));
    }
    let (mut parsed, mut names) = (Parsed::default(), Vec::new());
    for run in &log.runs {
        names.push(run.tool.driver.described());
        one_run(run, &mut parsed)?;
    }
    parsed.content = Some(format!("SARIF of {}", names.join(", ")));
    Ok(parsed)
}

impl Component {
    fn described(&self) -> String {
        let version = self.version.text().or(self.semantic_version.text());
        format!("{} {}", cut(&self.name), cut(version.unwrap_or("without a version")))
    }
}

fn one_run(run: &Run, parsed: &mut Parsed) -> Result<(), ReadError> {
    if run.external_property_file_references.is_some() {
        return Err(malformed(WHAT, "a part of it is in other files, which are not read"));
    }
    let Some(results) = &run.results else {
        return Err(malformed(
            WHAT,
            "a run has no results: the tool did not examine anything",
        ));
    };
    for invocation in &run.invocations {
        invocation.problems(&mut parsed.problems);
    }
    let rules = || {
        run.tool
            .driver
            .rules
            .iter()
            .chain(run.tool.extensions.iter().flat_map(|e| &e.rules))
    };
    let by_id: BTreeMap<&str, &Rule> = rules().map(|rule| (rule.id.as_str(), rule)).collect();
    let mut named: BTreeSet<&str> = by_id.keys().copied().collect();
    let mut failed = BTreeSet::new();
    for result in results {
        let id = result.id(&run.tool.driver)?;
        // `CA1000/1` is a rule of its own below `CA1000` (3.27.5).
        let rule = by_id.get(id).or_else(|| by_id.get(id.rsplit_once('/')?.0)).copied();
        let id_of_rule = rule.map_or(id, |rule| rule.id.as_str());
        match result.meaning() {
            Meaning::Finding => {
                named.insert(id_of_rule);
                failed.insert(id_of_rule);
                parsed.findings.push(result.finding(id, rule));
            }
            Meaning::Passed => {
                named.insert(id_of_rule);
            }
            Meaning::Nothing => parsed.not_applicable += 1,
            Meaning::Undecided => parsed
                .problems
                .push(format!("the rule {} could not be decided (kind `open`)", cut(id))),
        }
    }
    let (named, failed) = (named.len() as u64, failed.len() as u64);
    if named > MAX_TESTS {
        return Err(malformed(WHAT, format!("it names more than {MAX_TESTS} rules")));
    }
    parsed.evaluated += named;
    parsed.passed += named - failed;
    Ok(())
}

impl Invocation {
    fn problems(&self, problems: &mut Vec<String>) {
        if !self.execution_successful {
            problems.push("its tool says that it did not run successfully".to_owned());
        }
        let notifications = self
            .tool_execution_notifications
            .iter()
            .chain(&self.tool_configuration_notifications);
        for notification in notifications.filter(|n| n.level == Some(Level::Error)).take(20) {
            let said = notification.message.text.text().unwrap_or("an error without a text");
            problems.push(format!("its tool says: {}", cut(said)));
        }
    }
}

/// What a result means for a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Finding,
    Passed,
    Undecided,
    Nothing,
}

impl SarifResult {
    fn meaning(&self) -> Meaning {
        // 3.27.23: a result is suppressed only if it has suppressions and all of them are accepted (the default).
        let suppressed = self.suppressions.as_ref().is_some_and(|all| {
            !all.is_empty()
                && all
                    .iter()
                    .all(|one| one.status.as_deref().unwrap_or("accepted") == "accepted")
        });
        // 3.27.24: `absent` was found in an earlier run and is gone.
        if suppressed || self.baseline_state.text() == Some("absent") {
            return Meaning::Nothing;
        }
        match self.kind {
            Kind::Pass => Meaning::Passed,
            Kind::Open => Meaning::Undecided,
            Kind::Informational | Kind::NotApplicable => Meaning::Nothing,
            // Somebody has to look at it: until then it counts.
            Kind::Review | Kind::Fail => Meaning::Finding,
        }
    }

    fn id<'a>(&'a self, driver: &'a Component) -> Result<&'a str, ReadError> {
        let index = self.rule_index.or(self.rule.as_ref().and_then(|rule| rule.index));
        let declared = index.and_then(|index| driver.rules.get(usize::try_from(index).ok()?));
        let id = self
            .rule_id
            .as_deref()
            .or(self.rule.as_ref().and_then(|rule| rule.id.as_deref()));
        id.or(declared.map(|rule| rule.id.as_str()))
            .filter(|id| !id.trim().is_empty())
            .ok_or_else(|| {
                malformed(
                    WHAT,
                    "a result names no rule: expected ruleId, or ruleIndex of a declared rule",
                )
            })
    }

    fn finding(&self, id: &str, rule: Option<&Rule>) -> Finding {
        let subject = self.locations.first().and_then(Location::subject);
        Finding {
            id: cut(id),
            severity: self.severity(rule),
            title: self.title(rule),
            subject,
            reference: rule.and_then(|rule| rule.help_uri.text()).map(cut),
            ..Finding::default()
        }
    }

    /// `security-severity` where it is given (in GitHub's bands), else the level.
    fn severity(&self, rule: Option<&Rule>) -> Severity {
        let given = [Some(&self.properties), rule.map(|rule| &rule.properties)];
        let given = given
            .into_iter()
            .flatten()
            .map(|properties| &properties.security_severity);
        match given.into_iter().find(|given| **given != LenientValue::Null) {
            Some(LenientValue::Text(score) | LenientValue::Number(score)) => band(score),
            Some(LenientValue::Other) => Severity::Unknown,
            Some(LenientValue::Null) | None => {
                let of_rule = rule.and_then(|rule| rule.default_configuration.as_ref()?.level);
                match self.level.or(of_rule).unwrap_or(Level::Warning) {
                    Level::Error => Severity::High,
                    Level::Warning => Severity::Medium,
                    Level::Note => Severity::Low,
                    Level::None => Severity::Unknown,
                }
            }
        }
    }

    fn title(&self, rule: Option<&Rule>) -> String {
        let of_rule = rule.and_then(|rule| rule.message_strings.get(self.message.id.text()?)?.text.text());
        let short = rule.and_then(|rule| rule.short_description.text.text());
        let text = self.message.text.text().or(of_rule).or(short).unwrap_or("no message");
        let mut text = cut(text);
        for (n, argument) in self.message.arguments.iter().take(10).enumerate() {
            let placeholder = format!("{{{n}}}");
            text = cut(&text.replace(&placeholder, &cut(argument.text().unwrap_or_default())));
        }
        text
    }
}

fn band(score: &str) -> Severity {
    match score.trim().parse::<f64>() {
        Ok(9.0..=10.0) => Severity::Critical,
        Ok(7.0..9.0) => Severity::High,
        Ok(4.0..7.0) => Severity::Medium,
        Ok(0.0..4.0) => Severity::Low,
        Ok(_) | Err(_) => Severity::Unknown,
    }
}

impl Location {
    fn subject(&self) -> Option<String> {
        if let Some(uri) = self
            .physical_location
            .as_ref()
            .and_then(|at| at.artifact_location.uri.text())
        {
            let line = self.physical_location.as_ref().and_then(|at| at.region.start_line);
            return Some(line.map_or_else(|| cut(uri), |line| format!("{}:{line}", cut(uri))));
        }
        self.logical_locations.first()?.fully_qualified_name.text().map(cut)
    }
}
