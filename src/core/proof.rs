//! What must be so before an image may be promoted, signed or summarised. Pure.
//!
//! A [`Proof`] cannot be made but by [`Proof::new`], which refuses whatever is not proven: an API that takes one can only be
//! called for an image that passed.

use super::{digest::Digest, report::ToolName};

/// One check as it was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name, unique within the candidate.
    pub name: String,
    /// The tool that it ran.
    pub tool: ToolName,
    /// Whether it keeps the image out when it does not pass.
    pub enforced: bool,
    /// Whether its verdict is `Passed`.
    pub passed: bool,
    /// The artifact with its report in the staging repository.
    pub report: Option<Digest>,
}

/// What a proof is made of; nothing of it is believed before [`Proof::new`] has looked at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The built image.
    pub image: Option<Digest>,
    /// UID of the candidate.
    pub candidate: String,
    /// Its place in the order of candidates of its BaseImage.
    pub sequence: u64,
    /// Names of the enforced policies.
    pub policies: Vec<String>,
    /// SHA-256 over the enforced policies as JSON.
    pub policies_digest: Digest,
    /// Every check of every policy.
    pub checks: Vec<Check>,
    /// Enforced rules that do not hold.
    pub broken_rules: Vec<String>,
}

/// An image that passed every enforced check and rule of its policies, with a stored report for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    image: Digest,
    claim: Claim,
}

/// Why there is no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// Nothing was built.
    #[error("expected a built image, found none")]
    NotBuilt,
    /// The candidate has no UID.
    #[error("expected the UID of the candidate, found none")]
    NoCandidate,
    /// An enforced check did not pass, or was never judged.
    #[error("expected check {0} to have passed: it did not, or was not judged")]
    NotPassed(String),
    /// The report that a verdict rests on is not named.
    #[error("expected the stored report of check {0}, found none")]
    NoReport(String),
    /// A rule does not hold.
    #[error("expected rule {0} to hold: it does not, or cannot be evaluated")]
    RuleBroken(String),
    /// The policies could not be written as JSON, so that they have no digest.
    #[error("the policies have no digest: {0}")]
    Policies(String),
}

impl Proof {
    /// Looks at every part of the claim.
    ///
    /// # Errors
    /// The first part that is not proven.
    pub fn new(claim: Claim) -> Result<Self, Unproven> {
        let image = claim.image.clone().ok_or(Unproven::NotBuilt)?;
        if claim.candidate.is_empty() {
            return Err(Unproven::NoCandidate);
        }
        for check in claim.checks.iter().filter(|check| check.enforced) {
            if !check.passed {
                return Err(Unproven::NotPassed(check.name.clone()));
            }
            if check.report.is_none() {
                return Err(Unproven::NoReport(check.name.clone()));
            }
        }
        if let Some(rule) = claim.broken_rules.first() {
            return Err(Unproven::RuleBroken(rule.clone()));
        }
        Ok(Self { image, claim })
    }

    /// The image that is proven.
    pub fn image(&self) -> &Digest {
        &self.image
    }

    /// UID of the candidate that it was proven by.
    pub fn candidate(&self) -> &str {
        &self.claim.candidate
    }

    /// Its place in the order of candidates of its BaseImage.
    pub fn sequence(&self) -> u64 {
        self.claim.sequence
    }

    /// Names of the enforced policies, in their order.
    pub fn policies(&self) -> &[String] {
        &self.claim.policies
    }

    /// SHA-256 over the enforced policies.
    pub fn policies_digest(&self) -> &Digest {
        &self.claim.policies_digest
    }

    /// Name and stored report of every check that has one, also of those that are only audited.
    pub fn reports(&self) -> impl Iterator<Item = (&str, &Digest)> {
        let checks = self.claim.checks.iter();
        checks.filter_map(|check| Some((check.name.as_str(), check.report.as_ref()?)))
    }

    /// What the enforced checks attest, each level once, in the order of the table of tools.
    pub fn levels(&self) -> Vec<&'static str> {
        let mut levels = Vec::new();
        for tool in ToolName::ALL.iter().filter(|tool| self.enforces(**tool)) {
            levels.extend(tool.facts().level.filter(|level| !levels.contains(level)));
        }
        levels
    }

    /// Whether an enforced check of this tool passed.
    pub fn enforces(&self, tool: ToolName) -> bool {
        self.claim
            .checks
            .iter()
            .any(|check| check.enforced && check.tool == tool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim {
        let check = |name: &str, enforced| Check {
            name: name.to_owned(),
            tool: ToolName::Grype,
            enforced,
            passed: enforced,
            report: enforced.then(|| Digest::of(b"report")),
        };
        Claim {
            image: Some(Digest::of(b"built")),
            candidate: "uid".into(),
            sequence: 1,
            policies: vec!["hardened".into()],
            policies_digest: Digest::of(b"policies"),
            checks: vec![check("cves", true), check("audited", false)],
            broken_rules: Vec::new(),
        }
    }

    #[test]
    fn a_level_is_attested_once_and_for_enforced_checks_only() {
        let with = |tools: &[(ToolName, bool)]| {
            let mut claim = claim();
            let check = claim.checks[0].clone();
            let checks = tools.iter().map(|(tool, enforced)| Check {
                tool: *tool,
                enforced: *enforced,
                ..check.clone()
            });
            claim.checks = checks.collect();
            Proof::new(claim).unwrap().levels()
        };
        let scans = [(ToolName::Trivy, true), (ToolName::Grype, true)];
        assert_eq!(with(&scans), ["REPAVE_VULNERABILITIES_PASSED"]);
        let both = [scans[0], (ToolName::Openscap, true), (ToolName::Native, true)];
        assert_eq!(with(&both), ["REPAVE_OPENSCAP_PASSED", "REPAVE_VULNERABILITIES_PASSED"]);
        assert!(with(&[(ToolName::Openscap, false), (ToolName::Goss, true)]).is_empty());
    }

    #[test]
    fn whatever_is_not_proven_is_no_proof() {
        let proof = Proof::new(claim()).unwrap();
        assert_eq!((proof.image(), proof.reports().count()), (&Digest::of(b"built"), 1));
        assert!(proof.enforces(ToolName::Grype) && !proof.enforces(ToolName::Trivy));
        assert_eq!(proof.levels(), ["REPAVE_VULNERABILITIES_PASSED"]);
        let without = |change: &dyn Fn(&mut Claim)| {
            let mut claim = claim();
            change(&mut claim);
            Proof::new(claim).unwrap_err()
        };
        let (cves, rule) = ("cves".to_owned(), "r".to_owned());
        assert_eq!(without(&|claim| claim.image = None), Unproven::NotBuilt);
        assert_eq!(without(&|claim| claim.candidate.clear()), Unproven::NoCandidate);
        assert_eq!(
            without(&|claim| claim.checks[0].passed = false),
            Unproven::NotPassed(cves.clone())
        );
        assert_eq!(
            without(&|claim| claim.checks[0].report = None),
            Unproven::NoReport(cves)
        );
        assert_eq!(
            without(&|claim| claim.broken_rules = vec![rule.clone()]),
            Unproven::RuleBroken(rule.clone())
        );
        assert_eq!(
            without(&|claim| claim.checks[1].enforced = true),
            Unproven::NotPassed("audited".into())
        );
    }
}
