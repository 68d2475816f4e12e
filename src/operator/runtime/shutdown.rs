//! The end of the process: the first SIGTERM or SIGINT asks for a clean end, the second one ends at once.
//!
//! Must not wait for ever: draining has a deadline.

use super::clock::{SharedClock, within};
use futures::{Stream, StreamExt, stream};
use std::{io, pin::pin, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The exit code after a second signal, as a shell reports SIGINT.
const ABORTED: i32 = 130;

/// Listens for signals from now on and returns the token that the first one cancels.
pub fn install() -> io::Result<CancellationToken> {
    let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let signals = stream::select(named(terminate, "SIGTERM"), named(interrupt, "SIGINT"));
    let token = CancellationToken::new();
    let first = token.clone();
    tokio::spawn(async move {
        watch(signals, &first).await;
        std::process::exit(ABORTED);
    });
    Ok(token)
}

fn named(signal: tokio::signal::unix::Signal, name: &'static str) -> impl Stream<Item = &'static str> + Send {
    stream::unfold(signal, move |mut signal| async move {
        signal.recv().await?;
        Some((name, signal))
    })
}

/// Cancels `token` at the first signal and returns at the second.
async fn watch(signals: impl Stream<Item = &'static str>, token: &CancellationToken) {
    let mut signals = pin!(signals);
    if let Some(name) = signals.next().await {
        tracing::info!("{name}: running work is finished first; a second signal ends the process at once");
        token.cancel();
    }
    match signals.next().await {
        Some(name) => tracing::warn!("second signal ({name}): the process ends at once"),
        // No further signal can come, so nobody asks for an abort.
        None => std::future::pending().await,
    }
}

/// Work was still running at the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{left} tasks were still running {deadline:?} after the signal: they are dropped and their work is taken up again at the next start"
)]
pub struct NotDrained {
    /// How many.
    pub left: usize,
    /// How long they had.
    pub deadline: Duration,
}

/// Waits until the tracked tasks have ended, for at most `deadline`.
pub async fn drain(tasks: &TaskTracker, deadline: Duration, clock: &SharedClock) -> Result<(), NotDrained> {
    tasks.close();
    within(clock, deadline, tasks.wait()).await.map_err(|_| NotDrained {
        left: tasks.len(),
        deadline,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::virtual_clock::VirtualTime;
    use futures::channel::mpsc;

    #[tokio::test]
    async fn the_first_signal_asks_and_the_second_one_aborts() {
        let (time, token) = (VirtualTime::new(), CancellationToken::new());
        let (mut send, signals) = mpsc::channel(2);
        let asked = token.clone();
        let watching = tokio::spawn(async move { watch(signals, &asked).await });
        time.run_for(Duration::from_secs(1), || {}).await;
        assert!(!token.is_cancelled());
        send.try_send("SIGTERM").unwrap();
        time.run_for(Duration::from_secs(3_600), || {}).await;
        assert!(token.is_cancelled() && !watching.is_finished());
        send.try_send("SIGINT").unwrap();
        time.run_for(Duration::from_secs(1), || {}).await;
        assert!(watching.is_finished());
    }

    #[tokio::test]
    async fn draining_waits_for_work_but_not_for_ever() {
        let time = VirtualTime::new();
        let (tasks, clock) = (TaskTracker::new(), time.clock());
        let work = clock.sleep_until(clock.now() + Duration::from_secs(30));
        tasks.spawn(work);
        let (drained, deadline) = (tasks.clone(), Duration::from_secs(20));
        let draining = tokio::spawn(async move { drain(&drained, deadline, &clock).await });
        time.run_for(Duration::from_secs(21), || {}).await;
        assert_eq!(draining.await.unwrap(), Err(NotDrained { left: 1, deadline }));
        let clock = time.clock();
        let draining = tokio::spawn(async move { drain(&tasks, deadline, &clock).await });
        time.run_for(Duration::from_secs(10), || {}).await;
        assert_eq!(draining.await.unwrap(), Ok(()));
    }
}
