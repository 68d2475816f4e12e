//! What a BaseImage's status says. Pure.

use super::{
    STILL_TAKEN, again,
    apply::Applied,
    channel::{Found, Outcome as Channel},
    decision::{self, Decision, Followed, Wanted},
    facts::Observed,
    findings,
    turn::{Rest, Turn},
    with_jitter,
};
use crate::{
    api::{
        BaseImage, BaseImageStatus, ImageCandidate,
        base_image::{CandidateSummary, Release, Upstream},
        image_candidate::CandidateResult,
    },
    controllers::{
        conditions::{self, ConditionStatus, Conditions},
        desired::ValidatedBaseImage,
        driver::{EventRecord, Outcome, Requeue},
        error::{Classified, one_line},
        history::NextHistory,
    },
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
pub use unsettled::failed;
use unsettled::owns;

mod unsettled;

/// Condition, only there while it is true: upstream's tag points to a digest from before the release.
const UPSTREAM_ROLLED_BACK: &str = "UpstreamRolledBack";
/// Condition: whether the channel tag points to the release.
const CHANNEL_TAG: &str = "ChannelTag";

/// What a reconcile came to.
pub struct Round<'a> {
    /// What was parsed.
    pub validated: &'a ValidatedBaseImage,
    /// What was read.
    pub observed: &'a Observed,
    /// What was decided.
    pub decision: &'a Decision,
    /// What its history says.
    pub history: &'a NextHistory,
    /// The candidate that was made.
    pub created: Option<&'a str>,
    /// What came of the channel tag.
    pub channel: &'a Channel,
}

/// The status after a turn, and when the next one is due.
pub fn render(
    base: &BaseImage,
    validated: &ValidatedBaseImage,
    turn: &Turn,
    applied: &Applied,
    now: Timestamp,
) -> Outcome<BaseImageStatus> {
    let owner = match turn {
        Turn::NotOwner(taken) => {
            let (status, events) = unsettled::taken(base, taken, now);
            let next = Requeue::After(with_jitter(STILL_TAKEN, base));
            return Outcome { status, next, events };
        }
        Turn::Owner(owner) => owner,
    };
    let history = &owner.history;
    let (observed, decision) = match &owner.rest {
        Rest::AfterTheNews => return announced(base, (validated, history), now),
        Rest::Failed(failed) => return unsettled::failed(base, failed, Some((validated, history)), now),
        Rest::Decided { observed, decision, .. } => (observed, decision),
    };
    if let Some(failure) = &applied.failed {
        return unsettled::failed(base, &failure.clone().into(), Some((validated, history)), now);
    }
    let (channel, channel_again) = match &applied.channel {
        Some((channel, again)) => (channel, *again),
        None => (&Channel::NotDue, validated.interval),
    };
    let round = Round {
        validated,
        observed,
        decision,
        history,
        created: applied.created.as_deref(),
        channel,
    };
    let (status, events) = summarize(base, &round, now);
    let stored = base.status.as_ref().and_then(|status| status.released.as_ref());
    let next = if stored == history.decided.released.as_ref() {
        Requeue::After(again(base, observed, channel_again))
    } else {
        // The channel tag follows what the status has just announced.
        Requeue::Now
    };
    Outcome { status, next, events }
}

/// The status when something else is released now, or something was taken back: that is announced, all else follows at once.
fn announced(
    base: &BaseImage,
    (validated, history): (&ValidatedBaseImage, &NextHistory),
    now: Timestamp,
) -> Outcome<BaseImageStatus> {
    let mut status = base.status.clone().unwrap_or_default();
    let mut conditions = Conditions::from(&status.conditions, base.metadata.generation.unwrap_or(0), now);
    owns(&mut conditions, validated);
    history.enter(&mut status, &mut conditions);
    status.conditions = conditions.into_list();
    Outcome {
        status,
        next: Requeue::Now,
        events: history.events().collect(),
    }
}

