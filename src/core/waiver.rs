//! Exceptions: waivers that people grant for a time, and VEX statements. Decides which findings they take out of the count.
//!
//! Must not know where they come from, and must not touch anything but findings: an error has no finding, so nothing in
//! here can hide one. Time is a parameter, so that a waiver ends at its minute and not at the next change of an object.

use super::report::{Finding, Severity};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeSet, HashMap};

/// Longest life of a waiver, counted from its creation: a longer one is not an exception any more, but a policy.
pub const HORIZON: SignedDuration = SignedDuration::from_hours(366 * 24);

/// How long before its end a waiver is announced to be expiring.
pub const EXPIRING: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A text in which `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<String>);

impl Pattern {
    /// `*` is any run of characters, everything else is itself.
    pub fn glob(text: &str) -> Self {
        Self(text.split('*').map(str::to_owned).collect())
    }

    /// Exactly this text, stars included: for what a machine wrote.
    pub fn exact(text: &str) -> Self {
        Self(vec![text.to_owned()])
    }

    /// The one text that fits, if there are no others.
    fn only(&self) -> Option<&str> {
        match self.0.as_slice() {
            [only] => Some(only),
            [] | [_, ..] => None,
        }
    }

    /// Whether the whole text fits. Needs time proportional to text times pattern at most; there is no backtracking.
    pub fn matches(&self, text: &str) -> bool {
        let (first, last) = match self.0.as_slice() {
            [] => return false,
            [only] => return text == only,
            [first, .., last] => (first, last),
        };
        let inner = text
            .strip_prefix(first.as_str())
            .and_then(|t| t.strip_suffix(last.as_str()));
        let Some(mut rest) = inner else {
            return false;
        };
        // The leftmost hit leaves the most for those to come, so the first choice is always as good as any other.
        for part in self.0.iter().skip(1).take(self.0.len().saturating_sub(2)) {
            match rest.split_once(part.as_str()) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        true
    }
}

/// Who takes a finding out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A person, for a time.
    Waiver {
        /// Name of the Waiver.
        name: String,
        /// It has no effect before.
        not_before: Option<Timestamp>,
        /// It has no effect from then on.
        expires: Timestamp,
    },
    /// A statement that the image is not affected, or that it is repaired.
    Vex {
        /// The document's id.
        document: String,
    },
}

/// One exception: whatever all its parts match is taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// The finding's id, or one of its aliases.
    pub id: Pattern,
    /// Other ids of the same thing, literally.
    pub aliases: Vec<String>,
    /// The package: its whole package URL, the URL without the version, or the bare name. None matches any finding.
    pub package: Option<Pattern>,
    /// The finding's subject (a path, an account). None matches any finding.
    pub subject: Option<Pattern>,
    /// The checks: full names (`policy.check`) or those of the policy (`check`). Empty is any check.
    pub checks: Vec<String>,
    /// Nothing worse is taken out. A finding of unknown severity may be critical and counts as such.
    pub maximum_severity: Option<Severity>,
    /// Who.
    pub kind: Kind,
}

impl Suppression {
    /// Whether it is about this finding of this check, whatever the time is.
    pub fn covers(&self, check: &str, finding: &Finding) -> bool {
        let ids = || std::iter::once(&finding.id).chain(&finding.aliases);
        self.is_about_check(check)
            && ids().any(|id| self.id.matches(id) || self.aliases.contains(id))
            && self
                .maximum_severity
                .is_none_or(|maximum| weight(finding.severity) <= maximum)
            && fits(self.package.as_ref(), finding.package.as_deref(), |pattern, purl| {
                pattern.matches(purl) || pattern.matches(without_version(purl)) || pattern.matches(&package_name(purl))
            })
            && fits(self.subject.as_ref(), finding.subject.as_deref(), Pattern::matches)
    }

    fn is_about_check(&self, check: &str) -> bool {
        // A check's own name has no dot; a policy's may have.
        let own = check.rsplit('.').next().unwrap_or(check);
        self.checks.is_empty() || self.checks.iter().any(|name| name == check || name == own)
    }
}

/// No pattern fits anything; a pattern fits only what is there.
fn fits(pattern: Option<&Pattern>, text: Option<&str>, matches: impl Fn(&Pattern, &str) -> bool) -> bool {
    match (pattern, text) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(pattern), Some(text)) => matches(pattern, text),
    }
}

fn weight(severity: Severity) -> Severity {
    match severity {
        Severity::Unknown => Severity::Critical,
        Severity::Low | Severity::Medium | Severity::High | Severity::Critical => severity,
    }
}

/// A package URL without its version (purl-spec: the version follows the last `@`, which names escape).
pub fn without_version(purl: &str) -> &str {
    purl.rsplit_once('@').map_or(purl, |(package, _)| package)
}

/// The bare name in a package URL, unescaped: `libstdc++6` of `pkg:deb/debian/libstdc%2B%2B6@12`.
pub fn package_name(purl: &str) -> String {
    let package = without_version(purl);
    let name = package.rsplit('/').next().unwrap_or(package);
    let (mut plain, mut rest) = (Vec::with_capacity(name.len()), name.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .filter(|_| *byte == b'%')
            .and_then(|code| hex::decode(code).ok());
        if let Some([decoded]) = code.as_deref() {
            plain.push(*decoded);
            rest = after.get(2..).unwrap_or_default();
        } else {
            plain.push(*byte);
            rest = after;
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// How a finding stands under all exceptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing<'a> {
    /// It counts.
    Counts {
        /// A waiver that covers it and is over.
        expired: Option<&'a str>,
    },
    /// A waiver takes it out.
    Waived {
        /// Its name.
        waiver: &'a str,
    },
    /// A VEX statement takes it out.
    Suppressed {
        /// The document's id.
        document: &'a str,
    },
}

/// All exceptions that concern one image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exceptions {
    all: Vec<Suppression>,
    /// Those about exactly one id, by it: a report and a VEX document may have ten thousand each.
    exact: HashMap<String, Vec<usize>>,
    /// The others.
    patterns: Vec<usize>,
}

impl FromIterator<Suppression> for Exceptions {
    fn from_iter<T: IntoIterator<Item = Suppression>>(all: T) -> Self {
        let mut exceptions = Self::default();
        for suppression in all {
            let at = exceptions.all.len();
            match suppression.id.only() {
                Some(id) => {
                    for id in std::iter::once(id).chain(suppression.aliases.iter().map(String::as_str)) {
                        exceptions.exact.entry(id.to_owned()).or_default().push(at);
                    }
                }
                None => exceptions.patterns.push(at),
            }
            exceptions.all.push(suppression);
        }
        exceptions
    }
}

impl Exceptions {
    /// Those that may cover a finding, in their order.
    fn of(&self, finding: &Finding) -> impl Iterator<Item = &Suppression> {
        let ids = std::iter::once(&finding.id).chain(&finding.aliases);
        let exact = ids.filter_map(|id| self.exact.get(id)).flatten();
        let places: BTreeSet<usize> = exact.chain(&self.patterns).copied().collect();
        places.into_iter().filter_map(|at| self.all.get(at))
    }

    /// How a finding stands. A VEX statement speaks first, because it says that there is nothing to waive.
    pub fn standing(&self, check: &str, finding: &Finding, now: Timestamp) -> Standing<'_> {
        let (mut waiver, mut expired) = (None, None);
        for suppression in self
            .of(finding)
            .filter(|suppression| suppression.covers(check, finding))
        {
            match &suppression.kind {
                Kind::Vex { document } => return Standing::Suppressed { document },
                Kind::Waiver { name, expires, .. } if *expires <= now => expired = expired.or(Some(name.as_str())),
                Kind::Waiver {
                    not_before: Some(start),
                    ..
                } if *start > now => {}
                Kind::Waiver { name, .. } => waiver = waiver.or(Some(name.as_str())),
            }
        }
        waiver.map_or(Standing::Counts { expired }, |waiver| Standing::Waived { waiver })
    }
}

#[cfg(test)]
mod tests;
