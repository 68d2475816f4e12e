//! Bearer tokens: who gets which credential, for which scopes, and how often.

use crate::registry::{Auth, Client, Credentials, Descriptor, testing::client_for};
use repave_core::{digest::Digest, image_ref::Repository};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_string_contains, header, header_exists, method, path},
};

fn auth(server: &MockServer, entry: &str) -> Auth {
    let json = format!(r#"{{"auths":{{"{}":{entry}}}}}"#, server.address());
    Auth::new(Credentials::from_dockerconfigjson(json.as_bytes()).unwrap())
}

fn repository(server: &MockServer, name: &str) -> Repository {
    format!("{}/{name}", server.address()).parse().unwrap()
}

fn json(body: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(body.as_bytes().to_vec(), "application/json")
}

/// A registry that wants a bearer token of `realm` and has nothing but answers 404 to who brings one.
async fn registry(realm: &str) -> (MockServer, Client) {
    let server = MockServer::start().await;
    let client = client_for(&[&server.address().to_string()]);
    let realm = realm.replace("SELF", &server.uri());
    let challenge = format!(r#"Bearer realm="{realm}",service="the registry",scope="ignored""#);
    Mock::given(header("authorization", "Bearer good"))
        .respond_with(ResponseTemplate::new(404))
        .with_priority(2)
        .mount(&server)
        .await;
    Mock::given(wiremock::matchers::path_regex("^/v2/"))
        .respond_with(ResponseTemplate::new(401).insert_header("www-authenticate", challenge.as_str()))
        .with_priority(5)
        .mount(&server)
        .await;
    (server, client)
}

async fn token_queries(server: &MockServer) -> Vec<Vec<String>> {
    let requests = server.received_requests().await.unwrap();
    let asked = requests.iter().filter(|request| request.url.path() == "/token");
    asked
        .map(|request| {
            request
                .url
                .query_pairs()
                .map(|(key, value)| format!("{key}={value}"))
                .collect()
        })
        .collect()
}

#[tokio::test]
async fn a_token_is_asked_with_the_credential_once_and_kept() {
    let (server, client) = registry("SELF/token").await;
    Mock::given(path("/token"))
        .and(header("authorization", "Basic dTpw"))
        .respond_with(json(r#"{"token":"good","expires_in":300}"#))
        .with_priority(1)
        .mount(&server)
        .await;
    let auth = auth(&server, r#"{"username":"u","password":"p"}"#);
    let image = repository(&server, "a/b").tagged("v1").unwrap();
    for _ in 0..3 {
        assert_eq!(client.head(&image, &auth).await.unwrap(), None);
    }
    assert_eq!(
        token_queries(&server).await,
        [["service=the registry", "scope=repository:a/b:pull"]]
    );
    // Another credential never gets the token of this one.
    let error = client.head(&image, &Auth::anonymous()).await.unwrap_err();
    assert!(
        error.is_unauthorized() || error.reason() == "RegistryRefused",
        "{error}"
    );
}

#[tokio::test]
async fn a_mount_asks_for_both_repositories() {
    let (server, client) = registry("SELF/token").await;
    Mock::given(path("/token"))
        .respond_with(json(r#"{"access_token":"good"}"#))
        .with_priority(1)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(header("authorization", "Bearer good"))
        .respond_with(ResponseTemplate::new(201))
        .with_priority(1)
        .mount(&server)
        .await;
    let blob = Descriptor::of("x", b"content");
    let (from, to, free) = (repository(&server, "a"), repository(&server, "b"), Auth::anonymous());
    client
        .mount_or_copy_blob(&from, &to, &blob, &free, &free)
        .await
        .unwrap();
    let queries = token_queries(&server).await;
    let both = [
        "service=the registry",
        "scope=repository:b:pull,push",
        "scope=repository:a:pull",
    ]
    .map(str::to_owned);
    assert_eq!(queries.last().unwrap(), &both);
}

#[tokio::test]
async fn an_identity_token_is_posted_and_not_put_into_the_url() {
    let (server, client) = registry("SELF/token").await;
    Mock::given(method("POST"))
        .and(path("/token"))
        .and(body_string_contains("grant_type=refresh_token"))
        .and(body_string_contains("refresh_token=hunter2"))
        .respond_with(json(r#"{"access_token":"good"}"#))
        .with_priority(1)
        .mount(&server)
        .await;
    let auth = auth(&server, r#"{"identitytoken":"hunter2"}"#);
    assert_eq!(
        client
            .head(&repository(&server, "a").tagged("v1").unwrap(), &auth)
            .await
            .unwrap(),
        None
    );
    assert_eq!(token_queries(&server).await, [Vec::<String>::new()]);
}

#[tokio::test]
async fn a_credential_goes_to_no_host_but_its_own() {
    let (mine, client) = registry("SELF/token").await;
    let (other, _) = registry("SELF/token").await;
    let client = {
        drop(client);
        client_for(&[&mine.address().to_string(), &other.address().to_string()])
    };
    Mock::given(path("/token"))
        .respond_with(json(r#"{"token":"good"}"#))
        .with_priority(1)
        .mount(&other)
        .await;
    let auth = auth(&mine, r#"{"username":"u","password":"p"}"#);
    assert_eq!(
        client
            .head(&repository(&other, "a").tagged("v1").unwrap(), &auth)
            .await
            .unwrap(),
        None
    );
    let requests = other.received_requests().await.unwrap();
    let leaked = requests.iter().filter(|r| {
        r.headers
            .get("authorization")
            .is_some_and(|v| v.to_str().unwrap().starts_with("Basic"))
    });
    assert_eq!(leaked.count(), 0);
}

#[tokio::test]
async fn a_realm_that_redirects_or_lies_is_refused_and_its_answer_is_not_shown() {
    let (storage, _) = registry("SELF/token").await;
    Mock::given(header_exists("authorization"))
        .respond_with(json(r#"{"token":"good"}"#))
        .with_priority(1)
        .mount(&storage)
        .await;
    let (server, client) = registry("SELF/token").await;
    let away = ResponseTemplate::new(302).insert_header("location", storage.uri().as_str());
    Mock::given(path("/token"))
        .respond_with(away)
        .with_priority(1)
        .up_to_n_times(1)
        .mount(&server)
        .await;
    let denied = ResponseTemplate::new(401).set_body_string("hunter2");
    Mock::given(path("/token"))
        .respond_with(denied)
        .with_priority(2)
        .mount(&server)
        .await;
    let auth = auth(&server, r#"{"username":"u","password":"hunter2"}"#);
    let image = repository(&server, "a").at(&Digest::of(b"x"));
    let error = client.get_manifest(&image, &auth).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryRefused", "{error}");
    assert_eq!(
        storage.received_requests().await.unwrap().len(),
        0,
        "no redirect of a realm is followed"
    );
    let error = client.get_manifest(&image, &auth).await.unwrap_err();
    assert!(
        error.is_unauthorized() && !error.to_string().contains("hunter2"),
        "{error}"
    );
    for realm in ["file:///etc/passwd", "http://u:p@127.0.0.1/token", "nonsense"] {
        let (server, client) = registry(realm).await;
        let error = client
            .head(&repository(&server, "a").tagged("v1").unwrap(), &Auth::anonymous())
            .await
            .unwrap_err();
        assert!(
            matches!(error.reason(), "RegistryRedirectRefused" | "RegistryAnswerMalformed"),
            "{realm}: {error}"
        );
    }
}
