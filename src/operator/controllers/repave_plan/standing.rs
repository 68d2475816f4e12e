//! How the workloads of a plan stand to a release: what is outdated, and what of that can be moved. In the words of the
//! run that would move them, so that a plan never promises what its run would not do.

use super::run;
use crate::{
    api::{
        BaseImage, ImageCandidate, RepavePlan, RepaveRun, RepaveRunStatus,
        repave_plan::{LeftOut, NotRollable, PlanCounts},
    },
    controllers::{
        context::Context,
        inventory::{CountedKind, Unread},
        repave_run::{
            Images, clock, consumption,
            estate::{self, Ask, Estate, OtherKind, Query},
            gate::{self, Gate},
            judge::Known,
            memory::Memory,
            observe::{ObserveError, Observed},
            others,
            reopen::{is_ready, on_their_way},
            sightings::Elapsed,
            state::State,
            target::{self, Target},
            today,
            validate::{self, Validated},
        },
    },
    domain::{
        image_ref::ImageRef,
        lineage::{Release, ReleaseIndex},
        workload_annotations::HoldAnnotation,
    },
};
use jiff::Timestamp;
use kube::ResourceExt;
use std::collections::BTreeMap;

/// How the workloads of a plan stand to a release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// In numbers.
    pub counts: PlanCounts,
    /// Those that the run of the release, as it was made, can move now, or has moved and not judged.
    pub movable_by_run: usize,
    /// Whether images are still to be looked up.
    pub incomplete: bool,
    /// When the next hold ends by itself.
    pub hold_ends: Option<Timestamp>,
    /// Whether something is left out that permissions alone would change; nothing wakes a plan for those.
    pub barred: bool,
    /// Objects of other kinds on an older release.
    pub not_rollable: BTreeMap<CountedKind, NotRollable>,
    /// Selected namespaces that are left out.
    pub left_out: LeftOut,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The plan.
    pub plan: &'a RepavePlan,
    /// The base image.
    pub base_image: Option<&'a BaseImage>,
    /// Its release.
    pub release: &'a Release,
    /// All known releases.
    pub releases: &'a [Release],
    /// The run of the release, if there is one.
    pub run: Option<&'a RepaveRun>,
    /// The candidates of the namespace, and the release as its history knows it: whether its run may begin anything.
    pub proof: (&'a [ImageCandidate], Option<&'a Release>),
}

/// Finds it out, from the inventory.
pub async fn of(
    ctx: &Context,
    (images, memory): (&Images, &Memory),
    question: Question<'_>,
) -> Result<Standing, ObserveError> {
    let Some(fresh) = run::run(question.plan, question.release) else {
        return Ok(Standing::default());
    };
    let today = today::today(question.plan)?;
    let v = validate::validate(&fresh)?;
    let mut standing = Standing::default();
    let observed = look(ctx, images, question, &v).await?;
    let (now, mono) = (ctx.now(), memory.now());
    let active_runs = others::active_runs(ctx, &v, &observed, mono).await?;
    let uid = question.run.and_then(ResourceExt::uid);
    // What the run has given up is not moved by it, and must not be promised.
    let (refusals, mut steady, mut set_back) = uid.map(|uid| memory.known(&uid)).unwrap_or_default();
    // Nor is what somebody set back, and what has come to its end is not judged again.
    let status = question.run.and_then(|run| run.status.clone()).unwrap_or_default();
    set_back.look(&v, &status.set_back, &Estate::default());
    steady.know(status.steady_until.as_ref().map(|time| time.0));
    let known = Known {
        waves: &status.waves,
        began: clock::began(&status, now),
        believed_until: clock::believed_until(&status, now),
        elapsed: &Elapsed::default(),
        refusals: &refusals,
        steady: &steady,
        set_back: &set_back,
        mono,
        active_runs: &active_runs,
    };
    let targets = target::targets(&v, &observed, known, now);
    count(&targets, question.release, now, &mut standing);
    standing.movable_by_run = work(&targets, &status);
    others_of(&observed.estate, &observed.releases, question.release, &mut standing);
    totals(&observed.estate, &mut standing);
    if let Some(run) = question.run.filter(|run| run.spec != fresh.spec) {
        let v = validate::validate(run)?;
        let mut observed = look(ctx, images, question, &v).await?;
        let v = today::narrow(&v, Some(&today), observed.target.as_ref(), &mut observed.estate);
        let active_runs = others::active_runs(ctx, &v, &observed, mono).await?;
        let known = Known {
            active_runs: &active_runs,
            ..known
        };
        standing.movable_by_run = work(&target::targets(&v, &observed, known, now), &status);
    }
    let (candidates, recorded) = question.proof;
    if !gate::gate(&v, Some(question.plan), question.base_image, candidates, recorded).is_open() {
        // It would look, begin nothing, and be opened again for the same.
        standing.movable_by_run = 0;
    }
    Ok(standing)
}

