//! `BaseImage`: notices a new upstream digest and makes an `ImageCandidate` of it. Never builds or copies anything itself.

mod apply;
mod channel;
mod decision;
mod facts;
mod findings;
mod noticed;
mod observe;
mod polls;
mod status;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod turn;

use self::{apply::Applied, facts::Seen, turn::Turn};
use super::{
    context::Context,
    desired::{self, ValidatedBaseImage},
    driver::Outcome,
    history, paging,
    reconciler::{self, Confirmed, Failure, Given, Reconciler},
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

impl Reconciler for State {
    type Resource = BaseImage;
    type Validated = ValidatedBaseImage;
    type Observed = Seen;
    type Decision = Turn;
    type Receipt = Applied;
    const GAP: Duration = Duration::ZERO;
    // A history that is rebuilt from the registry takes longer than a look at upstream.
    const LIMIT: Duration = Duration::from_secs(300);

    fn ctx(&self) -> &Context {
        &self.ctx
    }

    fn validate(base: &BaseImage) -> Result<ValidatedBaseImage, Failure> {
        Ok(desired::validate(base)?)
    }

    async fn observe(&self, base: &BaseImage, v: &ValidatedBaseImage) -> Result<Seen, Failure> {
        Box::pin(observe::observe(base, v, self)).await
    }

    fn decide(base: &BaseImage, v: &ValidatedBaseImage, seen: Seen, given: Given<'_>) -> Turn {
        turn::decide(base, v, seen, given.now)
    }

    async fn confirm(&self, base: &BaseImage, v: &ValidatedBaseImage, turn: Turn) -> Result<Confirmed<Self>, Failure> {
        observe::confirm(base, v, &self.ctx, turn).await
    }

    async fn apply(&self, base: &BaseImage, v: &ValidatedBaseImage, turn: &mut Turn) -> Result<Applied, Failure> {
        Box::pin(apply::apply(base, v, self, turn)).await
    }

    fn render(
        base: &BaseImage,
        v: &ValidatedBaseImage,
        turn: &Turn,
        applied: &Applied,
        now: Timestamp,
    ) -> Outcome<BaseImageStatus> {
        status::render(base, v, turn, applied, now)
    }

    fn on_failure(base: &BaseImage, failure: &Failure, now: Timestamp) -> Outcome<BaseImageStatus> {
        status::failed(base, &failure.clone().into(), None, now)
    }
}

/// When to look again, if nothing happens before: at upstream, at the channel tag, at ConfigMaps.
fn again(base: &BaseImage, observed: &facts::Observed, channel: Duration) -> Duration {
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