/// The status after steps that succeeded.
pub fn summarize(base: &BaseImage, round: &Round, now: Timestamp) -> (BaseImageStatus, Vec<EventRecord>) {
    let Round {
        validated,
        observed,
        decision,
        ..
    } = round;
    let old = base.status.clone().unwrap_or_default();
    let source = format!("{}:{}", validated.source, validated.tag);
    let mut conditions = Conditions::from(&old.conditions, base.metadata.generation.unwrap_or(0), now);
    let resolved = format!("{source} is {}", observed.upstream);
    conditions.set("UpstreamResolved", ConditionStatus::True, "Resolved", resolved);
    owns(&mut conditions, validated);
    findings::report(&mut conditions, base, &observed.candidates, decision.followed.wanted());
    report_candidate(&mut conditions, base, round);
    let released = round.history.decided.released.as_ref();
    report_rollback(&mut conditions, &source, &decision.followed, released);
    report_channel(&mut conditions, round.channel, released);
    let first_seen = old
        .upstream
        .as_ref()
        .filter(|u| u.digest == observed.upstream)
        .map_or(Time(now), |u| u.first_seen.clone());
    let held = match &decision.followed {
        Followed::Tag(_) => None,
        Followed::Replay { held, .. } => Some(held.clone()),
    };
    let mut status = BaseImageStatus {
        observed_generation: base.metadata.generation,
        source: Some(source),
        upstream: Some(Upstream {
            tag: validated.tag.clone(),
            digest: observed.upstream.clone(),
            first_seen,
            held,
        }),
        candidate: candidate_summary(base, observed, &decision.wanted),
        released: None,
        revoked: Vec::new(),
        channel_tag: match round.channel {
            Channel::Right { order, .. } => Some(order.record()),
            Channel::Nothing | Channel::NotDue | Channel::Failed { .. } => old.channel_tag.clone(),
        },
        conditions: Vec::new(),
    };
    round.history.enter(&mut status, &mut conditions);
    status.conditions = conditions.into_list();
    let events = events(&old, &status, round);
    (status, events)
}

/// What is told once, because it has just come to be so.
fn events(old: &BaseImageStatus, new: &BaseImageStatus, round: &Round) -> Vec<EventRecord> {
    let Round {
        validated, observed, ..
    } = round;
    let told = |warning, reason, message| EventRecord {
        warning,
        reason,
        message,
    };
    let mut events: Vec<EventRecord> = round.history.events().collect();
    if let (Some(name), Wanted::New(made)) = (round.created, &round.decision.wanted) {
        let digest = &made.spec.source_digest;
        let known = observed.candidates.iter().any(|one| one.spec.source_digest == *digest);
        events.push(if known {
            let message = format!("{digest} is wanted with other inputs, or again: made candidate {name}");
            told(false, "NewInputs", message)
        } else {
            let message = format!(
                "{}:{} is {digest} now: made candidate {name}",
                validated.source, validated.tag
            );
            told(false, "NewDigest", message)
        });
    }
    let rolled_back =
        |list: &[Condition]| conditions::find(list, UPSTREAM_ROLLED_BACK).map(|found| found.message.clone());
    if let Some(message) = rolled_back(&new.conditions).filter(|_| rolled_back(&old.conditions).is_none()) {
        events.push(told(true, "UpstreamRolledBack", message));
    }
    if let Channel::Right { order, found } = round.channel {
        let (image, digest) = (order.record().image, &order.digest);
        match found {
            Found::Right => {}
            Found::Behind => events.push(told(false, "ChannelTagSet", format!("{image} points to {digest} now"))),
            Found::Foreign { digest: foreign } => {
                let was = foreign.as_ref().map_or_else(
                    || "was removed by somebody else".to_owned(),
                    |foreign| format!("was moved to {foreign} by somebody else"),
                );
                let message = format!("{image} {was}: it points to the release {digest} again");
                events.push(told(true, "ChannelTagRestored", message));
            }
        }
    }
    events
}

/// The candidate that answers for what is wanted; while suspended, nothing is made and the newest one is named.
fn candidate_summary(base: &BaseImage, observed: &Observed, wanted: &Wanted) -> Option<CandidateSummary> {
    let (candidate, step) = match wanted {
        Wanted::There(candidate) => (candidate.as_ref(), step_of(candidate)),
        Wanted::New(candidate) if !base.spec.suspend => (candidate.as_ref(), "New".to_owned()),
        Wanted::New(_) => {
            let newest = decision::newest(&observed.candidates)?;
            (newest, step_of(newest))
        }
    };
    Some(CandidateSummary {
        name: candidate.name_any(),
        sequence: candidate.spec.sequence,
        step,
    })
}

