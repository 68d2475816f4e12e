//! Test time: a clock that moves only when the test says so, in one single-threaded runtime.
//!
//! Each replica has its own view with its own speed and time of day. `run_for` lets every task run until nothing moves,
//! then jumps to the next deadline, so that hours pass in milliseconds and always in the same order.

use super::clock::{Clock, SharedClock};
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

#[derive(Debug)]
struct State {
    elapsed: Duration,
    sleepers: Vec<(Duration, oneshot::Sender<()>)>,
}

/// The one true time of a simulation.
#[derive(Debug, Clone)]
pub struct VirtualTime {
    base: Instant,
    state: Arc<Mutex<State>>,
}

/// One machine's view of it.
#[derive(Debug)]
struct View {
    time: VirtualTime,
    percent: u32,
    wall: Timestamp,
}

impl VirtualTime {
    pub fn new() -> Self {
        Self {
            base: Instant::now(),
            state: Arc::new(Mutex::new(State {
                elapsed: Duration::ZERO,
                sleepers: Vec::new(),
            })),
        }
    }

    /// An exact clock.
    pub fn clock(&self) -> SharedClock {
        self.skewed(100, 0)
    }

    /// A clock that runs at `percent` of the true speed and whose time of day is off by `hours`.
    pub fn skewed(&self, percent: u32, hours: i64) -> SharedClock {
        Arc::new(View {
            time: self.clone(),
            percent,
            wall: Timestamp::UNIX_EPOCH + SignedDuration::from_hours(480_000 + hours),
        })
    }

    pub fn elapsed(&self) -> Duration {
        self.lock().elapsed
    }

    /// Lets `duration` pass; `check` runs whenever everything has come to rest.
    pub async fn run_for(&self, duration: Duration, mut check: impl FnMut()) {
        let end = self.elapsed() + duration;
        loop {
            settle().await;
            check();
            let next = self.next_deadline().filter(|next| *next <= end);
            self.jump(next.unwrap_or(end));
            if next.is_none() {
                settle().await;
                check();
                return;
            }
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        let mut state = self.lock();
        state.sleepers.retain(|(_, wake)| !wake.is_closed());
        state.sleepers.iter().map(|(deadline, _)| *deadline).min()
    }

    fn jump(&self, to: Duration) {
        let mut state = self.lock();
        state.elapsed = to;
        let (due, later) = std::mem::take(&mut state.sleepers)
            .into_iter()
            .partition(|(deadline, _)| *deadline <= to);
        state.sleepers = later;
        drop(state);
        let due: Vec<(Duration, oneshot::Sender<()>)> = due;
        for (_, wake) in due {
            // A sleeper that was dropped needs no wake-up.
            let _ = wake.send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives every task its turns until in-memory work has come to rest.
async fn settle() {
    for _ in 0..60 {
        tokio::task::yield_now().await;
    }
}

impl Clock for View {
    fn now(&self) -> Instant {
        self.time.base + self.time.elapsed() * self.percent / 100
    }

    fn wall(&self) -> Timestamp {
        self.wall + SignedDuration::try_from(self.time.elapsed()).unwrap()
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        let local = deadline.saturating_duration_since(self.time.base);
        // Rounded up: who wakes has reached the deadline.
        let global = local * 100 / self.percent + Duration::from_nanos(200);
        let time = self.time.clone();
        Box::pin(async move {
            let woken = {
                let mut state = time.lock();
                if state.elapsed >= global {
                    return;
                }
                let (wake, woken) = oneshot::channel();
                state.sleepers.push((global, wake));
                woken
            };
            let _ = woken.await;
        })
    }
}
