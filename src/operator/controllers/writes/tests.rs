//! What is sent, what is not, and what an answer means.

use super::*;
use crate::{
    controllers::{
        error::one_line,
        testing::{Api as Server, Fault},
    },
    runtime::lease::Leader,
};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::runtime::events::EventType;

fn map(owner: &str) -> ConfigMap {
    let object = json!({"metadata": {"name": "m", "namespace": "team", "ownerReferences": [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": owner, "controller": true},
    ]}});
    serde_json::from_value(object).unwrap()
}

fn is_controlled_by_job(there: &ConfigMap, owner: &str) -> bool {
    is_controlled_by::<Job>(there, owner)
}

async fn create_map(ctx: &Context, owner: &str) -> Result<Created<ConfigMap>, WriteError> {
    create_once(ctx, Kind::ConfigMap, &map(owner), |there| {
        is_controlled_by_job(there, owner)
    })
    .await
}

#[tokio::test]
async fn what_is_there_is_made_once_and_a_lost_answer_is_found_again() {
    let server = Server::default();
    let ctx = server.context();
    server.faults(|seen| (seen.verb == "POST").then_some(Fault::Lost));
    let error = create_map(&ctx, "mine").await.unwrap_err();
    assert_eq!(one_line(&error), "ConfigMap m could not be written: the answer is lost");
    server.heal();
    assert!(matches!(create_map(&ctx, "mine").await.unwrap(), Created::There(_)));
    assert_eq!(server.names("configmaps"), ["team/m"]);
}

#[tokio::test]
async fn what_somebody_else_put_under_the_name_is_not_taken_for_ours() {
    let server = Server::default();
    let ctx = server.context();
    assert!(matches!(create_map(&ctx, "theirs").await.unwrap(), Created::Made(_)));
    let error = create_map(&ctx, "mine").await.unwrap_err();
    assert_eq!((error.reason(), error.class()), ("NameTaken", Class::Waiting(WAIT)));
    assert!(
        error
            .to_string()
            .starts_with("ConfigMap team/m is there and is not ours"),
        "{error}"
    );
}

#[tokio::test]
async fn without_the_lease_nothing_is_sent() {
    let server = Server::default();
    let mut ctx = server.context();
    ctx.leader = Leader::never("test");
    assert!(matches!(create_map(&ctx, "mine").await, Err(WriteError::NotLeader(_))));
    assert!(matches!(
        resume(&ctx, &Job::default()).await,
        Err(WriteError::NotLeader(_))
    ));
    let job = Job::default();
    assert!(matches!(
        create_without_question(&ctx, &job).await,
        Err(Unsent::NotLeader(_))
    ));
    let gone = delete_once::<Job>(&ctx, Kind::Job, "team", "j", "u").await;
    assert!(matches!(gone, Err(WriteError::NotLeader(_))));
    let event = Event {
        type_: EventType::Normal,
        reason: "R".into(),
        note: None,
        action: "A".into(),
        secondary: None,
    };
    publish(&ctx, &ObjectReference::default(), &event).await;
    assert_eq!(server.seen(), []);
}

async fn create_without_question(ctx: &Context, job: &Job) -> Result<Job, Unsent> {
    create(ctx, Kind::Job, CHILDREN_MANAGER, job).await
}

#[tokio::test]
async fn only_the_very_object_is_deleted_and_each_write_is_counted() {
    let server = Server::default();
    let ctx = server.context();
    let made = create_map(&ctx, "mine").await.unwrap().into_object();
    let delete = |uid: String| {
        let ctx = ctx.clone();
        async move {
            delete_once::<ConfigMap>(&ctx, Kind::ConfigMap, "team", "m", &uid)
                .await
                .unwrap()
        }
    };
    assert!(!delete("another".into()).await);
    assert_eq!(server.names("configmaps"), ["team/m"]);
    assert!(delete(made.uid().unwrap()).await);
    assert!(!delete(made.uid().unwrap()).await, "it is gone");
    let counted = ctx.metrics.encode().unwrap();
    for (verb, count) in [("create", 1), ("delete", 1)] {
        let line = format!("repave_api_writes_total{{kind=\"ConfigMap\",verb=\"{verb}\"}} {count}");
        assert!(counted.contains(&line), "{line}\n{counted}");
    }
}

#[test]
fn what_is_too_large_is_not_tried_for_ever() {
    for (code, message, class) in [
        (413, "Request entity too large: limit is 3145728", Class::Stalled),
        (500, "etcdserver: request is too large", Class::Stalled),
        (500, "etcdserver: leader changed", Class::Transient),
        (403, "exceeded quota", Class::Transient),
    ] {
        let status = json!({"status": "Failure", "message": message, "reason": "X", "code": code});
        let error = WriteError::Api {
            kind: "ImageCandidate",
            name: "c".into(),
            cause: Box::new(kube::Error::Api(serde_json::from_value(status).unwrap())),
        };
        assert_eq!(error.class(), class, "{message}");
    }
}
