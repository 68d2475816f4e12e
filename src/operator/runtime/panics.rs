//! A panic in the work on one object is a failure of that object. Any other panic ends the process at once, so that a pod
//! with a dead controller in it is not taken for one that works.
//!
//! Without this, one object on which our own code panics would be a crash loop for all tenants. What is shared between
//! turns (caches, shares, queues) is changed in single steps under its lock, so a turn that ends in between leaves it whole.
//! Must not be wrapped around anything that decides for more than one object.

use futures::FutureExt as _;
use std::{future::Future, panic::AssertUnwindSafe};

tokio::task_local! {
    static CONTAINED: ();
}

/// Our own code panicked. What it said is in the log only: it may hold whatever it was working on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a fault in Repave itself stopped the work on this object, and on no other: the operator's log names the place after \
     `panicked at`; please report it. It is tried again"
)]
pub struct Panicked;

/// Does the work; a panic in it, not in tasks that it spawns, is an error.
pub async fn contained<F: Future>(work: F) -> Result<F::Output, Panicked> {
    let work = AssertUnwindSafe(work).catch_unwind();
    CONTAINED.scope((), work).await.map_err(|_| Panicked)
}

/// From now on a panic that is not in [`contained`] work ends the process.
pub fn end_the_process() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        if !is_contained() {
            std::process::abort();
        }
    }));
}

fn is_contained() -> bool {
    CONTAINED.try_with(|()| ()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_work_itself_is_contained() {
        assert!(!is_contained());
        assert_eq!(contained(async { is_contained() }).await, Ok(true));
        let spawned = contained(async { tokio::spawn(async { is_contained() }).await.unwrap() });
        assert_eq!(spawned.await, Ok(false));
        assert_eq!(contained(async { panic!("on purpose") }).await, Err::<(), _>(Panicked));
        assert!(!is_contained(), "and it ends with the work");
    }
}