/// How many a run could begin with now, or, if it has finished, has to judge yet. One that is busy may stay so for ever, and is
/// none.
fn work(targets: &[Target], status: &RepaveRunStatus) -> usize {
    let ready = targets.iter().filter(|target| is_ready(target)).count();
    let to_judge = status.finished.as_ref().map_or(0, |_| on_their_way(targets, status));
    ready.saturating_add(to_judge)
}

async fn look(ctx: &Context, images: &Images, question: Question<'_>, v: &Validated) -> Result<Observed, ObserveError> {
    let releases = ReleaseIndex::new(&v.base_image, question.releases.iter().cloned());
    let today = today::today(question.plan)?;
    let account = today::account(v, Some(question.plan));
    let ask = Ask {
        query: Query {
            scope: &v.scope,
            releases: &releases,
            supervised: None,
        },
        today: Some(&today.scope),
        account: &account,
        namespace: &v.namespace,
        plan: &v.plan,
        base_image: question.base_image,
        max_targets: today.max_targets,
    };
    let estate = estate::look(ctx, images, ask).await?;
    Ok(Observed {
        // Nothing is moved from here, only told.
        gate: Gate::Suspended,
        target: Some(question.release.clone()),
        releases,
        estate,
    })
}

/// When the hold of a workload ends by itself.
fn hold_ends(target: &Target, now: Timestamp) -> Option<Timestamp> {
    target
        .seen
        .workload
        .annotations
        .hold_now(now)
        .and_then(|mark| match mark {
            HoldAnnotation::Valid(hold) => hold.ends(),
            HoldAnnotation::Unreadable => None,
        })
}

/// Counts the targets of a release.
pub fn count(targets: &[Target], release: &Release, now: Timestamp, standing: &mut Standing) {
    let counts = &mut standing.counts;
    for target in targets {
        if matches!(target.state, State::Held { .. }) {
            standing.hold_ends = [standing.hold_ends, hold_ends(target, now)].into_iter().flatten().min();
        }
        if !consumption::is_outdated(&target.seen, release) {
            counts.current += 1;
            continue;
        }
        counts.outdated += 1;
        *match &target.state {
            State::Pending { .. } => &mut counts.movable,
            State::Held { .. } => &mut counts.held,
            State::Rolling | State::Failing { .. } | State::Done | State::Failed { .. } | State::Skipped(_) => {
                &mut counts.reported
            }
        } += 1;
        standing.hold_ends = [standing.hold_ends, hold_ends(target, now)].into_iter().flatten().min();
        standing.barred |= target.seen.barred.is_some();
    }
}

/// Counts what cannot be rolled: by digest, or by a tag of the repository, which may be anything.
pub fn others_of(estate: &Estate, releases: &ReleaseIndex, release: &Release, standing: &mut Standing) {
    let older = |image: &ImageRef| match &image.digest {
        Some(digest) => releases.by_digest(digest).is_some_and(|known| {
            known.base_image == release.base_image
                && known.sequence < release.sequence
                && known.digest != release.digest
        }),
        None => image.repository == release.repository && image.tag.as_deref() != Some(release.tag.as_str()),
    };
    for OtherKind { kind, name, images } in &estate.others {
        if !images.iter().any(older) {
            continue;
        }
        let row = standing.not_rollable.entry(*kind).or_insert_with(|| NotRollable {
            kind: kind.as_str().to_owned(),
            count: 0,
            example: name.clone(),
        });
        row.count += 1;
    }
}

fn totals(estate: &Estate, standing: &mut Standing) {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let unread = |why: Unread| number(estate.unread.get(&why).copied().unwrap_or(0));
    standing.counts.unknown = number(estate.unknown);
    standing.incomplete = estate.not_yet > 0;
    standing.left_out = LeftOut {
        not_allowed: number(estate.hidden),
        not_in_estate: unread(Unread::NotInEstate),
        forbidden: unread(Unread::Forbidden),
        without_pods: number(estate.silent.len()),
    };
    standing.barred |= standing.left_out != LeftOut::default();
}
