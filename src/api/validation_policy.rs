//! `ValidationPolicy`: what an image must pass before anyone may run it.

use super::refs::KeyRef;
use crate::domain::{duration::Span, report::Severity};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The checks that a candidate must pass. A candidate keeps the exact policy that it was judged by.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[kube(
    group = "repave.dev",
    version = "v1alpha1",
    kind = "ValidationPolicy",
    namespaced,
    shortname = "vp",
    category = "repave",
    derive = "PartialEq",
    printcolumn(name = "Checks", type_ = "string", json_path = ".spec.checks[*].name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ValidationPolicySpec {
    /// The checks; they run in parallel, and each one must pass.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = ("self.size() > 0", "checks is empty: a policy without checks would let everything through; write at least - {name: hardening, native: {}}"))]
    pub checks: Vec<Check>,
}

/// One check: exactly one of `native`, `goss`, `openscap` and `vulnerabilities`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.native), has(self.goss), has(self.openscap), has(self.vulnerabilities)].filter(x, x).size() == 1", "each check names exactly one of native, goss, openscap or vulnerabilities"))]
pub struct Check {
    /// Name of the check, as it appears in reports: a DNS label of at most 30 characters.
    #[schemars(length(max = 30), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Our own hardening rules, read from the layers; nothing of the candidate is executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<NativeCheck>,
    /// Goss tests, run inside the candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goss: Option<GossCheck>,
    /// An OpenSCAP profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openscap: Option<OpenscapCheck>,
    /// Known vulnerabilities of the packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vulnerabilities: Option<VulnerabilityCheck>,
    /// How many findings of each severity are tolerated. What is not named is 0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "allow_schema")]
    pub allow: BTreeMap<Severity, u32>,
    /// How long the check may take. At most 1h.
    #[serde(default = "default_timeout")]
    #[x_kube(validation = ("duration(self) <= duration('1h') && duration(self) >= duration('1s')", "timeout is between 1s and 1h; the default is 10m"))]
    pub timeout: Span,
}

/// One number a severity: a closed set of keys, so that a misspelt one is refused by name.
fn allow_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let number = serde_json::json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": 100_000});
    let keys: serde_json::Map<_, _> = Severity::ALL
        .into_iter()
        .map(|severity| (severity.as_str().to_owned(), number.clone()))
        .collect();
    schemars::json_schema!({"type": "object", "properties": keys})
}

fn default_timeout() -> Span {
    Span::seconds(600)
}

/// Our own hardening rules.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NativeCheck {
    /// SUID and SGID files that are allowed besides Debian's standard ones, as absolute paths.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 64))]
    pub suid_allowed: BTreeSet<String>,
    /// Files that may carry file capabilities, as absolute paths.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 64))]
    pub file_capabilities_allowed: BTreeSet<String>,
    /// Application accounts that may have a login shell.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 64))]
    pub application_shells_allowed: BTreeSet<String>,
}

/// Goss tests.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GossCheck {
    /// ConfigMap with the gossfile; the key is `goss.yaml` unless named.
    pub gossfile_ref: KeyRef,
    /// Fewest tests that must have run: fewer is an error, not a pass.
    #[serde(default = "default_minimum_tests")]
    #[schemars(range(min = 1, max = 10000))]
    pub minimum_tests: u32,
}

fn default_minimum_tests() -> u32 {
    1
}

/// An OpenSCAP profile.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenscapCheck {
    /// Profile of the data stream for the candidate's OS, e.g. `cis_level1_server`.
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9_]+$"))]
    pub profile: String,
    /// Fewest rules that must have been evaluated: fewer is an error, not a pass.
    #[serde(default = "default_minimum_rules")]
    #[schemars(range(min = 1, max = 10000))]
    pub minimum_rules: u32,
}

fn default_minimum_rules() -> u32 {
    20
}

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
}
