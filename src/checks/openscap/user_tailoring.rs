//! Reads the user's XCCDF tailoring: which rules apply, values, severities, for exactly one profile.
//!
//! Strict: whatever is not understood is an error, because a change that is silently dropped makes another gate than the
//! one that was written. Must not decide what a rule that no image can answer becomes: [`super::tailoring`] does.

use super::{
    tailoring::user_error,
    xml::{self, Sink, attribute},
};
use crate::ReadError;
use quick_xml::events::BytesStart;
use std::{collections::HashSet, io::BufRead};

/// Most of a tailoring that is read, in bytes: what a ConfigMap can hold.
pub const MAX_TAILORING: u64 = 1024 * 1024;

/// More changes than a profile has rules.
const MAX_CHANGES: usize = 5_000;
const MAX_ID: usize = 256;
const MAX_VALUE: usize = 4096;

const XCCDF: &str = "http://checklists.nist.gov/xccdf/1.2";

/// One change to a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A rule or group of rules is taken in or out.
    Select {
        /// The rule or group.
        id: String,
        /// In or out.
        selected: bool,
    },
    /// A value of the benchmark is set.
    SetValue {
        /// The value's id.
        id: String,
        /// What it is set to.
        value: String,
    },
    /// One of the benchmark's own choices for a value is taken.
    RefineValue {
        /// The value's id.
        id: String,
        /// The choice.
        selector: String,
    },
    /// A rule is graded otherwise, or another of its checks is taken.
    RefineRule {
        /// The rule.
        id: String,
        /// `high`, `medium`, `low`, `info` or `unknown`.
        severity: Option<String>,
        /// The check.
        selector: Option<String>,
    },
}

/// A user's tailoring.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserTailoring {
    /// The profile that it starts from, by its full id.
    pub extends: String,
    /// Its changes, in the order of the document.
    pub changes: Vec<Change>,
}

/// Reads a tailoring; the caller bounds its bytes.
pub fn parse(file: impl BufRead) -> Result<UserTailoring, ReadError> {
    let mut reading = Reading::default();
    xml::read(file, "tailoring", &mut reading).map_err(|error| match error {
        ReadError::Malformed { why, .. } => user_error(why),
        other => other,
    })?;
    let extends = reading
        .extends
        .ok_or_else(|| user_error("expected one Profile, found none"))?;
    Ok(UserTailoring {
        extends,
        changes: reading.changes,
    })
}

#[derive(Default)]
struct Reading {
    path: Vec<String>,
    extends: Option<String>,
    changes: Vec<Change>,
    /// Kind and id of what was changed already: of two changes one would be lost.
    seen: HashSet<(String, String)>,
    /// The value that is being set.
    value: Option<(String, String)>,
}

impl Sink for Reading {
    fn start(&mut self, name: &str, start: &BytesStart<'_>) -> Result<(), ReadError> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match (path.as_slice(), name) {
            ([], "Tailoring") => namespace(start)?,
            ([], other) => return Err(user_error(format!("expected an element Tailoring, found {other:?}"))),
            (["Tailoring"], "Profile") => self.profile(start)?,
            (["Tailoring", "Profile"], "select" | "set-value" | "refine-value" | "refine-rule") => {
                self.change(name, start)?;
            }
            (path, name) if is_prose(path, name) => {}
            (path, other) => {
                return Err(user_error(format!(
                    "{other:?} in {:?} is not read: only select, set-value, refine-value and refine-rule of one Profile are",
                    path.join("/")
                )));
            }
        }
        self.path.push(name.to_owned());
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), ReadError> {
        if let Some((_, value)) = &mut self.value {
            value.push_str(text);
            if value.len() > MAX_VALUE {
                return Err(user_error(format!("a value has more than {MAX_VALUE} bytes")));
            }
        }
        Ok(())
    }

    fn end(&mut self, _: &str) -> Result<(), ReadError> {
        self.path.pop();
        if let Some((id, value)) = self.value.take() {
            let value = value.trim().to_owned();
            self.changes.push(Change::SetValue { id, value });
        }
        Ok(())
    }
}

