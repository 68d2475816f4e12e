//! Redirects, locations, pages and hosts: where the client goes, and with what.

use super::hostile::{FREE, fake, ok, repository};
use crate::registry::{
    Auth, Client, ClientOptions, Error,
    manifest::{OCI_INDEX, OCI_MANIFEST},
    testing::client_for,
};
use bytes::Bytes;
use repave_core::digest::Digest;
use wiremock::{
    Mock, ResponseTemplate,
    matchers::{header, method, path, path_regex, query_param},
};

fn insecure_and_secure_errors(error: &Error) -> (&'static str, bool) {
    (error.reason(), error.to_string().contains("secret-in-query"))
}

#[tokio::test]
async fn a_redirect_is_followed_without_credentials_and_never_to_a_forbidden_place() {
    let (server, client) = fake().await;
    let (storage, _) = fake().await;
    let json = format!(
        r#"{{"auths":{{"{}":{{"username":"u","password":"p"}}}}}}"#,
        server.address()
    );
    let auth = Auth::new(crate::registry::Credentials::from_dockerconfigjson(json.as_bytes()).unwrap());
    let digest = Digest::of(b"content");
    let redirect = |to: &str| ResponseTemplate::new(307).insert_header("location", to);
    let at = |name: &str| path(format!("/v2/{name}/blobs/{digest}"));
    let basic = "Basic dTpw";
    Mock::given(at("good"))
        .and(header("authorization", basic))
        .respond_with(redirect(&format!("{}/data?secret-in-query=1", storage.uri())))
        .with_priority(1)
        .mount(&server)
        .await;
    Mock::given(at("good"))
        .respond_with(ResponseTemplate::new(401).insert_header("www-authenticate", "Basic realm=x"))
        .mount(&server)
        .await;
    Mock::given(at("loop"))
        .respond_with(redirect(&format!("/v2/loop/blobs/{digest}")))
        .mount(&server)
        .await;
    Mock::given(at("file"))
        .respond_with(redirect("file:///etc/passwd?secret-in-query"))
        .mount(&server)
        .await;
    Mock::given(path("/data"))
        .respond_with(ok(b"content"))
        .mount(&storage)
        .await;
    let body = client
        .get_blob(&repository(&server, "good"), &digest, 100, &auth)
        .await
        .unwrap();
    assert_eq!(body, "content");
    let at_storage = storage.received_requests().await.unwrap();
    assert_eq!(at_storage.len(), 1);
    assert!(
        !at_storage[0].headers.contains_key("authorization"),
        "the credential went to another host"
    );
    for name in ["loop", "file"] {
        let error = client
            .get_blob(&repository(&server, name), &digest, 100, &auth)
            .await
            .unwrap_err();
        assert_eq!(
            insecure_and_secure_errors(&error),
            ("RegistryRedirectRefused", false),
            "{name}: {error}"
        );
    }
}

#[tokio::test]
async fn an_upload_location_elsewhere_gets_no_credentials() {
    let (server, client) = fake().await;
    let (other, _) = fake().await;
    let json = format!(
        r#"{{"auths":{{"{}":{{"username":"u","password":"p"}}}}}}"#,
        server.address()
    );
    let auth = Auth::new(crate::registry::Credentials::from_dockerconfigjson(json.as_bytes()).unwrap());
    let home = path_regex("^/v2/a/");
    let session = ResponseTemplate::new(202).insert_header("location", format!("{}/up", other.uri()));
    Mock::given(method("HEAD"))
        .and(header("authorization", "Basic dTpw"))
        .respond_with(ResponseTemplate::new(404))
        .with_priority(1)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(header("authorization", "Basic dTpw"))
        .respond_with(session)
        .with_priority(1)
        .mount(&server)
        .await;
    let challenge = ResponseTemplate::new(401).insert_header("www-authenticate", "Basic realm=x");
    Mock::given(home).respond_with(challenge).mount(&server).await;
    Mock::given(path("/up"))
        .respond_with(ResponseTemplate::new(201))
        .mount(&other)
        .await;
    client
        .put_blob(&repository(&server, "a"), Bytes::from_static(b"x"), &auth)
        .await
        .unwrap();
    let requests = other.received_requests().await.unwrap();
    assert!(
        requests
            .iter()
            .all(|request| !request.headers.contains_key("authorization"))
    );
    assert_eq!(requests.len(), 1);
}

