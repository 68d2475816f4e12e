//! The platform team: keys, policy, base image, plan; and upstream, which pushes and signs new versions.

use crate::{
    command,
    wait::{self, Look},
    world::World,
};
use anyhow::{Context, Result, bail};
use kube::{Api, ResourceExt, api::ListParams};
use repave::{
    api::{
        BaseImage, ImageCandidate,
        image_candidate::{CandidateResult, Promoted},
    },
    domain::digest::Digest,
    evidence::{cosign, signing::PromotionKey},
    registry::Auth,
};
use std::{path::PathBuf, time::Duration};

/// Namespace of the platform team.
pub const NAMESPACE: &str = "platform";
/// The upstream tag that is followed.
pub const TAG: &str = "12-slim";

/// A key pair in PEM, made for this run.
pub struct KeyPair {
    /// PKCS #8.
    pub private: String,
    /// SubjectPublicKeyInfo.
    pub public: String,
    /// Where the public half lies, for cosign.
    pub public_file: PathBuf,
}

/// Makes (or finds) a key pair under `target/e2e`.
pub async fn key_pair(world: &World, name: &str) -> Result<KeyPair> {
    let folder = world.root.join("target/e2e/keys");
    tokio::fs::create_dir_all(&folder).await?;
    let (key, public_file) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pub")));
    if !key.exists() {
        let pem = command::run(
            "openssl",
            &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            None,
        );
        tokio::fs::write(&key, pem.await?).await?;
    }
    let private = tokio::fs::read_to_string(&key).await?;
    let public = command::run("openssl", &["pkey", "-pubout"], Some(&private)).await?;
    tokio::fs::write(&public_file, &public).await?;
    Ok(KeyPair {
        private,
        public,
        public_file,
    })
}

/// Applies the platform team's manifests; `with_base_image` leaves the BaseImage and the plan out when false.
pub async fn install(world: &World, upstream: &KeyPair, promotion: &KeyPair) -> Result<()> {
    let template = tokio::fs::read_to_string(world.root.join("e2e/manifests/platform.yaml")).await?;
    let ca = company_ca(world).await?;
    let ca = ca
        .lines()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n");
    let manifests = template
        .replace("${REGISTRY}", &world.registry)
        .replace("${COMPANY_CA}", &ca);
    let namespace = manifests.split("---").next().unwrap_or_default();
    command::apply(namespace).await?;
    secret("upstream-key", "cosign.pub", &upstream.public).await?;
    secret("promotion-key", "cosign.key", &promotion.private).await?;
    command::apply(&manifests).await?;
    Ok(())
}

async fn company_ca(world: &World) -> Result<String> {
    let file = world.root.join("target/e2e/keys/company-ca.crt");
    if !file.exists() {
        let (key, out) = (file.with_extension("key"), file.to_string_lossy().into_owned());
        let key = key.to_string_lossy().into_owned();
        let subject = ["-subj", "/CN=Example Company CA", "-days", "3650"];
        let common = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        let files = ["-keyout", key.as_str(), "-out", out.as_str()];
        command::run("openssl", &[&common[..], &subject, &files].concat(), None).await?;
    }
    Ok(tokio::fs::read_to_string(&file).await?)
}

/// A Secret with one key; through standard input, so that nothing secret is a process argument.
pub async fn secret(name: &str, key: &str, value: &str) -> Result<()> {
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE}, "stringData": {key: value},
    });
    command::apply(&secret.to_string()).await?;
    Ok(())
}

/// Upstream pushes a version, signs it, and moves its tag to it. Gives the digest.
pub async fn upstream_pushes(world: &World, version: &str, key: &KeyPair) -> Result<Digest> {
    let staged = format!("debian-{version}=upstream/debian:{version}");
    world.push(&staged).await?;
    let repository = world.repository("upstream/debian")?;
    let image = repository.tagged(version)?;
    let auth = Auth::anonymous();
    let descriptor = world
        .oci
        .head(&image, &auth)
        .await?
        .context("upstream's image is not there after the push")?;
    let key = PromotionKey::from_pem(&key.private)?;
    cosign::sign(&world.oci, &repository, &descriptor, &key, &auth).await?;
    world.oci.tag(&repository, &descriptor.digest, TAG, &auth).await?;
    Ok(descriptor.digest)
}

/// Waits until the candidate of an upstream digest has come to an end.
pub async fn decided(world: &World, source: &Digest, limit: Duration) -> Result<ImageCandidate> {
    let api = Api::<ImageCandidate>::namespaced(world.kube.clone(), NAMESPACE);
    wait::until(&format!("candidate of {}", source.short()), limit, || async {
        let all = api.list(&ListParams::default()).await?.items;
        let Some(candidate) = all.into_iter().find(|c| c.spec.source_digest == *source) else {
            return Ok(Look::NotYet("no candidate".to_owned()));
        };
        let status = candidate.status.clone().unwrap_or_default();
        match status.result {
            Some(
                CandidateResult::Passed
                | CandidateResult::Rejected
                | CandidateResult::Error
                | CandidateResult::Superseded,
            ) => Ok(Look::Here(candidate)),
            Some(CandidateResult::Running | CandidateResult::Waiting) | None => {
                let ready = status
                    .conditions
                    .iter()
                    .find(|c| c.type_ == "Ready")
                    .map(|c| c.message.clone());
                Ok(Look::NotYet(format!(
                    "{} at {:?}: {ready:?}",
                    candidate.name_any(),
                    status.step
                )))
            }
        }
    })
    .await
}

/// What a decided candidate promoted; an error with its conditions if it did not.
pub fn promoted(candidate: &ImageCandidate) -> Result<Promoted> {
    let status = candidate.status.clone().unwrap_or_default();
    match status.promoted {
        Some(promoted) => Ok(promoted),
        None => bail!("{} was not promoted: {:#?}", candidate.name_any(), status.conditions),
    }
}

/// Waits until the BaseImage names this digest as released.
pub async fn released(world: &World, digest: &Digest, limit: Duration) -> Result<()> {
    let api = Api::<BaseImage>::namespaced(world.kube.clone(), NAMESPACE);
    wait::until("the BaseImage names the release", limit, || async {
        let status = api.get("debian-12").await?.status.unwrap_or_default();
        match status.released {
            Some(release) if release.digest == *digest => Ok(Look::Here(())),
            other => Ok(Look::NotYet(format!("released: {other:?}"))),
        }
    })
    .await
}
