//! What fuzzing may call of the registry client and the signatures: one function a format, over bytes alone.
//!
//! Compiled with the feature `fuzzing` only. Must not read anything in another way than the product does.

// A broken rule is a panic: that is how a fuzz target says so.
#![allow(clippy::missing_panics_doc)]

use crate::{
    evidence::{
        signing::{PublicKey, open_bundle},
        verify,
    },
    registry::{Content, Credentials, Manifest, answer, config, manifest, referrers, token},
};
use bytes::Bytes;
use repave_core::digest::Digest;
use std::time::Duration;

fn image() -> Digest {
    Digest::of(b"image")
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A manifest or an index, and an index of referrers.
pub fn registry_manifest(bytes: &[u8]) {
    for declared in ["", manifest::OCI_MANIFEST, "application/vnd.oci.image.index.v1+json"] {
        let Ok(read) = Manifest::parse("r.example.com", Bytes::copy_from_slice(bytes), declared) else {
            continue;
        };
        assert_eq!(read.digest, Digest::of(bytes));
        let entries = match read.content("r.example.com") {
            Ok(Content::Image(image)) => image.layers.len(),
            Ok(Content::Index(index)) => index.manifests.len(),
            Err(_) => 0,
        };
        assert!(entries <= 500);
    }
    let _ = referrers::parse_index("r.example.com", bytes);
}

/// The configuration of an image.
pub fn registry_config(bytes: &[u8]) {
    let json = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
    let Ok(read) = Manifest::parse("r.example.com", Bytes::from_static(json), "") else {
        return;
    };
    if let Ok(Content::Image(image)) = read.content("r.example.com")
        && let Ok(resolved) = config::resolve("r.example.com", &read, &image, bytes)
    {
        assert_eq!(resolved.diff_ids.len(), image.layers.len());
    }
}

/// A token service's answer.
pub fn registry_token(bytes: &[u8]) {
    let _ = serde_json::from_slice::<token::TokenAnswer>(bytes);
}

/// `WWW-Authenticate` and `Retry-After`.
pub fn registry_challenge(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Some(token::Challenge::Bearer { realm, service }) = token::Challenge::parse(text) {
        assert!(realm.len() + service.map_or(0, |service| service.len()) <= 4_096);
    }
    assert!(answer::retry_after(text).is_none_or(|wait| wait <= Duration::from_secs(3600)));
}

/// The body of an error.
pub fn registry_error(bytes: &[u8]) {
    let code = answer::error_code(bytes);
    assert!(code.len() <= 40 && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
}

/// The Secret with credentials.
pub fn dockerconfigjson(bytes: &[u8]) {
    match Credentials::from_dockerconfigjson(bytes) {
        Ok(credentials) => assert!(credentials.hosts().iter().all(|host| !host.is_empty())),
        Err(error) => assert!(error.to_string().len() <= 1_000),
    }
}

fn key() -> Option<PublicKey> {
    PublicKey::from_pem(include_str!("evidence/testdata/promotion.pub")).ok()
}

/// A bundle, and a public key.
pub fn cosign_bundle(bytes: &[u8]) {
    let Some(key) = key() else { return };
    // The seeds are signed by nobody, so whatever opens was forged.
    assert!(open_bundle(&key, bytes).is_none(), "a bundle that nobody signed opened");
    let _ = text(bytes).map(PublicKey::from_pem);
}

/// What a signature says that it is about.
pub fn cosign_signed(bytes: &[u8]) {
    let Some(key) = key() else { return };
    let (payload, statement) = verify::is_about(&key, &image(), bytes);
    // Whatever is taken for a signature of a digest has that digest in it, unless its letters are escaped.
    if payload || statement {
        let (hex, text) = (image().hex().to_owned(), String::from_utf8_lossy(bytes));
        assert!(text.contains(&hex) || text.contains('\\'), "{text}");
    }
}
