//! `ValidationPolicy`: what an image must pass before anyone may run it.

use super::{
    checks::{CheckKind, exactly_one_message, exactly_one_rule},
    refs::KeyRef,
};
use crate::domain::{duration::Span, report::Severity};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// Whether a check that does not pass keeps the candidate out, or is only reported.
    #[serde(default)]
    pub enforcement: Enforcement,
    /// The checks; they run in parallel, and each one must pass.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = ("self.size() > 0", "checks is empty: a policy without checks would let everything through; write at least - {name: hardening, native: {}}"))]
    pub checks: Vec<Check>,
    /// Conditions over the results of all checks, in CEL; each one must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<ResultRule>,
}

/// What a check that does not pass means.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum Enforcement {
    /// It keeps the candidate out.
    #[default]
    Enforce,
    /// It is reported and keeps nothing out: for trying a policy on real images. A check that could not be carried out is
    /// reported as such.
    Audit,
}

/// A condition over the results of all checks.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResultRule {
    /// Name of the rule: a DNS label of at most 30 characters.
    #[schemars(length(max = 30), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A CEL expression that is true when all is well, e.g. `checks.cis.passed >= 100`.
    #[schemars(length(min = 1, max = 1024))]
    pub expression: String,
    /// What is said when it is not.
    #[schemars(length(min = 1, max = 256))]
    pub message: String,
}

/// One check: a name, what is tolerated, a time, and exactly one field that says of what kind it is.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(exactly_one_rule()).message(exactly_one_message().as_str()))]
pub struct Check {
    /// Name of the check, as it appears in reports: a DNS label of at most 30 characters.
    #[schemars(length(max = 30), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: CheckKind,
    /// How many findings of each severity are tolerated. What is not named is 0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "allow_schema")]
    pub allow: BTreeMap<Severity, u32>,
    /// How long the check may take. At most 1h.
    #[serde(default = "default_timeout")]
    #[x_kube(validation = ("duration(self) <= duration('1h') && duration(self) >= duration('1s')", "timeout is between 1s and 1h; the default is 10m"))]
    pub timeout: Span,
}

impl Check {
    /// The files that are written in the policy itself, by the name under which the check's Job sees them.
    pub fn inline_files(&self) -> BTreeMap<String, String> {
        let texts = self.kind.spec().texts().into_iter();
        texts.map(|(name, text)| (name.to_owned(), text.clone())).collect()
    }

    /// The files that the check refers to: their name in the check's Job, where they are, and the key unless one is named.
    pub fn file_references(&self) -> Vec<(String, &KeyRef, &'static str)> {
        let files = self.kind.spec().files().into_iter();
        let files = files.map(|(name, at)| (name.to_owned(), at, name));
        let vex = self.kind.spec().vex().iter().enumerate();
        files.chain(vex.map(|(n, at)| (vex_file(n), at, VEX_KEY))).collect()
    }

    /// The names of its VEX documents in its Job.
    pub fn vex_files(&self) -> impl Iterator<Item = String> {
        (0..self.kind.spec().vex().len()).map(vex_file)
    }
}

/// The key of a VEX document unless one is named.
const VEX_KEY: &str = "openvex.json";

/// The name of a check's VEX document in its Job: the one that `vexRefs[n]` refers to.
fn vex_file(n: usize) -> String {
    format!("vex-{n}.json")
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
