//! The status of a BaseImage that cannot go on: its repository is another's, or a step failed. Pure.
//!
//! Must not take away anything that was known.

use super::CHANNEL_TAG;
use crate::{
    api::{BaseImage, BaseImageStatus},
    controllers::{
        base_image::facts::Failed,
        conditions::{ConditionStatus, Conditions},
        desired::{
            ValidatedBaseImage,
            owner::{REPOSITORY_OWNED, REPOSITORY_TAKEN, Taken, not_owned},
        },
        driver::{EventRecord, Outcome},
        history::NextHistory,
        reconciler::Failure,
    },
};
use jiff::Timestamp;

/// Whose a repository is does not hang on upstream or on a policy.
pub fn owns(conditions: &mut Conditions, validated: &ValidatedBaseImage) {
    let message = format!("{} is promoted to by this BaseImage alone", validated.production);
    conditions.set(REPOSITORY_OWNED, ConditionStatus::True, "Owner", message);
}

/// The status of one whose repository is another's: what was known stays, and nothing of it is used.
pub fn taken(base: &BaseImage, taken: &Taken, now: Timestamp) -> (BaseImageStatus, Vec<EventRecord>) {
    let mut status = base.status.clone().unwrap_or_default();
    let before = not_owned(base).map(str::to_owned);
    let mut conditions = Conditions::from(&status.conditions, base.metadata.generation.unwrap_or(0), now);
    let message = taken.message();
    conditions.set(
        REPOSITORY_OWNED,
        ConditionStatus::False,
        REPOSITORY_TAKEN,
        message.clone(),
    );
    conditions.clear(CHANNEL_TAG);
    conditions.stalled(REPOSITORY_TAKEN, message.clone());
    status.observed_generation = base.metadata.generation;
    status.conditions = conditions.into_list();
    let notice = (before.as_deref() != Some(message.as_str())).then_some(EventRecord {
        warning: true,
        reason: REPOSITORY_TAKEN,
        message,
    });
    (status, notice.into_iter().collect())
}

/// The status after a step that failed: what was known stays. Only a failed look at upstream says that upstream is not
/// resolved; anything else is told by `Ready` and its reason.
pub fn failed(
    base: &BaseImage,
    failed: &Failed,
    owner: Option<(&ValidatedBaseImage, &NextHistory)>,
    now: Timestamp,
) -> Outcome<BaseImageStatus> {
    let Failure { reason, class, message } = &failed.failure;
    let mut status = base.status.clone().unwrap_or_default();
    let mut conditions = Conditions::from(&status.conditions, base.metadata.generation.unwrap_or(0), now);
    if failed.of_upstream {
        conditions.set("UpstreamResolved", ConditionStatus::False, reason, message.clone());
    }
    conditions.failed_as(*class, reason, message.clone());
    status.observed_generation = base.metadata.generation;
    if let Some((validated, history)) = owner {
        owns(&mut conditions, validated);
        history.enter(&mut status, &mut conditions);
    }
    status.conditions = conditions.into_list();
    let changed = base
        .status
        .as_ref()
        .is_none_or(|old| old.conditions != status.conditions);
    let notice = changed.then(|| EventRecord {
        warning: true,
        reason,
        message: message.clone(),
    });
    Outcome {
        status,
        next: (*class).into(),
        events: owner
            .into_iter()
            .flat_map(|(_, history)| history.events())
            .chain(notice)
            .collect(),
    }
}
