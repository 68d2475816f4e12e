//! What a BaseImage's status says. Pure.

use super::{apply::Applied, findings, observe::Observed, plan, validate::Wish};
use crate::{
    api::{
        BaseImage, BaseImageStatus, ImageCandidate,
        base_image::{CandidateSummary, Release, Upstream},
        image_candidate::CandidateResult,
    },
    controllers::{
        conditions::{Conditions, Truth},
        driver::Notice,
        error::{Classified, one_line},
        history::Recorded,
    },
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

/// The status after steps that succeeded.
pub fn summarize(
    base: &BaseImage,
    wish: &Wish,
    observed: &Observed,
    applied: &Applied,
    recorded: &Recorded,
    now: Timestamp,
) -> (BaseImageStatus, Vec<Notice>) {
    let old = base.status.clone().unwrap_or_default();
    let wanted = plan::candidate(base, wish, observed).name_any();
    let current = observed.candidates.iter().find(|c| c.name_any() == wanted);
    let released = recorded.decided.released.clone();
    let source = format!("{}:{}", wish.source, wish.tag);
    let mut conditions = Conditions::from(&old.conditions, base.metadata.generation.unwrap_or(0), now);
    let resolved = format!("{source} is {}", observed.upstream);
    conditions.set("UpstreamResolved", Truth::True, "Resolved", resolved);
    findings::report(&mut conditions, base, &observed.candidates, &observed.upstream);
    report_candidate(&mut conditions, base, current, recorded);
    let first_seen = old
        .upstream
        .filter(|u| u.digest == observed.upstream)
        .map_or(Time(now), |u| u.first_seen);
    let mut status = BaseImageStatus {
        observed_generation: base.metadata.generation,
        source: Some(source),
        upstream: Some(Upstream {
            tag: wish.tag.clone(),
            digest: observed.upstream.clone(),
            first_seen,
        }),
        candidate: Some(CandidateSummary {
            name: wanted.clone(),
            step: step_of(current),
        }),
        released,
        revoked: Vec::new(),
        conditions: Vec::new(),
    };
    recorded.enter(&mut status, &mut conditions);
    status.conditions = conditions.into_list();
    let made = applied.created.iter().map(|name| Notice {
        warning: false,
        reason: "NewDigest",
        message: format!(
            "{}:{} is {} now: made candidate {name}",
            wish.source, wish.tag, observed.upstream
        ),
    });
    (status, recorded.notices().chain(made).collect())
}

fn report_candidate(
    conditions: &mut Conditions,
    base: &BaseImage,
    current: Option<&ImageCandidate>,
    recorded: &Recorded,
) {
    let released = recorded.decided.released.as_ref();
    let kept = released.map_or_else(
        || "nothing is released yet".to_owned(),
        |r| format!("{} stays released", r.tag),
    );
    if base.spec.suspend {
        conditions.ready("Suspended", format!("suspended: nothing new is started; {kept}"));
        return;
    }
    let Some(candidate) = current else {
        on_its_way(
            conditions,
            "NewDigest",
            format!("a new candidate is being made; {kept}"),
            released,
        );
        return;
    };
    let (name, short) = (candidate.name_any(), candidate.spec.source_digest.short());
    let status = candidate.status.clone().unwrap_or_default();
    let failed = status.failed_checks.unwrap_or_else(|| "see its conditions".into());
    match status.result {
        Some(CandidateResult::Passed) if recorded.decided.newest_revoked.is_some() => {
            let message = recorded.decided.instead().unwrap_or_default();
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
        // Wanted again: the next candidate with these inputs is made, this one stays out.
        Some(CandidateResult::Superseded) => {
            let message = format!(
                "new digest {short} was given up for another one: delete imagecandidate {name} to try it again; {kept}"
            );
            conditions.stalled("CandidateSuperseded", message);
        }
        Some(CandidateResult::Running) | None => {
            let message = format!("new digest {short} is being validated; {kept}");
            on_its_way(conditions, "CandidateRunning", message, released);
        }
    }
}

/// With a release in place the wish holds while something newer is proven; without one it does not yet.
fn on_its_way(conditions: &mut Conditions, reason: &'static str, message: String, released: Option<&Release>) {
    match released {
        Some(_) => conditions.progressing(reason, message),
        None => conditions.reconciling(reason, message),
    }
}

/// The word in the Candidate column.
fn step_of(candidate: Option<&ImageCandidate>) -> String {
    let status = candidate.and_then(|c| c.status.as_ref());
    let step = status.and_then(|s| s.step).map_or("New", |step| step.as_str());
    match status.and_then(|s| s.result) {
        Some(CandidateResult::Rejected) => "Rejected".to_owned(),
        Some(CandidateResult::Error) => "Error".to_owned(),
        Some(CandidateResult::Superseded) => "Superseded".to_owned(),
        Some(CandidateResult::Passed | CandidateResult::Waiting | CandidateResult::Running) | None => step.to_owned(),
    }
}

/// The status after a step that failed: what was known stays.
pub fn failed(
    base: &BaseImage,
    error: &super::Error,
    recorded: Option<&Recorded>,
    now: Timestamp,
) -> (BaseImageStatus, Vec<Notice>) {
    let mut status = base.status.clone().unwrap_or_default();
    let mut conditions = Conditions::from(&status.conditions, base.metadata.generation.unwrap_or(0), now);
    let message = one_line(error);
    conditions.set("UpstreamResolved", Truth::False, error.reason(), message.clone());
    conditions.failed(error, message.clone());
    status.observed_generation = base.metadata.generation;
    status.source = Some(format!("{}:{}", base.spec.source.image, base.spec.source.track.tag));
    if let Some(recorded) = recorded {
        recorded.enter(&mut status, &mut conditions);
    }
    status.conditions = conditions.into_list();
    let changed = base
        .status
        .as_ref()
        .is_none_or(|old| old.conditions != status.conditions);
    let failure = changed.then(|| Notice {
        warning: true,
        reason: error.reason(),
        message,
    });
    let notices = recorded.into_iter().flat_map(Recorded::notices).chain(failure);
    (status, notices.collect())
}