#[tokio::test]
async fn only_allowed_hosts_are_asked_and_local_addresses_only_when_named() {
    let refused = |client: Client, image: &'static str| async move {
        let error = client.head(&image.parse().unwrap(), &FREE()).await.unwrap_err();
        (error.reason(), error.to_string())
    };
    for image in ["169.254.169.254/latest:v1", "127.0.0.1:1/a:v1", "localhost:1/a:v1"] {
        assert_eq!(refused(client_for(&[]), image).await.0, "RegistryNotAllowed", "{image}");
    }
    let client = Client::new(ClientOptions {
        allowed_hosts: ["*.example.com".to_owned(), "127.0.0.1:1".to_owned()].into(),
        ..ClientOptions::default()
    })
    .unwrap();
    for image in ["example.org/a:v1", "evilexample.com/a:v1", "example.com/a:v1"] {
        assert_eq!(refused(client.clone(), image).await.0, "RegistryNotAllowed", "{image}");
    }
    assert_eq!(refused(client, "127.0.0.1:1/a:v1").await.0, "RegistryUnreachable");
}

#[tokio::test]
async fn tags_are_read_page_by_page_and_only_at_home() {
    let (server, client) = fake().await;
    let page = |body: &str, next: &str| {
        ResponseTemplate::new(200)
            .set_body_raw(body.as_bytes().to_vec(), "application/json")
            .insert_header("link", next)
    };
    let last = ResponseTemplate::new(200).set_body_raw(br#"{"tags":["c","../x"]}"#.to_vec(), "application/json");
    Mock::given(path("/v2/a/tags/list"))
        .and(query_param("last", "b"))
        .respond_with(last)
        .with_priority(1)
        .mount(&server)
        .await;
    let first = page(r#"{"tags":["a","b"]}"#, r#"</v2/a/tags/list?last=b&n=2>; rel="next""#);
    Mock::given(path("/v2/a/tags/list"))
        .respond_with(first)
        .mount(&server)
        .await;
    let away = page(r#"{"tags":[]}"#, r#"<http://169.254.169.254/v2/>; rel="next""#);
    Mock::given(path("/v2/evil/tags/list"))
        .respond_with(away)
        .mount(&server)
        .await;
    let endless = page(r#"{"tags":["x"]}"#, r#"</v2/endless/tags/list?last=x>; rel="next""#);
    Mock::given(path("/v2/endless/tags/list"))
        .respond_with(endless)
        .mount(&server)
        .await;
    assert_eq!(
        client.list_tags(&repository(&server, "a"), &FREE()).await.unwrap(),
        ["a", "b", "c"]
    );
    let error = client
        .list_tags(&repository(&server, "evil"), &FREE())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "RegistryRedirectRefused");
    let error = client
        .list_tags(&repository(&server, "endless"), &FREE())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "RegistryAnswerMalformed");
}

#[tokio::test]
async fn referrers_are_read_page_by_page_and_filtered_here() {
    let (server, client) = fake().await;
    let row = |text: &str, kind: &str| {
        let digest = Digest::of(text.as_bytes());
        format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":1,"artifactType":"{kind}"}}"#)
    };
    let index = |rows: &str| {
        ResponseTemplate::new(200).set_body_raw(format!(r#"{{"schemaVersion":2,"manifests":[{rows}]}}"#), OCI_INDEX)
    };
    let subject = Digest::of(b"subject");
    let at = format!("/v2/a/referrers/{subject}");
    Mock::given(path(&at))
        .and(query_param("page", "2"))
        .respond_with(index(&row("2", "b")))
        .with_priority(1)
        .mount(&server)
        .await;
    let first = index(&format!("{},{}", row("1", "b"), row("3", "other")))
        .insert_header("link", format!(r#"<{at}?page=2>; rel="next""#));
    Mock::given(path(&at)).respond_with(first).mount(&server).await;
    let found = client
        .referrers(&repository(&server, "a"), &subject, Some("b"), &FREE())
        .await
        .unwrap();
    let found: Vec<_> = found.into_iter().map(|entry| entry.digest).collect();
    assert_eq!(found, [Digest::of(b"1"), Digest::of(b"2")]);
}
