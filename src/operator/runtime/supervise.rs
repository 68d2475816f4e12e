//! Lead, work, drain, release: the order in which a replica acts and stops.
//!
//! Must not let work outlive the lease: when the lease is lost the work is dropped at once and the process ends.

use super::{
    clock::{SharedClock, within},
    lease::{Elector, Ended, Leader, Lost},
    readiness::{Gate, Readiness},
};
use std::{pin::pin, time::Duration};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

/// Why the process must end with an error. Its successor starts clean.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The lease is lost.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The election crashed.
    #[error("the election ended unexpectedly ({0}): the process ends and starts over; report this with the log")]
    Election(#[source] JoinError),
    /// The controllers ended although nobody asked them to. One that ended silently would do nothing for ever.
    #[error(
        "the controllers ended although nobody asked them to ({0}): the process ends and starts over; report this with the log"
    )]
    Controllers(String),
}

/// What `lead` needs besides the work.
pub struct Supervision {
    /// Our part in the election; `None` with `--no-leader-election`.
    pub elector: Option<Elector>,
    /// The handle that belongs to it.
    pub leader: Leader,
    /// Cancelled by the first signal.
    pub shutdown: CancellationToken,
    /// How long the work may take to end.
    pub drain: Duration,
    /// Where the state of the lease is told.
    pub readiness: Readiness,
    /// The time.
    pub clock: SharedClock,
}

/// Waits to lead, runs `controllers`, and after the first signal lets them end before the lease is given back.
///
/// `controllers` gets a token that asks it to end; the lease is renewed until it has.
pub async fn lead<C, W>(supervision: Supervision, controllers: C) -> Result<Ended, Stopped>
where
    C: FnOnce(CancellationToken) -> W,
    W: Future<Output = Result<(), String>>,
{
    let release = CancellationToken::new();
    let readiness = supervision.readiness.clone();
    let election = supervision.elector.map(|elector| {
        // A task of its own: busy controllers must not hold back a renewal.
        tokio::spawn(elector.run(release.clone()))
    });
    let elects = election.is_some();
    let mut election = pin!(ended(election));
    let known = supervision.leader.clone();
    let gate = pin!(async move {
        known.known().await;
        readiness.open(Gate::Lease);
        std::future::pending::<()>().await;
    });
    let work = pin!(async {
        let leads = tokio::select! {
            biased;
            () = supervision.shutdown.cancelled() => false,
            leads = supervision.leader.acquired() => leads,
        };
        if leads {
            let work = controllers(supervision.shutdown.clone());
            until_drained(work, &supervision.shutdown, supervision.drain, &supervision.clock).await
        } else {
            // Not the leader: wait for the signal; if the election ends first, that is the result.
            supervision.shutdown.cancelled().await;
            Ok(())
        }
    });
    tokio::select! {
        biased;
        result = &mut election => return result,
        // Only its side effect is wanted; it never ends.
        () = gate => {}
        result = work => result?,
    }
    release.cancel();
    if elects { election.await } else { Ok(Ended::Standby) }
}

/// How the election ends; never, where there is none.
async fn ended(election: Option<JoinHandle<Result<Ended, Lost>>>) -> Result<Ended, Stopped> {
    match election {
        Some(task) => Ok(task.await.map_err(Stopped::Election)??),
        None => std::future::pending().await,
    }
}

