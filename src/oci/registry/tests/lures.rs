//! Answers of a hostile registry that lead elsewhere, never end, or are no digest; and credentials that must not be told.

use super::hostile::{FREE, fake, host, ok, repository};
use crate::registry::{Auth, Client, ClientOptions, Credentials, address, testing::client_for};
use std::time::Duration;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

/// Addresses of metadata services, and spellings of loopback, that a redirect or realm may name.
#[test]
fn no_spelling_of_a_metadata_or_loopback_address_is_followed() {
    let mut open = Vec::new();
    for (what, url) in [
        ("Azure wire server", "https://168.63.129.16/x"),
        ("Oracle classic metadata", "https://192.0.0.192/x"),
        ("EKS pod identity over IPv6", "https://[fd00:ec2::23]/v1/credentials"),
        ("Google metadata over IPv6", "https://[fd20:ce::254]/x"),
        ("6to4 of loopback", "https://[2002:7f00:1::]/x"),
        ("IPv4-compatible loopback", "https://[::127.0.0.1]/x"),
        ("NAT64 local prefix", "https://[64:ff9b:1::a9fe:a9fe]/x"),
    ] {
        if address::check(&url.parse().unwrap(), false).is_ok() {
            open.push(what);
        }
    }
    assert!(open.is_empty(), "followed: {open:?}");
}

/// A key with the user and password in it, as some tools write it: the message goes to a status that viewers read.
#[test]
fn a_password_in_the_key_of_a_dockerconfigjson_is_not_told() {
    let json = br#"{"auths":{"https://robot:hunter2@registry.example.com":{"auth":"eDp5"}}}"#;
    let error = Credentials::from_dockerconfigjson(json).unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_redirect_to_another_port_gets_no_credentials() {
    let (home, away) = (MockServer::start().await, MockServer::start().await);
    let client = client_for(&[&host(&home), &host(&away)]);
    let json = format!(
        r#"{{"auths":{{"{}":{{"username":"u","password":"secret"}}}}}}"#,
        host(&home)
    );
    let auth = Auth::new(Credentials::from_dockerconfigjson(json.as_bytes()).unwrap());
    Mock::given(method("HEAD"))
        .and(wiremock::matchers::header_exists("authorization"))
        .respond_with(ResponseTemplate::new(307).insert_header("location", format!("{}/x", away.uri()).as_str()))
        .mount(&home)
        .await;
    Mock::given(method("HEAD"))
        .respond_with(ResponseTemplate::new(401).insert_header("www-authenticate", "Basic realm=x"))
        .mount(&home)
        .await;
    Mock::given(method("HEAD"))
        .respond_with(ResponseTemplate::new(404))
        .mount(&away)
        .await;
    drop(client.head(&repository(&home, "a").tagged("v1").unwrap(), &auth).await);
    let seen = away.received_requests().await.unwrap();
    assert_eq!(seen.len(), 1);
    assert!(
        seen.iter()
            .all(|request| !request.headers.contains_key("authorization"))
    );
}

#[tokio::test]
async fn pages_that_link_to_themselves_end() {
    let (server, client) = fake().await;
    let page = ok(br#"{"tags":[]}"#).insert_header("link", "</v2/a/tags/list?n=1000>; rel=\"next\"");
    Mock::given(method("GET")).respond_with(page).mount(&server).await;
    let listed = tokio::time::timeout(
        Duration::from_secs(60),
        client.list_tags(&repository(&server, "a"), &FREE()),
    )
    .await;
    assert!(listed.expect("it ends").is_err());
    let asked = server.received_requests().await.unwrap().len();
    assert!(asked <= 2, "a page that links to itself was asked for {asked} times");
}

/// A byte now and then, for ever.
#[tokio::test]
async fn a_body_that_drips_ends_with_the_time_of_the_call() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                drop(stream.read(&mut bytes).await);
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\ncontent-length: 4000\r\n\r\n";
                drop(stream.write_all(head.as_bytes()).await);
                while stream.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
    });
    let client = Client::new(ClientOptions {
        insecure_hosts: [name.clone()].into(),
        call_timeout: Duration::from_secs(1),
        ..ClientOptions::default()
    })
    .unwrap();
    let image = format!("{name}/a:v1").parse().unwrap();
    let free = FREE();
    let asked = tokio::time::timeout(Duration::from_secs(15), client.get_manifest(&image, &free)).await;
    assert!(asked.expect("it ends").is_err());
}

#[tokio::test]
async fn a_digest_of_another_algorithm_or_with_capitals_is_none() {
    let (server, client) = fake().await;
    for (tag, digest) in [
        ("long", format!("sha512:{}", "a".repeat(128))),
        ("mixed", format!("sha256:{}", "A".repeat(64))),
        ("both", format!("sha256:{0},sha256:{0}", "a".repeat(64))),
    ] {
        let answer = ResponseTemplate::new(200)
            .insert_header("docker-content-digest", digest.as_str())
            .insert_header("content-type", "application/vnd.oci.image.manifest.v1+json");
        let at = wiremock::matchers::path(format!("/v2/a/manifests/{tag}"));
        Mock::given(method("HEAD"))
            .and(at)
            .respond_with(answer)
            .mount(&server)
            .await;
        let found = client
            .head(&repository(&server, "a").tagged(tag).unwrap(), &FREE())
            .await;
        assert!(!matches!(found, Ok(Some(_))), "{tag}: {found:?}");
    }
}
