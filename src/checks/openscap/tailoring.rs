//! The container tailoring: generated from the data stream itself, so that it can never be older than the rules.
//!
//! It deselects what no image can answer: rules for machines, kernels and boot loaders, rules whose probes read the
//! running system, and rules built on the partition probe, which find nothing in an image and therefore "pass" with
//! every defect planted. Must not be used for waivers: a waiver has an owner and an end, a tailoring has neither.

mod datastream;
pub use datastream::analyse;

use super::{
    PROFILE_PREFIX, RULE_PREFIX,
    user_tailoring::{Change, UserTailoring, user_error},
};
use crate::ReadError;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
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

/// Probes for which OpenSCAP does a real chroot(2).
const CHROOT_PROBES: &[&str] = &[
    "rpminfo_object",
    "rpmverify_object",
    "rpmverifyfile_object",
    "symlink_object",
    "runlevel_object",
    "xinetd_object",
];

/// The reason for what the user's tailoring deselects.
pub const BY_POLICY: &str = "by your tailoring";

/// What a data stream says about its rules.
#[derive(Debug, Default)]
pub struct Analysis {
    rules: Vec<Rule>,
    profiles: BTreeMap<String, Profile>,
    /// Ids of its groups of rules.
    groups: HashSet<String>,
    /// Ids of its values.
    values: HashSet<String>,
    benchmark: Benchmark,
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

/// Which benchmark a data stream has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Benchmark {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
}

/// Rules to leave out, by full id, with the reason.
pub type Excluded = BTreeMap<String, &'static str>;

/// How many rules that the profile has selected are left out, by the reason.
pub type LeftOut = BTreeMap<&'static str, u64>;

