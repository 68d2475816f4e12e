//! `ImageCandidate`: one bounded attempt to prove one upstream digest under one set of inputs. Written by the operator.

pub mod phase;

use super::{
    base_image::{Promotion, Verification},
    refs::LocalRef,
    validation_policy::ValidationPolicySpec,
};
use crate::domain::{digest::Digest, image_ref::Repository, report::Severity};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use phase::Phase;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One upstream digest with one customisation under one set of policies, on its way to production.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[kube(
    group = "repave.dev",
    version = "v1alpha1",
    kind = "ImageCandidate",
    namespaced,
    status = "ImageCandidateStatus",
    shortname = "ic",
    category = "repave",
    derive = "PartialEq",
    printcolumn(name = "BaseImage", type_ = "string", json_path = ".spec.baseImage"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step"),
    printcolumn(name = "Result", type_ = "string", json_path = ".status.result"),
    printcolumn(name = "Failed", type_ = "string", json_path = ".status.failedChecks"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self == oldSelf", "an ImageCandidate is immutable: change the BaseImage or its policy, and a new candidate is made"))]
pub struct ImageCandidateSpec {
    /// The BaseImage that it belongs to.
    #[schemars(length(max = 40))]
    pub base_image: String,
    /// Its place in the order of candidates of its BaseImage: 1 for the first, given once and never again. Of two releases the
    /// one with the greater sequence is the newer, whatever the clocks say. 0 for candidates made before there was an order.
    #[serde(default, skip_serializing_if = "is_unnumbered")]
    pub sequence: u64,
    /// Upstream repository.
    #[schemars(with = "String")]
    pub source: Repository,
    /// The tag that was resolved; for people.
    #[schemars(length(max = 128))]
    pub source_tag: String,
    /// The digest that it was resolved to.
    #[schemars(with = "String")]
    pub source_digest: Digest,
    /// SHA-256 over the rest of this spec but its sequence: what decides the outcome and where it goes.
    #[schemars(with = "String")]
    pub inputs_hash: Digest,
    /// Where it is copied and built.
    #[schemars(with = "String")]
    pub staging: Repository,
    /// Secret to pull the source with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret_ref: Option<LocalRef>,
    /// How upstream is verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub verify: Vec<Verification>,
    /// The customisation with everything that it referred to.
    pub build: BuildInputs,
    /// The exact policies.
    #[schemars(length(max = 4))]
    pub policies: Vec<PolicySnapshot>,
    /// Where it goes when it is proven.
    pub promote: Promotion,
}

// Serde hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_unnumbered(sequence: &u64) -> bool {
    *sequence == 0
}

/// The customisation, resolved.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildInputs {
    /// Certificates in PEM, in the order of the BaseImage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub ca_certificates: Vec<String>,
    /// Accounts to remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub remove_users: Vec<String>,
    /// Instructions, without FROM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16384))]
    pub containerfile: String,
}

/// A policy as it was when the candidate was made.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicySnapshot {
    /// Its name.
    pub name: String,
    /// Its checks.
    pub spec: ValidationPolicySpec,
    /// The files that its checks refer to: by check name, then by the name under which the check's Job sees them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, BTreeMap<String, String>>,
}

/// How far a candidate is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageCandidateStatus {
    /// Generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands: what its controller does next. Everything else is for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The step that it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// How it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<CandidateResult>,
    /// The checks that failed, for the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_checks: Option<String>,
    /// The digest of the customised build in the staging repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub built_digest: Option<Digest>,
    /// One entry a check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub checks: Vec<CheckSummary>,
    /// Digest of the page for people: an artifact of the built image, in staging and with the promoted image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub page: Option<Digest>,
    /// The waivers that took findings out of a count, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<String>,
    /// Which waivers were in force when the checks were judged: a refused candidate is judged anew, from the stored reports,
    /// when others are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waivers_hash: Option<String>,
    /// What changed since the release before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<ReleaseDifference>,
    /// How the scans of the released image come out with the newest database; one entry a check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub reevaluations: Vec<Reevaluation>,
    /// One entry a step that has begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["step".into()]))]
    pub timeline: Vec<TimelineEntry>,
    /// What was promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<Promoted>,
    /// Conditions: one a step, and Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl ImageCandidateStatus {
    /// What a check came to, if it is judged.
    pub fn check(&self, name: &str) -> Option<&CheckSummary> {
        self.checks.iter().find(|summary| summary.name == name)
    }
}

