//! JUnit XML as a stream: `testsuites`, `testsuite`, `testcase` with `failure`, `error` or `skipped`.
//!
//! There is no standard; an element that we do not know could be a failure in other words, so it is refused. Must not
//! accept a DTD (entities that multiply), build a tree, or believe counts in attributes more than the list itself.

use super::{MAX_TESTS, cut, malformed, untrusted};
use crate::{Parsed, ReadError};
use quick_xml::{
    Reader, XmlVersion,
    events::{BytesRef, BytesStart, Event},
};
use repave_core::report::{Finding, Severity};

const WHAT: &str = "JUnit XML";
const MAX_DEPTH: usize = 32;
/// Text of a failure that is collected, in bytes: its first line is shown.
const MAX_FAILURE: usize = 4_000;

/// Where we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Suites,
    Suite,
    Case,
    Failure,
    Error,
    Skipped,
    /// Properties and output: skipped with everything in them.
    Ignored,
}

/// What was counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    tests: u64,
    failures: u64,
    errors: u64,
    skipped: u64,
}

/// A suite that is open: what its attributes announce, and what had been counted before it.
#[derive(Debug)]
struct Open {
    name: String,
    announced: Counts,
    before: Counts,
}

#[derive(Debug, Default)]
struct Case {
    id: String,
    failure: Option<String>,
    error: Option<String>,
    skipped: bool,
    /// `status` or `result`, where somebody writes them.
    status: String,
}

#[derive(Debug, Default)]
struct Reading {
    path: Vec<Element>,
    suites: Vec<Open>,
    case: Option<Case>,
    text: String,
    counts: Counts,
    roots: u32,
    parsed: Parsed,
}

/// Reads one whole document.
pub(super) fn read(xml: &[u8]) -> Result<Parsed, ReadError> {
    let mut reader = Reader::from_reader(xml);
    let (mut buffer, mut reading) = (Vec::new(), Reading::default());
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer).map_err(|e| malformed(WHAT, e))? {
            Event::Start(start) => reading.start(&start)?,
            Event::Empty(start) => {
                reading.start(&start)?;
                reading.end()?;
            }
            Event::End(_) => reading.end()?,
            Event::Text(text) => reading.text(&text.xml10_content())?,
            Event::CData(text) => reading.text(&text.xml10_content())?,
            Event::GeneralRef(reference) => reading.text(&resolve(&reference)?)?,
            Event::DocType(_) => return Err(malformed(WHAT, "it has a DTD, which is never read")),
            Event::Eof if !reading.path.is_empty() => return Err(malformed(WHAT, "it ends in the middle")),
            Event::Eof if reading.roots == 0 => return Err(malformed(WHAT, "it is empty")),
            Event::Eof => return Ok(reading.finished()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

fn resolve(reference: &BytesRef<'_>) -> Result<String, ReadError> {
    if let Some(character) = reference.resolve_char_ref().map_err(|error| malformed(WHAT, error))? {
        return Ok(character.into());
    }
    let name = reference.xml10_content();
    quick_xml::escape::resolve_predefined_entity(&name)
        .map(str::to_owned)
        .ok_or_else(|| malformed(WHAT, format!("unknown entity {:?}", cut(&name))))
}

/// The attributes that we read; every one must be well formed, a broken one must not just be absent.
#[derive(Debug, Default)]
struct Attributes {
    name: String,
    class: String,
    message: String,
    status: String,
    announced: Counts,
}

fn attributes(start: &BytesStart<'_>) -> Result<Attributes, ReadError> {
    let mut read = Attributes::default();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| malformed(WHAT, error))?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| malformed(WHAT, error))?;
        let number = || {
            value
                .trim()
                .parse::<u64>()
                .map_err(|e| malformed(WHAT, format!("a count of tests: {e}")))
        };
        let key: &str = attribute.key.local_name().into_inner();
        match key {
            "name" => read.name = cut(&value),
            "classname" => read.class = cut(&value),
            "message" => read.message = cut(&value),
            "status" | "result" => {
                read.status.push(' ');
                read.status.push_str(&cut(&value).to_ascii_lowercase());
            }
            "tests" => read.announced.tests = number()?,
            "failures" => read.announced.failures = number()?,
            "errors" => read.announced.errors = number()?,
            _ => {}
        }
    }
    Ok(read)
}

