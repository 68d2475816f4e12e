//! Stands between the operator and the API server: counts requests, and makes the worst of each write.
//!
//! Plain HTTP towards the operator on a port of this machine, the credentials of a client towards the API server. Every
//! write that the API server took is kept in order. Must not change a request or an answer: it may only withhold one.

pub mod request;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use request::{Kind, Request};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::net::TcpListener;

/// A fault is done at most so often to one and the same write: an operator that repeats a write at each start would
/// otherwise never get past it. More than one is itself worth a look.
pub const MOST_FAULTS_PER_WRITE: u32 = 3;

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;
type Upstream = kube::Client;

/// What is done to writes that the API server has taken, before their answer comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The operator is killed: it never learns the answer.
    Kill,
    /// The connection is closed without an answer.
    LoseAnswer,
}

/// A write that the API server has answered.
#[derive(Debug, Clone)]
pub struct Write {
    /// What it did.
    pub request: Request,
    /// The object's name, also where only the body has it.
    pub name: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// What was done to it.
    pub fault: Fault,
    /// When, since the proxy started.
    pub at: std::time::Duration,
    /// The same write has the same word, whatever the times in it are.
    key: String,
}

/// Requests by kind, and writes in order.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// All requests, also refused ones.
    pub requests: BTreeMap<Kind, u64>,
    /// All writes but the lease's.
    pub writes: Vec<Write>,
    /// Requests that were answered with 403: a right is missing, or admission or a quota refuses.
    pub forbidden: BTreeSet<Kind>,
}

impl Record {
    /// How many writes had a fault.
    pub fn faults(&self) -> usize {
        self.writes.iter().filter(|write| write.fault != Fault::None).count()
    }

    /// The objects that were created more than once, with how often: `jobs platform/x`.
    pub fn created_twice(&self) -> Vec<(String, usize)> {
        let mut created: BTreeMap<String, usize> = BTreeMap::new();
        for write in &self.writes {
            let ours = write.request.kind.verb == "create" && write.status == 201;
            if ours && write.request.kind.resource != "events" {
                let object = format!("{} {}/{}", write.request.kind, write.request.namespace, write.name);
                *created.entry(object).or_default() += 1;
            }
        }
        created.into_iter().filter(|(_, times)| *times > 1).collect()
    }

    /// Writes that were done again although the API server had taken them: what, and how often.
    pub fn repeated(&self) -> Vec<(String, usize)> {
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        for write in self.writes.iter().filter(|write| (200..300).contains(&write.status)) {
            *taken.entry(&write.key).or_default() += 1;
        }
        let again = taken.into_iter().filter(|(_, times)| *times > 1);
        again.map(|(key, times)| (key.to_owned(), times)).collect()
    }

    /// A Markdown table of the requests.
    pub fn table(&self) -> String {
        let rows = self
            .requests
            .iter()
            .map(|(kind, count)| format!("| {kind} | {count} |\n"));
        format!("| request | count |\n|---|---|\n{}", rows.collect::<String>())
    }
}

struct State {
    upstream: Upstream,
    started: Instant,
    inner: Mutex<Inner>,
    kill: Box<dyn Fn() + Send + Sync>,
}

struct Inner {
    fault: Fault,
    record: Record,
    done: BTreeMap<String, u32>,
}

/// A proxy that runs until it is dropped.
pub struct Proxy {
    state: Arc<State>,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Starts one in front of a cluster. `kill` must end the operator before it returns.
    pub async fn start(upstream: Upstream, kill: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("a port of the loopback")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            upstream,
            started: Instant::now(),
            inner: Mutex::new(Inner {
                fault: Fault::None,
                record: Record::default(),
                done: BTreeMap::new(),
            }),
            kill: Box::new(kill),
        });
        let task = tokio::spawn(accept(listener, state.clone()));
        Ok(Self { state, address, task })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig that leads here, without credentials: the proxy has its own.
    pub fn kubeconfig(&self) -> String {
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": self.url()}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        });
        config.to_string()
    }

    /// From now on this is done to every write, at most [`MOST_FAULTS_PER_WRITE`] times to one and the same.
    pub fn set(&self, fault: Fault) {
        self.state.inner().fault = fault;
    }

    /// What was seen so far.
    pub fn record(&self) -> Record {
        self.state.inner().record.clone()
    }

    /// Forgets what was seen so far.
    pub fn forget(&self) {
        let mut inner = self.state.inner();
        inner.record = Record::default();
        inner.done.clear();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let state = state.clone();
                async move { state.forward(request).await }
            });
            // A connection ends when the operator is killed, or when an answer is withheld: both are meant.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl State {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error closes the connection without an answer.
    async fn forward(&self, request: hyper::Request<Incoming>) -> Result<Answer, io::Error> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let uri = parts.uri.clone();
        let what = Request::of(parts.method.as_str(), uri.path(), uri.query().unwrap_or_default());
        let kind = what.kind.clone();
        *self.inner().record.requests.entry(kind.clone()).or_default() += 1;
        // These belong to this connection; the client towards the API server sets its own.
        for header in ["host", "authorization", "connection", "content-length"] {
            parts.headers.remove(header);
        }
        let write = (what.writes() && !what.is_lease()).then(|| (what, body.clone()));
        let answer = self.upstream.send(hyper::Request::from_parts(parts, body.into())).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Ok(bad_gateway(&error)),
        };
        if answer.status() == hyper::StatusCode::FORBIDDEN {
            self.inner().record.forbidden.insert(kind);
        }
        if let Some((what, body)) = write {
            match self.note(what, &body, answer.status().as_u16()) {
                Fault::None => {}
                Fault::Kill => {
                    (self.kill)();
                    return Err(io::Error::other("the operator was killed"));
                }
                Fault::LoseAnswer => return Err(io::Error::other("the answer was withheld")),
            }
        }
        Ok(answer.map(|body| body.map_err(io::Error::other).boxed_unsync()))
    }

    /// Keeps a write and says what is done to it. A write that the API server refused has changed nothing.
    fn note(&self, request: Request, body: &Bytes, status: u16) -> Fault {
        let name = if request.name.is_empty() {
            name_in(body)
        } else {
            request.name.clone()
        };
        let key = format!(
            "{} {}/{name} {:016x}",
            request.kind,
            request.namespace,
            hash(&without_times(body))
        );
        let mut inner = self.inner();
        let done = inner.done.get(&key).copied().unwrap_or(0);
        let fault = if (200..300).contains(&status) && done < MOST_FAULTS_PER_WRITE {
            inner.fault
        } else {
            Fault::None
        };
        if fault != Fault::None {
            inner.done.insert(key.clone(), done + 1);
        }
        inner.record.writes.push(Write {
            request,
            name,
            status,
            fault,
            at: self.started.elapsed(),
            key,
        });
        fault
    }
}

fn bad_gateway(error: &kube::Error) -> Answer {
    let body = Full::new(Bytes::from(format!("the proxy got no answer: {error}")));
    let mut answer = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = hyper::StatusCode::BAD_GATEWAY;
    answer
}

fn name_in(body: &[u8]) -> String {
    let object: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let meta = &object["metadata"];
    let name = meta["name"].as_str().or_else(|| meta["generateName"].as_str());
    name.unwrap_or_default().to_owned()
}

/// The body without anything that looks like a time: a write that is done again has another one.
fn without_times(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let is_time = |word: &str| word.len() >= 20 && word.as_bytes()[4] == b'-' && word.as_bytes()[10] == b'T';
    let words = text.split('"').filter(|word| !is_time(word));
    words.collect::<Vec<_>>().join("\"")
}

fn hash(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
