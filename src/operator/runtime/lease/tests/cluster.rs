//! The simulation: an API server that keeps one Lease, and replicas that each reach it in their own troubled way.

use super::super::{Elector, Ended, Leader, LeaseParams, Lost};
use crate::runtime::{clock::SharedClock, virtual_clock::VirtualTime};
use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    ops::Range,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What happens to a request. A commit goes on in the server even when the client has given up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Refused with 503.
    Unavailable,
    /// Swallowed.
    NoAnswer,
    /// Done, but the answer is swallowed.
    CommitThenNoAnswer,
    /// Done, but answered with 504.
    CommitThenError,
    /// Done at once, answered late.
    AnswerAfter(Duration),
    /// Done late.
    CommitAfter(Duration),
}

#[derive(Debug, PartialEq)]
pub struct Outcome(pub Result<Ended, Lost>);

#[derive(Debug, Default)]
struct Server {
    lease: Option<Value>,
    version: u64,
    writes: usize,
}

struct Replica {
    clock: SharedClock,
    leader: Leader,
    release: CancellationToken,
    stopped: Arc<AtomicBool>,
    task: Option<JoinHandle<Result<Ended, Lost>>>,
    outcome: Option<Outcome>,
}

type Faults = Arc<Mutex<Vec<(usize, Range<u64>, Fault)>>>;

pub struct Cluster {
    time: VirtualTime,
    server: Arc<Mutex<Server>>,
    faults: Faults,
    replicas: Vec<Replica>,
}

fn status(code: u16, reason: &str, message: &str) -> Response<Body> {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code});
    answer(code, &body)
}

fn answer(code: u16, body: &Value) -> Response<Body> {
    Response::builder()
        .status(code)
        .body(Body::from(body.to_string().into_bytes()))
        .unwrap()
}

impl Server {
    fn handle(&mut self, method: &Method, body: &[u8]) -> Response<Body> {
        if method == Method::GET {
            return match &self.lease {
                Some(lease) => answer(200, lease),
                None => status(404, "NotFound", "no such Lease"),
            };
        }
        let mut new: Value = serde_json::from_slice(body).unwrap();
        match (&self.lease, method == Method::POST) {
            (None, true) => {}
            (Some(old), false) if old["metadata"]["resourceVersion"] == new["metadata"]["resourceVersion"] => {}
            (None, false) => return status(404, "NotFound", "no such Lease"),
            (Some(_), true) => return status(409, "AlreadyExists", "exists"),
            (Some(_), false) => return status(409, "Conflict", "the object has been modified"),
        }
        self.version += 1;
        self.writes += 1;
        new["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(new.clone());
        answer(200, &new)
    }
}

impl Cluster {
    /// One replica per (speed in percent, hours the time of day is off).
    pub fn new(clocks: &[(u32, i64)]) -> Self {
        let time = VirtualTime::new();
        let mut cluster = Self {
            server: Arc::default(),
            faults: Arc::default(),
            replicas: Vec::new(),
            time,
        };
        for (index, (percent, hours)) in clocks.iter().enumerate() {
            let clock = cluster.time.skewed(*percent, *hours);
            let replica = cluster.start(index, clock);
            cluster.replicas.push(replica);
        }
        cluster
    }

    fn start(&self, index: usize, clock: SharedClock) -> Replica {
        let params = LeaseParams {
            namespace: "repave-system".into(),
            name: "repave-controller".into(),
            pod_name: format!("repave-{index}"),
            duration: super::LEASE,
        };
        let (elector, leader) = Elector::new(self.client(index), params, clock.clone());
        let (release, stopped) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let run = {
            let (release, stopped) = (release.clone(), stopped.clone());
            async move {
                let mut run = pin!(elector.run(release));
                // A stopped process does nothing, whatever happens meanwhile.
                poll_fn(|cx| {
                    if stopped.load(Ordering::SeqCst) {
                        Poll::Pending
                    } else {
                        run.as_mut().poll(cx)
                    }
                })
                .await
            }
        };
        // A second waker: `go_on` must reach a future whose own wake-up passed while it was stopped.
        let tick = clock.clone();
        let task = tokio::spawn(async move {
            let mut run = pin!(run);
            loop {
                let next = tick.now() + Duration::from_millis(500);
                tokio::select! {
                    result = &mut run => return result,
                    () = tick.sleep_until(next) => {}
                }
            }
        });
        Replica {
            clock,
            leader,
            release,
            stopped,
            task: Some(task),
            outcome: None,
        }
    }

