//! `Waiver`: an exception that has an owner, a reason and an end. It takes findings out of the count; it never hides an error.

use crate::domain::report::Severity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Takes findings out of the count of a check until a date. What it covers is still reported, as waived.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[kube(
    group = "repave.dev",
    version = "v1alpha1",
    kind = "Waiver",
    namespaced,
    status = "WaiverStatus",
    shortname = "wv",
    category = "repave",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name: at most 63 characters, because statuses and reports name the waivers that were used"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "Used", type_ = "integer", json_path = ".status.usedBy"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.notBefore) || self.notBefore < self.expiresAt", "notBefore is not before expiresAt: the waiver would never have an effect"))]
pub struct WaiverSpec {
    /// Who answers for the exception: a person or a team.
    #[schemars(length(min = 1, max = 253))]
    pub owner: String,
    /// Why the findings are accepted for this time.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = ("self.size() >= 10", "reason: say in at least 10 characters why this is accepted, for those who will ask; for example: no shell in the image calls this"))]
    pub reason: String,
    /// Where it is followed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub ticket: Option<String>,
    /// When it ends: what it covers counts again from then on. At most 366 days after the creation of the Waiver.
    pub expires_at: Time,
    /// When it begins; at once unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// What it covers.
    pub scope: WaiverScope,
}

/// What a waiver covers: all given parts must fit.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaiverScope {
    /// The images; every one of the namespace unless given.
    #[serde(default)]
    pub images: WaivedImages,
    /// Names of checks, as in the policy; any check unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 284)))]
    pub checks: Vec<String>,
    /// The findings.
    #[schemars(length(max = 64))]
    #[x_kube(validation = ("self.size() > 0", "scope.findings is empty: name at least one, for example [{id: CVE-2026-1234, package: openssl}]"))]
    pub findings: Vec<WaivedFinding>,
    /// Nothing worse than this is covered. A finding of unknown severity counts as critical here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_severity: Option<Severity>,
}

/// Which images a waiver is about: those of a named base image, or with a named digest. Empty: all of the namespace.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaivedImages {
    /// Names of BaseImages of this namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 40)))]
    pub base_images: Vec<String>,
    /// Digests of built images (`status.builtDigest` of a candidate) or of their source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 71)))]
    #[x_kube(validation = ("self.all(d, d.matches('^sha256:[0-9a-f]{64}$'))", "scope.images.digests: each one is sha256: and 64 lower-case hex digits"))]
    pub digests: Vec<String>,
}

/// One kind of finding.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.id != '*' || has(self.package) || has(self.subject)", "id: '*' alone would waive everything: name a package or a subject too, or write the id"))]
pub struct WaivedFinding {
    /// The finding's id, or one of its other ids; `*` at the end stands for any ending.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("!self.matches('[*].')", "id: a star stands at the end only, for example native.world-writable*"))]
    pub id: String,
    /// The package: its name, or its package URL with or without the version; `*` stands for any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub package: Option<String>,
    /// What the finding is about (a path, an account); `*` stands for any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub subject: Option<String>,
}

/// How a waiver stands.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaiverStatus {
    /// Generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many candidates that exist needed it.
    #[serde(default)]
    pub used_by: u32,
    /// The newest of them, at most 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_used: Vec<String>,
    /// Conditions: Active and the trio Ready, Reconciling, Stalled; Unused, ExpiringSoon and Expired only while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
