//! Waits for a condition, never for a time.

use anyhow::{Result, bail};
use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How often the condition is looked at.
const POLL: Duration = Duration::from_millis(200);

/// What a look at the condition found.
pub enum Look<T> {
    /// It holds.
    Here(T),
    /// It does not yet; what is there instead is shown when the time is over.
    NotYet(String),
}

/// Looks until the condition holds, at most for `limit`.
pub async fn until<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Look<T>>>,
{
    let start = Instant::now();
    loop {
        let last = match look().await {
            Ok(Look::Here(found)) => return Ok(found),
            Ok(Look::NotYet(instead)) => instead,
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > limit {
            bail!("{what}: not within {limit:?}; last seen: {last}");
        }
        tokio::time::sleep(POLL).await;
    }
}
