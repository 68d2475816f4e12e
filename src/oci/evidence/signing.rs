//! The promotion key (ECDSA P-256 with SHA-256) and the DSSE envelope around what it signs.
//!
//! Signatures are deterministic (RFC 6979): signing twice gives the same bytes, so a repeated promotion writes
//! nothing new. Must not show a private key in any text form.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use p256::{
    SecretKey,
    ecdsa::{
        DerSignature, SigningKey, VerifyingKey,
        signature::{Signer as _, Verifier as _},
    },
    pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Payload type of an in-toto statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Media type of a sigstore bundle.
pub const BUNDLE_V03: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The private key that only a passed digest is signed with.
#[derive(Clone)]
pub struct PromotionKey {
    key: SigningKey,
    public: PublicKey,
}

/// The key that signatures are verified with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    hint: String,
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}: {remedy}")]
pub struct KeyError {
    /// What is supported.
    pub expected: &'static str,
    /// What it is instead; never key material.
    pub found: String,
    /// What to do.
    pub remedy: &'static str,
}

const PRIVATE: &str = "an unencrypted EC P-256 private key in PEM form (PKCS#8 or SEC1)";
const MAKE_PRIVATE: &str = "make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const PUBLIC: &str = "an EC P-256 public key in PEM form (BEGIN PUBLIC KEY)";
const MAKE_PUBLIC: &str = "get it with: openssl pkey -in key.pem -pubout, or use cosign.pub";

/// The label of the first PEM block; a label is no secret.
fn label(pem: &str) -> Option<&str> {
    let (_, rest) = pem.split_once("-----BEGIN ")?;
    rest.split_once("-----")
        .map(|(label, _)| label)
        .filter(|label| label.len() <= 60)
}

fn wrong_private(pem: &str) -> KeyError {
    let found = match label(pem) {
        Some(label @ ("ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY")) => {
            format!("a key that cosign encrypted with a password ({label})")
        }
        Some(label) => format!("a {label} block that is not one"),
        None => "text without a PEM block".to_owned(),
    };
    KeyError {
        expected: PRIVATE,
        found,
        remedy: MAKE_PRIVATE,
    }
}

impl PromotionKey {
    /// Reads a PKCS#8 or SEC1 key.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let pem = pem.trim();
        let secret = match label(pem) {
            Some("PRIVATE KEY") => SecretKey::from_pkcs8_pem(pem).ok(),
            Some("EC PRIVATE KEY") => SecretKey::from_sec1_pem(pem).ok(),
            Some(_) | None => None,
        };
        let key = SigningKey::from(secret.ok_or_else(|| wrong_private(pem))?);
        let public = PublicKey::from_key(*key.verifying_key()).ok_or_else(|| wrong_private(pem))?;
        Ok(Self { key, public })
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public.clone()
    }

    /// The DER signature over these bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: DerSignature = self.key.sign(message);
        signature.as_bytes().to_vec()
    }
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo PEM, e.g. `cosign.pub`.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError {
            expected: PUBLIC,
            found: label(pem).map_or("text without a PEM block".to_owned(), |label| {
                format!("a {label} block that is not one")
            }),
            remedy: MAKE_PUBLIC,
        };
        let key = VerifyingKey::from_public_key_pem(pem.trim()).map_err(|_| wrong())?;
        Self::from_key(key).ok_or_else(wrong)
    }

    fn from_key(key: VerifyingKey) -> Option<Self> {
        let der = key.to_public_key_der().ok()?;
        let hint = BASE64.encode(Sha256::digest(der.as_bytes()));
        Some(Self { key, hint })
    }

    /// The key's name as cosign writes it: base64 of the SHA-256 of its DER form.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// Whether this key made this DER signature over these bytes.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        DerSignature::from_bytes(signature).is_ok_and(|signature| self.key.verify(message, &signature).is_ok())
    }
}

impl fmt::Debug for PromotionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PromotionKey({})", self.public.hint)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.hint)
    }
}

/// A sigstore bundle, v0.3, as far as a key without a transparency log needs it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bundle {
    media_type: String,
    verification_material: VerificationMaterial,
    dsse_envelope: Envelope,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerificationMaterial {
    /// Absent when it was signed with a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<KeyHint>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeyHint {
    #[serde(default)]
    hint: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// What DSSE signs: the type is inside, so that a payload cannot be taken for another kind of thing.
fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// A bundle around an in-toto statement.
pub(crate) fn bundle(key: &PromotionKey, statement: &[u8]) -> Bundle {
    Bundle {
        media_type: BUNDLE_V03.to_owned(),
        verification_material: VerificationMaterial {
            public_key: Some(KeyHint {
                hint: key.public.hint.clone(),
            }),
        },
        dsse_envelope: Envelope {
            payload: BASE64.encode(statement),
            payload_type: IN_TOTO.to_owned(),
            signatures: vec![EnvelopeSignature {
                sig: BASE64.encode(key.sign(&pre_authentication(IN_TOTO, statement))),
            }],
        },
    }
}

/// The statement in a bundle if, and only if, this key signed it.
pub(crate) fn open_bundle(key: &PublicKey, bytes: &[u8]) -> Option<Vec<u8>> {
    let bundle: Bundle = serde_json::from_slice(bytes).ok()?;
    let envelope = bundle.dsse_envelope;
    let payload = BASE64.decode(&envelope.payload).ok()?;
    let signed = pre_authentication(&envelope.payload_type, &payload);
    let mut signatures = envelope
        .signatures
        .iter()
        .take(10)
        .filter_map(|signature| BASE64.decode(&signature.sig).ok());
    (envelope.payload_type == IN_TOTO && signatures.any(|signature| key.verifies(&signed, &signature)))
        .then_some(payload)
}
