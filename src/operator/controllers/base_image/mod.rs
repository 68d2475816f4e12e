//! `BaseImage`: notices a new upstream digest and makes an `ImageCandidate` of it. Never builds or copies anything itself.

mod apply;
mod findings;
mod observe;
mod plan;
mod status;
mod validate;

use super::{
    context::Context,
    driver::{self, DriverError, Next, Outcome},
    error::{Class, Classified},
    history::{self, Recorded},
};
use crate::api::{BaseImage, BaseImageStatus, ImageCandidate};
use futures::StreamExt as _;
use kube::{
    Api,
    core::DeserializeGuard,
    runtime::{
        Controller,
        controller::{Action, Config},
        watcher,
    },
};
use std::{future::Future, sync::Arc, time::Duration};
use validate::Wish;

/// What this controller needs besides the context.
struct State {
    ctx: Context,
    polls: observe::Polls,
    rebuilds: history::Failures,
}

/// Why a step ended early.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Validate(#[from] validate::Error),
    #[error(transparent)]
    History(#[from] history::Error),
    #[error(transparent)]
    Observe(#[from] observe::Error),
    #[error(transparent)]
    Apply(#[from] apply::Error),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Validate(error) => error.reason(),
            Self::History(error) => error.reason(),
            Self::Observe(error) => error.reason(),
            Self::Apply(error) => error.reason(),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Validate(error) => error.class(),
            Self::History(error) => error.class(),
            Self::Observe(error) => error.class(),
            Self::Apply(error) => error.class(),
        }
    }
}

type Guarded = DeserializeGuard<BaseImage>;

/// Runs until `shutdown` resolves.
pub async fn run(ctx: Context, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let client = ctx.watches.clone();
    let state = Arc::new(State {
        ctx,
        polls: observe::Polls::default(),
        rebuilds: history::Failures::default(),
    });
    Controller::new(Api::<Guarded>::all(client.clone()), watcher::Config::default())
        .owns(Api::<ImageCandidate>::all(client), watcher::Config::default())
        .with_config(Config::default().concurrency(4))
        .graceful_shutdown_on(shutdown)
        .run(
            reconcile,
            |seen, error, state| driver::on_guarded_error(&seen, error, &state.ctx),
            state,
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn reconcile(seen: Arc<Guarded>, state: Arc<State>) -> Result<Action, DriverError> {
    let Some(seen) = driver::readable(&seen) else {
        return Ok(Action::await_change());
    };
    let Some(base) = driver::read(&state.ctx, seen).await? else {
        return Ok(Action::await_change());
    };
    let outcome = match recorded(&base, &state).await {
        Err(error) => failure(&base, &error, None, &state.ctx),
        Ok((wish, candidates, recorded)) => match steps(&base, &state, &wish, candidates, &recorded).await {
            Ok(outcome) => outcome,
            Err(error) => failure(&base, &error, Some(&recorded), &state.ctx),
        },
    };
    driver::finish(&state.ctx, &base, outcome).await
}

/// First the history: what is released does not depend on upstream or on a policy, and can be taken back without them.
async fn recorded(base: &BaseImage, state: &State) -> Result<(Wish, Vec<ImageCandidate>, Recorded), Error> {
    let wish = validate::validate(base)?; // pure
    let candidates = observe::candidates(base, &wish, state).await?; // IO, read only
    let (ctx, now) = (&state.ctx, state.ctx.now());
    let recorded = history::record(ctx, &state.rebuilds, base, &wish.production, &candidates, now).await?; // IO, writes
    Ok((wish, candidates, recorded))
}

/// One screen: what a reconcile of a BaseImage does.
async fn steps(
    base: &BaseImage,
    state: &State,
    wish: &Wish,
    candidates: Vec<ImageCandidate>,
    recorded: &Recorded,
) -> Result<Outcome<BaseImageStatus>, Error> {
    let observed = observe::observe(base, wish, state, candidates, recorded).await?; // IO, read only
    let actions = plan::plan(base, wish, &observed); // pure
    let applied = apply::apply(actions, &state.ctx).await?; // IO, writes
    let now = state.ctx.now();
    let (status, notices) = status::summarize(base, wish, &observed, &applied, recorded, now); // pure
    Ok(Outcome {
        status,
        next: Next::After(with_jitter(
            findings::interval(base, &observed.candidates, wish.interval),
            base,
        )),
        notices,
    })
}

/// Spreads the polls of many objects: up to a tenth later, always the same for one object.
fn with_jitter(interval: Duration, base: &BaseImage) -> Duration {
    let seed = base
        .metadata
        .uid
        .as_deref()
        .unwrap_or_default()
        .bytes()
        .fold(0_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    interval + interval.mul_f64(f64::from(seed % 100) / 1000.0)
}

fn failure(base: &BaseImage, error: &Error, recorded: Option<&Recorded>, ctx: &Context) -> Outcome<BaseImageStatus> {
    let (status, notices) = status::failed(base, error, recorded, ctx.now());
    Outcome {
        status,
        next: error.class().into(),
        notices,
    }
}
