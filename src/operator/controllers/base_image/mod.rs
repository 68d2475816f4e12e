//! `BaseImage`: notices a new upstream digest and makes an `ImageCandidate` of it. Never builds or copies anything itself.

mod apply;
mod channel;
mod decision;
mod findings;
mod noticed;
mod observe;
mod polls;
mod status;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use super::{
    context::Context,
    desired::{
        self, ValidatedBaseImage,
        owner::{self, Claim, Taken},
    },
    driver::{Outcome, Requeue},
    error::Class,
    history::{self, Recorded},
    paging,
    reconciler::{self, Failure, Steps},
    wakes::{Wakes, those},
};
use crate::api::{BaseImage, BaseImageStatus, ImageCandidate, ValidationPolicy};
use crate::readable::Meta;
use jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// What this controller needs besides the context.
struct State {
    ctx: Context,
    polls: polls::Polls,
    channel: channel::Looks,
    noticed: Arc<noticed::Noticed>,
    rebuilds: history::Failures,
}

/// ConfigMaps are not watched, which would need the right to read all of them: what refers to some reads them again after so
/// long.
const READ_AGAIN: Duration = Duration::from_secs(300);
/// How soon one whose repository is another's looks whether it still is.
const STILL_TAKEN: Duration = Duration::from_secs(60);
/// How soon a list that is still being read is asked again.
const LISTING: Duration = Duration::from_secs(1);

/// A step that failed when the history was recorded already.
#[derive(Debug)]
struct Failed {
    failure: Failure,
    /// Whether it is upstream that could not be looked up.
    of_upstream: bool,
}

impl<E: Into<Failure>> From<E> for Failed {
    fn from(failure: E) -> Self {
        Self {
            failure: failure.into(),
            of_upstream: false,
        }
    }
}

impl Failed {
    fn to_observe(error: observe::Error) -> Self {
        Self {
            of_upstream: error.is_of_upstream(),
            failure: error.into(),
        }
    }
}

/// Runs until `stop` is cancelled.
pub async fn run(ctx: Context, stop: CancellationToken) {
    let wakes = Wakes::of(&ctx);
    let bases = wakes.store();
    ctx.base_images.fill(wakes.store());
    let noticed = Arc::<noticed::Noticed>::default();
    let changed = Arc::clone(&noticed);
    let wakes = wakes
        // Metadata only: one candidate that cannot be decoded must not end the watch of all.
        .watches(
            Api::<Meta<ImageCandidate>>::all(ctx.watches.clone()),
            paging::watch(),
            move |candidate| changed.note(candidate),
        )
        .watches(
            Api::<Meta<ValidationPolicy>>::all(ctx.watches.clone()),
            paging::watch(),
            move |policy| {
                let name = policy.name_any();
                those(&bases, policy.namespace().as_deref(), |base: &BaseImage| {
                    base.spec.policy_refs.iter().any(|reference| reference.name == name)
                })
            },
        );
    let state = State {
        ctx,
        polls: polls::Polls::default(),
        channel: channel::Looks::default(),
        noticed,
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
        Ok(match Box::pin(recorded(base, self)).await? {
            Start::NotOwner(taken) => not_the_owner(base, &taken, self),
            Start::Recorded(validated, candidates, recorded) => {
                Box::pin(steps(base, self, &validated, candidates, &recorded))
                    .await
                    .unwrap_or_else(|failed| status::failed(base, &failed, Some(&recorded), self.ctx.now()))
            }
        })
    }

    fn on_failure(base: &BaseImage, failure: &Failure, now: Timestamp) -> Outcome<BaseImageStatus> {
        status::failed(base, &failure.clone().into(), None, now)
    }
}

/// What is known before anything outside is asked.
enum Start {
    /// Its repository is another's.
    NotOwner(Taken),
    /// What its history says.
    Recorded(Box<ValidatedBaseImage>, Vec<ImageCandidate>, Box<Recorded>),
}

