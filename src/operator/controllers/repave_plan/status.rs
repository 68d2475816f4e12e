//! What a plan says about itself: its newest run, how many workloads are outdated, and in one sentence how it stands. Pure.

use super::{
    observe::{Base, Observed, Released},
    run::{is_finished, is_run_of},
};
use crate::{
    api::{
        RepavePlan, RepavePlanStatus, RepaveRun,
        repave_plan::{LeftOut, NotRollable, PlanCounts},
    },
    controllers::{
        conditions::{self, ConditionStatus, Conditions},
        driver::{EventRecord, Outcome, Requeue},
        error::WAIT,
        inventory::CountedKind,
        repave_run::today,
    },
    domain::lineage::Release,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How often a plan is looked at when nothing wakes it: the inventory does when anything changes.
const WHEN_CURRENT: Duration = Duration::from_secs(600);
/// How often while something waits that nothing wakes a plan for: rights that are missing, a roll-out of somebody else.
const WHEN_BARRED: Duration = Duration::from_secs(60);
/// How long after a release its proof is looked for often.
const PROOF_DUE: SignedDuration = SignedDuration::from_mins(10);
/// Says whether the run obeys the plan as it is written now.
const FOLLOWS: &str = "RunFollowsPlan";

/// One sentence of the plan, the most urgent first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum PlanSummary {
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
    let said: Vec<PlanSummary> = observed.bases.iter().map(|base| says(plan, base, runs)).collect();
    match said.into_iter().min() {
        Some(PlanSummary::Stalled(reason, message)) => conditions.stalled(reason, message),
        Some(PlanSummary::Working(reason, message)) => conditions.reconciling(reason, message),
        Some(PlanSummary::Ready(reason, message)) => conditions.ready(reason, message),
        None => conditions.stalled("NoBaseImage", "baseImageRefs is empty: name at least one BaseImage"),
    }
    let edits = waiting(plan, observed, runs);
    if edits.is_empty() {
        conditions.set(
            FOLLOWS,
            ConditionStatus::True,
            "InForce",
            "the plan is in force as it is written",
        );
    } else {
        conditions.set(FOLLOWS, ConditionStatus::False, "EditsWait", edits);
    }
    let made = runs
        .iter()
        .filter(|run| !observed.runs.iter().any(|known| known.name_any() == run.name_any()));
    let events = made
        .map(|run| EventRecord {
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
            counts: counts(observed),
            not_rollable: not_rollable(observed),
            namespaces_left_out: left_out(observed),
            conditions: conditions.into_list(),
        },
        next: Requeue::After(next(plan, observed, now)),
        events,
    }
}

/// When to look again, if nothing wakes the plan before.
fn next(plan: &RepavePlan, observed: &Observed, now: Timestamp) -> Duration {
    // A candidate is not watched from here: its proof may come a moment after the release, or never.
    let proof_due = |base: &Base| match &base.release {
        Released::Unproven { promoted_at, .. } => Some(now.duration_since(*promoted_at) < PROOF_DUE),
        Released::Missing | Released::Nothing | Released::NotOwned { .. } | Released::Proven(_) => None,
    };
    let waits = |base: &Base| base.incomplete || base.standing.movable_by_run > 0 || proof_due(base) == Some(true);
    // The end of somebody's roll-out wakes no plan either.
    let barred =
        |base: &Base| base.standing.barred || base.standing.counts.movable > 0 || proof_due(base) == Some(false);
    let barred = observed.bases.iter().any(barred);
    let wait = if !plan.spec.suspend && observed.bases.iter().any(waits) {
        WAIT
    } else if barred {
        WHEN_BARRED
    } else {
        WHEN_CURRENT
    };
    let ends = observed.bases.iter().filter_map(|base| base.standing.hold_ends).min();
    let until_end = ends.and_then(|end| Duration::try_from(end.duration_since(now)).ok());
    until_end.map_or(wait, |end| wait.min(end + Duration::from_secs(1)))
}

fn counts(observed: &Observed) -> Option<PlanCounts> {
    let mut counted = observed.bases.iter().filter(|base| base.outdated.is_some()).peekable();
    counted.peek()?;
    let mut sum = PlanCounts::default();
    for PlanCounts {
        current,
        outdated,
        movable,
        held,
        reported,
        unknown,
    } in counted.map(|base| &base.standing.counts)
    {
        sum.current += current;
        sum.outdated += outdated;
        sum.movable += movable;
        sum.held += held;
        sum.reported += reported;
        // The same workloads are looked at for every base image.
        sum.unknown = sum.unknown.max(*unknown);
    }
    Some(sum)
}

fn not_rollable(observed: &Observed) -> Vec<NotRollable> {
    let mut sum: BTreeMap<CountedKind, NotRollable> = BTreeMap::new();
    for (kind, row) in observed.bases.iter().flat_map(|base| &base.standing.not_rollable) {
        sum.entry(*kind)
            .and_modify(|known| known.count += row.count)
            .or_insert_with(|| row.clone());
    }
    sum.into_values().collect()
}

fn left_out(observed: &Observed) -> Option<LeftOut> {
    let all = observed.bases.iter().map(|base| base.standing.left_out.clone());
    all.max_by_key(|out| (out.not_allowed, out.not_in_estate, out.forbidden, out.without_pods))
        .filter(|out| *out != LeftOut::default())
}

/// Which edits of the plan its active runs do not obey yet; empty when they obey all.
fn waiting(plan: &RepavePlan, observed: &Observed, runs: &[RepaveRun]) -> String {
    let mut edits = BTreeSet::new();
    for base in &observed.bases {
        let Released::Proven(release) = &base.release else {
            continue;
        };
        let run = runs.iter().find(|run| is_run_of(run, release));
        if let Some(run) = run {
            edits.extend(today::waiting_edits(plan, run));
        }
    }
    if edits.is_empty() {
        return String::new();
    }
    let list: Vec<String> = edits.into_iter().collect();
    format!(
        "changed since the run was made, and waits for the next release: {}",
        list.join(", ")
    )
}

