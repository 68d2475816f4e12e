//! Whether upstream is genuine: its digest on the allow list, its signature by the declared key. Reads only.

use super::{Error, Verification};
use crate::{
    api::ImageCandidate,
    controllers::{candidate::validate::ValidatedCandidate, context::Context, inputs},
    evidence::{cosign, signing::PublicKey},
};

/// Looks at every declared way; all of them must agree.
pub(super) async fn verification(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
) -> Result<Verification, Error> {
    let mut proofs = Vec::new();
    for (n, way) in candidate.spec.verify.iter().enumerate() {
        if let Some(digests) = &way.digests {
            let digest = candidate.spec.source_digest.as_str();
            if !digests.iter().any(|allowed| allowed == digest) {
                let message = format!(
                    "{digest} is not in spec.verify[{n}].digests: look at what upstream published, and add it there if it is genuine"
                );
                return Ok(Verification::Refused(message));
            }
            proofs.push("its digest is on the allow list".to_owned());
        }
        if let Some(cosign) = &way.cosign {
            let pem = inputs::secret_key(ctx, &validated.namespace, &cosign.key_ref, "cosign.pub").await?;
            match signature(candidate, validated, ctx, &pem).await? {
                Verification::Succeeded(proof) => proofs.push(proof),
                other => return Ok(other),
            }
        }
    }
    if proofs.is_empty() {
        Ok(Verification::NotConfigured)
    } else {
        Ok(Verification::Succeeded(proofs.join("; ")))
    }
}

async fn signature(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
    pem: &str,
) -> Result<Verification, Error> {
    let key = match PublicKey::from_pem(pem) {
        Ok(key) => key,
        Err(error) => return Ok(Verification::Refused(format!("the public key cannot be used: {error}"))),
    };
    let auth = inputs::registry_auth(ctx, &validated.namespace, candidate.spec.pull_secret_ref.as_ref()).await?;
    match cosign::verify(
        &ctx.registry,
        &candidate.spec.source,
        &candidate.spec.source_digest,
        &key,
        &auth,
    )
    .await
    {
        Ok(verified) => Ok(Verification::Succeeded(format!(
            "cosign signature ({:?}) by the declared key",
            verified.form
        ))),
        Err(error @ cosign::VerifyError::NoSignature { .. }) => Ok(Verification::SignaturePending(error.to_string())),
        Err(error @ (cosign::VerifyError::NotByThisKey { .. } | cosign::VerifyError::SignedOther { .. })) => {
            Ok(Verification::Refused(error.to_string()))
        }
        Err(error @ cosign::VerifyError::Registry(_)) => Err(error.into()),
    }
}
