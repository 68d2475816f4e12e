//! The history is rebuilt from what a real registry holds, and from nothing that the key did not sign.

use super::*;
use crate::evidence::releases::{self, Found, Proven};

/// Pushes an image as a release with this sequence, signed or not as `publish` says.
async fn released(registry: &TestRegistry, sequence: u64, base: &str, signer: Option<&PromotionKey>) -> Digest {
    let (client, repository) = (registry.client(), registry.repository("prod/debian"));
    let content = format!("{base}{sequence}");
    let image = push_image(&client, &repository, "loose", &[content.as_bytes()]).await;
    let tag = format!("12-2026010{sequence}-{}", image.digest.short());
    client.tag(&repository, &image.digest, &tag, &FREE()).await.unwrap();
    let mut summary = summary();
    summary.release = ReleaseRecord {
        base_image: base.to_owned(),
        sequence,
        tag,
        ..summary.release
    };
    if let Some(signer) = signer {
        cosign::sign(&client, &repository, &image, signer, &FREE())
            .await
            .unwrap();
        vsa::attach(&client, &repository, &image, &summary, signer, &FREE())
            .await
            .unwrap();
    }
    image.digest
}

async fn find(registry: &TestRegistry) -> Found {
    let (client, repository) = (registry.client(), registry.repository("prod/debian"));
    let mut found = releases::find(&client, &repository, "platform/debian-12", &key().public(), &FREE())
        .await
        .unwrap();
    found.releases.sort_by_key(|proven| proven.summary.release.sequence);
    found
}

async fn rebuilding(registry: &TestRegistry) {
    assert_eq!(
        find(registry).await,
        Found::default(),
        "a repository that is not there yet"
    );
    let ours = "platform/debian-12";
    let one = released(registry, 1, ours, Some(&key())).await;
    let two = released(registry, 2, ours, Some(&key())).await;
    released(registry, 3, ours, Some(&other_key())).await;
    released(registry, 4, "tenant/debian-12", Some(&key())).await;
    released(registry, 5, ours, None).await;
    let found = find(registry).await;
    let proven: Vec<(&Digest, u64)> = found
        .releases
        .iter()
        .map(|Proven { digest, summary }| (digest, summary.release.sequence))
        .collect();
    assert_eq!(proven, [(&one, 1), (&two, 2)]);
    assert_eq!((found.unproven, found.cut), (3, false));
    let release = &found.releases[1].summary.release;
    assert_eq!(
        (release.source_digest.clone(), release.layers),
        (Digest::of(b"upstream"), 4)
    );
}

#[tokio::test]
async fn releases_are_found_again_without_the_referrers_api() {
    rebuilding(&TestRegistry::docker().await).await;
}

#[tokio::test]
async fn releases_are_found_again_with_the_referrers_api() {
    if let Some(registry) = TestRegistry::with_referrers().await {
        rebuilding(&registry).await;
    }
}

#[tokio::test]
async fn a_summary_that_was_moved_to_another_image_proves_nothing() {
    let registry = TestRegistry::docker().await;
    let (client, repository) = (registry.client(), registry.repository("prod/debian"));
    let genuine = released(&registry, 1, "platform/debian-12", Some(&key())).await;
    let victim = push_image(&client, &repository, "evil", &[b"evil"]).await;
    let tag = format!("12-20260109-{}", victim.digest.short());
    client.tag(&repository, &victim.digest, &tag, &FREE()).await.unwrap();
    let signed = client
        .referrers(&repository, &genuine, Some(BUNDLE_V03), &FREE())
        .await
        .unwrap();
    for entry in signed {
        let manifest = client
            .get_manifest(&repository.at(&entry.digest), &FREE())
            .await
            .unwrap();
        let crate::registry::Content::Image(manifest) = manifest.content("x").unwrap() else {
            panic!("an image manifest")
        };
        let layer = &manifest.layers[0].digest;
        let bytes = client.get_blob(&repository, layer, 1 << 20, &FREE()).await.unwrap();
        let artifact = Artifact::single(BUNDLE_V03, BUNDLE_V03, bytes, [].into());
        client.attach(&repository, &victim, &artifact, &FREE()).await.unwrap();
    }
    let found = find(&registry).await;
    assert_eq!((found.releases.len(), found.unproven), (1, 1));
    assert_eq!(found.releases[0].digest, genuine);
}

