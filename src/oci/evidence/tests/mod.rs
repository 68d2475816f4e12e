//! Keys, signatures and evidence: against real registries, and against the real cosign where there is one.

mod interop;
mod releases;

use super::{
    Evidence, REPORT_ARTIFACT_TYPE, REPORT_KIND, ReportArtifact, attach_report,
    cosign::{self, Form, VerifyError},
    fetch_page, publish,
    signing::{BUNDLE_V03, PromotionKey, PublicKey, open_bundle},
    vsa::{self, ReleaseRecord, ResourceRef, VerificationSummary},
};
use crate::registry::{
    Artifact, Auth, Client, Descriptor, Reference,
    manifest::OCI_MANIFEST,
    testing::{TestRegistry, push_image},
};
use bytes::Bytes;
use repave_core::{digest::Digest, image_ref::Repository};

// Made for these tests with openssl; they protect nothing.
const KEY: &str = include_str!("../testdata/promotion-pkcs8.pem");
const KEY_SEC1: &str = include_str!("../testdata/promotion-sec1.pem");
const KEY_PUBLIC: &str = include_str!("../testdata/promotion.pub");
const OTHER: &str = include_str!("../testdata/other-pkcs8.pem");
const P384: &str = include_str!("../testdata/p384-pkcs8.pem");

const FREE: fn() -> Auth = Auth::anonymous;

fn key() -> PromotionKey {
    PromotionKey::from_pem(KEY).unwrap()
}

fn other_key() -> PromotionKey {
    PromotionKey::from_pem(OTHER).unwrap()
}

fn summary() -> VerificationSummary {
    VerificationSummary {
        verifier_id: "https://repave.example.com/cluster-1".to_owned(),
        verifier_version: "0.1.0".to_owned(),
        time_verified: "2026-01-02T03:04:05Z".parse().unwrap(),
        policy: ResourceRef {
            uri: "k8s://ns/policy".to_owned(),
            digest: Digest::of(b"policy"),
        },
        input_attestations: Vec::new(),
        verified_levels: vec!["SLSA_BUILD_LEVEL_3".to_owned(), "ACME_CIS_L1".to_owned()],
        release: ReleaseRecord {
            base_image: "platform/debian-12".to_owned(),
            sequence: 3,
            candidate: "debian-12-a".to_owned(),
            source_digest: Digest::of(b"upstream"),
            chain_id: Digest::of(b"layers"),
            layers: 4,
            tag: "12-20260102-0123456789ab".to_owned(),
        },
    }
}

async fn image(registry: &TestRegistry, path: &str) -> (Client, Repository, Descriptor) {
    let (client, repository) = (registry.client(), registry.repository(path));
    let image = push_image(&client, &repository, "v1", &[path.as_bytes()]).await;
    (client, repository, image)
}

#[test]
fn both_private_forms_are_one_key_and_signatures_are_the_same_every_time() {
    let (pkcs8, sec1) = (key(), PromotionKey::from_pem(KEY_SEC1).unwrap());
    let public = PublicKey::from_pem(KEY_PUBLIC).unwrap();
    assert_eq!(pkcs8.public(), public);
    assert_eq!(sec1.public(), public);
    assert_eq!(pkcs8.sign(b"x"), sec1.sign(b"x"));
    assert!(public.verifies(b"x", &pkcs8.sign(b"x")));
    assert!(!public.verifies(b"y", &pkcs8.sign(b"x")));
    assert!(!public.verifies(b"x", &other_key().sign(b"x")));
    assert!(!public.verifies(b"x", b"no signature"));
    assert!(!format!("{pkcs8:?}").contains("PRIVATE"));
}

#[test]
fn a_key_of_another_kind_is_refused_with_what_to_do() {
    let encrypted =
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\neyJ4Ijox\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n";
    for (pem, found) in [
        (encrypted, "cosign encrypted with a password"),
        (P384, "PRIVATE KEY block that is not one"),
        (KEY_PUBLIC, "PUBLIC KEY block"),
        ("", "text without a PEM block"),
    ] {
        let error = PromotionKey::from_pem(pem).unwrap_err().to_string();
        assert!(error.contains(found) && error.contains("openssl genpkey"), "{error}");
    }
    assert!(PublicKey::from_pem(KEY).unwrap_err().to_string().contains("-pubout"));
}

