//! The real cosign accepts what we sign, and we accept what it signs.

use super::{FREE, KEY, KEY_PUBLIC, image, key, other_key, summary};
use crate::{
    evidence::{
        cosign::{self, Form},
        vsa,
    },
    registry::testing::TestRegistry,
};
use std::{path::Path, process::Command};

/// The real cosign: `REPAVE_COSIGN`, or the one among the tools.
fn real_cosign() -> Option<std::path::PathBuf> {
    let named = std::env::var_os("REPAVE_COSIGN").map(std::path::PathBuf::from);
    let found = named.or_else(|| crate::registry::testing::tool("cosign"));
    if found.is_none() {
        println!("skipped: set REPAVE_COSIGN to the cosign binary");
    }
    found
}

fn run(cosign: &Path, home: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(cosign)
        .args(arguments)
        .env("HOME", home)
        .env("COSIGN_PASSWORD", "")
        .current_dir(home)
        .output()
        .expect("cosign starts");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.status.success() { Ok(text) } else { Err(text) }
}

async fn cosign_accepts_ours(cosign: &Path, registry: &TestRegistry) {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("key.pub"), KEY_PUBLIC).unwrap();
    std::fs::write(home.path().join("other.pub"), other_public()).unwrap();
    let (client, repository, image) = image(registry, "for/cosign").await;
    let reference = repository.at(&image.digest).to_string();
    let verify = |public: &str, bundles: &str| {
        let bundles = format!("--new-bundle-format={bundles}");
        let arguments = [
            "verify",
            "--key",
            public,
            "--insecure-ignore-tlog=true",
            "--allow-http-registry",
            &bundles,
            &reference,
        ];
        run(cosign, home.path(), &arguments)
    };
    assert!(verify("key.pub", "true").is_err(), "nothing is signed yet");
    cosign::sign(&client, &repository, &image, &key(), &FREE())
        .await
        .unwrap();
    for bundles in ["true", "false"] {
        verify("key.pub", bundles).unwrap();
        let error = verify("other.pub", bundles).unwrap_err();
        assert!(!error.is_empty());
    }
    vsa::attach(&client, &repository, &image, &summary(), &key(), &FREE())
        .await
        .unwrap();
    let arguments = [
        "verify-attestation",
        "--key",
        "key.pub",
        "--insecure-ignore-tlog=true",
        "--allow-http-registry",
        "--type",
        vsa::VSA_PREDICATE,
        &reference,
    ];
    let attestation = run(cosign, home.path(), &arguments).unwrap();
    assert!(attestation.contains("payload"), "{attestation}");
}

fn other_public() -> String {
    include_str!("../testdata/other.pub").to_owned()
}

async fn we_accept_cosigns(cosign: &Path, registry: &TestRegistry) {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("in.pem"), KEY).unwrap();
    run(
        cosign,
        home.path(),
        &["import-key-pair", "--key", "in.pem", "--output-key-prefix", "imported"],
    )
    .unwrap();
    for (path, bundles, form) in [
        ("by/bundle", "true", Form::Bundle),
        ("by/legacy", "false", Form::Legacy),
    ] {
        let (client, repository, image) = image(registry, path).await;
        let reference = repository.at(&image.digest).to_string();
        let bundles = format!("--new-bundle-format={bundles}");
        let arguments = [
            "sign",
            "--key",
            "imported.key",
            "--tlog-upload=false",
            "--use-signing-config=false",
            "--allow-http-registry",
            "--yes",
            &bundles,
            &reference,
        ];
        run(cosign, home.path(), &arguments).unwrap();
        let verified = cosign::verify(&client, &repository, &image.digest, &key().public(), &FREE())
            .await
            .unwrap();
        assert_eq!(verified.form, form);
        let error = cosign::verify(&client, &repository, &image.digest, &other_key().public(), &FREE())
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "SignatureByOtherKey");
    }
}

#[tokio::test]
async fn the_real_cosign_and_we_accept_each_other() {
    let Some(cosign) = real_cosign() else { return };
    let without_api = TestRegistry::docker().await;
    cosign_accepts_ours(&cosign, &without_api).await;
    we_accept_cosigns(&cosign, &without_api).await;
    if let Some(with_api) = TestRegistry::with_referrers().await {
        cosign_accepts_ours(&cosign, &with_api).await;
        we_accept_cosigns(&cosign, &with_api).await;
    }
}