/// What is changed in a profile: ours and the user's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tailored {
    /// Rules that are left out.
    pub excluded: Excluded,
    /// What the user changes besides.
    pub changes: Vec<Change>,
    /// How many rules the user selects that no image can answer: they stay out.
    pub refused: u64,
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

    /// Its benchmark.
    pub fn benchmark(&self) -> &Benchmark {
        &self.benchmark
    }

    /// What the profile and its ancestors select.
    fn selected(&self, profile: &str) -> BTreeMap<&str, bool> {
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
        selected
    }

    /// How many of the excluded rules the profile or the user has selected: so many questions stay unanswered.
    pub fn left_out(&self, profile: &str, tailored: &Tailored) -> LeftOut {
        let selected = self.selected(profile);
        let mut left_out = LeftOut::new();
        for (rule, reason) in &tailored.excluded {
            if selected.get(rule.as_str()) == Some(&true) {
                *left_out.entry(reason).or_default() += 1;
            }
        }
        left_out
    }

    /// A rule that will be evaluated and for which OpenSCAP needs CAP_SYS_CHROOT, if there is one.
    pub fn needs_chroot(&self, profile: &str, tailored: &Tailored) -> Option<&str> {
        let mut selected = self.selected(profile);
        for change in &tailored.changes {
            if let Change::Select { id, selected: on } = change {
                selected.insert(id, *on);
            }
        }
        let evaluated =
            |rule: &&Rule| selected.get(rule.id.as_str()) == Some(&true) && !tailored.excluded.contains_key(&rule.id);
        let needs = |rule: &&Rule| {
            let probes = self.probes(&rule.definitions);
            CHROOT_PROBES.iter().any(|probe| probes.contains(probe))
        };
        let rule = self.rules.iter().filter(evaluated).find(needs)?;
        Some(rule.id.strip_prefix(RULE_PREFIX).unwrap_or(&rule.id))
    }

    /// The rules that an image cannot answer.
    pub fn excluded(&self) -> Excluded {
        let reason = |rule: &Rule| Some((rule.id.clone(), self.reason(rule)?));
        self.rules.iter().filter_map(reason).collect()
    }

    /// The generated tailoring with the user's merged into it. Ours wins: a rule that no image can answer stays out.
    pub fn tailor(&self, profile: &str, user: Option<UserTailoring>) -> Result<Tailored, ReadError> {
        let mut tailored = Tailored {
            excluded: self.excluded(),
            ..Tailored::default()
        };
        let Some(user) = user else {
            return Ok(tailored);
        };
        if user.extends != full_profile(profile) {
            return Err(user_error(format!(
                "expected that it extends the profile of the policy, {}, found {}: name the same profile in both",
                full_profile(profile),
                user.extends
            )));
        }
        let rules: HashSet<&str> = self.rules.iter().map(|rule| rule.id.as_str()).collect();
        for change in user.changes {
            self.known(&change, &rules)?;
            match change {
                Change::Select { id, selected } if tailored.excluded.contains_key(&id) => {
                    tailored.refused += u64::from(selected);
                }
                Change::Select { id, selected: false } if rules.contains(id.as_str()) => {
                    tailored.excluded.insert(id, BY_POLICY);
                }
                change => tailored.changes.push(change),
            }
        }
        Ok(tailored)
    }

    /// A misspelt id would change nothing, without a word.
    fn known(&self, change: &Change, rules: &HashSet<&str>) -> Result<(), ReadError> {
        let (id, known, what) = match change {
            Change::Select { id, .. } => (
                id,
                rules.contains(id.as_str()) || self.groups.contains(id),
                "rule or group",
            ),
            Change::RefineRule { id, .. } => (id, rules.contains(id.as_str()), "rule"),
            Change::SetValue { id, .. } | Change::RefineValue { id, .. } => (id, self.values.contains(id), "value"),
        };
        if known {
            return Ok(());
        }
        Err(user_error(format!(
            "the data stream {} has no {what} {id}: correct the id, or take it out",
            self.benchmark.version
        )))
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

/// The tailoring document: the profile with the user's changes and without the excluded rules.
pub fn document(profile: &str, tailored: &Tailored) -> String {
    let escape = |text: &str| quick_xml::escape::escape(text).into_owned();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Tailoring xmlns=\"http://checklists.nist.gov/xccdf/1.2\" id=\"xccdf_dev.repave_tailoring_container\">\n  \
         <version time=\"2026-01-01T00:00:00\">1</version>\n  \
         <Profile id=\"{PROFILE}\" extends=\"{}\">\n    <title>{} for container images</title>\n",
        escape(&full_profile(profile)),
        escape(profile)
    );
    for change in &tailored.changes {
        // Writing to a String cannot fail.
        let _ = writeln!(xml, "    {}", element(change));
    }
    for (rule, reason) in &tailored.excluded {
        let _ = writeln!(
            xml,
            "    <!-- {reason} -->\n    <select idref=\"{}\" selected=\"false\"/>",
            escape(rule)
        );
    }
    xml.push_str("  </Profile>\n</Tailoring>\n");
    xml
}

fn element(change: &Change) -> String {
    let escape = |text: &str| quick_xml::escape::escape(text).into_owned();
    let optional = |name: &str, value: &Option<String>| {
        let value = value.as_deref().map(escape);
        value.map_or_else(String::new, |value| format!(" {name}=\"{value}\""))
    };
    match change {
        Change::Select { id, selected } => format!("<select idref=\"{}\" selected=\"{selected}\"/>", escape(id)),
        Change::SetValue { id, value } => {
            format!("<set-value idref=\"{}\">{}</set-value>", escape(id), escape(value))
        }
        Change::RefineValue { id, selector } => format!(
            "<refine-value idref=\"{}\" selector=\"{}\"/>",
            escape(id),
            escape(selector)
        ),
        Change::RefineRule { id, severity, selector } => format!(
            "<refine-rule idref=\"{}\"{}{}/>",
            escape(id),
            optional("severity", severity),
            optional("selector", selector)
        ),
    }
}

#[cfg(test)]
mod tests;
