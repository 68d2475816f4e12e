//! The client against registries that answer wrongly, too much, too late, or point elsewhere.

use crate::registry::{
    Auth, BlobMove, Client, ClientOptions, Descriptor, Error, Observer, Reference, manifest::OCI_MANIFEST,
    testing::client_for,
};
use bytes::Bytes;
use repave_core::{digest::Digest, image_ref::Repository};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_bytes, method, path, path_regex, query_param},
};

pub(super) const FREE: fn() -> Auth = Auth::anonymous;

pub(super) fn host(server: &MockServer) -> String {
    server.address().to_string()
}

pub(super) fn repository(server: &MockServer, name: &str) -> Repository {
    format!("{}/{name}", server.address()).parse().unwrap()
}

pub(super) async fn fake() -> (MockServer, Client) {
    let server = MockServer::start().await;
    let client = client_for(&[&host(&server)]);
    (server, client)
}

pub(super) fn ok(body: &[u8]) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(body.to_vec(), "application/octet-stream")
}

fn manifest(body: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(body.as_bytes().to_vec(), OCI_MANIFEST)
}

async fn bring(client: &Client, from: &Repository, to: &Repository, blob: &Descriptor) -> Result<BlobMove, Error> {
    client.mount_or_copy_blob(from, to, blob, &FREE(), &FREE()).await
}

async fn count(server: &MockServer, verb: &str) -> usize {
    let requests = server.received_requests().await.unwrap();
    requests
        .iter()
        .filter(|request| request.method.as_str() == verb)
        .count()
}

#[tokio::test]
async fn a_manifest_of_other_bytes_is_refused_whatever_the_header_says() {
    let (server, client) = fake().await;
    let wanted = Digest::of(b"wanted");
    let answer = manifest(r#"{"schemaVersion":2}"#).insert_header("docker-content-digest", wanted.as_str());
    Mock::given(method("GET")).respond_with(answer).mount(&server).await;
    let error = client
        .get_manifest(&repository(&server, "a").at(&wanted), &FREE())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "DigestMismatch");
    let by_tag = client
        .get_manifest(&repository(&server, "a").tagged("v1").unwrap(), &FREE())
        .await
        .unwrap_err();
    assert_eq!(by_tag.reason(), "DigestMismatch");
}

#[tokio::test]
async fn a_blob_of_other_bytes_is_never_completed_at_the_target() {
    let (from, _) = fake().await;
    let (to, _) = fake().await;
    let client = client_for(&[&host(&from), &host(&to)]);
    Mock::given(method("GET")).respond_with(ok(b"evil")).mount(&from).await;
    Mock::given(method("HEAD"))
        .respond_with(ResponseTemplate::new(404))
        .mount(&to)
        .await;
    let session = ResponseTemplate::new(202).insert_header("location", "/v2/b/blobs/uploads/1?state=x");
    Mock::given(method("POST"))
        .respond_with(session.clone())
        .mount(&to)
        .await;
    Mock::given(method("PATCH")).respond_with(session).mount(&to).await;
    Mock::given(method("DELETE"))
        .respond_with(ResponseTemplate::new(204))
        .mount(&to)
        .await;
    for (expected, reason) in [
        ("good", "DigestMismatch"),
        ("longer", "SizeMismatch"),
        ("sho", "SizeMismatch"),
    ] {
        let blob = Descriptor::of("x", expected.as_bytes());
        let moved = bring(&client, &repository(&from, "a"), &repository(&to, "b"), &blob).await;
        assert_eq!(moved.unwrap_err().reason(), reason);
    }
    assert_eq!(count(&to, "PUT").await, 0, "no upload may be completed");
    assert!(count(&to, "DELETE").await >= 1, "the session is cancelled");
}

#[tokio::test]
async fn a_refused_mount_gives_a_session_that_is_used() {
    let (server, client) = fake().await;
    let blob = Descriptor::of("x", b"content");
    let state = ResponseTemplate::new(202).insert_header("location", "/v2/b/blobs/uploads/7?state=1");
    Mock::given(method("HEAD"))
        .respond_with(ResponseTemplate::new(404))
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(query_param("mount", blob.digest.as_str()))
        .and(query_param("from", "a"))
        .respond_with(state.clone())
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .and(path(format!("/v2/a/blobs/{}", blob.digest)))
        .respond_with(ok(b"content"))
        .mount(&server)
        .await;
    Mock::given(method("PATCH"))
        .and(path("/v2/b/blobs/uploads/7"))
        .and(body_bytes(b"content".to_vec()))
        .respond_with(ResponseTemplate::new(202).insert_header("location", "/v2/b/blobs/uploads/7?state=2"))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("PUT"))
        .and(query_param("state", "2"))
        .and(query_param("digest", blob.digest.as_str()))
        .respond_with(ResponseTemplate::new(201))
        .expect(1)
        .mount(&server)
        .await;
    let moved = bring(&client, &repository(&server, "a"), &repository(&server, "b"), &blob).await;
    assert_eq!(moved.unwrap(), BlobMove::Copied);
    let second = repository(&server, "c");
    Mock::given(method("POST"))
        .and(path("/v2/c/blobs/uploads/"))
        .respond_with(ResponseTemplate::new(201))
        .mount(&server)
        .await;
    let mounted = client
        .mount_or_copy_blob(&repository(&server, "b"), &second, &blob, &FREE(), &FREE())
        .await
        .unwrap();
    assert_eq!(mounted, BlobMove::Mounted);
}

