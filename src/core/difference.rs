//! What a candidate changes against the release before it: findings that are gone, new and still there. Pure.
//!
//! It informs people and decides nothing. Must not be mistaken for a verdict: all findings are compared, tolerated and
//! waived ones too.

use super::{
    report::{Finding, Report, bounded},
    waiver::package_name,
};
use std::{collections::BTreeMap, fmt};

/// How many findings of each direction are named.
pub const NAMED: usize = 10;

/// Longest name of a finding, in characters.
const NAME: usize = 72;

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Findings that are gone.
    pub fixed: u64,
    /// Findings that are new.
    pub introduced: u64,
    /// Findings that both have.
    pub unchanged: u64,
    /// How many more findings are waived than before; negative: fewer.
    pub waivers: i64,
    /// The first [`NAMED`] that are gone.
    pub fixed_findings: Vec<String>,
    /// The first [`NAMED`] that are new, worst first.
    pub introduced_findings: Vec<String>,
}

/// What makes two findings the same over an update: the rule and the package without its version, or what it is about.
fn key(finding: &Finding) -> (&str, String) {
    let about = finding.package.as_deref().map(package_name);
    (
        finding.id.as_str(),
        about.or_else(|| finding.subject.clone()).unwrap_or_default(),
    )
}

impl Difference {
    /// From the report of one check about the release before, to that about the candidate.
    pub fn between(before: &Report, after: &Report) -> Self {
        let index = |report: &Report| -> BTreeMap<(String, String), usize> {
            let keys = report.findings.iter().map(key).enumerate();
            // The first one stays: reports are sorted worst first.
            let mut first = BTreeMap::new();
            for (position, (id, about)) in keys {
                first.entry((id.to_owned(), about)).or_insert(position);
            }
            first
        };
        let (old, new) = (index(before), index(after));
        let only = |these: &BTreeMap<(String, String), usize>, those: &BTreeMap<(String, String), usize>| {
            let mut gone: Vec<_> = these.iter().filter(|(key, _)| !those.contains_key(*key)).collect();
            gone.sort_by_key(|(_, position)| **position);
            let names = gone
                .iter()
                .take(NAMED)
                .map(|((id, about), _)| name(&after.check, id, about));
            (gone.len() as u64, names.collect())
        };
        let ((fixed, fixed_findings), (introduced, introduced_findings)) = (only(&old, &new), only(&new, &old));
        Self {
            fixed,
            introduced,
            unchanged: new.len() as u64 - introduced,
            waivers: 0,
            fixed_findings,
            introduced_findings,
        }
    }

    /// Adds what another check found.
    pub fn add(&mut self, other: Self) {
        self.fixed = self.fixed.saturating_add(other.fixed);
        self.introduced = self.introduced.saturating_add(other.introduced);
        self.unchanged = self.unchanged.saturating_add(other.unchanged);
        self.waivers = self.waivers.saturating_add(other.waivers);
        for (mine, theirs) in [
            (&mut self.fixed_findings, other.fixed_findings),
            (&mut self.introduced_findings, other.introduced_findings),
        ] {
            mine.extend(theirs);
            mine.truncate(NAMED);
        }
    }
}

/// `cves: CVE-2026-1 (openssl)`, at most [`NAME`] characters.
fn name(check: &str, id: &str, about: &str) -> String {
    let text = if about.is_empty() {
        format!("{check}: {id}")
    } else {
        format!("{check}: {id} ({about})")
    };
    let text = bounded(&text);
    if text.chars().count() <= NAME {
        text
    } else {
        let mut cut: String = text.chars().take(NAME - 1).collect();
        cut.push('…');
        cut
    }
}

/// `14 fixed, 0 introduced, +1 waiver`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} fixed, {} introduced", self.fixed, self.introduced)?;
        match self.waivers {
            0 => Ok(()),
            1 | -1 => write!(f, ", {:+} waiver", self.waivers),
            more => write!(f, ", {more:+} waivers"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        digest::Digest,
        report::{Severity, Tool, ToolName},
    };
    use proptest::prelude::*;

    fn report(findings: &[(&str, Option<&str>, Option<&str>)]) -> Report {
        let tool = Tool::new(ToolName::Grype, "1");
        let mut report = Report::error("cves", &Digest::of(b""), tool, "");
        report.findings = findings
            .iter()
            .map(|(id, package, subject)| Finding {
                id: (*id).to_owned(),
                severity: Severity::High,
                package: package.map(str::to_owned),
                subject: subject.map(str::to_owned),
                ..Finding::default()
            })
            .collect();
        report
    }

    #[test]
    fn an_update_of_a_package_does_not_make_its_old_findings_new() {
        let before = report(&[
            ("CVE-1", Some("pkg:deb/debian/a@1"), None),
            ("CVE-2", Some("pkg:deb/debian/a@1"), None),
            ("suid", None, Some("/bin/x")),
        ]);
        let after = report(&[
            ("CVE-1", Some("pkg:deb/debian/a@2"), None),
            ("CVE-1", Some("pkg:deb/debian/b@1"), None),
            ("suid", None, Some("/bin/y")),
        ]);
        let mut difference = Difference::between(&before, &after);
        assert_eq!(
            (difference.fixed, difference.introduced, difference.unchanged),
            (2, 2, 1)
        );
        assert_eq!(
            difference.introduced_findings,
            ["cves: CVE-1 (b)", "cves: suid (/bin/y)"]
        );
        assert_eq!(difference.fixed_findings, ["cves: CVE-2 (a)", "cves: suid (/bin/x)"]);
        assert_eq!(difference.to_string(), "2 fixed, 2 introduced");
        difference.waivers = 1;
        assert_eq!(difference.to_string(), "2 fixed, 2 introduced, +1 waiver");
        difference.waivers = -2;
        assert_eq!(difference.to_string(), "2 fixed, 2 introduced, -2 waivers");
    }

    #[test]
    fn what_is_named_is_bounded() {
        let id = "x".repeat(2000);
        let many: Vec<String> = (0..500).map(|n| format!("{n}{id}")).collect();
        let many: Vec<_> = many.iter().map(|id| (id.as_str(), None, None)).collect();
        let mut difference = Difference::between(&report(&[]), &report(&many));
        difference.add(difference.clone());
        assert_eq!(
            (difference.introduced, difference.introduced_findings.len()),
            (1000, NAMED)
        );
        assert!(
            difference
                .introduced_findings
                .iter()
                .all(|name| name.chars().count() <= NAME)
        );
    }

    proptest! {
        #[test]
        fn both_directions_add_up(before in proptest::collection::btree_set("[a-d]", 0..4), after in proptest::collection::btree_set("[a-d]", 0..4)) {
            let of = |ids: &std::collections::BTreeSet<String>| report(&ids.iter().map(|id| (id.as_str(), None, None)).collect::<Vec<_>>());
            let there = Difference::between(&of(&before), &of(&after));
            let back = Difference::between(&of(&after), &of(&before));
            prop_assert_eq!((there.fixed, there.introduced, there.unchanged), (back.introduced, back.fixed, back.unchanged));
            prop_assert_eq!(there.unchanged + there.introduced, after.len() as u64);
        }
    }
}
