//! The container tailoring: generated from the data stream itself, so that it can never be older than the rules.
//!
//! It deselects what no image can answer: rules for machines, kernels and boot loaders, rules whose probes read the
//! running system, and rules built on the partition probe, which find nothing in an image and therefore "pass" with
//! every defect planted. Must not be used for waivers: a waiver has an owner and an end, a tailoring has neither.

use super::{
    PROFILE_PREFIX, RULE_PREFIX,
    xml::{self, Sink, attribute},
};
use crate::checks::ReadError;
use quick_xml::events::BytesStart;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
    io::BufRead,
};

/// The id of the generated profile: results of any other profile are refused.
pub const PROFILE: &str = "xccdf_dev.repave_profile_container";

/// Probes that read the running system: offline they answer nothing, or something about the scanner.
const LIVE_PROBES: &[&str] = &[
    "uname_object",
    "sysctl_object",
    "systemdunitproperty_object",
    "systemdunitdependency_object",
    "process58_object",
    "interface_object",
    "inetlisteningservers_object",
    "iflisteners_object",
    "selinuxboolean_object",
    "runlevel_object",
    "selinuxsecuritycontext_object",
];

const OVAL: &str = "http://oval.mitre.org/XMLSchema/oval-definitions-5";

/// More of anything than a data stream has: a bound on memory.
const MAX_NODES: usize = 200_000;

/// What a data stream says about its rules.
#[derive(Debug, Default)]
pub struct Analysis {
    rules: Vec<Rule>,
    profiles: BTreeMap<String, Profile>,
    /// Which OVAL items an item refers to.
    edges: HashMap<String, Vec<String>>,
    /// The probe of an OVAL object.
    probes: HashMap<String, String>,
}

#[derive(Debug, Default)]
struct Profile {
    extends: Option<String>,
    /// Rule and whether it is selected, in the order of the document.
    selects: Vec<(String, bool)>,
}

#[derive(Debug, Default)]
struct Rule {
    id: String,
    platforms: Vec<String>,
    definitions: Vec<String>,
}

/// Rules to leave out, by full id, with the reason.
pub type Excluded = BTreeMap<String, &'static str>;

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
            ("Rule", Some(id)) => {
                self.grow()?;
                self.rule = Some(Rule { id, ..Rule::default() });
            }
            // A platform binds the rule or group that it stands in; the benchmark's own is about the whole.
            ("platform", _)
                if self
                    .open
                    .last()
                    .is_some_and(|parent| matches!(parent.name.as_str(), "Rule" | "Group")) =>
            {
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
            _ => {}
        }
        Ok(())
    }
}

impl Analysis {
    /// Whether the data stream has this profile.
    pub fn has_profile(&self, profile: &str) -> bool {
        self.profiles.contains_key(&full_profile(profile))
    }

    /// The short names of all its profiles.
    pub fn profiles(&self) -> Vec<&str> {
        self.profiles
            .keys()
            .filter_map(|id| id.strip_prefix(PROFILE_PREFIX))
            .collect()
    }

    /// How many of the excluded rules the profile has selected: so many questions stay unanswered.
    pub fn left_out(&self, profile: &str, excluded: &Excluded) -> u64 {
        let mut chain = Vec::new();
        let mut next = self.profiles.get(&full_profile(profile));
        while let Some(profile) = next.filter(|_| chain.len() < self.profiles.len()) {
            chain.push(profile);
            next = profile.extends.as_ref().and_then(|id| self.profiles.get(id));
        }
        let mut selected: BTreeMap<&str, bool> = BTreeMap::new();
        for profile in chain.into_iter().rev() {
            selected.extend(profile.selects.iter().map(|(rule, on)| (rule.as_str(), *on)));
        }
        excluded
            .keys()
            .filter(|rule| selected.get(rule.as_str()) == Some(&true))
            .count() as u64
    }

    /// The rules that an image cannot answer, and those that the policy leaves out.
    pub fn excluded(&self, by_policy: &[String]) -> Excluded {
        let mut excluded: Excluded = self
            .rules
            .iter()
            .filter_map(|rule| Some((rule.id.clone(), self.reason(rule)?)))
            .collect();
        for rule in by_policy {
            excluded.insert(format!("{RULE_PREFIX}{rule}"), "left out by the policy");
        }
        excluded
    }

    fn reason(&self, rule: &Rule) -> Option<&'static str> {
        let any = |wanted: fn(&str) -> bool| rule.platforms.iter().any(|platform| wanted(platform));
        let probes = self.probes(&rule.definitions);
        if any(|p| {
            (p.contains("machine") && !p.contains("not_machine")) || p.contains("not_container") || p.contains("bootc")
        }) {
            Some("only for machines")
        } else if any(|p| p.contains("system_with_kernel") || p.contains("grub2") || p.contains("uefi")) {
            Some("about the kernel or the boot loader")
        } else if LIVE_PROBES.iter().any(|live| probes.contains(live)) {
            Some("reads the running system")
        } else if probes.contains("partition_object") {
            Some("partition probe: passes whatever is there")
        } else {
            None
        }
    }

    /// Every probe that these definitions reach, through criteria, tests, objects, variables and filters.
    fn probes(&self, definitions: &[String]) -> HashSet<&str> {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut todo: Vec<&str> = definitions.iter().map(String::as_str).collect();
        let mut probes = HashSet::new();
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                probes.extend(self.probes.get(id).map(String::as_str));
                todo.extend(self.edges.get(id).into_iter().flatten().map(String::as_str));
            }
        }
        probes
    }
}

/// The full id of a profile.
pub fn full_profile(profile: &str) -> String {
    if profile.starts_with("xccdf_") {
        profile.to_owned()
    } else {
        format!("{PROFILE_PREFIX}{profile}")
    }
}

/// The tailoring document: the profile without the excluded rules.
pub fn document(profile: &str, excluded: &Excluded) -> String {
    let escape = |text: &str| quick_xml::escape::escape(text).into_owned();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Tailoring xmlns=\"http://checklists.nist.gov/xccdf/1.2\" id=\"xccdf_dev.repave_tailoring_container\">\n  \
         <version time=\"2026-01-01T00:00:00\">1</version>\n  \
         <Profile id=\"{PROFILE}\" extends=\"{}\">\n    <title>{} for container images</title>\n",
        escape(&full_profile(profile)),
        escape(profile)
    );
    for (rule, reason) in excluded {
        // Writing to a String cannot fail.
        let _ = writeln!(
            xml,
            "    <!-- {reason} -->\n    <select idref=\"{}\" selected=\"false\"/>",
            escape(rule)
        );
    }
    xml.push_str("  </Profile>\n</Tailoring>\n");
    xml
}

#[cfg(test)]
mod tests;
