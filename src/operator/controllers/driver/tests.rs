//! The driver against an API server in memory.

use super::*;
use crate::{
    api::{Waiver, WaiverStatus},
    controllers::{
        conditions::Conditions,
        testing::{Api as Server, Fault},
    },
};
use jiff::Timestamp;

fn waiver(uid: &str) -> serde_json::Value {
    json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "Waiver",
        "metadata": {"name": "cve", "namespace": "team", "uid": uid},
        "spec": {
            "owner": "team", "reason": "nothing in the image calls it", "expiresAt": "2027-01-01T00:00:00Z",
            "scope": {"findings": [{"id": "CVE-2026-0001"}]},
        },
    })
}

fn seen() -> Waiver {
    serde_json::from_value(waiver("uid-of-the-first")).unwrap()
}

fn outcome(reason: &'static str) -> Outcome<WaiverStatus> {
    let mut conditions = Conditions::from(&[], 1, Timestamp::UNIX_EPOCH);
    conditions.ready(reason, "it is in force");
    Outcome {
        status: WaiverStatus {
            conditions: conditions.into_list(),
            ..WaiverStatus::default()
        },
        next: Requeue::After(Duration::from_secs(60)),
        events: vec![EventRecord {
            warning: false,
            reason,
            message: "said once".into(),
        }],
    }
}

fn stored_as(server: &Server, uid: &str) {
    server.put(&waiver(uid));
}

#[tokio::test]
async fn a_status_is_written_onto_the_object_that_was_read() {
    let server = Server::default();
    stored_as(&server, "uid-of-the-first");
    let action = finish(&server.context(), &seen(), outcome("Active")).await.unwrap();
    assert_eq!(action, Action::requeue(Duration::from_secs(60)));
    let stored = server.get("waivers", "team/cve").unwrap();
    assert_eq!(stored["status"]["conditions"][0]["reason"], "Active");
    assert_eq!(server.count("POST", "events"), 1);
}

#[tokio::test]
async fn an_object_that_was_made_anew_does_not_inherit_a_status_and_is_read_again_quietly() {
    let server = Server::default();
    stored_as(&server, "uid-of-the-second");
    let ctx = server.context();
    let action = finish(&ctx, &seen(), outcome("Active")).await.unwrap();
    assert_eq!(action, Action::requeue(Duration::from_secs(1)));
    assert!(server.get("waivers", "team/cve").unwrap()["status"].is_null());
    assert_eq!(server.count("POST", "events"), 0);
    server.remove("waivers", "team/cve");
    let action = finish(&ctx, &seen(), outcome("Active")).await.unwrap();
    assert_eq!(action, Action::requeue(Duration::from_secs(1)));
}

#[tokio::test]
async fn a_status_that_was_decided_on_an_older_reading_is_not_written_and_it_is_read_again() {
    let server = Server::default();
    stored_as(&server, "uid-of-the-first");
    let mut older = seen();
    let read = server.get("waivers", "team/cve").unwrap();
    older.metadata.resource_version = read["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    let ctx = server.context();
    let mut changed = waiver("uid-of-the-first");
    changed["metadata"]["labels"] = json!({"a": "b"});
    server.put(&changed);
    let action = finish(&ctx, &older, outcome("Active")).await.unwrap();
    assert_eq!(action, Action::requeue(Duration::from_secs(1)));
    assert!(server.get("waivers", "team/cve").unwrap()["status"].is_null());
}

#[test]
fn both_answers_of_a_real_server_to_another_uid_are_known() {
    for (code, reason, message, replaced) in [
        (
            409,
            "Conflict",
            "Precondition failed: UID in precondition: a, UID in object meta: b",
            true,
        ),
        (
            422,
            "Invalid",
            "Waiver.repave.dev \"cve\" is invalid: metadata.uid: Invalid value: \"a\": field is immutable",
            true,
        ),
        (404, "NotFound", "waivers.repave.dev \"cve\" not found", true),
        (
            422,
            "Invalid",
            "Waiver.repave.dev \"cve\" is invalid: status.usedBy: Too long",
            false,
        ),
        (403, "Forbidden", "cannot patch resource", false),
    ] {
        let answer = json!({"status": "Failure", "code": code, "reason": reason, "message": message});
        assert_eq!(
            is_replaced(&serde_json::from_value(answer).unwrap()),
            replaced,
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_status_whose_answer_was_lost_is_there_and_the_failure_is_told() {
    let server = Server::default();
    stored_as(&server, "uid-of-the-first");
    server.faults(|request| (request.verb == "PATCH").then_some(Fault::Lost));
    let error = finish(&server.context(), &seen(), outcome("Active")).await.unwrap_err();
    assert_eq!(one_line(&error), "Kubernetes API: the answer is lost");
    assert_eq!(
        server.get("waivers", "team/cve").unwrap()["status"]["conditions"][0]["reason"],
        "Active"
    );
}

#[tokio::test]
async fn a_throttled_status_is_tried_again_with_backoff() {
    let server = Server::default();
    stored_as(&server, "uid-of-the-first");
    server.faults(|request| (request.verb == "PATCH").then_some(Fault::Refused(429, "TooManyRequests")));
    let ctx = server.context();
    let object = seen();
    for seconds in [1, 2] {
        let error = finish(&ctx, &object, outcome("Active")).await.unwrap_err();
        assert_eq!(
            on_error(&object, &error, &ctx),
            Action::requeue(Duration::from_secs(seconds))
        );
    }
}

#[tokio::test]
async fn without_the_lease_nothing_is_written() {
    let server = Server::default();
    stored_as(&server, "uid-of-the-first");
    let mut ctx = server.context();
    ctx.leader = crate::runtime::lease::Leader::never("test");
    let error = finish(&ctx, &seen(), outcome("Active")).await.unwrap_err();
    assert!(matches!(error, DriverError::NotLeader(_)), "{error}");
    assert_eq!(server.count("PATCH", "waivers/status"), 0);
}