impl Reading {
    fn profile(&mut self, start: &BytesStart<'_>) -> Result<(), ReadError> {
        if self.extends.is_some() {
            return Err(user_error("expected one Profile, found several"));
        }
        let extends = attribute(start, "extends");
        self.extends = Some(extends.filter(|id| is_id(id)).ok_or_else(|| {
            user_error("its Profile extends none: write extends=\"<the full id of the policy's profile>\"")
        })?);
        Ok(())
    }

    fn change(&mut self, name: &str, start: &BytesStart<'_>) -> Result<(), ReadError> {
        let id = attribute(start, "idref")
            .filter(|id| is_id(id))
            .ok_or_else(|| user_error(format!("a {name} has no plain idref")))?;
        if !self.seen.insert((name.to_owned(), id.clone())) {
            return Err(user_error(format!("there are two {name} of {id}: keep one")));
        }
        if self.seen.len() > MAX_CHANGES {
            return Err(user_error(format!("it has more than {MAX_CHANGES} changes")));
        }
        let allowed: &[&str] = match name {
            "select" => &["idref", "selected"],
            "set-value" => &["idref"],
            "refine-value" => &["idref", "selector"],
            _ => &["idref", "severity", "selector"],
        };
        for found in start.attributes().flatten() {
            let found = found.key.as_ref();
            if !allowed.contains(&found) {
                return Err(user_error(format!(
                    "{found:?} of {name} {id} is not read: only {} are; a role or weight changes what is counted, not what is true",
                    allowed.join(", ")
                )));
            }
        }
        match name {
            "select" => {
                let selected = selected(attribute(start, "selected").as_deref(), &id)?;
                self.changes.push(Change::Select { id, selected });
            }
            "set-value" => self.value = Some((id, String::new())),
            "refine-value" => {
                let selector = attribute(start, "selector").filter(|text| text.len() <= MAX_ID);
                let selector = selector.ok_or_else(|| user_error(format!("refine-value {id} names no selector")))?;
                self.changes.push(Change::RefineValue { id, selector });
            }
            _ => self.changes.push(refined(id, start)?),
        }
        Ok(())
    }
}

/// What people write about a tailoring: it changes nothing, whatever it is.
fn is_prose(path: &[&str], name: &str) -> bool {
    let (["Tailoring", "Profile", rest @ ..] | ["Tailoring", rest @ ..]) = path else {
        return false;
    };
    let first = rest.first().copied().unwrap_or(name);
    let is_remark = matches!(rest.get(1).copied().or(rest.first().map(|_| name)), Some("remark"));
    let words = [
        "benchmark",
        "title",
        "description",
        "reference",
        "status",
        "dc-status",
        "version",
        "metadata",
    ];
    words.contains(&first) || (is_remark && matches!(first, "select" | "refine-value" | "refine-rule"))
}

fn selected(word: Option<&str>, id: &str) -> Result<bool, ReadError> {
    match word {
        Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        other => Err(user_error(format!(
            "select {id}: expected selected=\"true\" or \"false\", found {other:?}"
        ))),
    }
}

fn refined(id: String, start: &BytesStart<'_>) -> Result<Change, ReadError> {
    let severity = attribute(start, "severity");
    if let Some(odd) = severity.as_deref()
        && !matches!(odd, "high" | "medium" | "low" | "info" | "unknown")
    {
        return Err(user_error(format!(
            "refine-rule {id}: expected severity high, medium, low, info or unknown, found {odd:?}"
        )));
    }
    Ok(Change::RefineRule {
        id,
        severity,
        selector: attribute(start, "selector").filter(|text| text.len() <= MAX_ID),
    })
}

fn namespace(start: &BytesStart<'_>) -> Result<(), ReadError> {
    let declares = |attribute: quick_xml::events::attributes::Attribute<'_>| {
        attribute.key.as_ref().starts_with("xmlns") && *attribute.value == *XCCDF
    };
    if start.attributes().flatten().any(declares) {
        return Ok(());
    }
    Err(user_error(format!(
        "expected an XCCDF 1.2 tailoring with the namespace {XCCDF}"
    )))
}

fn is_id(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests;