#[tokio::test]
async fn throttling_says_how_long_and_is_not_retried() {
    let (server, client) = fake().await;
    let answers = [
        ("429", 429, "7"),
        ("503", 503, "7"),
        ("long", 429, "999999"),
        ("date", 429, "Thu, 01 Jan 1970 00:00:01 GMT"),
    ];
    for (tag, code, after) in answers {
        let answer = ResponseTemplate::new(code).insert_header("retry-after", after);
        let at = path(format!("/v2/a/manifests/{tag}"));
        Mock::given(method("HEAD"))
            .and(at)
            .respond_with(answer)
            .expect(1)
            .mount(&server)
            .await;
    }
    for (tag, seconds) in [("429", 7), ("503", 7), ("long", 3600), ("date", 0)] {
        let error = client
            .head(&repository(&server, "a").tagged(tag).unwrap(), &FREE())
            .await
            .unwrap_err();
        assert_eq!(
            error.retry_after(),
            Some(Duration::from_secs(seconds)),
            "{tag}: {error}"
        );
        assert_eq!(error.reason(), "RegistryThrottled");
    }
}

#[derive(Default)]
struct Log(Mutex<Vec<(String, &'static str, u16)>>);

impl Observer for Log {
    fn request(&self, host: &str, verb: &'static str, code: u16) {
        self.0.lock().unwrap().push((host.to_owned(), verb, code));
    }
}

#[tokio::test]
async fn a_server_error_is_retried_twice_and_every_request_is_observed() {
    let server = MockServer::start().await;
    let log = Arc::new(Log::default());
    let client = Client::new(ClientOptions {
        insecure_hosts: [host(&server)].into(),
        observer: Some(Arc::clone(&log) as Arc<dyn Observer>),
        ..ClientOptions::default()
    })
    .unwrap();
    Mock::given(method("HEAD"))
        .respond_with(ResponseTemplate::new(500))
        .expect(3)
        .mount(&server)
        .await;
    let error = client
        .head(&repository(&server, "a").tagged("v1").unwrap(), &FREE())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "RegistryUnavailable");
    let row = (host(&server), "head_manifest", 500);
    assert_eq!(*log.0.lock().unwrap(), [row.clone(), row.clone(), row]);
}

#[tokio::test]
async fn bodies_that_are_too_large_are_not_read() {
    let (server, client) = fake().await;
    let large = vec![b' '; (4 << 20) + 1];
    Mock::given(method("GET"))
        .respond_with(manifest(&String::from_utf8(large).unwrap()))
        .mount(&server)
        .await;
    let error = client
        .get_manifest(&repository(&server, "a").tagged("v1").unwrap(), &FREE())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "RegistryContentTooLarge");
}

#[tokio::test]
async fn a_fallback_list_that_others_overwrite_for_ever_is_an_error() {
    let (server, client) = fake().await;
    let image = Descriptor::of(OCI_MANIFEST, b"image");
    Mock::given(method("HEAD"))
        .respond_with(ResponseTemplate::new(200))
        .mount(&server)
        .await;
    Mock::given(path_regex("referrers"))
        .respond_with(ResponseTemplate::new(404))
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(404))
        .mount(&server)
        .await;
    Mock::given(method("PUT"))
        .respond_with(ResponseTemplate::new(201))
        .mount(&server)
        .await;
    let artifact = crate::registry::Artifact::single("a/b", "a/b", Bytes::from_static(b"x"), [].into());
    let error = client
        .attach(&repository(&server, "a"), &image, &artifact, &FREE())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "ReferrersContended");
    assert_eq!(count(&server, "PUT").await, 6, "the artifact once, the list five times");
}

#[tokio::test]
async fn a_dead_registry_is_unreachable_and_a_refusal_names_its_code() {
    let client = client_for(&["127.0.0.1:1"]);
    let error = client
        .head(&"127.0.0.1:1/a:v1".parse().unwrap(), &FREE())
        .await
        .unwrap_err();
    assert!(
        error.reason() == "RegistryUnreachable" && error.is_transient(),
        "{error}"
    );
    let (server, client) = fake().await;
    let answer = ResponseTemplate::new(400).set_body_string(r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#);
    Mock::given(method("PUT")).respond_with(answer).mount(&server).await;
    let tag = Reference::Tag("v1".to_owned());
    let error = client
        .put_manifest(
            &repository(&server, "a"),
            &tag,
            OCI_MANIFEST,
            Bytes::from_static(b"{}"),
            &FREE(),
        )
        .await
        .unwrap_err();
    assert!(error.to_string().contains("400 MANIFEST_BLOB_UNKNOWN"), "{error}");
    let tag = Reference::Tag("../v1".to_owned());
    let error = client
        .put_manifest(
            &repository(&server, "a"),
            &tag,
            OCI_MANIFEST,
            Bytes::from_static(b"{}"),
            &FREE(),
        )
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "ReferenceIncomplete");
}
