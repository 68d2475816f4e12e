//! The sentences of a run: rows about single workloads, the last message, and the events. Pure.
//!
//! Events come from the difference between the old and the new status, so that each change is told once, and none is lost
//! when the operator dies between a patch and the status.

use super::{
    state::{Skip, State},
    target::Target,
    validate::Validated,
};
use crate::{
    api::{
        RepaveRunStatus,
        repave_run::{AttentionRow, WaveStatus},
    },
    controllers::{conditions, driver::EventRecord},
};

/// Rows in a status.
const MAX_ROWS: usize = 20;
/// Longest reason, in characters: a status stays under 8 KiB.
const MAX_REASON: usize = 250;

/// The workloads that a person wants to know of, the worst first.
pub fn attention(targets: &[Target], v: &Validated) -> Vec<AttentionRow> {
    let mut rows: Vec<(u8, AttentionRow)> = targets.iter().flat_map(|target| rows_of(target, v)).collect();
    rows.extend(without_pods(targets, v));
    rows.sort();
    rows.into_iter().take(MAX_ROWS).map(|(_, row)| row).collect()
}

/// Those of waves in which nothing that is on the target has pods: they pass, and show nothing.
fn without_pods(targets: &[Target], v: &Validated) -> Vec<(u8, AttentionRow)> {
    let mut rows = Vec::new();
    for (at, wave) in v.waves.iter().enumerate() {
        let members = || targets.iter().filter(|target| target.wave == Some(at));
        let done = || members().filter(|target| target.state == State::Done);
        if !members().all(Target::ended) || done().any(|target| !target.seen.workload.without_pods) {
            continue;
        }
        let row = |target: &Target| AttentionRow {
            workload: target.seen.workload.key.to_string(),
            state: "NoPods".to_owned(),
            reason: format!(
                "it has no pods (spec.replicas is 0), and nothing else of wave {} has any on {}: nobody has seen the new image run there",
                wave.name, v.tag
            ),
        };
        rows.extend(done().map(|target| (6, row(target))));
    }
    rows
}

fn rows_of(target: &Target, v: &Validated) -> Vec<(u8, AttentionRow)> {
    let row = |rank: u8, state: &str, reason: String| {
        let workload = target.seen.workload.key.to_string();
        let reason = reason.chars().take(MAX_REASON).collect();
        (
            rank,
            AttentionRow {
                workload,
                state: state.to_owned(),
                reason,
            },
        )
    };
    let own = match &target.state {
        State::Held {
            rolled_back: true,
            reason,
        } => Some(row(
            0,
            "RolledBack",
            format!(
                "{reason}. It has its old image and is held; to try again remove its annotation repave.dev/hold"
            ),
        )),
        State::Failed { reason } => Some(row(
            1,
            "Failed",
            format!("{reason}. It was left as it is: kubectl describe shows why"),
        )),
        State::Failing { reason, .. } => Some(row(1, "Failed", format!("{reason}. It gets its old image back"))),
        State::Held {
            rolled_back: false,
            reason,
        } => Some(row(
            2,
            "Held",
            format!("{reason}. Remove the annotation repave.dev/hold to release it"),
        )),
        State::Skipped(skip) => skipped(skip, v).map(|reason| row(4, "Skipped", reason)),
        State::Pending { .. } | State::Rolling => None,
        State::Done => target.trouble.as_ref().map(|trouble| {
            row(
                5,
                "Degraded",
                format!("{trouble}. It was healthy on the new image for its whole soak, so this run does nothing: kubectl describe shows why"),
            )
        }),
    };
    let derived = target.derived.as_ref().map(|release| {
        row(
            3,
            "Outdated",
            format!(
                "built on {} of {}: rebuild it on {} and roll it out",
                release.tag, release.base_image, v.tag
            ),
        )
    });
    own.into_iter().chain(derived).collect()
}

