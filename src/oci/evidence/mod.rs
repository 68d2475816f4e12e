//! The proof that goes with a promoted digest: signatures, the verification summary, the reports.
//!
//! | file | what it does |
//! |---|---|
//! | [`signing`] | the promotion key (ECDSA P-256), the envelope that is signed (DSSE) |
//! | [`cosign`] | signatures that `cosign verify` accepts; `verify` checks such signatures |
//! | [`vsa`] | the SLSA verification summary, written and read back |
//! | [`releases`] | the releases that a repository still proves by such summaries |
//!
//! Must not sign anything but a pass: cosign accepts any statement of the key about a digest as its signature, so
//! there is no way in here to say "failed".

pub mod cosign;
mod format;
pub mod releases;
pub mod signing;
pub(crate) mod verify;
pub mod vsa;

#[cfg(test)]
mod tests;

use crate::registry::{Artifact, ArtifactLayer, Auth, Client, Content, Deleted, Descriptor, Error};
use bytes::Bytes;
use cosign::{Signed, VerifyError};
use repave_core::{digest::Digest, image_ref::Repository, page, proof::Proof, report::MAX_ATTACHMENTS};
use signing::PromotionKey;
use std::collections::BTreeMap;
use vsa::{ResourceRef, VerificationSummary};

/// What a normalised report is called among the artifacts of an image.
pub const REPORT_ARTIFACT_TYPE: &str = "application/vnd.repave.report.v1+json";
/// What the OpenVEX document is called among the artifacts of an image: neither OpenVEX nor OCI names one, and this is what
/// registries that know such documents look for (Harbor). <https://github.com/openvex/spec/issues/34>
pub const VEX_ARTIFACT_TYPE: &str = "application/vnd.openvex+json";
/// Which report it is: the name of the check, `sbom`, `summary`.
pub const REPORT_KIND: &str = "dev.repave.report.kind";
/// Annotation of a layer: the name of the file in it.
pub const TITLE: &str = "org.opencontainers.image.title";
/// Largest attachment that is read back, gzipped: what the runner's frame may carry.
pub const MAX_ATTACHMENT: u64 = 6 << 20;
/// Largest report that is read back: what the runner's frame may carry when unpacked.
pub const MAX_REPORT: u64 = 16 << 20;

/// One report of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportArtifact {
    /// The name of the check, `sbom`, …
    pub kind: String,
    /// The report.
    pub json: Bytes,
    /// What is kept with it: gzipped files, named by the annotation `org.opencontainers.image.title`.
    pub attached: Vec<ArtifactLayer>,
}

/// Everything that is said about a digest that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The reports that the verdict rests on.
    pub reports: Vec<ReportArtifact>,
    /// The OpenVEX document with what did not count.
    pub vex: Option<Bytes>,
    /// The page for people; it only repeats the reports, so the verdict does not rest on it and may do without.
    pub page: Option<Bytes>,
    /// The verdict; the digests of the reports and of the OpenVEX document are added to its inputs.
    pub summary: VerificationSummary,
}

/// Where the evidence is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The signatures.
    pub signed: Signed,
    /// The artifacts with the reports, in the order they were given.
    pub reports: Vec<Digest>,
    /// The artifact with the verification summary.
    pub summary: Digest,
}

/// Why evidence is not there.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The registry did not take it.
    #[error(transparent)]
    Registry(#[from] Error),
    /// The proof is about another image.
    #[error(
        "expected to sign the proven image {proven}, found {found}: nothing was signed; delete the ImageCandidate to prove it again"
    )]
    OtherImage {
        /// What is proven.
        proven: Digest,
        /// What was to be signed.
        found: Digest,
    },
    /// It was written, but what was read back does not verify.
    #[error("the signature just written does not verify: {0}")]
    ReadBack(#[from] VerifyError),
}

impl PublishError {
    /// One stable word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Registry(error) => error.reason(),
            Self::ReadBack(error) => error.reason(),
            Self::OtherImage { .. } => "NotProven",
        }
    }

    /// The registry's error, if it was one.
    pub fn registry(&self) -> Option<&Error> {
        match self {
            Self::Registry(error) | Self::ReadBack(VerifyError::Registry(error)) => Some(error),
            Self::ReadBack(_) | Self::OtherImage { .. } => None,
        }
    }
}

/// Attaches a report to an image, unsigned: it is found through the summary, which names its digest.
pub async fn attach_report(
    client: &Client,
    repository: &Repository,
    subject: &Descriptor,
    report: &ReportArtifact,
    auth: &Auth,
) -> Result<Digest, Error> {
    let annotations = BTreeMap::from([(REPORT_KIND.to_owned(), report.kind.clone())]);
    let mut artifact = Artifact::single(
        REPORT_ARTIFACT_TYPE,
        REPORT_ARTIFACT_TYPE,
        report.json.clone(),
        annotations,
    );
    artifact.layers.extend(report.attached.iter().cloned());
    client.attach(repository, subject, &artifact, auth).await
}

/// The reports of one check that are attached to an image, in the order of the registry's list: where that is a tag, the
/// oldest first.
pub async fn reports_of(
    client: &Client,
    repository: &Repository,
    image: &Digest,
    check: &str,
    auth: &Auth,
) -> Result<Vec<Digest>, Error> {
    let attached = client
        .referrers(repository, image, Some(REPORT_ARTIFACT_TYPE), auth)
        .await?;
    let of_check = |entry: &Descriptor| entry.annotations.get(REPORT_KIND).map(String::as_str) == Some(check);
    Ok(attached
        .into_iter()
        .filter(of_check)
        .map(|entry| entry.digest)
        .collect())
}

