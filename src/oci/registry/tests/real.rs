//! The client against real registry processes: one without the referrers API, one with it.

use crate::registry::{
    Artifact, Auth, Client, ClientOptions, CopyStats, Credentials, Deleted, Descriptor, Error, LayoutLimits, Platform,
    Reference,
    manifest::{OCI_INDEX, OCI_MANIFEST},
    referrers::fallback_tag,
    testing::{CA, TestRegistry, client_for, push_image, push_index, push_platform_image},
};
use bytes::Bytes;
use repave_core::{digest::Digest, image_ref::Repository};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const FREE: fn() -> Auth = Auth::anonymous;

fn note(text: &str) -> Artifact {
    let annotations = BTreeMap::from([("note".to_owned(), text.to_owned())]);
    Artifact::single(
        "application/vnd.example.note",
        "text/plain",
        Bytes::from(text.to_owned()),
        annotations,
    )
}

async fn an_index(client: &Client, repository: &Repository) -> Descriptor {
    let amd64 = push_platform_image(client, repository, "a", &[b"base", b"amd64"], "amd64").await;
    let arm64 = push_platform_image(client, repository, "b", &[b"base", b"arm64"], "arm64").await;
    push_index(client, repository, "both", &[(&amd64, "amd64"), (&arm64, "arm64")]).await
}

