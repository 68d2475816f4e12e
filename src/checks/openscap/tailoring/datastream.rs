//! Reads a data stream: its rules, profiles and values, and which OVAL items they lead to. Only ids and references are kept, a
//! bounded number of them. Must not decide what an image can answer.

use super::{Analysis, Profile, Rule};
use crate::{
    ReadError,
    openscap::xml::{self, Sink, attribute},
};
use quick_xml::events::BytesStart;
use std::io::BufRead;

const OVAL: &str = "http://oval.mitre.org/XMLSchema/oval-definitions-5";
/// Longest version of a benchmark, in bytes, give or take one piece of text.
const MAX_VERSION: usize = 100;
/// More of anything than a data stream has: a bound on memory.
const MAX_NODES: usize = 200_000;

fn malformed(why: &str) -> ReadError {
    xml::malformed("data stream", why)
}

/// One open element.
#[derive(Default)]
struct Open {
    name: String,
    /// The OVAL item that it is, or is part of.
    oval: Option<String>,
    /// How many platforms were in force before it.
    platforms: usize,
}

#[derive(Default)]
struct Walk {
    analysis: Analysis,
    open: Vec<Open>,
    platforms: Vec<String>,
    rule: Option<Rule>,
    profile: Option<(String, Profile)>,
    oval_check: bool,
    /// Whether the text of the innermost element is the benchmark's version.
    version: bool,
    nodes: usize,
}

/// Reads a data stream once; only ids and references stay in memory.
pub fn analyse(datastream: impl BufRead) -> Result<Analysis, ReadError> {
    let mut walk = Walk::default();
    xml::read(datastream, "data stream", &mut walk)?;
    if walk.analysis.rules.is_empty() {
        return Err(malformed("expected XCCDF rules, found none"));
    }
    Ok(walk.analysis)
}

impl Walk {
    fn grow(&mut self) -> Result<(), ReadError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(malformed("it has too many rules, OVAL items and references"));
        }
        Ok(())
    }

    /// What an element means for the rule that it stands in.
    fn rule_part(&mut self, name: &str, id: Option<String>, start: &BytesStart<'_>) -> Result<(), ReadError> {
        match (name, id) {
            ("Profile", Some(id)) => {
                self.grow()?;
                let profile = Profile {
                    extends: attribute(start, "extends"),
                    ..Profile::default()
                };
                self.profile = Some((id, profile));
            }
            ("select", _) => {
                self.grow()?;
                if let (Some((_, profile)), Some(rule)) = (&mut self.profile, attribute(start, "idref")) {
                    let selected = matches!(attribute(start, "selected").as_deref(), Some("true" | "1"));
                    profile.selects.push((rule, selected));
                }
            }
            ("Benchmark", Some(id)) if self.analysis.benchmark.id.is_empty() => self.analysis.benchmark.id = id,
            ("version", _) => self.version = self.analysis.benchmark.version.is_empty() && self.parent() == "Benchmark",
            ("Group", Some(id)) => {
                self.grow()?;
                self.analysis.groups.insert(id);
            }
            ("Value", Some(id)) => {
                self.grow()?;
                self.analysis.values.insert(id);
            }
            ("Rule", Some(id)) => {
                self.grow()?;
                self.rule = Some(Rule { id, ..Rule::default() });
            }
            // A platform binds the rule or group that it stands in; the benchmark's own is about the whole.
            ("platform", _) if matches!(self.parent(), "Rule" | "Group") => {
                self.grow()?;
                self.platforms.extend(attribute(start, "idref"));
            }
            ("check", _) => self.oval_check = attribute(start, "system").as_deref() == Some(OVAL),
            ("check-content-ref", _) if self.oval_check => {
                if let Some(rule) = &mut self.rule {
                    rule.definitions.extend(attribute(start, "name"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn parent(&self) -> &str {
        self.open.last().map_or("", |parent| parent.name.as_str())
    }

    fn refer(&mut self, from: &str, to: &str) -> Result<(), ReadError> {
        if to.starts_with("oval:") && to != from {
            self.grow()?;
            self.analysis
                .edges
                .entry(from.to_owned())
                .or_default()
                .push(to.to_owned());
        }
        Ok(())
    }
}

impl Sink for Walk {
    fn start(&mut self, name: &str, start: &BytesStart<'_>) -> Result<(), ReadError> {
        let platforms = self.platforms.len();
        let id = attribute(start, "id");
        let own = id.clone().filter(|id| id.starts_with("oval:"));
        self.rule_part(name, id, start)?;
        if let Some(own) = own.as_ref().filter(|_| name.ends_with("_object")) {
            self.grow()?;
            self.analysis.probes.insert(own.clone(), name.to_owned());
        }
        let oval = own.or_else(|| self.open.last().and_then(|parent| parent.oval.clone()));
        if let Some(from) = &oval {
            for attribute in start.attributes().flatten() {
                self.refer(from, &attribute.value)?;
            }
        }
        self.open.push(Open {
            name: name.to_owned(),
            oval,
            platforms,
        });
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), ReadError> {
        let version = &mut self.analysis.benchmark.version;
        if self.version && version.len() < MAX_VERSION {
            version.push_str(text.trim());
        }
        match self.open.last().and_then(|open| open.oval.clone()) {
            Some(from) => self.refer(&from, text.trim()),
            None => Ok(()),
        }
    }

    fn end(&mut self, name: &str) -> Result<(), ReadError> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        match name {
            "Rule" => {
                if let Some(mut rule) = self.rule.take() {
                    rule.platforms.clone_from(&self.platforms);
                    self.analysis.rules.push(rule);
                }
                self.platforms.truncate(open.platforms);
            }
            "Profile" => self.analysis.profiles.extend(self.profile.take()),
            "Group" => self.platforms.truncate(open.platforms),
            "check" => self.oval_check = false,
            "version" => self.version = false,
            _ => {}
        }
        Ok(())
    }
}
