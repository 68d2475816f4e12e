//! Copies a proven image to production, signs it and attaches its evidence. Everything in it may be done twice.
//!
//! Takes a [`Proof`]: without one there is nothing to call.

use super::{Error, openvex, page, push_auth};
use crate::{
    api::{ImageCandidate, image_candidate::Promoted},
    controllers::{
        candidate::{observe, validate::ValidatedCandidate},
        context::Context,
        desired::{ask, wanted::Wanted},
        inputs,
    },
    domain::{digest::Digest, lineage, proof::Proof},
    evidence::{
        self, Evidence, ReportArtifact, signing,
        vsa::{self, ReleaseRecord},
    },
    registry::{Auth, Platform},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

/// The order is what makes a crash harmless: nothing points to the image before its evidence is there, and the status
/// says so last. `docs/architecture.md` has the reasons.
pub(super) async fn promote(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
    proof: &Proof,
    page: Option<&Digest>,
) -> Result<Promoted, Error> {
    let image = proof.image();
    let auth = push_auth(candidate, validated, ctx).await?;
    let key = signing_key(candidate, validated, ctx).await?;
    let staged = validated.staging.at(image);
    still_wanted(candidate, validated, image, ctx).await?;
    ctx.registry
        .copy_image(&staged, &validated.production, &auth, &auth)
        .await?;
    // The copy may take minutes, and only from here on something says that this is a release.
    still_wanted(candidate, validated, image, ctx).await?;
    let tag = immutable_tag(candidate, image);
    ctx.registry.tag(&validated.production, image, &tag, &auth).await?;
    let produced = validated.production.at(image);
    let subject = ctx
        .registry
        .head(&produced, &auth)
        .await?
        .ok_or_else(|| Error::Lost(produced.to_string()))?;
    let config = ctx
        .registry
        .image_config(&produced, &Platform::linux_amd64(), &auth)
        .await?;
    let chain_id = lineage::chain_ids(&config.diff_ids)
        .pop()
        .ok_or_else(|| Error::Lost(produced.to_string()))?;
    let layers = u32::try_from(config.diff_ids.len()).unwrap_or(u32::MAX);
    let reports = stored_reports(proof, validated, ctx, &auth).await?;
    let release = ReleaseRecord {
        base_image: format!("{}/{}", validated.namespace, candidate.spec.base_image),
        sequence: proof.sequence(),
        candidate: candidate.name_any(),
        source_digest: candidate.spec.source_digest.clone(),
        chain_id: chain_id.clone(),
        layers,
        tag: tag.clone(),
    };
    let evidence = Evidence {
        vex: openvex::document(candidate, validated, ctx, image, &reports).await?,
        reports,
        page: page::stored(validated, ctx, page, &auth).await,
        summary: summary(candidate, validated, proof, release),
    };
    // The summary says for ever that this was good; reading the reports may have taken long, too.
    still_wanted(candidate, validated, image, ctx).await?;
    evidence::publish(
        &ctx.registry,
        &validated.production,
        &subject,
        proof,
        &evidence,
        &key,
        &auth,
    )
    .await?;
    Ok(Promoted {
        repository: validated.production.clone(),
        digest: image.clone(),
        tag,
        chain_id,
        layers,
        at: Time(ctx.now()),
    })
}

/// Asked again right before a write that people rely on: what was wanted when the step began may not be any more, what was
/// good may have been taken back, and what opened the gates (a waiver, a young database) may have ended.
async fn still_wanted(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    image: &Digest,
    ctx: &Context,
) -> Result<(), Error> {
    if ask::still_wanted(candidate, ctx).await? != Wanted::Yes {
        return Err(Error::NotWantedNow);
    }
    if let Some(recalled) = observe::recall::recalled(candidate, validated, Some(image), ctx).await? {
        return Err(Error::Recalled(recalled));
    }
    if observe::reevaluation::is_due_now(candidate, validated, image, ctx).await? {
        return Err(Error::JudgedAgain);
    }
    ctx.leader.require()?;
    Ok(())
}

async fn signing_key(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
) -> Result<signing::PromotionKey, Error> {
    let reference = &candidate.spec.promote.signing.key_ref;
    let pem = inputs::secret_key(ctx, &validated.namespace, reference, "cosign.key").await?;
    signing::PromotionKey::from_pem(&pem).map_err(|error| Error::Key {
        secret: reference.name.clone(),
        error,
    })
}

/// `<channel>-<day of the candidate>-<digest>`: the same on every try.
fn immutable_tag(candidate: &ImageCandidate, image: &Digest) -> String {
    let day = created(candidate).strftime("%Y%m%d").to_string();
    format!("{}-{day}-{}", candidate.spec.promote.channel_tag, image.short())
}

fn created(candidate: &ImageCandidate) -> Timestamp {
    candidate
        .creation_timestamp()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// The reports that the proof rests on, from staging.
async fn stored_reports(
    proof: &Proof,
    validated: &ValidatedCandidate,
    ctx: &Context,
    auth: &Auth,
) -> Result<Vec<ReportArtifact>, Error> {
    let mut reports = Vec::new();
    for (check, digest) in proof.reports() {
        reports.push(evidence::fetch_whole_report(&ctx.registry, &validated.staging, digest, check, auth).await?);
    }
    Ok(reports)
}

/// What the promotion attests: this verifier, these policies, passed. Its time is the candidate's, so that a second try
/// writes the same bytes.
fn summary(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    proof: &Proof,
    release: ReleaseRecord,
) -> vsa::VerificationSummary {
    // What is only reported attests nothing.
    let mut levels: Vec<String> = Vec::new();
    if !proof.policies().is_empty() {
        levels.push("REPAVE_POLICY_PASSED".to_owned());
    }
    levels.extend(proof.levels().into_iter().map(str::to_owned));
    vsa::VerificationSummary {
        verifier_id: "https://repave.dev/operator".to_owned(),
        verifier_version: env!("CARGO_PKG_VERSION").to_owned(),
        time_verified: created(candidate),
        policy: vsa::ResourceRef {
            uri: format!(
                "k8s://{}/validationpolicies/{}",
                validated.namespace,
                proof.policies().join("+")
            ),
            digest: proof.policies_digest().clone(),
        },
        input_attestations: Vec::new(),
        verified_levels: levels,
        release,
    }
}