#[tokio::test]
async fn a_tag_is_resolved_and_an_absent_one_is_none() {
    let registry = TestRegistry::docker().await;
    let (client, repository) = (registry.client(), registry.repository("team/base"));
    let pushed = push_image(&client, &repository, "v1", &[b"one"]).await;
    let found = client
        .head(&repository.tagged("v1").unwrap(), &FREE())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.digest, found.media_type, found.size),
        (pushed.digest.clone(), pushed.media_type, pushed.size)
    );
    assert_eq!(
        client.head(&repository.tagged("v2").unwrap(), &FREE()).await.unwrap(),
        None
    );
    let absent = client
        .get_manifest(&repository.tagged("v2").unwrap(), &FREE())
        .await
        .unwrap_err();
    assert!(
        absent.is_not_found() && absent.reason() == "ManifestNotFound",
        "{absent}"
    );
    client
        .tag(&repository, &pushed.digest, "stable", &FREE())
        .await
        .unwrap();
    client
        .tag(&repository, &pushed.digest, "stable", &FREE())
        .await
        .unwrap();
    let mut tags = client.list_tags(&repository, &FREE()).await.unwrap();
    tags.sort();
    assert_eq!(tags, ["stable", "v1"]);
    assert_eq!(
        client
            .list_tags(&registry.repository("no/such"), &FREE())
            .await
            .unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn an_index_is_copied_to_another_registry_and_a_second_copy_only_looks() {
    let (from, to) = (TestRegistry::docker().await, TestRegistry::docker().await);
    let client = client_for(&[from.host(), to.host()]);
    let (source, target) = (from.repository("up/stream"), to.repository("prod/base"));
    let index = an_index(&client, &source).await;
    let stats = client
        .copy_image(&source.at(&index.digest), &target, &FREE(), &FREE())
        .await
        .unwrap();
    // Two configs, three layers; the shared layer of the second image is there already.
    assert_eq!(
        (
            stats.manifests,
            stats.blobs_copied,
            stats.blobs_present,
            stats.blobs_mounted
        ),
        (3, 5, 1, 0)
    );
    assert!(stats.bytes > 14);
    let copied = client.get_manifest(&target.at(&index.digest), &FREE()).await.unwrap();
    assert_eq!(
        copied.bytes,
        client
            .get_manifest(&source.at(&index.digest), &FREE())
            .await
            .unwrap()
            .bytes
    );
    let again = client
        .copy_image(&source.at(&index.digest), &target, &FREE(), &FREE())
        .await
        .unwrap();
    assert_eq!(
        again,
        CopyStats {
            manifests_present: 1,
            ..CopyStats::default()
        }
    );
}

#[tokio::test]
async fn within_one_registry_blobs_are_mounted() {
    let registry = TestRegistry::docker().await;
    let (client, source, target) = (
        registry.client(),
        registry.repository("a/b"),
        registry.repository("c/d"),
    );
    let image = push_image(&client, &source, "v1", &[b"one", b"two"]).await;
    let stats = client
        .copy_image(&source.at(&image.digest), &target, &FREE(), &FREE())
        .await
        .unwrap();
    assert_eq!((stats.blobs_mounted, stats.blobs_copied, stats.bytes), (3, 0, 0));
}

#[tokio::test]
async fn a_large_blob_is_streamed_whole() {
    let (from, to) = (TestRegistry::docker().await, TestRegistry::docker().await);
    let client = client_for(&[from.host(), to.host()]);
    let large: Vec<u8> = (0..8_000_000_u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    let image = push_image(&client, &from.repository("a"), "v1", &[&large]).await;
    client
        .copy_image(
            &from.repository("a").at(&image.digest),
            &to.repository("a"),
            &FREE(),
            &FREE(),
        )
        .await
        .unwrap();
    let digest = Digest::of(&large);
    let found = client
        .get_blob(&to.repository("a"), &digest, 9_000_000, &FREE())
        .await
        .unwrap();
    assert_eq!(Digest::of(&found), digest);
    let refused = client
        .get_blob(&to.repository("a"), &digest, 1_000_000, &FREE())
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "RegistryContentTooLarge");
}

#[tokio::test]
async fn the_platform_decides_which_child_is_described() {
    let registry = TestRegistry::docker().await;
    let (client, repository) = (registry.client(), registry.repository("multi"));
    let index = an_index(&client, &repository).await;
    let image = repository.at(&index.digest);
    let amd64 = client
        .image_config(&image, &Platform::linux_amd64(), &FREE())
        .await
        .unwrap();
    assert_eq!(amd64.diff_ids, [Digest::of(b"base"), Digest::of(b"amd64")]);
    assert_eq!(
        (amd64.user.as_str(), amd64.env[0].as_str(), amd64.labels["a"].as_str()),
        ("65532", "PATH=/usr/bin", "b")
    );
    assert_eq!(amd64.created.unwrap().to_string(), "2026-01-02T03:04:05Z");
    let arm64 = client
        .image_config(&image, &"linux/arm64".parse().unwrap(), &FREE())
        .await
        .unwrap();
    assert_ne!(arm64.manifest_digest, amd64.manifest_digest);
    let none = client
        .image_config(&image, &"linux/s390x".parse().unwrap(), &FREE())
        .await
        .unwrap_err();
    assert!(none.to_string().contains("linux/amd64, linux/arm64"), "{none}");
}

async fn attaching_twice_is_attaching_once(registry: &TestRegistry) {
    let (client, repository) = (registry.client(), registry.repository("sub/ject"));
    let image = push_image(&client, &repository, "v1", &[b"one"]).await;
    assert_eq!(
        client
            .referrers(&repository, &image.digest, None, &FREE())
            .await
            .unwrap(),
        []
    );
    let first = client
        .attach(&repository, &image, &note("first"), &FREE())
        .await
        .unwrap();
    let second = client
        .attach(&repository, &image, &note("second"), &FREE())
        .await
        .unwrap();
    assert_eq!(
        client
            .attach(&repository, &image, &note("first"), &FREE())
            .await
            .unwrap(),
        first
    );
    let kind = Some("application/vnd.example.note");
    let mut listed = client
        .referrers(&repository, &image.digest, kind, &FREE())
        .await
        .unwrap();
    listed.sort_by_key(|entry| entry.annotations["note"].clone());
    let digests: Vec<_> = listed.iter().map(|entry| entry.digest.clone()).collect();
    assert_eq!(digests, [first, second]);
    assert_eq!(
        client
            .referrers(&repository, &image.digest, Some("other/type"), &FREE())
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn referrers_work_without_the_api() {
    attaching_twice_is_attaching_once(&TestRegistry::docker().await).await;
}

#[tokio::test]
async fn referrers_work_with_the_api() {
    if let Some(registry) = TestRegistry::with_referrers().await {
        attaching_twice_is_attaching_once(&registry).await;
        let fallback = registry
            .client()
            .list_tags(&registry.repository("sub/ject"), &FREE())
            .await
            .unwrap();
        assert_eq!(fallback, ["v1"], "a registry with the API gets no fallback tag");
    }
}

#[tokio::test]
async fn referrers_work_on_the_registry_of_crane() {
    if let Some(registry) = TestRegistry::crane().await {
        attaching_twice_is_attaching_once(&registry).await;
    }
}

#[tokio::test]
async fn tasks_that_attach_at_once_lose_nothing_in_the_fallback_tag() {
    let registry = TestRegistry::docker().await;
    let (client, repository) = (registry.client(), registry.repository("busy"));
    let image = push_image(&client, &repository, "v1", &[b"one"]).await;
    let (auth, notes) = (FREE(), (0..12).map(|n| note(&n.to_string())).collect::<Vec<_>>());
    let attached = notes.iter().map(|note| client.attach(&repository, &image, note, &auth));
    for result in futures::future::join_all(attached).await {
        result.unwrap();
    }
    assert_eq!(
        client
            .referrers(&repository, &image.digest, None, &auth)
            .await
            .unwrap()
            .len(),
        12
    );
}

#[tokio::test]
async fn an_image_goes_through_a_layout_folder_unchanged() {
    let (from, to) = (TestRegistry::docker().await, TestRegistry::docker().await);
    let client = client_for(&[from.host(), to.host()]);
    let image = push_image(&client, &from.repository("a"), "v1", &[b"one", b"two", b"one"]).await;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("layout");
    let (platform, limits) = (Platform::linux_amd64(), LayoutLimits::default());
    let tagged = from.repository("a").tagged("v1").unwrap();
    let written = client
        .write_layout(&tagged, &platform, &dir, &limits, &FREE())
        .await
        .unwrap();
    assert_eq!(written.manifest_digest, image.digest);
    assert_eq!(
        std::fs::read(dir.join("blobs/sha256").join(Digest::of(b"two").hex())).unwrap(),
        b"two"
    );
    let target = to.repository("b");
    for _ in 0..2 {
        assert_eq!(
            client.push_layout(&dir, &target, &limits, &FREE()).await.unwrap(),
            image.digest
        );
    }
    let pushed = client
        .image_config(&target.at(&image.digest), &platform, &FREE())
        .await
        .unwrap();
    assert_eq!(pushed, written);
    let small = LayoutLimits { max_bytes: 5, ..limits };
    let refused = client
        .write_layout(&tagged, &platform, &folder.path().join("x"), &small, &FREE())
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "RegistryContentTooLarge");
    assert!(!folder.path().join("x").exists(), "nothing is written beyond the limit");
}

#[tokio::test]
async fn a_layout_with_a_forged_blob_or_a_link_is_not_pushed() {
    let registry = TestRegistry::docker().await;
    let (client, repository) = (registry.client(), registry.repository("a"));
    let image = push_image(&client, &repository, "v1", &[b"one", b"two"]).await;
    let folder = tempfile::tempdir().unwrap();
    let (platform, limits) = (Platform::linux_amd64(), LayoutLimits::default());
    client
        .write_layout(
            &repository.at(&image.digest),
            &platform,
            folder.path(),
            &limits,
            &FREE(),
        )
        .await
        .unwrap();
    let blob = folder.path().join("blobs/sha256").join(Digest::of(b"two").hex());
    let target = registry.repository("b");
    std::fs::write(&blob, b"tWo").unwrap();
    let forged = client
        .push_layout(folder.path(), &target, &limits, &FREE())
        .await
        .unwrap_err();
    assert_eq!(forged.reason(), "DigestMismatch", "{forged}");
    std::fs::write(&blob, b"longer").unwrap();
    let longer = client
        .push_layout(folder.path(), &target, &limits, &FREE())
        .await
        .unwrap_err();
    assert_eq!(longer.reason(), "SizeMismatch", "{longer}");
    std::fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &blob).unwrap();
    let link = client
        .push_layout(folder.path(), &target, &limits, &FREE())
        .await
        .unwrap_err();
    assert_eq!(link.reason(), "LayoutInvalid", "{link}");
    assert_eq!(client.head(&target.at(&image.digest), &FREE()).await.unwrap(), None);
    assert!(!client.blob_exists(&target, &Digest::of(b"two"), &FREE()).await.unwrap());
}

#[tokio::test]
async fn tls_is_verified_and_a_password_opens_the_registry() {
    let registry = TestRegistry::secured().await;
    let (host, repository) = (registry.host().to_owned(), registry.repository("a/b"));
    let client = |ca: &str| {
        Client::new(ClientOptions {
            allowed_hosts: [host.clone()].into(),
            ca_bundle_pem: ca.as_bytes().to_vec(),
            ..ClientOptions::default()
        })
        .unwrap()
    };
    let auth = |password: &str| {
        let json = format!(r#"{{"auths":{{"{host}":{{"username":"robot","password":"{password}"}}}}}}"#);
        Auth::new(Credentials::from_dockerconfigjson(json.as_bytes()).unwrap())
    };
    let absent = repository.tagged("v2").unwrap();
    let unknown = client("").head(&absent, &auth("hunter2")).await.unwrap_err();
    assert!(
        unknown.reason() == "RegistryUnreachable" && unknown.to_string().contains("certificate"),
        "{unknown}"
    );
    let client = client(CA);
    for (auth, words) in [
        (auth("wrong"), "with the configured credential"),
        (FREE(), "without a credential"),
    ] {
        let denied = client.head(&absent, &auth).await.unwrap_err();
        assert!(
            denied.is_unauthorized() && denied.to_string().contains(words),
            "{denied}"
        );
    }
    assert_eq!(client.head(&absent, &auth("hunter2")).await.unwrap(), None);
    let blob = client
        .put_blob(&repository, Bytes::from_static(b"x"), &auth("hunter2"))
        .await
        .unwrap();
    assert!(
        client
            .blob_exists(&repository, &blob.digest, &auth("hunter2"))
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn an_image_is_deleted_with_what_is_attached_to_it_and_nothing_else() {
    let registry = TestRegistry::docker().await;
    let (client, repository) = (registry.client(), registry.repository("team/staging"));
    let gone = push_image(&client, &repository, "gone", &[b"one"]).await;
    let stays = push_image(&client, &repository, "stays", &[b"two"]).await;
    for subject in [&gone, &stays] {
        client
            .attach(&repository, subject, &note("a report"), &FREE())
            .await
            .unwrap();
    }
    let delete = async || client.delete_with_referrers(&repository, &gone.digest, &FREE()).await;
    assert_eq!(delete().await.unwrap(), Deleted::Gone);
    assert_eq!(client.head(&repository.at(&gone.digest), &FREE()).await.unwrap(), None);
    assert_eq!(
        client
            .referrers(&repository, &gone.digest, None, &FREE())
            .await
            .unwrap(),
        []
    );
    assert!(
        client
            .head(&repository.at(&stays.digest), &FREE())
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(
        client
            .referrers(&repository, &stays.digest, None, &FREE())
            .await
            .unwrap()
            .len(),
        1
    );
    // Doing it again is no failure.
    assert_eq!(delete().await.unwrap(), Deleted::Gone);
}

#[tokio::test]
async fn a_registry_that_does_not_delete_says_so_and_is_no_failure() {
    let registry = TestRegistry::without_deletion().await;
    let (client, repository) = (registry.client(), registry.repository("team/staging"));
    let image = push_image(&client, &repository, "v1", &[b"one"]).await;
    let deleted = client
        .delete_with_referrers(&repository, &image.digest, &FREE())
        .await
        .unwrap();
    assert_eq!(deleted, Deleted::NotAllowed);
    assert!(
        client
            .head(&repository.at(&image.digest), &FREE())
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_list_that_is_full_is_still_read_takes_no_more_and_takes_again_when_something_is_detached() {
    let registry = TestRegistry::docker().await;
    let (client, repository) = (registry.client(), registry.repository("team/staging"));
    let image = push_image(&client, &repository, "v1", &[b"one"]).await;
    let first = client
        .attach(&repository, &image, &note("first"), &FREE())
        .await
        .unwrap();
    // As an older version left it: one more than it could read.
    let template = client.get_manifest(&repository.at(&first), &FREE()).await.unwrap();
    let mut manifest: Value = serde_json::from_slice(&template.bytes).unwrap();
    let mut rows = Vec::new();
    for number in 0..1001 {
        manifest["annotations"]["note"] = json!(number.to_string());
        let bytes = Bytes::from(manifest.to_string());
        let entry = Descriptor::of(OCI_MANIFEST, &bytes);
        let at = Reference::Digest(entry.digest.clone());
        client
            .put_manifest(&repository, &at, OCI_MANIFEST, bytes, &FREE())
            .await
            .unwrap();
        rows.push(
            json!({"mediaType": OCI_MANIFEST, "digest": entry.digest, "size": entry.size,
            "artifactType": "application/vnd.example.note"}),
        );
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": rows});
    let at = Reference::Tag(fallback_tag(&image.digest));
    let bytes = Bytes::from(index.to_string());
    client
        .put_manifest(&repository, &at, OCI_INDEX, bytes, &FREE())
        .await
        .unwrap();

    let listed = client
        .referrers(&repository, &image.digest, None, &FREE())
        .await
        .unwrap();
    assert_eq!(listed.len(), 1001);
    let full = client
        .attach(&repository, &image, &note("new"), &FREE())
        .await
        .unwrap_err();
    assert!(matches!(full, Error::TooLarge { limit: 1000, .. }), "{full}");
    let oldest: Vec<Digest> = listed[..2].iter().map(|entry| entry.digest.clone()).collect();
    let detach = async || {
        client
            .detach(&repository, &image.digest, &oldest, &FREE())
            .await
            .unwrap()
    };
    assert_eq!(detach().await, Deleted::Gone);
    assert_eq!(detach().await, Deleted::Gone, "doing it again is no failure");
    let new = client.attach(&repository, &image, &note("new"), &FREE()).await.unwrap();
    let now = client
        .referrers(&repository, &image.digest, None, &FREE())
        .await
        .unwrap();
    assert_eq!((now.len(), &now[999].digest), (1000, &new));
    assert_eq!(client.head(&repository.at(&oldest[0]), &FREE()).await.unwrap(), None);
}

#[tokio::test]
async fn where_nothing_is_deleted_what_is_detached_is_at_least_not_listed_any_more() {
    let registry = TestRegistry::without_deletion().await;
    let (client, repository) = (registry.client(), registry.repository("team/staging"));
    let image = push_image(&client, &repository, "v1", &[b"one"]).await;
    let one = client.attach(&repository, &image, &note("one"), &FREE()).await.unwrap();
    let two = client.attach(&repository, &image, &note("two"), &FREE()).await.unwrap();
    let detached = client.detach(&repository, &image.digest, &[one], &FREE()).await;
    assert_eq!(detached.unwrap(), Deleted::NotAllowed);
    let left = client
        .referrers(&repository, &image.digest, None, &FREE())
        .await
        .unwrap();
    assert_eq!(left.into_iter().map(|entry| entry.digest).collect::<Vec<_>>(), [two]);
}
