//! The controllers: one folder per kind, each with the same files in the same order.
//!
//! ```text
//! validate (pure) -> observe (IO, read only) -> decide (pure) -> apply (IO, writes) -> render (pure) -> one status patch
//! ```
//!
//! `decide` never sees a client, a clock or the environment. Only `apply` writes, and only the driver in `driver.rs` writes
//! a status, once at the end of a reconcile.

pub mod access;
pub mod backoff;
pub mod base_image;
pub mod bounded;
pub mod caches;
pub mod candidate;
pub mod conditions;
pub mod context;
pub mod databases;
pub mod desired;
pub mod driver;
pub mod error;
pub mod gauges;
pub mod history;
pub mod inputs;
pub mod inventory;
pub mod lean;
pub mod named;
pub mod pace;
pub mod paging;
pub mod pruning;
pub mod reconciler;
pub mod repave_plan;
pub mod repave_run;
pub mod self_test_results;
pub mod settings;
pub mod shares;
pub mod slots;
#[cfg(test)]
pub(crate) mod testing;
pub mod transfers;
pub mod waiver;
pub mod wakes;
pub mod watch_health;
pub mod workers;
pub mod writes;

use caches::Caches;
use context::Context;
use futures::{FutureExt, future};
use inventory::Inventory;
use repave_run::{Images, memory::Memory};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Runs all controllers until `stop` is cancelled. One that ends or panics on its own ends the process: it would
/// otherwise do nothing for ever and nobody would know.
pub async fn run(ctx: Context, stop: CancellationToken) -> Result<(), String> {
    let (images, memory) = (Images::default(), Memory::default());
    let mut tasks = JoinSet::new();
    let estate = future::join(
        ctx.inventory.clone().run(ctx.watches.clone(), ctx.metrics.clone()),
        say_when_listed(ctx.inventory.clone(), ctx.caches.clone()),
    );
    tasks.spawn(stop.clone().run_until_cancelled_owned(estate).map(|_| ()));
    tasks.spawn(base_image::run(ctx.clone(), stop.clone()));
    tasks.spawn(candidate::run(ctx.clone(), stop.clone()));
    tasks.spawn(waiver::run(ctx.clone(), stop.clone()));
    tasks.spawn(pruning::run(ctx.clone(), stop.clone().cancelled_owned()));
    tasks.spawn(repave_plan::run(
        ctx.clone(),
        images.clone(),
        memory.clone(),
        stop.clone(),
    ));
    tasks.spawn(repave_run::run(ctx, images, memory, stop.clone()));
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| error.to_string())?;
        if !stop.is_cancelled() {
            return Err("a controller ended on its own".to_owned());
        }
    }
    Ok(())
}

/// A process that leads is ready when it has listed the estate once; the wait in it is bounded and says what is missing.
async fn say_when_listed(inventory: Inventory, caches: Caches) {
    const ESTATE: &str = "the estate";
    caches.filling(ESTATE);
    while let Err(missing) = inventory.ready().await {
        tracing::info!(missing = error::one_line(&missing), "waiting");
    }
    caches.filled(ESTATE);
}
