//! The SLSA verification summary: "this digest was verified by this policy, with these inputs, and passed".
//!
//! Must not be able to say anything but PASSED, and must not put a time of now into it: the time is an argument, so
//! that a repeated promotion gives the same bytes.
//!
//! The predicate also has the field `repave_release`: which release of which base image this is. It is an extension field
//! as the specification allows them (`<vendor>_<name>`, <https://slsa.dev/spec/v1.1/verification_summary#parsing-rules>), so
//! that others ignore it, and it is what the history of releases is rebuilt from.

use super::{
    cosign::{STATEMENT, attach_statement},
    signing::PromotionKey,
};
use crate::registry::{Auth, Client, Descriptor, Error};
use repave_core::{digest::Digest, image_ref::Repository};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Predicate of a verification summary.
pub const VSA_PREDICATE: &str = "https://slsa.dev/verification_summary/v1";
const PASSED: &str = "PASSED";
/// The level of an image whose build was not judged by SLSA levels.
const UNEVALUATED: &str = "SLSA_BUILD_LEVEL_UNEVALUATED";

/// A document by name and digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRef {
    /// Where it is.
    pub uri: String,
    /// What it is.
    pub digest: Digest,
}

/// A passed verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerificationSummary {
    /// Who verified: a URI of this installation.
    pub verifier_id: String,
    /// The version of Repave.
    pub verifier_version: String,
    /// When the last check ended.
    pub time_verified: jiff::Timestamp,
    /// The policy and the digest of its canonical form.
    pub policy: ResourceRef,
    /// All documents that the verdict rests on.
    pub input_attestations: Vec<ResourceRef>,
    /// Own levels, e.g. `ACME_CIS_L1`; one that starts with `SLSA_` is left out, as the specification demands.
    pub verified_levels: Vec<String>,
    /// Which release this is.
    pub release: ReleaseRecord,
}

/// Which release of which base image a digest is: enough to know it again when the cluster has forgotten it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseRecord {
    /// `namespace/name` of the BaseImage.
    pub base_image: String,
    /// The sequence of its candidate.
    pub sequence: u64,
    /// The candidate that proved it.
    pub candidate: String,
    /// The upstream digest that it was built from.
    pub source_digest: Digest,
    /// Chain ID of all its layers.
    pub chain_id: Digest,
    /// How many layers it has.
    pub layers: u32,
    /// Its immutable tag.
    pub tag: String,
}

/// A summary that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryRead {
    /// Which release it is about.
    pub release: ReleaseRecord,
    /// Its time.
    pub time_verified: jiff::Timestamp,
}

/// As much of the statement as is read back.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatementRead {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<SubjectRead>,
    predicate_type: String,
    predicate: PredicateRead,
}

#[derive(Deserialize)]
struct SubjectRead {
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PredicateRead {
    time_verified: String,
    resource_uri: String,
    verification_result: String,
    #[serde(rename = "repave_release")]
    release: Option<ReleaseRecord>,
}

/// What a statement whose signature was checked says about this image at this repository; `None` if it is another kind of
/// statement, about something else, or has no release in it (older versions wrote none).
pub fn read(statement: &[u8], repository: &Repository, image: &Digest) -> Option<SummaryRead> {
    let statement: StatementRead = serde_json::from_slice(statement).ok()?;
    let about = |subject: &SubjectRead| subject.digest.get("sha256").is_some_and(|hex| hex == image.hex());
    let predicate = statement.predicate;
    let ours = statement.kind == STATEMENT
        && statement.predicate_type == VSA_PREDICATE
        && statement.subject.iter().any(about)
        && predicate.resource_uri == resource_uri(repository, image)
        && predicate.verification_result == PASSED;
    let time_verified = predicate.time_verified.parse().ok()?;
    predicate
        .release
        .filter(|_| ours)
        .map(|release| SummaryRead { release, time_verified })
}

fn resource_uri(repository: &Repository, image: &Digest) -> String {
    format!("oci://{}", repository.at(image))
}

fn resource(resource: &ResourceRef) -> Value {
    json!({"uri": resource.uri, "digest": {"sha256": resource.digest.hex()}})
}

impl VerificationSummary {
    /// The in-toto statement about this image.
    pub fn statement(&self, repository: &Repository, image: &Digest) -> Value {
        let own_levels = self
            .verified_levels
            .iter()
            .map(String::as_str)
            .filter(|level| !level.starts_with("SLSA_"));
        let levels: Vec<&str> = std::iter::once(UNEVALUATED).chain(own_levels).collect();
        let inputs: Vec<Value> = self.input_attestations.iter().map(resource).collect();
        json!({
            "_type": STATEMENT,
            "subject": [{"name": repository.to_string(), "digest": {"sha256": image.hex()}}],
            "predicateType": VSA_PREDICATE,
            "predicate": {
                "verifier": {"id": self.verifier_id, "version": {"repave": self.verifier_version}},
                "timeVerified": self.time_verified.to_string(),
                "resourceUri": resource_uri(repository, image),
                "policy": resource(&self.policy),
                "inputAttestations": inputs,
                "verificationResult": PASSED,
                "verifiedLevels": levels,
                "slsaVersion": "1.1",
                "repave_release": self.release,
            },
        })
    }
}

/// Signs the summary and attaches it to the image.
pub async fn attach(
    client: &Client,
    repository: &Repository,
    image: &Descriptor,
    summary: &VerificationSummary,
    key: &PromotionKey,
    auth: &Auth,
) -> Result<Digest, Error> {
    let statement = summary.statement(repository, &image.digest);
    attach_statement(client, repository, image, &statement, VSA_PREDICATE, key, auth).await
}
