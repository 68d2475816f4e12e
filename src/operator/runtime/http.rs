//! `/livez`, `/readyz` and `/metrics`: what kubelet and Prometheus ask.
//!
//! Must not show a secret nor take input: every path is fixed and bodies are not read.

use super::{
    metrics::{CONTENT_TYPE, Metrics},
    readiness::Readiness,
};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use std::{fmt::Write, future::IntoFuture as _, io, net::SocketAddr, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long requests that had begun are still answered at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// The endpoints could not be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve health and metrics on {bind} ({error}): free the port or set --http-bind to another address")]
pub struct ServeError {
    /// The address.
    pub bind: SocketAddr,
    /// What the system says.
    #[source]
    pub error: io::Error,
}

#[derive(Clone)]
struct Endpoints {
    readiness: Readiness,
    metrics: Metrics,
}

/// Binds the address now, so that a taken port is an error at the start.
pub async fn bind(bind: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(bind)
        .await
        .map_err(|error| ServeError { bind, error })
}

/// Serves until `shutdown` is cancelled and the requests that had begun are answered, or [`LAST_ANSWERS`] is over: nobody who
/// holds a connection open keeps a replica that lost its lease from making room.
///
/// Cancel it last: kubelet asks also while the process drains.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let late = {
        let shutdown = shutdown.clone();
        async move {
            shutdown.cancelled().await;
            tokio::time::sleep(LAST_ANSWERS).await;
        }
    };
    let served = axum::serve(listener, router(readiness, metrics)).with_graceful_shutdown(shutdown.cancelled_owned());
    tokio::select! {
        served = served.into_future() => served,
        () = late => Ok(()),
    }
}

fn router(readiness: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Endpoints { readiness, metrics })
}

async fn readyz(State(endpoints): State<Endpoints>) -> Response {
    let missing = endpoints.readiness.missing();
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    let mut text = String::new();
    for (gate, why) in missing {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}: {why}", gate.as_str());
    }
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn scrape(State(endpoints): State<Endpoints>) -> Response {
    match endpoints.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::readiness::Gate;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Server {
        address: SocketAddr,
        readiness: Readiness,
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<io::Result<()>>,
    }

    async fn server() -> Server {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (readiness, shutdown) = (Readiness::default(), CancellationToken::new());
        Server {
            address: listener.local_addr().unwrap(),
            readiness: readiness.clone(),
            shutdown: shutdown.clone(),
            task: tokio::spawn(serve(listener, readiness, Metrics::new(), shutdown)),
        }
    }

    async fn get(server: &Server, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn readyz_names_what_is_missing_and_livez_does_not_care() {
        let server = server().await;
        assert!(get(&server, "/livez").await.starts_with("HTTP/1.1 200"));
        server.readiness.open(Gate::Lease);
        server.readiness.shut(
            Gate::Crds,
            "waivers.repave.dev is missing; install the chart repave-crds",
        );
        let answer = get(&server, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer
                .ends_with("crds: waivers.repave.dev is missing; install the chart repave-crds\ncaches: not started\n"),
            "{answer}"
        );
        server.readiness.open(Gate::Crds);
        server.readiness.open(Gate::Caches);
        assert!(get(&server, "/readyz").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn metrics_are_served_as_openmetrics_and_nothing_else_is() {
        let server = server().await;
        let answer = get(&server, "/metrics").await;
        assert!(
            answer.contains("application/openmetrics-text; version=1.0.0"),
            "{answer}"
        );
        assert!(
            answer.contains("repave_leader 0") && answer.ends_with("# EOF\n"),
            "{answer}"
        );
        assert!(get(&server, "/debug").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_taken_port_is_told_with_what_to_do() {
        let server = server().await;
        let error = bind(server.address).await.unwrap_err().to_string();
        assert!(error.contains("--http-bind"), "{error}");
        server.shutdown.cancel();
        server.task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_request_that_never_ends_does_not_hold_up_the_end() {
        let server = server().await;
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: ").await.unwrap();
        assert!(
            get(&server, "/livez").await.starts_with("HTTP/1.1 200"),
            "it is being read"
        );
        // From here on the clock goes as fast as it can.
        tokio::time::pause();
        server.shutdown.cancel();
        server.task.await.unwrap().unwrap();
        drop(stream);
    }
}