/// Deletes an image with everything that is said about it: its legacy signature, what is attached to it, and its tags.
pub async fn delete_image(
    client: &Client,
    repository: &Repository,
    image: &Digest,
    auth: &Auth,
) -> Result<Deleted, Error> {
    if let Ok(signature) = repository.tagged(&format::legacy_tag(image))
        && let Some(signature) = client.head(&signature, auth).await?
        && client.delete_manifest(repository, &signature.digest, auth).await? == Deleted::NotAllowed
    {
        return Ok(Deleted::NotAllowed);
    }
    client.delete_with_referrers(repository, image, auth).await
}

/// The JSON of a report that [`attach_report`] kept, by the digest of its manifest; at most [`MAX_REPORT`] bytes.
pub async fn fetch_report(
    client: &Client,
    repository: &Repository,
    artifact: &Digest,
    auth: &Auth,
) -> Result<Bytes, Error> {
    let (layer, _) = layers(client, repository, artifact, &REPORT, auth).await?;
    client.get_blob(repository, &layer.digest, MAX_REPORT, auth).await
}

/// A report that [`attach_report`] kept, with everything that is kept with it.
pub async fn fetch_whole_report(
    client: &Client,
    repository: &Repository,
    artifact: &Digest,
    kind: &str,
    auth: &Auth,
) -> Result<ReportArtifact, Error> {
    let (first, others) = layers(client, repository, artifact, &REPORT, auth).await?;
    let json = client.get_blob(repository, &first.digest, MAX_REPORT, auth).await?;
    let mut attached = Vec::new();
    for layer in others {
        attached.push(ArtifactLayer {
            bytes: client.get_blob(repository, &layer.digest, MAX_ATTACHMENT, auth).await?,
            media_type: layer.media_type,
            annotations: layer.annotations,
        });
    }
    Ok(ReportArtifact {
        kind: kind.to_owned(),
        json,
        attached,
    })
}

/// Attaches the page for people to an image.
pub async fn attach_page(
    client: &Client,
    repository: &Repository,
    subject: &Descriptor,
    html: Bytes,
    auth: &Auth,
) -> Result<Digest, Error> {
    let artifact = Artifact::single(page::ARTIFACT_TYPE, page::MEDIA_TYPE, html, BTreeMap::new());
    client.attach(repository, subject, &artifact, auth).await
}

/// The page that [`attach_page`] kept, by the digest of its manifest; at most [`page::MAX_PAGE`] bytes.
pub async fn fetch_page(
    client: &Client,
    repository: &Repository,
    artifact: &Digest,
    auth: &Auth,
) -> Result<Bytes, Error> {
    let (layer, _) = layers(client, repository, artifact, &PAGE, auth).await?;
    client.get_blob(repository, &layer.digest, page::MAX_PAGE, auth).await
}

/// What an artifact is called where it is not as it should be, and what it should hold.
struct Expected {
    what: &'static str,
    holds: &'static str,
}

const REPORT: Expected = Expected {
    what: "a report artifact",
    holds: "one layer with the report",
};
const PAGE: Expected = Expected {
    what: "a page artifact",
    holds: "one layer",
};

/// The first layer of an artifact, and at most [`MAX_ATTACHMENTS`] more.
async fn layers(
    client: &Client,
    repository: &Repository,
    artifact: &Digest,
    expected: &Expected,
    auth: &Auth,
) -> Result<(Descriptor, impl Iterator<Item = Descriptor> + use<>), Error> {
    let manifest = client.get_manifest(&repository.at(artifact), auth).await?;
    let layers = match manifest.content(repository.host())? {
        Content::Image(image) => image.layers,
        Content::Index(_) => Vec::new(),
    };
    let mut layers = layers.into_iter();
    let first = layers.next();
    let first = first.ok_or_else(|| Error::malformed(repository.host(), expected.what, expected.holds, "none"))?;
    Ok((first, layers.take(MAX_ATTACHMENTS)))
}

/// Publishes all evidence of a digest that is proven, and reads the signature back. Doing it again changes nothing.
///
/// # Errors
/// [`PublishError::OtherImage`] before anything is written when the proof is about another digest.
pub async fn publish(
    client: &Client,
    repository: &Repository,
    subject: &Descriptor,
    proof: &Proof,
    evidence: &Evidence,
    key: &PromotionKey,
    auth: &Auth,
) -> Result<Published, PublishError> {
    if *proof.image() != subject.digest {
        return Err(PublishError::OtherImage {
            proven: proof.image().clone(),
            found: subject.digest.clone(),
        });
    }
    let signed = cosign::sign_with_children(client, repository, subject, key, auth).await?;
    let mut summary = evidence.summary.clone();
    let mut reports = Vec::new();
    for report in &evidence.reports {
        let digest = attach_report(client, repository, subject, report, auth).await?;
        summary.input_attestations.push(ResourceRef {
            uri: format!("oci://{}", repository.at(&digest)),
            digest: digest.clone(),
        });
        reports.push(digest);
    }
    if let Some(json) = &evidence.vex {
        let document = Artifact::single(VEX_ARTIFACT_TYPE, VEX_ARTIFACT_TYPE, json.clone(), BTreeMap::new());
        let digest = client.attach(repository, subject, &document, auth).await?;
        summary.input_attestations.push(ResourceRef {
            uri: format!("oci://{}", repository.at(&digest)),
            digest,
        });
    }
    if let Some(html) = &evidence.page {
        attach_page(client, repository, subject, html.clone(), auth).await?;
    }
    let summary = vsa::attach(client, repository, subject, &summary, key, auth).await?;
    cosign::verify(client, repository, &subject.digest, &key.public(), auth).await?;
    Ok(Published {
        signed,
        reports,
        summary,
    })
}
