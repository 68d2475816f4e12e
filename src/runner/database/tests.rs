//! The way of a database from a fake source into a real registry.

use super::*;
use bytes::Bytes;
use clap::Parser;
use flate2::{Compression, write::GzEncoder};
use repave_oci::registry::{
    Reference,
    testing::{TestRegistry, tool},
};
use serde_json::json;
use std::io::Write as _;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

async fn refreshed(words: &[&str], work: &tempfile::TempDir) -> Result<Digest, String> {
    let work = work.path().to_str().unwrap();
    let args = Cli::parse_from([&["x", "--work", work], words].concat()).args;
    match refresh(&args, now()).await {
        Ok(Termination::Pushed { digest, .. }) => Ok(digest),
        Ok(other) => panic!("{other:?}"),
        Err(failure) => Err(failure.message),
    }
}

/// The files of the layer that the tag points to.
async fn layer(registry: &TestRegistry, image: &ImageRef) -> Vec<(String, Vec<u8>)> {
    let manifest = registry.client().get_manifest(image, &Auth::anonymous()).await.unwrap();
    let Content::Image(content) = manifest.content("x").unwrap() else {
        panic!("an index")
    };
    assert_eq!(
        content.layers[0].media_type,
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    let bytes = registry
        .client()
        .get_blob(
            &image.repository,
            &content.layers[0].digest,
            1 << 20,
            &Auth::anonymous(),
        )
        .await
        .unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_ref()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        (name, bytes)
    });
    entries.collect()
}

struct Listing {
    server: MockServer,
    host: String,
}

impl Listing {
    async fn of(archive: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Self {
        let server = MockServer::start().await;
        let mut latest = json!({
            "status": "active", "schemaVersion": "v6.1.10", "built": "2026-11-24T06:00:00Z",
            "path": "vulnerability-db_v6.1.10.tar.gz", "checksum": Digest::of(archive),
        });
        change(&mut latest);
        Mock::given(method("GET"))
            .and(path("/databases/v6/latest.json"))
            .respond_with(ResponseTemplate::new(200).set_body_json(latest))
            .mount(&server)
            .await;
        Mock::given(method("GET"))
            .and(path("/databases/v6/vulnerability-db_v6.1.10.tar.gz"))
            .respond_with(ResponseTemplate::new(200).set_body_bytes(archive))
            .mount(&server)
            .await;
        let host = server.address().to_string();
        Self { server, host }
    }

    async fn downloads(&self) -> usize {
        let requests = self.server.received_requests().await.unwrap();
        requests
            .iter()
            .filter(|request| request.url.path().ends_with(".tar.gz"))
            .count()
    }
}

async fn grype(listing: &Listing, registry: &TestRegistry, work: &tempfile::TempDir) -> Result<Digest, String> {
    let source = format!("http://{}/databases", listing.host);
    let to = format!("{}/db/grype:6", registry.host());
    let words = [
        "--scanner",
        "grype",
        "--source",
        &source,
        "--to",
        &to,
        "--insecure-host",
        &listing.host,
        "--insecure-host",
        registry.host(),
    ];
    refreshed(&words, work).await
}

#[tokio::test]
async fn grype_s_database_becomes_an_image_and_is_pushed_once() {
    let archive = packed(&[("./vulnerability.db", b"rows"), ("etc/passwd", b"x"), ("README", b"x")]);
    let (listing, registry) = (Listing::of(&archive, |_| {}).await, TestRegistry::docker().await);
    let work = tempfile::tempdir().unwrap();
    let first = grype(&listing, &registry, &work).await.unwrap();
    let image: ImageRef = format!("{}/db/grype:6", registry.host()).parse().unwrap();
    let files = layer(&registry, &image).await;
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["6/", "6/vulnerability.db", "6/import.json"]);
    assert_eq!(files[1].1, b"rows");
    let import: serde_json::Value = serde_json::from_slice(&files[2].1).unwrap();
    // xxhsum -H64 of "rows".
    assert_eq!(import["digest"], "xxh64:d32ac3d1ef3dd156");
    assert_eq!(import["client_version"], "v6.1.10");
    assert_eq!(grype(&listing, &registry, &work).await.unwrap(), first);
    assert_eq!(listing.downloads().await, 1);
}