impl Reading {
    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), ReadError> {
        let name = start.local_name();
        let element = self.element(name.as_ref())?;
        if self.path.len() >= MAX_DEPTH {
            return Err(malformed(WHAT, "its elements are nested too deeply"));
        }
        // Also of what is ignored: the document must be well formed.
        let read = attributes(start)?;
        self.path.push(element);
        match element {
            Element::Suites | Element::Suite => self.suites.push(Open {
                name: read.name,
                announced: read.announced,
                before: self.counts,
            }),
            Element::Case => self.case = Some(self.opened(read)),
            Element::Failure | Element::Error | Element::Skipped => {
                self.text.clear();
                self.text.push_str(&read.message);
            }
            Element::Ignored => {}
        }
        Ok(())
    }

    /// What an element is where it stands.
    fn element(&mut self, name: &str) -> Result<Element, ReadError> {
        let parent = self.path.last().copied();
        match (parent, name) {
            (None, "testsuites" | "testsuite") if self.roots == 0 => {
                self.roots = 1;
                Ok(if name == "testsuite" {
                    Element::Suite
                } else {
                    Element::Suites
                })
            }
            (Some(Element::Suites | Element::Suite), "testsuite") => Ok(Element::Suite),
            (Some(Element::Suite), "testcase") => Ok(Element::Case),
            (Some(Element::Case), "failure") => Ok(Element::Failure),
            (Some(Element::Case), "error") => Ok(Element::Error),
            (Some(Element::Case), "skipped") => Ok(Element::Skipped),
            (Some(Element::Suites | Element::Suite | Element::Case), "properties" | "system-out" | "system-err")
            | (Some(Element::Ignored), _) => Ok(Element::Ignored),
            _ => Err(malformed(
                WHAT,
                format!(
                    "expected testsuites > testsuite > testcase > failure, error or skipped, found the element {:?}",
                    cut(name)
                ),
            )),
        }
    }

    fn opened(&self, read: Attributes) -> Case {
        let suite = self.suites.last().map_or("", |suite| suite.name.as_str());
        let class = if read.class.is_empty() { suite } else { &read.class };
        let id = match (class, read.name.as_str()) {
            ("", "") => "a test without a name".to_owned(),
            ("", name) => name.to_owned(),
            (class, name) => format!("{class}.{name}"),
        };
        Case {
            id,
            status: read.status,
            ..Case::default()
        }
    }

    fn text(&mut self, text: &str) -> Result<(), ReadError> {
        match self.path.last() {
            Some(Element::Failure | Element::Error | Element::Skipped) => {
                if self.text.len() + text.len() <= MAX_FAILURE {
                    self.text.push_str(text);
                } else if self.text.is_empty() {
                    self.text = cut(text);
                }
                Ok(())
            }
            // Some write text beside the elements of a test; outside of tests it is no JUnit.
            Some(Element::Ignored | Element::Case) => Ok(()),
            Some(Element::Suites | Element::Suite) | None if text.trim().is_empty() => Ok(()),
            Some(Element::Suites | Element::Suite) | None => Err(malformed(
                WHAT,
                format!("expected an element, found the text {:?}", cut(text)),
            )),
        }
    }

    fn end(&mut self) -> Result<(), ReadError> {
        let Some(element) = self.path.pop() else {
            return Err(malformed(WHAT, "an element closes that was not open"));
        };
        let said = || {
            self.text
                .lines()
                .map(str::trim)
                .find(|line| !line.is_empty())
                .map(cut)
                .unwrap_or_default()
        };
        match (element, &mut self.case) {
            (Element::Failure, Some(case)) => {
                case.failure.get_or_insert_with(said);
            }
            (Element::Error, Some(case)) => {
                case.error.get_or_insert_with(said);
            }
            (Element::Skipped, Some(case)) => case.skipped = true,
            (Element::Case, case) => {
                let case = case.take().unwrap_or_default();
                self.closed(case)?;
            }
            (Element::Suites | Element::Suite, _) => self.agree()?,
            (Element::Ignored | Element::Failure | Element::Error | Element::Skipped, _) => {}
        }
        Ok(())
    }

    /// An error is a test that could not run: that is a problem of the run and no finding about the image.
    fn closed(&mut self, case: Case) -> Result<(), ReadError> {
        self.counts.tests += 1;
        if self.counts.tests > MAX_TESTS {
            return Err(malformed(WHAT, format!("it has more than {MAX_TESTS} tests")));
        }
        let status = |words: &[&str]| case.status.split_whitespace().any(|word| words.contains(&word));
        if let Some(why) = case.error {
            self.counts.errors += 1;
            self.problem(format!("the test {} could not run: {why}", case.id));
        } else if let Some(why) = case.failure {
            self.counts.failures += 1;
            self.parsed.evaluated += 1;
            self.parsed.findings.push(Finding {
                title: format!("{} failed: {why}", case.id),
                subject: None,
                severity: Severity::Medium,
                id: case.id,
                ..Finding::default()
            });
        } else if case.skipped || status(&["notrun", "skipped", "disabled", "suppressed"]) {
            self.counts.skipped += 1;
            self.parsed.not_applicable += 1;
        } else if status(&["fail", "failed", "failure", "error", "errored", "broken"]) {
            self.problem(format!(
                "the test {} says {:?} without saying why",
                case.id,
                case.status.trim()
            ));
        } else {
            self.parsed.evaluated += 1;
            self.parsed.passed += 1;
        }
        Ok(())
    }

    /// Only the first problems are shown; their number is what counts.
    fn problem(&mut self, problem: String) {
        self.parsed.problems.push(if self.parsed.problems.len() < 100 {
            problem
        } else {
            String::new()
        });
    }

    /// A suite that announces more than it lists was cut or doctored. Fewer are usual: some count only their own.
    fn agree(&mut self) -> Result<(), ReadError> {
        let Some(Open {
            name,
            announced,
            before,
        }) = self.suites.pop()
        else {
            return Ok(());
        };
        let listed = |count: fn(&Counts) -> u64| count(&self.counts) - count(&before);
        for (what, said, found) in [
            ("tests", announced.tests, listed(|c| c.tests)),
            ("failures", announced.failures, listed(|c| c.failures)),
            ("errors", announced.errors, listed(|c| c.errors)),
        ] {
            if said > found {
                return Err(untrusted(format!(
                    "the suite {name:?} announces {said} {what}, its list has {found}"
                )));
            }
        }
        Ok(())
    }

    fn finished(self) -> Parsed {
        Parsed {
            content: Some("JUnit XML".to_owned()),
            ..self.parsed
        }
    }
}