/// The steps of the pipeline, in order; each one is a condition type.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, schemars::JsonSchema)]
pub enum Step {
    /// The upstream image is in the staging repository.
    Pulled,
    /// Upstream is genuine.
    Verified,
    /// The customised image is in the staging repository.
    Built,
    /// Hardening, functional and benchmark checks passed.
    Validated,
    /// No vulnerability above the threshold.
    Scanned,
    /// It is at the production repository, signed.
    Promoted,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 6] = [
        Self::Pulled,
        Self::Verified,
        Self::Built,
        Self::Validated,
        Self::Scanned,
        Self::Promoted,
    ];

    /// The condition type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pulled => "Pulled",
            Self::Verified => "Verified",
            Self::Built => "Built",
            Self::Validated => "Validated",
            Self::Scanned => "Scanned",
            Self::Promoted => "Promoted",
        }
    }
}

/// How a candidate stands.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, schemars::JsonSchema)]
pub enum CandidateResult {
    /// On its way.
    Running,
    /// Promoted.
    Passed,
    /// A gate refused it: nothing of it is promoted, unless a Waiver for what was found opens it again.
    Rejected,
    /// Something is missing that a person must provide; it goes on by itself when that appears.
    Waiting,
    /// A check or build could not be carried out after all retries; the gate stays shut.
    Error,
    /// Its BaseImage came to want another candidate before this one was promoted: it never is.
    Superseded,
}

impl CandidateResult {
    /// Whether it is decided: no error, restart or lost read may change it, only an evaluation that comes to its end.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Passed | Self::Rejected | Self::Error | Self::Superseded => true,
            Self::Running | Self::Waiting => false,
        }
    }
}

/// The verdict of one check, in short; the full report is a referrer of the built digest.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckSummary {
    /// Name of the check.
    pub name: String,
    /// Passed, Failed, Error, NotEvaluated or Unsupported.
    pub verdict: String,
    /// One line for people.
    pub message: String,
    /// Findings per severity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, u32>")]
    pub counts: BTreeMap<Severity, u32>,
    /// How many rules, tests or packages were evaluated.
    pub evaluated: u64,
    /// How many of them were fine.
    #[serde(default)]
    pub passed: u64,
    /// Whether it keeps the candidate out when it does not pass.
    #[serde(default = "enforced", skip_serializing_if = "is_enforced")]
    pub enforced: bool,
    /// Findings that waivers take out of the counts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waived: u32,
    /// Findings that VEX statements take out of the counts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suppressed: u32,
    /// When the vulnerability database was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_built: Option<Time>,
    /// The worst findings, at most 5, of each rule one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<String>,
    /// Digest of the full report's manifest in the staging repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub report: Option<Digest>,
    /// Milliseconds of the tool.
    pub tool_millis: u64,
    /// Hash over the image and everything that decides what the check finds: a candidate with the same key takes the report
    /// over and does not run the check again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

fn enforced() -> bool {
    true
}

// Serde hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_enforced(enforced: &bool) -> bool {
    *enforced
}

// Serde hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What a candidate changes against the release before it, over all checks. It informs and decides nothing.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseDifference {
    /// The candidate that is the release before.
    pub previous_candidate: String,
    /// `14 fixed, 0 introduced, +1 waiver`.
    pub summary: String,
    /// Findings that are gone.
    pub fixed: u64,
    /// Findings that are new.
    pub introduced: u64,
    /// Findings that both have.
    pub unchanged: u64,
    /// How many more findings are waived than before.
    #[serde(default)]
    pub waivers: i64,
    /// The first that are gone, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed_findings: Vec<String>,
    /// The first that are new, at most 10, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub introduced_findings: Vec<String>,
    /// The checks that could not be compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_compared: Vec<String>,
}

/// A scan of a released image that was made again from its stored list of packages.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reevaluation {
    /// Name of the check.
    pub name: String,
    /// Hash over the image, the check, the tool and the database.
    pub key: String,
    /// Passed, Failed, Error, NotEvaluated or Unsupported.
    pub verdict: String,
    /// One line for people.
    pub message: String,
    /// Findings that count, per severity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, u32>")]
    pub counts: BTreeMap<Severity, u32>,
    /// How many findings an update would repair.
    #[serde(default)]
    pub fixable: u32,
    /// The worst findings, at most 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<String>,
    /// Digest of the report's manifest in the staging repository.
    #[schemars(with = "String")]
    pub report: Digest,
    /// When it was judged.
    pub at: Time,
}

/// When a step began and ended.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimelineEntry {
    /// The step.
    pub step: Step,
    /// When it began.
    pub started: Time,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,
}

/// What was promoted.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Promoted {
    /// The production repository.
    #[schemars(with = "String")]
    pub repository: Repository,
    /// The digest.
    #[schemars(with = "String")]
    pub digest: Digest,
    /// The immutable tag.
    pub tag: String,
    /// Chain ID of all its layers: by it, images built on this release are recognised.
    #[schemars(with = "String")]
    pub chain_id: Digest,
    /// How many layers it has.
    pub layers: u32,
    /// When.
    pub at: Time,
}
