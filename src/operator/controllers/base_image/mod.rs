//! `BaseImage`: notices a new upstream digest and makes an `ImageCandidate` of it. Never builds or copies anything itself.

mod apply;
mod findings;
mod observe;
mod plan;
mod status;
mod validate;

use super::{
    context::Context,
    driver::{Next, Outcome},
    error::{Class, Classified},
    history::{self, Recorded},
    reconciler::{self, Failure, Steps},
    wakes::{Guarded, Wakes},
};
use crate::api::{BaseImage, BaseImageStatus, ImageCandidate};
use kube::{Api, runtime::watcher};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
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

/// Runs until `stop` is cancelled.
pub async fn run(ctx: Context, stop: CancellationToken) {
    let candidates = Api::<Guarded<ImageCandidate>>::all(ctx.watches.clone());
    let wakes = Wakes::of(&ctx).owns(candidates, watcher::Config::default());
    let state = State {
        ctx,
        polls: observe::Polls::default(),
        rebuilds: history::Failures::default(),
    };
    reconciler::run(state, wakes, stop).await;
}

impl Steps for State {
    type Resource = BaseImage;
    const GAP: Duration = Duration::ZERO;
    // A history that is rebuilt from the registry takes longer than a look at upstream.
    const LIMIT: Duration = Duration::from_secs(300);

    fn ctx(&self) -> &Context {
        &self.ctx
    }

    async fn steps(&self, base: &BaseImage) -> Result<Outcome<BaseImageStatus>, Failure> {
        Ok(match Box::pin(recorded(base, self)).await {
            Err(error) => failure(base, &error, None, &self.ctx),
            Ok((wish, candidates, recorded)) => Box::pin(steps(base, self, &wish, candidates, &recorded))
                .await
                .unwrap_or_else(|error| failure(base, &error, Some(&recorded), &self.ctx)),
        })
    }
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
