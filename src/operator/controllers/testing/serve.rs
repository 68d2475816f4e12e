//! Answers one request.

use super::{
    Api, Fault, Seen,
    path::Asked,
    store::{Change, Refusal},
};
use axum::body::Body as Answer;
use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use std::{convert::Infallible, future::pending};

fn answer(code: u16, body: &Value) -> Response<Answer> {
    let body = Answer::from(body.to_string());
    Response::builder().status(code).body(body).unwrap()
}

fn refused((code, reason, message): Refusal) -> Response<Answer> {
    answer(code, &status(code, reason, &message))
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code})
}

pub(super) async fn serve(api: Api, request: Request<Body>) -> Response<Answer> {
    let (method, asked) = (request.method().clone(), Asked::new(request.uri()));
    let body = request.into_body().collect_bytes().await.unwrap();
    let seen = Seen {
        verb: asked.verb(&method),
        resource: asked.whole_resource(),
        object: asked.object(),
    };
    let fault = {
        let mut inner = api.0.lock().unwrap();
        inner.log.push(seen.clone());
        inner.faults.as_mut().and_then(|faults| faults(&seen))
    };
    match fault {
        Some(Fault::Refused(code, reason)) => refused((code, reason, format!("refused: {reason}"))),
        Some(Fault::Silent) => pending().await,
        Some(Fault::Lost) => {
            drop(commit(&api, &method, &asked, &body));
            refused((504, "Timeout", "the answer is lost".to_owned()))
        }
        None if seen.verb == "WATCH" => watched(&api, asked),
        None => commit(&api, &method, &asked, &body).map_or_else(refused, |object| answer(200, &object)),
    }
}

fn commit(api: &Api, method: &Method, asked: &Asked, body: &[u8]) -> Result<Value, Refusal> {
    let sent = || serde_json::from_slice::<Value>(body).unwrap();
    let (resource, at) = (asked.resource.as_str(), asked.object());
    let store = &mut api.0.lock().unwrap().store;
    match asked.verb(method) {
        "GET" => store
            .get(resource, &at)
            .ok_or_else(|| (404, "NotFound", format!("{resource} {at:?} not found"))),
        "LIST" => Ok(page(store.list(resource), asked)),
        "POST" => {
            let mut object = sent();
            if let Some(namespace) = &asked.namespace {
                object["metadata"]["namespace"] = json!(namespace);
            }
            store.create(resource, object)
        }
        "PATCH" => store.patch(resource, &at, asked.subresource.is_some(), &sent()),
        "DELETE" => {
            let wanted = sent()["preconditions"]["uid"].clone();
            let found = store.get(resource, &at).map(|object| object["metadata"]["uid"].clone());
            if found.is_some_and(|found| !wanted.is_null() && wanted != found) {
                return Err((409, "Conflict", "Precondition failed: UID in precondition".to_owned()));
            }
            store.remove(resource, &at)
        }
        other => panic!("{other} {resource} is not served here"),
    }
}

/// Whether an object belongs to what was asked for.
fn wanted(asked: &Asked, object: &Value) -> bool {
    let meta = &object["metadata"];
    let here = asked
        .namespace
        .as_ref()
        .is_none_or(|namespace| meta["namespace"] == *namespace);
    here && asked.selects(&meta["labels"])
}

fn page((all, version): (Vec<Value>, u64), asked: &Asked) -> Value {
    let number = |key: &str| asked.query.get(key).and_then(|text| text.parse::<usize>().ok());
    let (skip, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
    let ours: Vec<Value> = all
        .into_iter()
        .filter(|object| wanted(asked, object))
        .skip(skip)
        .collect();
    let more = ours.len() > limit;
    let mut meta = json!({"resourceVersion": version.to_string()});
    if more {
        meta["continue"] = json!((skip + limit).to_string());
    }
    let items: Vec<Value> = ours.into_iter().take(limit).collect();
    json!({"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items})
}

/// A stream of what happens, until the versions are compacted away.
fn watched(api: &Api, asked: Asked) -> Response<Answer> {
    let from = asked
        .query
        .get("resourceVersion")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let newest = api.0.lock().unwrap().store.newest();
    let events = stream::unfold(
        (api.clone(), asked, Some(from), newest),
        |(api, asked, from, mut newest)| async move {
            let mut from: u64 = from?;
            loop {
                newest.mark_unchanged();
                let changes = api.0.lock().unwrap().store.since(&asked.resource, from);
                let Some(changes) = changes else {
                    let gone = line("ERROR", &status(410, "Expired", "too old resource version"));
                    return Some((Ok::<_, Infallible>(gone), (api, asked, None, newest)));
                };
                from = changes.last().map_or(from, |change| change.version);
                let lines: Vec<Bytes> = changes.iter().filter_map(|change| told(&asked, change)).collect();
                if !lines.is_empty() {
                    return Some((Ok(lines.concat().into()), (api, asked, Some(from), newest)));
                }
                newest.changed().await.ok()?;
            }
        },
    );
    Response::builder()
        .status(200)
        .body(Answer::from_stream(events))
        .unwrap()
}

fn told(asked: &Asked, change: &Change) -> Option<Bytes> {
    wanted(asked, &change.object).then(|| line(change.kind, &change.object))
}

/// In the order of the API server: whoever reads it knows by the type what the object is before it comes.
fn line(kind: &str, object: &Value) -> Bytes {
    format!("{{\"type\":{},\"object\":{object}}}\n", json!(kind)).into()
}