#[tokio::test]
async fn a_registry_that_is_down_is_an_error_and_not_an_empty_history() {
    let client = crate::registry::testing::client_for(&["127.0.0.1:1"]);
    let repository = "127.0.0.1:1/a".parse().unwrap();
    let error = releases::find(&client, &repository, "a/b", &key().public(), &FREE())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "RegistryUnreachable");
}

#[test]
fn a_summary_is_read_back_only_about_its_own_image_and_repository() {
    let repository: Repository = "r.test/prod/debian".parse().unwrap();
    let image = Digest::of(b"image");
    let statement = summary().statement(&repository, &image);
    let bytes = |value: &serde_json::Value| serde_json::to_vec(value).unwrap();
    let read = vsa::read(&bytes(&statement), &repository, &image).unwrap();
    assert_eq!(
        (read.release, read.time_verified),
        (summary().release, summary().time_verified)
    );
    assert_eq!(vsa::read(&bytes(&statement), &repository, &Digest::of(b"other")), None);
    assert_eq!(
        vsa::read(&bytes(&statement), &"r.test/x".parse().unwrap(), &image),
        None
    );
    let mut older = statement.clone();
    older["predicate"].as_object_mut().unwrap().remove("repave_release");
    assert_eq!(vsa::read(&bytes(&older), &repository, &image), None);
    let mut failed = statement;
    failed["predicate"]["verificationResult"] = "FAILED".into();
    assert_eq!(vsa::read(&bytes(&failed), &repository, &image), None);
}

/// Whoever may push there, or another tool, attaches something that is no summary of ours.
#[tokio::test]
async fn one_attachment_that_is_too_large_hides_no_release() {
    let registry = TestRegistry::docker().await;
    let (client, repository) = (registry.client(), registry.repository("prod/debian"));
    let genuine = released(&registry, 1, "platform/debian-12", Some(&key())).await;
    let image = client.head(&repository.at(&genuine), &FREE()).await.unwrap().unwrap();
    let large = Artifact::single(
        BUNDLE_V03,
        BUNDLE_V03,
        Bytes::from(vec![b' '; (1 << 20) + 1]),
        [].into(),
    );
    client.attach(&repository, &image, &large, &FREE()).await.unwrap();
    let found = releases::find(&client, &repository, "platform/debian-12", &key().public(), &FREE()).await;
    assert_eq!(
        found
            .map(|found| found.releases.len())
            .map_err(|error| error.to_string()),
        Ok(1)
    );
}

/// They are attached to the digest before it is promoted: a registry takes a referrer of what is not there yet.
#[tokio::test]
async fn junk_before_the_summary_hides_no_release_and_more_than_is_read_is_told() {
    let registry = TestRegistry::docker().await;
    let (client, repository) = (registry.client(), registry.repository("prod/debian"));
    let image = push_image(&client, &repository, "loose", &[b"platform/debian-121"]).await;
    for number in 0..20_u8 {
        let junk = Artifact::single(BUNDLE_V03, BUNDLE_V03, Bytes::from(vec![number]), [].into());
        client.attach(&repository, &image, &junk, &FREE()).await.unwrap();
    }
    let genuine = released(&registry, 1, "platform/debian-12", Some(&key())).await;
    assert_eq!(genuine, image.digest);
    let found = find(&registry).await;
    assert_eq!((found.releases.len(), found.cut), (1, false));
    for number in 20..100_u8 {
        let junk = Artifact::single(BUNDLE_V03, BUNDLE_V03, Bytes::from(vec![number]), [].into());
        client.attach(&repository, &image, &junk, &FREE()).await.unwrap();
    }
    assert!(find(&registry).await.cut);
}

/// Where a registry has no referrers API (GHCR), the list of attachments is a tag like any other: whoever may push
/// there puts an image of his own under that name, beside an image with a tag of the form of a release.
#[tokio::test]
async fn a_list_of_attachments_that_is_none_hides_no_other_release() {
    let registry = TestRegistry::docker().await;
    let (client, repository) = (registry.client(), registry.repository("prod/debian"));
    let _genuine = released(&registry, 1, "platform/debian-12", Some(&key())).await;
    let junk = push_image(&client, &repository, "12-20260109-0123456789ab", &[b"junk"]).await;
    let control = releases::find(&client, &repository, "platform/debian-12", &key().public(), &FREE()).await;
    assert_eq!(control.unwrap().releases.len(), 1, "control");
    let list = format!("sha256-{}", junk.digest.hex());
    push_image(&client, &repository, &list, &[b"no list"]).await;
    let found = find(&registry).await;
    assert_eq!((found.releases.len(), found.unproven, found.cut), (1, 1, true));
}