fn skipped(skip: &Skip, v: &Validated) -> Option<String> {
    match skip {
        // The row about the derived image says it; a newer run says the rest.
        Skip::Derived(_) | Skip::Superseded | Skip::RunEnded => None,
        Skip::Barred(barred) => Some(barred.to_string()),
        Skip::Owned(owner) => Some(format!(
            "owned by {owner}, which would undo a patch: set its image to {}@{} there",
            v.repository, v.digest
        )),
        Skip::OtherRepository(repository) => Some(format!(
            "pulls the base from {repository}, and Repave rolls out of {} only: change the image's repository",
            v.repository
        )),
        Skip::NoWave => Some("no wave takes it: add a wave without selector and percent to the plan".to_owned()),
        Skip::Paused => Some("its roll-out is paused (spec.paused): resume it".to_owned()),
        Skip::Unhealthy(why) => Some(format!("not healthy, and not because of this run ({why}): repair it first")),
        Skip::Reverted => Some("its image was set back after Repave moved it, and it is not moved twice to the same digest: the next release moves it, or set the new image yourself".to_owned()),
        Skip::RolledByOthers => Some("it is on the new image, in a roll-out that this run did not cause, and is not judged by it: kubectl rollout status shows how it does".to_owned()),
        Skip::NoRecord => Some("it is on the new image, and its annotation repave.dev/moved is gone or cannot be read, so it is not judged: kubectl rollout status shows how it does".to_owned()),
        Skip::MovedLongAgo(why) => Some(format!("not healthy ({why}), and it was moved long before this run's status began, so it is not judged: kubectl describe shows why")),
        Skip::Busy => Some("it is busy with a roll-out of its own for longer than health.rolloutDeadline: it is moved once it has settled".to_owned()),
        Skip::Refused { words, .. } => Some(format!("the API server refused to change it, more than once: {words}. It is moved with the next release, once that is allowed")),
        Skip::TimeNotBelieved(why) => Some(format!("not healthy ({why}), and the time in its annotation repave.dev/moved is far ahead of the clock, so nobody can tell whether it was healthy until its wave had soaked, and it is not judged: kubectl describe shows why")),
        Skip::OtherPlan(plan) => {
            let plan = plan.as_ref().map_or_else(|| "another RepavePlan".to_owned(), |plan| format!("RepavePlan {plan}"));
            Some(format!("{plan} moved it, and its run is at work: leave the workload to one plan, or wait until that run has finished"))
        }
        Skip::OtherRun(run) => Some(format!("RepaveRun {run} moved another of its images and is at work: it is moved once that run has finished")),
        Skip::Newer(release) => Some(format!("runs {}, which is newer than this run's target", release.tag)),
    }
}

/// The last message of a run: what came of it.
pub fn done_message(targets: &[Target], unknown: usize) -> String {
    let count = |test: &dyn Fn(&State) -> bool| targets.iter().filter(|target| test(&target.state)).count();
    let derived = targets.iter().filter(|target| target.derived.is_some()).count();
    let parts = [
        (
            count(&|s| matches!(s, State::Held { rolled_back: true, .. })),
            "rolled back and held",
        ),
        (count(&|s| matches!(s, State::Failed { .. })), "failed"),
        (count(&|s| matches!(s, State::Held { rolled_back: false, .. })), "held"),
        (
            count(&|s| matches!(s, State::Skipped(skip) if !matches!(skip, Skip::Derived(_)))),
            "skipped",
        ),
        (derived, "derived images outdated"),
        (unknown, "images of unknown ancestry"),
    ];
    let mut message = format!("done: {} on the target", count(&|s| *s == State::Done));
    for (number, what) in parts.into_iter().filter(|(number, _)| *number > 0) {
        message.push_str(", ");
        message.push_str(&number.to_string());
        message.push(' ');
        message.push_str(what);
    }
    message
}

/// One event per change that a person would want to know of.
pub fn events(
    old: &RepaveRunStatus,
    new: &RepaveRunStatus,
    message: &str,
    reason: &'static str,
    stuck: bool,
) -> Vec<EventRecord> {
    let notice = |warning, reason, message: String| EventRecord {
        warning,
        reason,
        message,
    };
    let mut events = Vec::new();
    if old.started.is_none() {
        events.push(notice(
            false,
            "RunStarted",
            format!(
                "moving {} targets to {}",
                new.counts.total,
                new.target.as_deref().unwrap_or_default()
            ),
        ));
    }
    let settled = |wave: &&WaveStatus| {
        let before = old.waves.iter().find(|o| o.name == wave.name);
        wave.settled_at.is_some() && before.and_then(|o| o.settled_at.as_ref()) != wave.settled_at.as_ref()
    };
    for wave in new.waves.iter().filter(settled) {
        events.push(notice(
            false,
            "WaveSettled",
            format!("every target of wave {} has come to an end", wave.name),
        ));
    }
    if old.finished.is_some() && new.finished.is_none() {
        events.push(notice(
            false,
            "RunReopened",
            "it has work again: a hold has ended, or a workload was resumed, has recovered, is there again or is new"
                .to_owned(),
        ));
    }
    let told = |row: &&AttentionRow| {
        !old.attention
            .iter()
            .any(|o| o.workload == row.workload && o.state == row.state)
    };
    for row in new.attention.iter().filter(told) {
        match row.state.as_str() {
            "RolledBack" => events.push(notice(
                true,
                "WorkloadRolledBack",
                format!("{}: {}", row.workload, row.reason),
            )),
            "Failed" => events.push(notice(
                true,
                "WorkloadFailed",
                format!("{}: {}", row.workload, row.reason),
            )),
            _ => {}
        }
    }
    let was_stuck =
        conditions::find(&old.conditions, "Stalled").is_some_and(|c| c.status == "True" && c.reason == reason);
    if new.finished.is_some() && old.finished.is_none() {
        let failed = !conditions::is_true(&new.conditions, "Succeeded") && reason != "Superseded";
        events.push(notice(failed, "RunFinished", message.to_owned()));
    } else if stuck && !was_stuck {
        events.push(notice(true, reason, message.to_owned()));
    }
    events
}