async fn signing_and_verifying(registry: &TestRegistry) {
    let (client, repository, image) = image(registry, "signed").await;
    let public = key().public();
    let none = cosign::verify(&client, &repository, &image.digest, &public, &FREE())
        .await
        .unwrap_err();
    assert!(
        none.reason() == "SignatureMissing" && none.to_string().contains(".sig"),
        "{none}"
    );
    let first = cosign::sign(&client, &repository, &image, &other_key(), &FREE())
        .await
        .unwrap();
    let error = cosign::verify(&client, &repository, &image.digest, &public, &FREE())
        .await
        .unwrap_err();
    assert!(matches!(error, VerifyError::NotByThisKey { found: 2, .. }), "{error}");
    let signed = cosign::sign(&client, &repository, &image, &key(), &FREE())
        .await
        .unwrap();
    let tag = repository.tagged(&signed.legacy_tag).unwrap();
    let before = client.get_manifest(&tag, &FREE()).await.unwrap();
    assert_eq!(
        cosign::sign(&client, &repository, &image, &key(), &FREE())
            .await
            .unwrap(),
        signed
    );
    assert_eq!(
        client.get_manifest(&tag, &FREE()).await.unwrap(),
        before,
        "signing again must write nothing new"
    );
    for (public, hint) in [(&public, key().public()), (&other_key().public(), other_key().public())] {
        let verified = cosign::verify(&client, &repository, &image.digest, public, &FREE())
            .await
            .unwrap();
        assert_eq!((verified.form, verified.key_hint.as_str()), (Form::Legacy, hint.hint()));
    }
    assert_ne!(first.bundle, signed.bundle);
    let bundles = client
        .referrers(&repository, &image.digest, Some(BUNDLE_V03), &FREE())
        .await
        .unwrap();
    assert_eq!(bundles.len(), 2);
}

#[tokio::test]
async fn signatures_hold_without_the_referrers_api() {
    signing_and_verifying(&TestRegistry::docker().await).await;
}

#[tokio::test]
async fn signatures_hold_with_the_referrers_api() {
    if let Some(registry) = TestRegistry::with_referrers().await {
        signing_and_verifying(&registry).await;
    }
}

#[tokio::test]
async fn a_bundle_alone_is_enough_and_a_summary_alone_is_not() {
    let registry = TestRegistry::docker().await;
    let (client, repository, image) = image(&registry, "bundle").await;
    let public = key().public();
    vsa::attach(&client, &repository, &image, &summary(), &key(), &FREE())
        .await
        .unwrap();
    let error = cosign::verify(&client, &repository, &image.digest, &public, &FREE())
        .await
        .unwrap_err();
    assert_eq!(
        error.reason(),
        "SignatureByOtherKey",
        "a summary is no signature: {error}"
    );
    cosign::sign(&client, &repository, &image, &key(), &FREE())
        .await
        .unwrap();
    // The legacy tag is overwritten by an image without signatures: the bundle still holds.
    let plain = client
        .get_manifest(&repository.tagged("v1").unwrap(), &FREE())
        .await
        .unwrap();
    let tag = Reference::Tag(format!("sha256-{}.sig", image.digest.hex()));
    client
        .put_manifest(&repository, &tag, OCI_MANIFEST, plain.bytes, &FREE())
        .await
        .unwrap();
    let verified = cosign::verify(&client, &repository, &image.digest, &public, &FREE())
        .await
        .unwrap();
    assert_eq!(verified.form, Form::Bundle);
}

#[tokio::test]
async fn a_signature_that_was_moved_to_another_image_is_refused() {
    let registry = TestRegistry::docker().await;
    let (client, repository, image) = image(&registry, "moved").await;
    let signed = cosign::sign(&client, &repository, &image, &key(), &FREE())
        .await
        .unwrap();
    let victim = push_image(&client, &repository, "evil", &[b"evil"]).await;
    let stolen = client
        .get_manifest(&repository.tagged(&signed.legacy_tag).unwrap(), &FREE())
        .await
        .unwrap();
    let tag = Reference::Tag(format!("sha256-{}.sig", victim.digest.hex()));
    client
        .put_manifest(&repository, &tag, OCI_MANIFEST, stolen.bytes, &FREE())
        .await
        .unwrap();
    let public = key().public();
    let error = cosign::verify(&client, &repository, &victim.digest, &public, &FREE())
        .await
        .unwrap_err();
    assert!(
        error.reason() == "SignatureForOtherContent" && error.to_string().contains(image.digest.as_str()),
        "{error}"
    );
    // The same with the bundle.
    let bundle = client
        .get_manifest(&repository.at(&signed.bundle), &FREE())
        .await
        .unwrap();
    let crate::registry::Content::Image(manifest) = bundle.content("x").unwrap() else {
        panic!("an image manifest")
    };
    let bytes = client
        .get_blob(&repository, &manifest.layers[0].digest, 1 << 20, &FREE())
        .await
        .unwrap();
    let other = push_image(&client, &repository, "evil2", &[b"evil2"]).await;
    let artifact = Artifact::single(BUNDLE_V03, BUNDLE_V03, bytes, [].into());
    client.attach(&repository, &other, &artifact, &FREE()).await.unwrap();
    let error = cosign::verify(&client, &repository, &other.digest, &public, &FREE())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "SignatureForOtherContent", "{error}");
}

