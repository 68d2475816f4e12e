//! Time as a parameter: the monotonic clock that deadlines are judged by, the wall clock that is written for people.
//!
//! The lease and every wait in this folder take a [`Clock`], so that tests drive hours of faults in milliseconds.
//! Must not be used to compare the wall clocks of two machines: they disagree.

use futures::future::BoxFuture;
use jiff::Timestamp;
use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

/// Where the time comes from.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Monotonic time of this process. Deadlines are judged by it alone.
    fn now(&self) -> Instant;

    /// The time of day, for what people read. It may jump.
    fn wall(&self) -> Timestamp;

    /// Ends when `now()` has reached `deadline`.
    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()>;
}

/// A clock that many tasks share.
pub type SharedClock = Arc<dyn Clock>;

/// The clocks of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The system's clock, to share.
    pub fn shared() -> SharedClock {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(deadline.into()))
    }
}

/// The time limit passed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {0:?}")]
pub struct Elapsed(pub Duration);

/// Runs `future` for at most `limit`. Dropping it does not undo what it already sent.
pub async fn within<F: Future>(clock: &SharedClock, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let deadline = clock.now() + limit;
    tokio::select! {
        biased;
        output = future => Ok(output),
        () = clock.sleep_until(deadline) => Err(Elapsed(limit)),
    }
}
