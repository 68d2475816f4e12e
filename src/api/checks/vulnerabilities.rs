//! `vulnerabilities`: known vulnerabilities of the packages.

use super::CheckSpec;
use crate::{
    domain::{duration::Span, report::ToolName},
    refs::KeyRef,
};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Known vulnerabilities of the packages.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VulnerabilityCheck {
    /// The scanner.
    #[serde(default)]
    pub scanner: Scanner,
    /// Count only what an update would repair.
    #[serde(default)]
    pub only_fixable: bool,
    /// How old the vulnerability database may be: an older one is an error, not a pass.
    #[serde(default = "default_database_age")]
    pub database_max_age: Span,
    /// Whether vulnerabilities that are known to be exploited (CISA KEV) count like any other; otherwise one of them fails
    /// the check whatever `allow` and `onlyFixable` say.
    #[serde(default)]
    pub allow_known_exploited: bool,
    /// A vulnerability with at least this probability of being exploited within 30 days (EPSS), in percent, fails the check
    /// whatever `allow` says. EPSS is used only where the database carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub epss_at_least: Option<u32>,
    /// Whether an operating system that gets no security updates any more is accepted.
    #[serde(default)]
    pub allow_end_of_life: bool,
    /// ConfigMaps with OpenVEX documents; the key is `openvex.json` unless named. What they declare as not affected or fixed
    /// does not count and is listed apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub vex_refs: Vec<KeyRef>,
}

impl CheckSpec for VulnerabilityCheck {
    fn tool(&self) -> ToolName {
        match self.scanner {
            Scanner::Grype => ToolName::Grype,
            Scanner::Trivy => ToolName::Trivy,
        }
    }

    fn texts(&self) -> Vec<(&'static str, &String)> {
        Vec::new()
    }

    fn files(&self) -> Vec<(&'static str, &KeyRef)> {
        Vec::new()
    }

    fn vex(&self) -> &[KeyRef] {
        &self.vex_refs
    }
}

fn default_database_age() -> Span {
    Span::seconds(48 * 3600)
}

/// A vulnerability scanner.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum Scanner {
    /// Anchore Grype.
    #[default]
    Grype,
    /// Aqua Trivy.
    Trivy,
}
