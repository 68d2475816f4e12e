//! The proxy before a small server that answers every write with 201 and counts it.

use super::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// An API server that counts what reaches it. A watch gives one line and then stays open.
async fn api_server() -> (kube::Client, Arc<AtomicU32>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicU32::new(0));
    let count = seen.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let count = count.clone();
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                count.fetch_add(1, Ordering::SeqCst);
                let watches = request.uri().query() == Some("watch=true");
                async move {
                    let line = Full::new(Bytes::from("{}\n"));
                    let body = if watches {
                        let never = futures::stream::pending::<Result<hyper::body::Frame<Bytes>, io::Error>>();
                        let first = futures::stream::once(async { Ok(hyper::body::Frame::data(Bytes::from("{}\n"))) });
                        let stream = futures::StreamExt::chain(first, never);
                        http_body_util::StreamBody::new(stream).boxed_unsync()
                    } else {
                        line.map_err(|never| match never {}).boxed_unsync()
                    };
                    let mut answer = Response::new(body);
                    if request.method() != "GET" {
                        *answer.status_mut() = hyper::StatusCode::CREATED;
                    }
                    Ok::<Answer, io::Error>(answer)
                }
            });
            tokio::spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new();
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (client(&format!("http://{address}")), seen)
}

fn client(url: &str) -> kube::Client {
    let config = kube::Config::new(url.parse().unwrap());
    let config = repave::runtime::client::bounded(&config, std::time::Duration::from_secs(5));
    kube::Client::try_from(config).unwrap()
}

async fn send(client: &kube::Client, method: &str, path: &str, body: &str) -> Result<u16, kube::Error> {
    let request = hyper::Request::builder().method(method).uri(path);
    let request = request.body(Bytes::from(body.to_owned()).into()).unwrap();
    let answer = client.send(request).await?;
    Ok(answer.status().as_u16())
}

const JOBS: &str = "/apis/batch/v1/namespaces/p/jobs";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/r/leases/l";

#[tokio::test]
async fn requests_are_counted_by_kind_and_writes_are_kept_in_order() {
    let (upstream, _) = api_server().await;
    let proxy = Proxy::start(upstream, || {}).await.unwrap();
    let operator = client(&proxy.url());
    send(&operator, "GET", JOBS, "").await.unwrap();
    send(&operator, "GET", JOBS, "").await.unwrap();
    let body = r#"{"metadata": {"name": "a"}}"#;
    assert_eq!(send(&operator, "POST", JOBS, body).await.unwrap(), 201);
    send(&operator, "PATCH", LEASE, "{}").await.unwrap();
    let record = proxy.record();
    let table = record.table();
    assert!(
        table.contains("| list jobs | 2 |") && table.contains("| patch leases | 1 |"),
        "{table}"
    );
    let writes: Vec<_> = record
        .writes
        .iter()
        .map(|write| (write.name.as_str(), write.status))
        .collect();
    assert_eq!(writes, [("a", 201)], "the lease is no part of the story");
    assert_eq!(record.created_twice(), []);
}

#[tokio::test]
async fn the_answer_of_a_write_is_withheld_at_most_three_times_and_the_write_is_done() {
    let (upstream, seen) = api_server().await;
    let proxy = Proxy::start(upstream, || {}).await.unwrap();
    proxy.set(Fault::LoseAnswer);
    let operator = client(&proxy.url());
    let mut answers = Vec::new();
    for second in 0..5 {
        // Only its time differs: it is one and the same write.
        let body = format!(r#"{{"metadata": {{"name": "a"}}, "at": "2026-01-01T00:00:0{second}Z"}}"#);
        answers.push(send(&operator, "POST", JOBS, &body).await.is_ok());
    }
    assert_eq!(answers, [false, false, false, true, true]);
    assert_eq!(seen.load(Ordering::SeqCst), 5, "each reached the API server");
    let record = proxy.record();
    assert_eq!(record.faults(), 3);
    assert_eq!(record.created_twice(), [("create jobs p/a".to_owned(), 5)]);
    assert_eq!(record.repeated().len(), 1);
    assert!(send(&operator, "GET", JOBS, "").await.is_ok(), "a read has its answer");
}

#[tokio::test]
async fn the_operator_is_dead_before_the_answer_comes_back() {
    let (upstream, seen) = api_server().await;
    let killed = Arc::new(AtomicU32::new(0));
    let kills = killed.clone();
    let proxy = Proxy::start(upstream, move || {
        kills.fetch_add(1, Ordering::SeqCst);
    });
    let proxy = proxy.await.unwrap();
    proxy.set(Fault::Kill);
    let operator = client(&proxy.url());
    assert!(
        send(&operator, "POST", JOBS, r#"{"metadata": {"name": "a"}}"#)
            .await
            .is_err()
    );
    assert!(
        send(&operator, "POST", JOBS, r#"{"metadata": {"name": "b"}}"#)
            .await
            .is_err()
    );
    assert_eq!((killed.load(Ordering::SeqCst), seen.load(Ordering::SeqCst)), (2, 2));
    proxy.set(Fault::None);
    assert!(
        send(&operator, "POST", JOBS, r#"{"metadata": {"name": "c"}}"#)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_watch_is_passed_on_line_by_line() {
    let (upstream, _) = api_server().await;
    let proxy = Proxy::start(upstream, || {}).await.unwrap();
    let operator = client(&proxy.url());
    let request = hyper::Request::get(format!("{JOBS}?watch=true"));
    let answer = operator.send(request.body(Bytes::new().into()).unwrap()).await.unwrap();
    let first = answer.into_body().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "{}\n");
    assert!(proxy.record().table().contains("| watch jobs | 1 |"));
}

#[tokio::test]
async fn an_api_server_that_is_away_is_a_bad_gateway() {
    let proxy = Proxy::start(client("http://127.0.0.1:1"), || {}).await.unwrap();
    assert_eq!(send(&client(&proxy.url()), "GET", JOBS, "").await.unwrap(), 502);
}
