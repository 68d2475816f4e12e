//! What a tenant's BaseImage costs the operator's memory: each edit of it makes a candidate, with its policies and files whole.

use super::*;
use std::sync::Mutex;

/// A process whose requests are noted.
fn noted() -> (Process, Arc<Mutex<Vec<String>>>) {
    let server = Server::default();
    let mut ctx = server.context();
    let (client, asked) = (ctx.client.clone(), Arc::<Mutex<Vec<String>>>::default());
    let log = asked.clone();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        log.lock().unwrap().push(request.uri().to_string());
        let client = client.clone();
        async move { client.send(request).await }
    });
    ctx.client = kube::Client::new(service, "default");
    (Process::start(server, ctx), asked)
}

/// `repave_cluster::lists` bounds the bytes of what says how many objects it takes, and nothing else.
#[tokio::test]
async fn every_list_of_a_base_image_says_how_many_objects_it_takes() {
    let (mut process, asked) = noted();
    process.server.put(&policy("platform"));
    process.server.put(&base_image("platform", 1, "r.test/base/debian"));
    process.upstream_is("v1");
    process.reconcile("platform/debian").await;
    assert_eq!(process.candidates().len(), 1);
    let asked = asked.lock().unwrap();
    let lists: Vec<&String> = asked.iter().filter(|uri| uri.contains("labelSelector=")).collect();
    let unbounded: Vec<&&String> = lists.iter().filter(|uri| !uri.contains("limit=")).collect();
    assert!(!lists.is_empty() && unbounded.is_empty(), "{unbounded:#?}");
}