fn report_candidate(conditions: &mut Conditions, base: &BaseImage, round: &Round) {
    let decided = &round.history.decided;
    let released = decided.released.as_ref();
    let kept = released.map_or_else(
        || "nothing is released yet".to_owned(),
        |r| format!("{} stays released", r.tag),
    );
    if base.spec.suspend {
        conditions.ready("Suspended", format!("suspended: nothing new is started; {kept}"));
        return;
    }
    let candidate = match &round.decision.wanted {
        Wanted::There(candidate) => candidate,
        Wanted::New(_) => {
            let message = format!("a new candidate is being made; {kept}");
            on_its_way(conditions, "NewDigest", message, released);
            return;
        }
    };
    let (name, short) = (candidate.name_any(), candidate.spec.source_digest.short());
    let status = candidate.status.clone().unwrap_or_default();
    let failed = status.failed_checks.unwrap_or_else(|| "see its conditions".into());
    match status.result {
        Some(CandidateResult::Passed) if decided.newest_revoked.is_some() => {
            let message = decided.instead().unwrap_or_default();
            match released {
                Some(_) => conditions.ready("WentBack", message),
                None => conditions.stalled("NothingReleased", message),
            }
        }
        Some(CandidateResult::Passed) => {
            let tag = released.map_or("", |r| r.tag.as_str());
            conditions.ready("Released", format!("{tag} is released and current"));
        }
        Some(CandidateResult::Rejected) => {
            let message =
                format!("new digest {short} was rejected ({failed}); {kept}: kubectl describe imagecandidate {name}");
            conditions.stalled("CandidateRejected", message);
        }
        Some(CandidateResult::Error) => {
            let message = format!(
                "new digest {short} could not be judged ({failed}); {kept}: kubectl describe imagecandidate {name}, then delete it to try again"
            );
            conditions.stalled("CandidateError", message);
        }
        Some(CandidateResult::Waiting) => {
            let message = format!("new digest {short} waits: kubectl describe imagecandidate {name}; {kept}");
            on_its_way(conditions, "CandidateWaiting", message, released);
        }
        // Wanted again: a new candidate with these inputs is made, this one stays out.
        Some(CandidateResult::Superseded) => {
            let message = format!("{short} is wanted again: a new candidate is being made; {kept}");
            on_its_way(conditions, "NewDigest", message, released);
        }
        Some(CandidateResult::Running) | None => {
            let message = format!("new digest {short} is being validated; {kept}");
            on_its_way(conditions, "CandidateRunning", message, released);
        }
    }
}

/// Says that upstream's tag went back, why that is not followed, and what to do.
fn report_rollback(conditions: &mut Conditions, source: &str, followed: &Followed, released: Option<&Release>) {
    let Followed::Replay { found, .. } = followed else {
        conditions.clear(UPSTREAM_ROLLED_BACK);
        return;
    };
    let tag = released.map_or("", |release| release.tag.as_str());
    let message = format!(
        "{source} went back to {found}, which it gave before {tag} was released: that is how an old image is played back, so {tag} stays. It goes on by itself when the tag moves on; to go back with it, set spec.source.onUpstreamRollback to Follow"
    );
    conditions.set(UPSTREAM_ROLLED_BACK, ConditionStatus::True, "TagWentBack", message);
}

fn report_channel(conditions: &mut Conditions, channel: &Channel, released: Option<&Release>) {
    let Some(released) = released else {
        conditions.clear(CHANNEL_TAG);
        return;
    };
    match channel {
        Channel::NotDue => {}
        Channel::Nothing => {
            let message = format!(
                "{} is announced first; the channel tag follows at once in the repository that spec.promote names, elsewhere it is left alone",
                released.tag
            );
            conditions.set(CHANNEL_TAG, ConditionStatus::Unknown, "NotAsserted", message);
        }
        Channel::Right { order, .. } => {
            let message = format!("{} points to {} ({})", order.record().image, order.digest, released.tag);
            conditions.set(CHANNEL_TAG, ConditionStatus::True, "PointsToRelease", message);
        }
        Channel::Failed { order, error } => {
            let message = format!(
                "{} could not be looked at or set to {}: {}",
                order.record().image,
                order.digest,
                one_line(error)
            );
            conditions.set(CHANNEL_TAG, ConditionStatus::False, error.reason(), message);
        }
    }
}

/// With a release in place it is Ready while something newer is proven; without one it does not yet.
fn on_its_way(conditions: &mut Conditions, reason: &'static str, message: String, released: Option<&Release>) {
    match released {
        Some(_) => conditions.progressing(reason, message),
        None => conditions.reconciling(reason, message),
    }
}

/// The word in the Candidate column.
fn step_of(candidate: &ImageCandidate) -> String {
    let status = candidate.status.as_ref();
    let step = status.and_then(|s| s.step).map_or("New", |step| step.as_str());
    match status.and_then(|s| s.result) {
        Some(CandidateResult::Rejected) => "Rejected".to_owned(),
        Some(CandidateResult::Error) => "Error".to_owned(),
        Some(CandidateResult::Superseded) => "Superseded".to_owned(),
        Some(CandidateResult::Passed | CandidateResult::Waiting | CandidateResult::Running) | None => step.to_owned(),
    }
}

#[cfg(test)]
mod tests;
