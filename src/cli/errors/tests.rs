//! What a person reads when something does not work: a real connection, the answers of an API server, files.

use super::*;
use kube::{Api, Config, api::ListParams, core::response::StatusDetails};
use repave_api::{BaseImage, ImageCandidate};
use repave_cluster::Clients;
use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

const AT: &str = "https://cluster.test:6443";

fn client(port: u16) -> kube::Client {
    // It installs the provider of TLS that the process needs.
    drop(registry::Client::new(registry::ClientOptions::default()));
    let config = Config::new(format!("http://127.0.0.1:{port}").parse().unwrap());
    Clients::new(&config).unwrap().requests
}

/// An API server that gives this answer to one request.
fn server(status: &str, body: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(answer.as_bytes()).unwrap();
    });
    port
}

async fn listed(port: u16) -> String {
    let api = Api::<BaseImage>::all(client(port));
    told(&api.list(&ListParams::default()).await.unwrap_err().into(), AT)
}

fn is_for_people(said: &str) {
    for dump in [
        "ApiError",
        "ServiceError",
        "Status {",
        "Some(",
        "client error (Connect)",
    ] {
        assert!(!said.contains(dump), "{said}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_with_its_address_and_the_cause_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let said = listed(port).await;
    is_for_people(&said);
    assert_eq!(said.matches("Connection refused").count(), 1, "{said}");
    assert!(
        said.starts_with(&format!("cannot reach the API server at {AT} (")),
        "{said}"
    );
    assert!(
        said.ends_with("): check the context (kubectl config current-context)"),
        "{said}"
    );
}

#[tokio::test]
async fn without_our_definitions_they_are_what_is_missing_and_not_the_object() {
    let missing = "the CustomResourceDefinitions are not installed: install charts/repave-crds";
    assert_eq!(listed(server("404 Not Found", "404 page not found\n")).await, missing);
    let api = Api::<ImageCandidate>::namespaced(client(server("404 Not Found", "404 page not found\n")), "n");
    let error = api.get("a").await.unwrap_err();
    assert!(!is_no_object(&error), "{error}");
    assert_eq!(told(&error.into(), AT), missing);
    let body = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,
        "message":"imagecandidates.repave.dev \"a\" not found",
        "details":{"name":"a","group":"repave.dev","kind":"imagecandidates"}}"#;
    let api = Api::<ImageCandidate>::namespaced(client(server("404 Not Found", body)), "n");
    let error = api.get("a").await.unwrap_err();
    assert!(is_no_object(&error), "{error}");
    assert_eq!(
        told(&error.into(), AT),
        "imagecandidates.repave.dev \"a\" not found: look at its name and its namespace (-n)"
    );
}

#[tokio::test]
async fn an_answer_that_is_no_list_is_told_with_what_to_compare() {
    let said = listed(server("200 OK", "{\"kind\": 1}")).await;
    is_for_people(&said);
    assert!(said.contains("is charts/repave-crds of the same version"), "{said}");
}

fn refused(code: u16, message: &str) -> String {
    let status = Status::failure(message, "Reason").with_code(code);
    let error = anyhow::Error::from(Error::Api(status.boxed())).context("BaseImage n/b could not be read");
    let said = told(&error, AT);
    is_for_people(&said);
    said
}

#[test]
fn what_may_not_be_done_is_said_once_with_the_role_to_ask_for() {
    let may_not = |what: &str| {
        refused(
            403,
            &format!("baseimages.repave.dev \"b\" is forbidden: User \"ann\" {what}"),
        )
    };
    assert_eq!(
        may_not("cannot list resource \"baseimages\" in API group \"repave.dev\" at the cluster scope"),
        "BaseImage n/b could not be read: this is not allowed: User \"ann\" cannot list resource \"baseimages\" in API group \
         \"repave.dev\" at the cluster scope: ask for the ClusterRole repave-viewer"
    );
    let patch = may_not("cannot patch resource \"baseimages\" in API group \"repave.dev\" in the namespace \"n\"");
    assert!(patch.ends_with("ask for the ClusterRole repave-editor"), "{patch}");
    let other = may_not("cannot get resource \"configmaps\" in API group \"\" in the namespace \"n\"");
    assert!(
        other.ends_with("ask whoever runs the cluster for this right"),
        "{other}"
    );
    let nobody = refused(
        403,
        "x is forbidden: User \"system:anonymous\" cannot list resource \"x\"",
    );
    assert!(nobody.ends_with("log in again"), "{nobody}");
    // The chart and the plain manifests have these roles.
    let roles = include_str!("../../../config/rbac/people_roles.yaml");
    let chart = include_str!("../../../charts/repave/templates/clusterroles-people.yaml");
    for role in [VIEWER, EDITOR] {
        assert!(roles.contains(&format!("  name: {role}\n")), "{role}");
        let made = role.replace("repave", "{{ include \"repave.name\" . }}");
        assert!(chart.contains(&format!("  name: {made}\n")), "{role}");
    }
}

#[test]
fn every_other_answer_is_one_sentence_without_control_characters() {
    assert_eq!(
        refused(401, "Unauthorized"),
        format!("BaseImage n/b could not be read: the API server at {AT} does not know who asks (401): log in again")
    );
    let said = refused(500, "etcd\u{1b}[2J\nis away");
    assert!(
        said.contains("answered 500 (etcd") && !said.contains(['\u{1b}', '\n']),
        "{said}"
    );
    let details: StatusDetails = serde_json::from_value(serde_json::json!({"name": "b"})).unwrap();
    let status = Status::failure("b not found", "NotFound")
        .with_code(404)
        .with_details(details);
    assert!(is_no_object(&Error::Api(status.boxed())));
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_told_with_its_cause_once_and_without_its_content() {
    let read = std::io::Error::from_raw_os_error(2);
    let gone = KubeconfigError::ReadConfig(read, "/nope/config".into());
    let said = kubeconfig(&gone);
    assert_eq!(said, "/nope/config: No such file or directory (os error 2)");
    let broken = serde_json::from_str::<()>("x").unwrap_err();
    let client = ConnectError::Client(Error::SerdeError(broken));
    let said = told(&anyhow::Error::from(client), AT);
    assert_eq!(said.matches("expected value").count(), 1, "{said}");
    assert!(
        said.ends_with("check its certificate authority and its credentials"),
        "{said}"
    );
    let context = KubeconfigError::LoadContext("prod".into());
    assert_eq!(kubeconfig(&context), "failed to load current context: prod");
}

#[test]
fn a_cause_that_is_in_the_text_already_is_told_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot read x: {source}")]
    struct Twice {
        source: std::io::Error,
    }
    let error = anyhow::Error::from(Twice {
        source: std::io::Error::from_raw_os_error(2),
    });
    assert_eq!(
        told(&error.context("the image"), ""),
        "the image: cannot read x: No such file or directory (os error 2)"
    );
    let refused = registry::Error::Unauthorized {
        host: "r.test".into(),
        verb: "GET",
        target: "base".into(),
        code: 401,
        with: registry::error::CredentialUse::Anonymous,
    };
    let said = told(&anyhow::Error::from(refused), "");
    assert!(
        said.contains("docker login r.test, or name a file with --auth") && !said.contains("Secret"),
        "{said}"
    );
}
