//! Kubernetes clients that fail in time, and objects that are read one by one ([`readable`]).
//!
//! Two defaults of the client library are switched off or on here on purpose: it would repeat a POST up to 15 times
//! over minutes, and it would wait for ever for an answer. The controllers' own requeue is the only retry.
//! Must not be bypassed: a client made elsewhere has the defaults again.

pub mod lists;
pub mod readable;

use kube::{Client, Config, client::ClientBuilder};
use lists::FewLists;
use std::time::Duration;

/// An ordinary request is answered within this, or it failed: the API server's own limit, so that no long list is cut.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The API server closes a watch after at most 295 s; silence beyond that means a dead connection.
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(330);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers to lists that are read at the same time: of reconciles, and of watches that begin. Not one limit for both: a watch may wait
/// for a dead connection for long.
const LISTS: usize = 2;
const LISTS_OF_WATCHES: usize = 1;
/// Answers to lists that the process reads at the same time.
pub const LISTS_AT_ONCE: usize = LISTS + LISTS_OF_WATCHES;

/// No client could be made. The causes are in the sentences, and not once more behind them.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a service account nor a kubeconfig.
    #[error(
        "expected a service account in the pod or a kubeconfig, found neither ({0}): set KUBECONFIG or run in a pod with its token mounted"
    )]
    Config(kube::config::InferConfigError),
    /// The configuration cannot be used.
    #[error("the cluster's configuration cannot be used ({0}): check the certificate authority and the credentials")]
    Client(kube::Error),
}

/// One client per purpose; they share nothing, so that a stuck watch cannot hold back a lease renewal.
#[derive(Clone)]
pub struct Clients {
    /// For reads and writes in reconciles.
    pub requests: Client,
    /// For watches only: silence is normal there.
    pub watches: Client,
    /// For the leader lease only.
    pub lease: Client,
}

impl Clients {
    /// Connects as the pod's service account, or as the kubeconfig says.
    pub async fn connect() -> Result<Self, ConnectError> {
        Self::new(&Config::infer().await.map_err(ConnectError::Config)?)
    }

    /// Clients for that cluster.
    pub fn new(config: &Config) -> Result<Self, ConnectError> {
        let client = |timeout, lists| {
            let builder = ClientBuilder::try_from(bounded(config, timeout)).map_err(ConnectError::Client)?;
            Ok(builder.with_layer(&FewLists::new(lists)).build())
        };
        Ok(Self {
            requests: client(REQUEST_TIMEOUT, LISTS)?,
            watches: client(WATCH_TIMEOUT, LISTS_OF_WATCHES)?,
            lease: client(REQUEST_TIMEOUT, LISTS)?,
        })
    }
}

/// The same cluster, without silent retries and with limits.
pub fn bounded(config: &Config, read_timeout: Duration) -> Config {
    let mut config = config.clone();
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(read_timeout);
    config.write_timeout = Some(REQUEST_TIMEOUT);
    // Otherwise the time a pooled connection lay idle counts against the next answer.
    config.reset_reader_on_write = true;
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Api, api::PostParams};
    use std::sync::Once;
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::method};

    fn config(server: &MockServer) -> Config {
        static TLS: Once = Once::new();
        TLS.call_once(|| {
            // Another test of this process may have been first; then the same provider is installed.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        Config::new(server.uri().parse().unwrap())
    }

    #[tokio::test]
    async fn a_create_that_the_server_did_not_take_is_sent_once() {
        let server = MockServer::start().await;
        for code in [429, 503, 504] {
            server.reset().await;
            Mock::given(method("POST"))
                .respond_with(ResponseTemplate::new(code).insert_header("Retry-After", "0"))
                .mount(&server)
                .await;
            let clients = Clients::new(&config(&server)).unwrap();
            let api: Api<ConfigMap> = Api::namespaced(clients.requests, "a");
            let mut map = ConfigMap::default();
            map.metadata.name = Some("b".into());
            assert!(api.create(&PostParams::default(), &map).await.is_err());
            assert_eq!(server.received_requests().await.unwrap().len(), 1, "{code}");
        }
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        let server = MockServer::start().await;
        Mock::given(method("GET"))
            .respond_with(ResponseTemplate::new(200).set_delay(Duration::from_secs(600)))
            .mount(&server)
            .await;
        let client = Client::try_from(bounded(&config(&server), Duration::from_millis(200))).unwrap();
        let api: Api<ConfigMap> = Api::namespaced(client, "a");
        assert!(api.get("b").await.is_err());
    }
}