fn says(plan: &RepavePlan, base: &Base, runs: &[RepaveRun]) -> PlanSummary {
    let name = &base.name;
    let release = match &base.release {
        Released::Missing => {
            return PlanSummary::Working(
                "BaseImageMissing",
                format!("BaseImage {name} is not in this namespace: create it, or correct baseImageRefs"),
            );
        }
        Released::Nothing => {
            return PlanSummary::Working("NothingReleased", format!("BaseImage {name} has no release yet"));
        }
        Released::NotOwned { why } => {
            return PlanSummary::Stalled(
                "RepositoryTaken",
                format!("nothing of BaseImage {name} is rolled out: {why}"),
            );
        }
        Released::Unproven {
            candidate,
            promoted_at: _,
        } => {
            return PlanSummary::Working(
                "NotPromoted",
                format!("ImageCandidate {candidate} does not prove the release of {name}: nothing is moved to it"),
            );
        }
        Released::Proven(release) => release,
    };
    let run = runs.iter().find(|run| is_run_of(run, release));
    let outdated = base.outdated.unwrap_or(0);
    match run {
        Some(run) if !is_finished(run) => of_run(run),
        _ if base.incomplete && outdated == 0 => PlanSummary::Working(
            "Inspecting",
            format!(
                "images are still being looked up; until then nothing is known to be on an older release than {} of {name}",
                release.tag
            ),
        ),
        _ if plan.spec.suspend && base.standing.counts.movable > 0 => PlanSummary::Working(
            "Suspended",
            format!(
                "suspended: {} workloads are not moved to {} of {name}",
                base.standing.counts.movable, release.tag
            ),
        ),
        Some(run) if base.standing.movable_by_run > 0 => PlanSummary::Working(
            "Reopening",
            format!(
                "{} workloads can be moved to {} of {name} now: {} goes on",
                base.standing.movable_by_run,
                release.tag,
                run.name_any()
            ),
        ),
        None if outdated > 0 => {
            PlanSummary::Working("Creating", format!("a run for {} of {name} is being made", release.tag))
        }
        Some(run) if outdated > 0 => match of_run(run) {
            PlanSummary::Ready(..) => PlanSummary::Ready("NothingToMove", rest(plan, base, release)),
            other => other,
        },
        Some(_) | None => {
            let rest = rest(plan, base, release);
            if is_all(base) {
                PlanSummary::Ready("UpToDate", rest)
            } else {
                PlanSummary::Ready("NothingToMove", rest)
            }
        }
    }
}

/// Whether everything that the plan selects is known and on the release.
fn is_all(base: &Base) -> bool {
    let standing = &base.standing;
    base.outdated == Some(0) && standing.not_rollable.is_empty() && standing.left_out == LeftOut::default()
}

/// What is not on the release, and why it stays there.
fn rest(plan: &RepavePlan, base: &Base, release: &Release) -> String {
    let counts = &base.standing.counts;
    let mut said = match counts.outdated {
        0 => format!(
            "no workload runs an older release than {} of {}",
            release.tag, base.name
        ),
        outdated => format!(
            "{outdated} workloads are on an older release than {} of {} and are not moved: {} held, {} only reported (see the run)",
            release.tag, base.name, counts.held, counts.reported
        ),
    };
    if counts.outdated > 0 && counts.movable > 0 {
        said.push_str(", ");
        said.push_str(&counts.movable.to_string());
        said.push_str(" busy with a roll-out of their own, or selected since the run was made");
    }
    let more = base.standing.not_rollable.values().map(|row| {
        format!(
            "{} {} may be, and cannot be rolled yet, for example {}",
            row.count, row.kind, row.example
        )
    });
    for more in more.chain(left_out_words(plan, &base.standing.left_out)) {
        said.push_str("; ");
        said.push_str(&more);
    }
    said
}

/// Which namespaces are left out, and what would let them in.
fn left_out_words(plan: &RepavePlan, out: &LeftOut) -> Vec<String> {
    let mut words = Vec::new();
    if out.not_allowed > 0 {
        let what = plan.spec.service_account_name.as_ref().map_or_else(
            || "name a ServiceAccount of this namespace in spec.serviceAccountName and give it rights there".to_owned(),
            |account| format!("ServiceAccount {account} may not list Deployments there"),
        );
        words.push(format!("{} selected namespaces are left out: {what}", out.not_allowed));
    }
    if out.not_in_estate > 0 {
        words.push(format!(
            "{} selected namespaces are not in the operator's estate.namespaces",
            out.not_in_estate
        ));
    }
    if out.forbidden > 0 {
        words.push(format!(
            "in {} selected namespaces the operator itself may not list Deployments",
            out.forbidden
        ));
    }
    if out.without_pods > 0 {
        words.push(format!(
            "in {} selected namespaces the operator itself may not list pods: what their workloads run that name an image by tag is not known",
            out.without_pods
        ));
    }
    words
}

fn of_run(run: &RepaveRun) -> PlanSummary {
    let list = run
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let message = conditions::find(list, "Ready").map_or("it has just been made", |c| c.message.as_str());
    let message = format!("{}: {message}", run.name_any());
    if conditions::is_true(list, "Ready") {
        PlanSummary::Ready("RunFinished", message)
    } else if conditions::is_true(list, "Stalled") {
        PlanSummary::Stalled("RunStalled", message)
    } else {
        PlanSummary::Working("RunActive", message)
    }
}
