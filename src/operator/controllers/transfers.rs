//! Transfers that take minutes (copies between registries, promotions), outside the workers of the controllers.
//!
//! A reconcile starts one, or looks at the one that it started; when it ends, its object is woken. How many run at the same
//! time is limited in all, per namespace and per route (the registries that take part, together), and each has a deadline: slow
//! registries and huge images hold up nobody but themselves. Not per registry: one that many share would be shut to all by a few
//! transfers that hang at their other end. A restart forgets them all and begins again, so what runs here must be idempotent. What has
//! ended and was never looked at is forgotten in the end.

use super::{
    bounded::BoundedMap,
    error::{Class, Classified},
    shares::{Share, Shares},
};
use crate::runtime::panics::{Panicked, contained};
use futures::{Stream, channel::mpsc};
use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio_util::task::AbortOnDropHandle;

/// Transfers that run at the same time.
const MOST: usize = 32;
/// Of one namespace.
const MOST_OF_A_NAMESPACE: usize = 3;
/// Between the same registries.
const MOST_OF_A_ROUTE: usize = 8;
/// The longest transfer.
pub const DEADLINE: Duration = Duration::from_secs(1800);
/// How soon one that runs is looked at again, if it does not wake its object before.
pub const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// Results that nobody has asked for yet.
const MOST_ENDED: usize = 1_000;

/// Which transfer: the UID of its object, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// UID of the object.
    pub uid: String,
    /// What is transferred: one object may do one thing after another.
    pub what: &'static str,
}

/// Who has an interest in a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parties {
    /// The namespace of the object.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The registries that take part.
    pub hosts: Vec<String>,
}

/// How a transfer stands. One that is under way is no failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<T> {
    /// It has ended.
    Done(T),
    /// It has not.
    Pending(Pending),
}

/// What a transfer that has not ended does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pending {
    /// It runs.
    Running,
    /// It waits for others.
    Queued {
        /// Whose share is used up.
        by: String,
        /// When to ask again.
        wait: Duration,
    },
}

impl Pending {
    /// When to look again, if its end does not wake its object before.
    pub fn look_again(&self) -> Duration {
        match self {
            Self::Running => LOOK_AGAIN,
            Self::Queued { wait, .. } => *wait,
        }
    }
}

/// It came to no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GivenUp {
    /// It did not end in time.
    #[error(
        "{what} was not done within 30 minutes and was given up: look at the registries and at the size of the image; it is tried again"
    )]
    TooSlow {
        /// What.
        what: &'static str,
    },
    /// It panicked.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

impl Classified for GivenUp {
    fn reason(&self) -> &'static str {
        match self {
            Self::TooSlow { .. } => "TransferTooSlow",
            Self::Panicked(panicked) => panicked.reason(),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::TooSlow { .. } => Class::Transient,
            Self::Panicked(panicked) => panicked.class(),
        }
    }
}

/// The transfers of one kind of object.
#[derive(Debug)]
pub struct Transfers<T> {
    inner: Arc<Mutex<Inner<T>>>,
    all: Shares,
    namespaces: Shares,
    routes: Shares,
}

#[derive(Debug)]
struct Inner<T> {
    running: HashMap<Key, AbortOnDropHandle<()>>,
    ended: BoundedMap<Key, Result<T, GivenUp>>,
    wake: Option<mpsc::UnboundedSender<(String, String)>>,
    closed: bool,
}

/// The right to transfer. When it is dropped, all transfers are given up and none begins any more.
#[must_use = "transfers are given up as soon as it is dropped"]
pub struct Held<T>(Arc<Mutex<Inner<T>>>);

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let running = {
            let mut inner = lock(&self.0);
            inner.closed = true;
            std::mem::take(&mut inner.running)
        };
        drop(running);
    }
}