async fn until_drained(
    work: impl Future<Output = Result<(), String>>,
    shutdown: &CancellationToken,
    drain: Duration,
    clock: &SharedClock,
) -> Result<(), Stopped> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        result = &mut work => {
            // It may have ended because of the signal that arrived at the same moment.
            return match result {
                Ok(()) if shutdown.is_cancelled() => Ok(()),
                Ok(()) => Err(Stopped::Controllers("without an error".to_owned())),
                Err(error) => Err(Stopped::Controllers(error)),
            };
        }
    }
    match within(clock, drain, work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error, "the controllers ended with an error after the signal"),
        Err(elapsed) => tracing::warn!(%elapsed, "work still running at the drain deadline is dropped"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{lease::LeaseParams, virtual_clock::VirtualTime};
    use http::{Method, Request, Response};
    use kube::{Client, client::Body};
    use serde_json::{Value, json};
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    /// Keeps one Lease; `None` in `down` means that it answers.
    #[derive(Clone, Default)]
    struct Server {
        lease: Arc<Mutex<Option<Value>>>,
        down: CancellationToken,
    }

    fn client(server: Server) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let method = request.method().clone();
                let body = request.into_body().collect_bytes().await.unwrap();
                let mut lease = server.lease.lock().unwrap();
                if method != Method::GET && !server.down.is_cancelled() {
                    let mut new: Value = serde_json::from_slice(&body).unwrap();
                    new["metadata"]["resourceVersion"] =
                        json!(format!("{}x", new["metadata"]["resourceVersion"]).len().to_string());
                    *lease = Some(new);
                }
                let (code, body) = match &*lease {
                    Some(_) | None if server.down.is_cancelled() => (
                        503,
                        json!({"status": "Failure", "message": "down", "reason": "ServiceUnavailable", "code": 503}),
                    ),
                    Some(lease) => (200, lease.clone()),
                    None => (
                        404,
                        json!({"status": "Failure", "message": "", "reason": "NotFound", "code": 404}),
                    ),
                };
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    struct Run {
        time: VirtualTime,
        server: Server,
        shutdown: CancellationToken,
        readiness: Readiness,
        leader: Leader,
        supervision: Supervision,
    }

    fn prepared() -> Run {
        let (time, server) = (VirtualTime::new(), Server::default());
        let params = LeaseParams {
            namespace: "a".into(),
            name: "l".into(),
            pod_name: "p".into(),
            duration: Duration::from_secs(15),
        };
        let (elector, leader) = Elector::new(client(server.clone()), params, time.clock());
        let (shutdown, readiness) = (CancellationToken::new(), Readiness::default());
        let supervision = Supervision {
            elector: Some(elector),
            leader: leader.clone(),
            shutdown: shutdown.clone(),
            drain: Duration::from_secs(20),
            readiness: readiness.clone(),
            clock: time.clock(),
        };
        Run {
            time,
            server,
            shutdown,
            readiness,
            leader,
            supervision,
        }
    }

    fn holder(server: &Server) -> String {
        let lease = server.lease.lock().unwrap();
        lease.as_ref().unwrap()["spec"]["holderIdentity"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[tokio::test]
    async fn the_lease_is_held_until_the_work_has_drained_and_released_then() {
        let run = prepared();
        let clock = run.time.clock();
        let task = tokio::spawn(lead(run.supervision, move |stop| async move {
            stop.cancelled().await;
            clock.sleep_until(clock.now() + Duration::from_secs(18)).await;
            Ok(())
        }));
        run.time.run_for(Duration::from_secs(60), || {}).await;
        assert!(!run.readiness.missing().iter().any(|(gate, _)| *gate == Gate::Lease));
        run.shutdown.cancel();
        run.time.run_for(Duration::from_secs(17), || {}).await;
        assert!(run.leader.is_leader() && holder(&run.server) == run.leader.identity());
        run.time.run_for(Duration::from_secs(2), || {}).await;
        assert_eq!(task.await.unwrap().unwrap(), Ended::Released);
        assert!(!run.leader.is_leader() && holder(&run.server).is_empty());
    }

    #[tokio::test]
    async fn work_that_does_not_end_is_dropped_at_the_deadline() {
        let run = prepared();
        let task = tokio::spawn(lead(run.supervision, |_| std::future::pending()));
        run.time.run_for(Duration::from_secs(60), || {}).await;
        run.shutdown.cancel();
        run.time.run_for(Duration::from_secs(21), || {}).await;
        assert_eq!(task.await.unwrap().unwrap(), Ended::Released);
    }

    #[tokio::test]
    async fn a_lost_lease_drops_the_work_and_ends_with_an_error() {
        let run = prepared();
        let working = CancellationToken::new();
        let dropped = working.clone();
        let task = tokio::spawn(lead(run.supervision, move |_| async move {
            let _guard = dropped.drop_guard();
            std::future::pending().await
        }));
        run.time.run_for(Duration::from_secs(60), || {}).await;
        run.server.down.cancel();
        run.time.run_for(Duration::from_secs(13), || {}).await;
        assert!(working.is_cancelled());
        assert!(matches!(task.await.unwrap(), Err(Stopped::Lost(Lost::Expired(..)))));
    }

    #[tokio::test]
    async fn controllers_that_end_by_themselves_end_the_process() {
        for (result, says) in [
            (Ok(()), "without an error"),
            (Err("watch closed".to_owned()), "watch closed"),
        ] {
            let run = prepared();
            let task = tokio::spawn(lead(run.supervision, move |_| async move { result }));
            run.time.run_for(Duration::from_secs(1), || {}).await;
            let error = task.await.unwrap().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[tokio::test]
    async fn without_an_election_the_work_starts_at_once_and_nothing_is_written() {
        let run = prepared();
        let supervision = Supervision {
            elector: None,
            leader: Leader::always("p"),
            ..run.supervision
        };
        let task = tokio::spawn(lead(supervision, |stop| async move {
            stop.cancelled().await;
            Ok(())
        }));
        run.time.run_for(Duration::from_secs(1), || {}).await;
        run.shutdown.cancel();
        run.time.run_for(Duration::from_secs(1), || {}).await;
        assert_eq!(task.await.unwrap().unwrap(), Ended::Standby);
        assert!(run.server.lease.lock().unwrap().is_none());
    }
}