/// First the history: what is released does not depend on upstream or on a policy, and can be taken back without them.
async fn recorded(base: &BaseImage, state: &State) -> Result<Start, Failure> {
    let validated = desired::validate(base)?; // pure
    let rivals = state.ctx.base_images.rivals(base).ok_or_else(not_listed)?;
    if let Some(taken) = owner::taken(&Claim::of(base), &rivals) {
        return Ok(Start::NotOwner(taken));
    }
    let candidates = observe::candidates(base, &validated, state).await?; // IO, read only
    let (ctx, now) = (&state.ctx, state.ctx.now());
    let recorded = history::record(ctx, &state.rebuilds, base, &validated.production, &candidates, now).await?; // IO, writes
    Ok(Start::Recorded(Box::new(validated), candidates, Box::new(recorded)))
}

/// One screen: what a reconcile of a BaseImage does.
async fn steps(
    base: &BaseImage,
    state: &State,
    validated: &ValidatedBaseImage,
    candidates: Vec<ImageCandidate>,
    recorded: &Recorded,
) -> Result<Outcome<BaseImageStatus>, Failed> {
    let observed = observe::observe(base, validated, state, candidates, recorded).await; // IO, read only
    let mut observed = observed.map_err(Failed::to_observe)?;
    let mut decision = decision::decide(base, validated, &observed)?; // pure
    if !decision.actions.is_empty() {
        // What comes from a cache may miss a candidate; before one is made, so that its number is given once, nothing may.
        observed.candidates = observe::candidates_now(base, validated, &state.ctx).await?;
        decision = decision::decide(base, validated, &observed)?;
    }
    let applied = apply::apply(&decision.actions, base, &state.ctx).await?; // IO, writes
    let stored = base.status.as_ref().and_then(|status| status.released.as_ref());
    let released = recorded.decided.released.as_ref();
    let order = channel::order(stored, released, validated); // pure
    let pace = polls::Pace {
        interval: validated.interval,
        seed: seed(base),
    };
    let (channel, channel_again) = channel::assert(&state.ctx, &state.channel, base, order, pace).await; // IO, one tag
    let round = status::Round {
        validated,
        observed: &observed,
        decision: &decision,
        recorded,
        applied: &applied,
        channel: &channel,
    };
    let (status, events) = status::summarize(base, &round, state.ctx.now()); // pure
    let next = if stored == released {
        Requeue::After(again(base, &observed, channel_again))
    } else {
        // The channel tag follows what the status has just announced.
        Requeue::Now
    };
    Ok(Outcome { status, next, events })
}

fn not_the_owner(base: &BaseImage, taken: &Taken, state: &State) -> Outcome<BaseImageStatus> {
    let (status, events) = status::taken(base, taken, state.ctx.now());
    Outcome {
        status,
        next: Requeue::After(with_jitter(STILL_TAKEN, base)),
        events,
    }
}

/// When to look again, if nothing happens before: at upstream, at the channel tag, at ConfigMaps.
fn again(base: &BaseImage, observed: &observe::Observed, channel: Duration) -> Duration {
    let files = if observed.inputs.has_files() {
        READ_AGAIN
    } else {
        Duration::MAX
    };
    with_jitter(observed.good_for.min(channel).min(files), base)
}

/// 0 to 999, always the same for one object: spreads what many would do at once.
fn seed(base: &BaseImage) -> u32 {
    let uid = base.metadata.uid.as_deref().unwrap_or_default();
    uid.bytes()
        .fold(0_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()))
        % 1000
}

/// Spreads the polls of many objects: up to a tenth later, always the same for one object.
fn with_jitter(interval: Duration, base: &BaseImage) -> Duration {
    interval + interval.mul_f64(f64::from(seed(base)) / 10_000.0)
}

fn not_listed() -> Failure {
    Failure {
        reason: "Starting",
        class: Class::Waiting(LISTING),
        message: "the list of all BaseImages is still being read: nothing is decided before it is complete".to_owned(),
    }
}