impl<T> Default for Transfers<T> {
    fn default() -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                running: HashMap::new(),
                ended: BoundedMap::new(MOST_ENDED),
                wake: None,
                closed: false,
            })),
            all: Shares::new(MOST),
            namespaces: Shares::new(MOST_OF_A_NAMESPACE),
            routes: Shares::new(MOST_OF_A_ROUTE),
        }
    }
}

impl<T: Send + 'static> Transfers<T> {
    /// Namespace and name of the objects whose transfers end, from now on. One listener; at most as many wait in it as
    /// transfers run.
    pub fn ended(&self) -> impl Stream<Item = (String, String)> + Send + use<T> {
        let (sender, receiver) = mpsc::unbounded();
        lock(&self.inner).wake = Some(sender);
        receiver
    }

    /// Gives up all transfers when it is dropped: without the lease nothing may go on.
    pub fn while_held(&self) -> Held<T> {
        Held(self.inner.clone())
    }

    /// How this transfer stands; it is begun unless it was.
    pub fn look<F>(&self, key: &Key, parties: &Parties, begin: impl FnOnce() -> F) -> Result<Progress<T>, GivenUp>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut inner = lock(&self.inner);
        match inner.ended.remove(key) {
            Some(result) => return result.map(Progress::Done),
            None if inner.running.contains_key(key) || inner.closed => return Ok(Progress::Pending(Pending::Running)),
            None => {}
        }
        let shares = match self.shares(parties) {
            Ok(shares) => shares,
            Err(queued) => return Ok(Progress::Pending(queued)),
        };
        let (transfer, whose, place) = (begin(), key.clone(), Arc::downgrade(&self.inner));
        let object = (parties.namespace.clone(), parties.name.clone());
        let task = tokio::spawn(async move {
            let result = tokio::time::timeout(DEADLINE, contained(transfer)).await;
            let result = match result {
                Ok(result) => result.map_err(GivenUp::from),
                Err(_) => Err(GivenUp::TooSlow { what: whose.what }),
            };
            drop(shares);
            end(&place, whose, result, object);
        });
        inner.running.insert(key.clone(), AbortOnDropHandle::new(task));
        Ok(Progress::Pending(Pending::Running))
    }

    /// Ends this transfer, if it runs: what it would do is not to be done any more. What it came to is forgotten.
    pub fn give_up(&self, key: &Key) {
        let running = {
            let mut inner = lock(&self.inner);
            inner.ended.remove(key);
            inner.running.remove(key)
        };
        drop(running);
    }

    /// The shares of all parties, or whose is used up.
    fn shares(&self, parties: &Parties) -> Result<Vec<Share>, Pending> {
        let queued = |by: &str, wait| Pending::Queued {
            by: by.to_owned(),
            wait,
        };
        let namespace = format!("namespace {}", parties.namespace);
        let mut shares = vec![
            self.namespaces
                .enter(&namespace)
                .map_err(|wait| queued(&namespace, wait))?,
        ];
        let mut hosts: Vec<&str> = parties.hosts.iter().map(String::as_str).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let route = format!("between {}", hosts.join(" and "));
        shares.push(self.routes.enter(&route).map_err(|wait| queued(&route, wait))?);
        shares.push(
            self.all
                .enter("the operator")
                .map_err(|wait| queued("the operator", wait))?,
        );
        Ok(shares)
    }
}

fn lock<T>(inner: &Mutex<Inner<T>>) -> MutexGuard<'_, Inner<T>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end<T>(place: &Weak<Mutex<Inner<T>>>, key: Key, result: Result<T, GivenUp>, object: (String, String)) {
    let Some(inner) = place.upgrade() else {
        return;
    };
    let mut inner = lock(&inner);
    // The handle of this very task: dropping it aborts nothing any more. Without one it was given up.
    if inner.running.remove(&key).is_none() {
        return;
    }
    inner.ended.insert(key, result);
    let unheard = inner
        .wake
        .as_ref()
        .is_some_and(|wake| wake.unbounded_send(object).is_err());
    if unheard {
        inner.wake = None;
    }
}

#[cfg(test)]
mod tests;
