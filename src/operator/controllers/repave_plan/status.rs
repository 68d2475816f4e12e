//! What a plan says about itself: its newest run, and in one sentence how it stands. Pure.

use super::observe::{Observed, Released, is_run_of};
use crate::{
    api::{RepavePlan, RepavePlanStatus, RepaveRun},
    controllers::{
        conditions::{self, Conditions},
        driver::{Next, Notice, Outcome},
        error::WAIT,
    },
};
use jiff::Timestamp;
use kube::ResourceExt;
use std::time::Duration;

/// How often the estate is looked at when everything is up to date: a workload may come that is not.
const WHEN_CURRENT: Duration = Duration::from_secs(60);

/// One sentence of the plan, the most urgent first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Says {
    Stalled(&'static str, String),
    Working(&'static str, String),
    Ready(&'static str, String),
}

/// The new status, and when to look again. `runs` are all runs of the plan, those just made included.
pub fn summarize(
    plan: &RepavePlan,
    observed: &Observed,
    runs: &[RepaveRun],
    now: Timestamp,
) -> Outcome<RepavePlanStatus> {
    let old = plan.status.clone().unwrap_or_default();
    let generation = plan.metadata.generation.unwrap_or_default();
    let newest = runs.iter().max_by_key(|run| (run.creation_timestamp(), run.name_any()));
    let mut conditions = Conditions::from(&old.conditions, generation, now);
    let said: Vec<Says> = observed.bases.iter().map(|base| says(plan, base, runs)).collect();
    // A candidate is not watched from here: its proof may come a moment after the release.
    let waiting = observed.bases.iter().any(|base| {
        base.incomplete || base.outdated.is_some_and(|n| n > 0) || matches!(base.release, Released::Unproven { .. })
    });
    match said.into_iter().min() {
        Some(Says::Stalled(reason, message)) => conditions.stalled(reason, message),
        Some(Says::Working(reason, message)) => conditions.reconciling(reason, message),
        Some(Says::Ready(reason, message)) => conditions.ready(reason, message),
        None => conditions.stalled("NoBaseImage", "baseImageRefs is empty: name at least one BaseImage"),
    }
    let made = runs
        .iter()
        .filter(|run| !observed.runs.iter().any(|known| known.name_any() == run.name_any()));
    let notices = made
        .map(|run| Notice {
            warning: false,
            reason: "RunCreated",
            message: format!(
                "RepaveRun {} moves its targets to {} of {}",
                run.name_any(),
                run.spec.tag,
                run.spec.base_image
            ),
        })
        .collect();
    Outcome {
        status: RepavePlanStatus {
            observed_generation: Some(generation),
            run: newest.map(ResourceExt::name_any),
            conditions: conditions.into_list(),
        },
        next: Next::After(if waiting && !plan.spec.suspend {
            WAIT
        } else {
            WHEN_CURRENT
        }),
        notices,
    }
}

fn says(plan: &RepavePlan, base: &super::observe::Base, runs: &[RepaveRun]) -> Says {
    let name = &base.name;
    let release = match &base.release {
        Released::Missing => {
            return Says::Working(
                "BaseImageMissing",
                format!("BaseImage {name} is not in this namespace: create it, or correct baseImageRefs"),
            );
        }
        Released::Nothing => return Says::Working("NothingReleased", format!("BaseImage {name} has no release yet")),
        Released::NotOwned { why } => {
            return Says::Stalled(
                "RepositoryTaken",
                format!("nothing of BaseImage {name} is rolled out: {why}"),
            );
        }
        Released::Unproven { candidate } => {
            return Says::Working(
                "NotPromoted",
                format!("ImageCandidate {candidate} does not prove the release of {name}: nothing is moved to it"),
            );
        }
        Released::Proven(release) => release,
    };
    let run = runs.iter().find(|run| is_run_of(run, release));
    match (run, base.outdated) {
        (Some(run), _) => of_run(run),
        (None, Some(1..)) if plan.spec.suspend => Says::Working(
            "Suspended",
            format!("suspended: no run is made for {} of {name}", release.tag),
        ),
        (None, Some(1..)) => Says::Working("Creating", format!("a run for {} of {name} is being made", release.tag)),
        (None, Some(0) | None) => Says::Ready(
            "UpToDate",
            format!("no workload runs an older release than {} of {name}", release.tag),
        ),
    }
}

fn of_run(run: &RepaveRun) -> Says {
    let list = run
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let message = conditions::find(list, "Ready").map_or("it has just been made", |c| c.message.as_str());
    let message = format!("{}: {message}", run.name_any());
    if conditions::is_true(list, "Ready") {
        Says::Ready("RunFinished", message)
    } else if conditions::is_true(list, "Stalled") {
        Says::Stalled("RunStalled", message)
    } else {
        Says::Working("RunActive", message)
    }
}