    fn client(&self, replica: usize) -> Client {
        let (server, faults, time) = (self.server.clone(), self.faults.clone(), self.time.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, time) = (server.clone(), time.clone());
            let now = time.elapsed().as_secs();
            let fault = faults
                .lock()
                .unwrap()
                .iter()
                .find(|(who, when, _)| *who == replica && when.contains(&now))
                .map(|(_, _, fault)| *fault);
            async move { Ok::<_, Infallible>(serve(request, server, fault, time.clock()).await) }
        });
        Client::new(service, "default")
    }

    /// From second to second of the simulation.
    pub fn fault(&mut self, replica: usize, when: Range<u64>, fault: Fault) {
        self.faults.lock().unwrap().push((replica, when, fault));
    }

    /// Lets time pass and fails as soon as two replicas lead at the same moment.
    pub async fn run_for(&mut self, duration: Duration) {
        let replicas = &self.replicas;
        let time = &self.time;
        time.run_for(duration, || {
            let leaders: Vec<&str> = replicas
                .iter()
                .filter(|replica| replica.leader.is_leader())
                .map(|replica| replica.leader.identity())
                .collect();
            assert!(leaders.len() < 2, "at {:?}: {leaders:?} lead", time.elapsed());
        })
        .await;
        for replica in &mut self.replicas {
            if let Some(task) = replica.task.take_if(|task| task.is_finished()) {
                replica.outcome = task.await.ok().map(Outcome);
            }
        }
    }

    pub fn leaders(&self) -> Vec<usize> {
        (0..self.replicas.len())
            .filter(|index| self.replicas[*index].leader.is_leader())
            .collect()
    }

    pub fn leader(&self, index: usize) -> Leader {
        self.replicas[index].leader.clone()
    }

    pub fn remaining(&self, index: usize) -> Option<Duration> {
        self.replicas[index].leader.remaining()
    }

    pub fn outcome(&self, index: usize) -> Option<&Outcome> {
        self.replicas[index].outcome.as_ref()
    }

    pub fn lost(&self) -> usize {
        self.replicas
            .iter()
            .filter(|replica| matches!(replica.outcome, Some(Outcome(Err(_)))))
            .count()
    }

    pub fn writes(&self) -> usize {
        self.server.lock().unwrap().writes
    }

    /// SIGKILL: the process is gone, its requests are not.
    pub fn kill(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        if let Some(task) = replica.task.take() {
            task.abort();
            // A process that is gone cannot act: its handle is replaced by one that never leads.
            let fresh = self.start(index, self.replicas[index].clock.clone());
            fresh.task.as_ref().unwrap().abort();
            self.replicas[index] = Replica { task: None, ..fresh };
        }
    }

    pub fn release(&mut self, index: usize) {
        self.replicas[index].release.cancel();
    }

    pub fn stop(&mut self, index: usize) {
        self.replicas[index].stopped.store(true, Ordering::SeqCst);
    }

    pub fn go_on(&mut self, index: usize) {
        self.replicas[index].stopped.store(false, Ordering::SeqCst);
    }

    /// What kubelet does: every process that ended starts again, as a new candidate.
    pub fn restart_ended(&mut self) {
        for index in 0..self.replicas.len() {
            if self.replicas[index].task.is_none() {
                self.replicas[index] = self.start(index, self.replicas[index].clock.clone());
            }
        }
    }

    /// Another program overwrites the holder.
    pub fn take_by_hand(&mut self, holder: &str) {
        let mut server = self.server.lock().unwrap();
        server.version += 1;
        let version = server.version.to_string();
        let lease = server.lease.as_mut().unwrap();
        lease["spec"]["holderIdentity"] = json!(holder);
        lease["metadata"]["resourceVersion"] = json!(version);
    }
}

async fn serve(
    request: Request<Body>,
    server: Arc<Mutex<Server>>,
    fault: Option<Fault>,
    clock: SharedClock,
) -> Response<Body> {
    let method = request.method().clone();
    let body = request.into_body().collect_bytes().await.unwrap();
    let commit = move || server.lock().unwrap().handle(&method, &body);
    match fault {
        None => commit(),
        Some(Fault::Unavailable) => status(503, "ServiceUnavailable", "down"),
        Some(Fault::NoAnswer) => pending().await,
        Some(Fault::CommitThenNoAnswer) => {
            commit();
            pending().await
        }
        Some(Fault::CommitThenError) => {
            commit();
            status(504, "Timeout", "gateway timeout")
        }
        Some(Fault::AnswerAfter(delay)) => {
            let response = commit();
            clock.sleep_until(clock.now() + delay).await;
            response
        }
        Some(Fault::CommitAfter(delay)) => {
            // Spawned: the server does not care whether the client still listens.
            tokio::spawn(async move {
                clock.sleep_until(clock.now() + delay).await;
                commit()
            })
            .await
            .unwrap()
        }
    }
}