#[tokio::test]
async fn a_registry_that_is_down_is_not_a_missing_signature() {
    let client = crate::registry::testing::client_for(&["127.0.0.1:1"]);
    let repository = "127.0.0.1:1/a".parse().unwrap();
    let error = cosign::verify(&client, &repository, &Digest::of(b"x"), &key().public(), &FREE())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "RegistryUnreachable");
}

#[test]
fn an_altered_bundle_does_not_open() {
    let statement = br#"{"a":1}"#;
    let bundle = serde_json::to_string(&super::signing::bundle(&key(), statement)).unwrap();
    let public = key().public();
    assert_eq!(
        open_bundle(&public, bundle.as_bytes()).as_deref(),
        Some(statement.as_slice())
    );
    for (from, to) in [("eyJhIjoxfQ==", "eyJhIjoyfQ=="), ("vnd.in-toto+json", "vnd.other+json")] {
        let altered = bundle.replace(from, to);
        assert_ne!(altered, bundle);
        assert_eq!(open_bundle(&public, altered.as_bytes()), None);
    }
    assert_eq!(open_bundle(&other_key().public(), bundle.as_bytes()), None);
}

#[tokio::test]
async fn all_evidence_is_published_once_and_the_summary_names_the_reports() {
    let registry = TestRegistry::docker().await;
    let (client, repository, image) = image(&registry, "evidence").await;
    let report = |kind: &str| ReportArtifact {
        kind: kind.to_owned(),
        json: Bytes::from(format!(r#"{{"check":"{kind}"}}"#)),
        attached: Vec::new(),
    };
    let evidence = Evidence {
        reports: vec![report("native"), report("grype")],
        vex: Some(Bytes::from_static(b"{}")),
        page: Some(Bytes::from_static(b"<p>page</p>")),
        summary: summary(),
    };
    let published = publish(&client, &repository, &image, &evidence, &key(), &FREE())
        .await
        .unwrap();
    assert_eq!(
        publish(&client, &repository, &image, &evidence, &key(), &FREE())
            .await
            .unwrap(),
        published
    );
    let all = client
        .referrers(&repository, &image.digest, None, &FREE())
        .await
        .unwrap();
    assert_eq!(
        all.len(),
        6,
        "one signature, one summary, two reports, one OpenVEX document, one page"
    );
    let pages = client
        .referrers(
            &repository,
            &image.digest,
            Some(repave_core::page::ARTIFACT_TYPE),
            &FREE(),
        )
        .await
        .unwrap();
    let page = fetch_page(&client, &repository, &pages[0].digest, &FREE())
        .await
        .unwrap();
    assert_eq!((pages.len(), page.as_ref()), (1, b"<p>page</p>".as_slice()));
    let reports = client
        .referrers(&repository, &image.digest, Some(REPORT_ARTIFACT_TYPE), &FREE())
        .await
        .unwrap();
    let kinds: Vec<_> = reports
        .iter()
        .map(|entry| entry.annotations[REPORT_KIND].as_str())
        .collect();
    assert_eq!(kinds, ["native", "grype"]);
    let statement = {
        let manifest = client
            .get_manifest(&repository.at(&published.summary), &FREE())
            .await
            .unwrap();
        let crate::registry::Content::Image(manifest) = manifest.content("x").unwrap() else {
            panic!("an image manifest")
        };
        let bundle = client
            .get_blob(&repository, &manifest.layers[0].digest, 1 << 20, &FREE())
            .await
            .unwrap();
        serde_json::from_slice::<serde_json::Value>(&open_bundle(&key().public(), &bundle).unwrap()).unwrap()
    };
    let predicate = &statement["predicate"];
    assert_eq!(predicate["verificationResult"], "PASSED");
    assert_eq!(
        predicate["verifiedLevels"],
        serde_json::json!(["SLSA_BUILD_LEVEL_UNEVALUATED", "ACME_CIS_L1"])
    );
    assert_eq!(
        predicate["inputAttestations"][1]["digest"]["sha256"],
        published.reports[1].hex()
    );
    assert_eq!(statement["subject"][0]["digest"]["sha256"], image.digest.hex());
    let again = attach_report(&client, &repository, &image, &report("native"), &FREE())
        .await
        .unwrap();
    assert_eq!(again, published.reports[0]);
}
