//! The SLSA verification summary: "this digest was verified by this policy, with these inputs, and passed".
//!
//! Must not be able to say anything but PASSED, and must not put a time of now into it: the time is an argument, so
//! that a repeated promotion gives the same bytes.

use super::{
    cosign::{STATEMENT, attach_statement},
    signing::PromotionKey,
};
use crate::registry::{Auth, Client, Descriptor, Error};
use repave_core::{digest::Digest, image_ref::Repository};
use serde_json::{Value, json};

/// Predicate of a verification summary.
pub const VSA_PREDICATE: &str = "https://slsa.dev/verification_summary/v1";
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
                "resourceUri": format!("oci://{}", repository.at(image)),
                "policy": resource(&self.policy),
                "inputAttestations": inputs,
                "verificationResult": "PASSED",
                "verifiedLevels": levels,
                "slsaVersion": "1.1",
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