type Change = fn(&mut serde_json::Value);

#[tokio::test]
async fn a_wrong_checksum_schema_age_or_path_moves_no_tag() {
    let archive = packed(&[("vulnerability.db", b"rows")]);
    let registry = TestRegistry::docker().await;
    let work = tempfile::tempdir().unwrap();
    let cases: [(Change, &str); 7] = [
        (
            |latest| latest["checksum"] = json!(Digest::of(b"other")),
            "with checksum sha256:",
        ),
        (|latest| latest["schemaVersion"] = json!("v5.1.0"), "schema v6"),
        (
            |latest| latest["built"] = json!("2026-11-01T00:00:00Z"),
            "at most 120 h",
        ),
        (
            |latest| latest["built"] = json!("2027-11-01T00:00:00Z"),
            "which is to come",
        ),
        (|latest| latest["path"] = json!("../../x.tar.gz"), "beside the listing"),
        (|latest| latest["status"] = json!("eol"), "not made any more"),
        (
            |latest| drop(latest.as_object_mut().unwrap().remove("checksum")),
            "missing field `checksum`",
        ),
    ];
    for (change, words) in cases {
        let listing = Listing::of(&archive, change).await;
        let error = grype(&listing, &registry, &work).await.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    for (files, words) in [
        (packed(&[("other", b"x")]), "expected vulnerability.db"),
        (
            packed(&[("vulnerability.db", b"a"), ("x/vulnerability.db", b"b")]),
            "is there twice",
        ),
        (archive[..archive.len() / 2].to_vec(), "cannot be read"),
        (b"plain text".to_vec(), "expected gzip or zstd"),
    ] {
        let listing = Listing::of(&files, |_| {}).await;
        let error = grype(&listing, &registry, &work).await.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let image: ImageRef = format!("{}/db/grype:6", registry.host()).parse().unwrap();
    assert!(
        registry
            .client()
            .head(&image, &Auth::anonymous())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_large_archive_and_plain_http_are_refused() {
    let noise: Vec<u8> = (0..3_u32 << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let noise = packed(&[("vulnerability.db", &noise)]);
    let registry = TestRegistry::docker().await;
    let work = tempfile::tempdir().unwrap();
    let listing = Listing::of(&noise, |_| {}).await;
    let source = format!("http://{}/databases", listing.host);
    let to = format!("{}/db/grype:6", registry.host());
    let hosts = ["--insecure-host", registry.host()];
    let words = [
        &[
            "--scanner",
            "grype",
            "--source",
            &source,
            "--to",
            &to,
            "--max-mebibytes",
            "1",
        ][..],
        &hosts,
    ]
    .concat();
    assert!(
        refreshed(&words, &work)
            .await
            .unwrap_err()
            .contains("expected an https:// source")
    );
    let words = [&words[..], &["--insecure-host", &listing.host]].concat();
    assert!(
        refreshed(&words, &work)
            .await
            .unwrap_err()
            .contains("raise --max-mebibytes")
    );
    let words = ["--scanner", "trivy", "--source", "https://x.example/db", "--to", &to];
    assert!(
        refreshed(&words, &work)
            .await
            .unwrap_err()
            .contains("REPOSITORY:TAG for Trivy")
    );
}

/// Pushes what Trivy's makers publish.
async fn published(registry: &TestRegistry, archive: &[u8], media_type: &str) -> ImageRef {
    let (client, auth) = (registry.client(), Auth::anonymous());
    let repository = registry.repository("aquasec/trivy-db");
    let layer = client
        .put_blob(&repository, Bytes::copy_from_slice(archive), &auth)
        .await
        .unwrap();
    let config = client
        .put_blob(&repository, Bytes::from_static(b"{}"), &auth)
        .await
        .unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.aquasec.trivy.config.v1+json", "digest": config.digest, "size": 2},
        "layers": [{"mediaType": media_type, "digest": layer.digest, "size": layer.size}],
    });
    let bytes = Bytes::from(manifest.to_string());
    let tag = Reference::Tag("2".into());
    client
        .put_manifest(
            &repository,
            &tag,
            "application/vnd.oci.image.manifest.v1+json",
            bytes,
            &auth,
        )
        .await
        .unwrap();
    repository.tagged("2").unwrap()
}

#[tokio::test]
async fn trivy_s_artifact_becomes_an_image_and_what_is_stale_does_not() {
    let registry = TestRegistry::docker().await;
    let work = tempfile::tempdir().unwrap();
    let metadata = |built: &str, version: u32| json!({"Version": version, "UpdatedAt": built}).to_string();
    let fresh = metadata("2026-11-24T06:00:00Z", 2);
    let with = |metadata: &str| packed(&[("trivy.db", b"rows"), ("metadata.json", metadata.as_bytes())]);
    let to = format!("{}/db/trivy:2", registry.host());
    let bring = async |archive: &[u8], media_type: &str| {
        let source = published(&registry, archive, media_type).await.to_string();
        let words = [
            "--scanner",
            "trivy",
            "--source",
            &source,
            "--to",
            &to,
            "--insecure-host",
            registry.host(),
        ];
        refreshed(&words, &work).await
    };
    let layer_type = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip";
    for (archive, media_type, words) in [
        (with(&metadata("2024-11-24T06:00:00Z", 2)), layer_type, "at most 120 h"),
        (with(&metadata("2026-11-24T06:00:00Z", 3)), layer_type, "schema 2"),
        (
            packed(&[("trivy.db", b"rows")]),
            layer_type,
            "expected trivy.db and metadata.json",
        ),
        (
            with(&fresh),
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "to be Trivy's database",
        ),
    ] {
        let error = bring(&archive, media_type).await.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let digest = bring(&with(&fresh), layer_type).await.unwrap();
    let files = layer(&registry, &to.parse().unwrap()).await;
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["db/", "db/trivy.db", "db/metadata.json"]);
    assert_eq!(bring(&with(&fresh), layer_type).await.unwrap(), digest);
}

/// The archive as Grype's makers pack it, read by the real Grype after the way through the registry; skipped (with a
/// line of output) where it is not built or `REPAVE_TEST_IMAGES` does not name the folder with `grype-db`.
#[tokio::test]
async fn the_real_grype_takes_the_image_s_files_for_a_valid_database() {
    let (Some(images), Some(grype_program)) = (std::env::var_os("REPAVE_TEST_IMAGES"), tool("grype")) else {
        println!("skipped: set REPAVE_TEST_IMAGES and build grype");
        return;
    };
    let database = std::fs::read(PathBuf::from(images).join("grype-db/6/vulnerability.db")).unwrap();
    let archive = packed(&[("vulnerability.db", &database)]);
    let (listing, registry) = (Listing::of(&archive, |_| {}).await, TestRegistry::docker().await);
    let work = tempfile::tempdir().unwrap();
    grype(&listing, &registry, &work).await.unwrap();
    let mounted = work.path().join("mounted/6");
    std::fs::create_dir_all(&mounted).unwrap();
    for (name, bytes) in layer(&registry, &format!("{}/db/grype:6", registry.host()).parse().unwrap()).await {
        if let Some(name) = name.strip_prefix("6/").filter(|name| !name.is_empty()) {
            std::fs::File::create(mounted.join(name))
                .unwrap()
                .write_all(&bytes)
                .unwrap();
        }
    }
    let status = std::process::Command::new(grype_program)
        .args(["db", "status", "-o", "json"])
        .env_clear()
        .envs([("GRYPE_DB_VALIDATE_AGE", "false"), ("GRYPE_DB_AUTO_UPDATE", "false")])
        .env("HOME", work.path())
        .env("GRYPE_DB_CACHE_DIR", work.path().join("mounted"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&status.stdout).into_owned() + &String::from_utf8_lossy(&status.stderr);
    assert!(status.status.success() && said.contains("\"valid\": true"), "{said}");
}
