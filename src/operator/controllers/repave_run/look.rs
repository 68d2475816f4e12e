//! One look at a run, in its steps: observe, decide, read live what would be written and decide again, apply. Holds no rule of
//! its own.

use super::{
    Runs,
    apply::{self, Applied, Halt},
    decide::{self, Before, Decided, note, overlay},
    images::Images,
    is_finished,
    memory::{Memory, Turn},
    observe::{self, Observed},
    orders::Orders,
    others, plan,
    reopen::reopens,
    status::{self, Summary},
    target::Target,
    today, undone,
    validate::Validated,
};
use crate::controllers::named::Named as _;
use crate::{
    api::{BaseImage, RepaveRun, RepaveRunStatus},
    controllers::{
        context::Context,
        driver::{Outcome, Requeue},
        inventory::Inventory,
        reconciler::{Confirmed, Failure},
    },
    domain::workload::WorkloadKey,
};
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use std::{collections::BTreeSet, mem, time::Duration};

/// What is seen of a run.
#[derive(Debug)]
pub enum Seen {
    /// It has finished, and its target is not what its base image has released any more: it is history.
    Past,
    /// Its orders and its estate.
    Here(Box<Look>),
}

/// One look at what a run depends on.
#[derive(Debug)]
pub struct Look {
    turn: Turn,
    /// The status as it was read.
    old: RepaveRunStatus,
    orders: Orders,
    world: Observed,
    /// Runs of other plans that are at work.
    active_runs: BTreeSet<String>,
    /// When its orders were read first.
    at: Timestamp,
    /// The monotonic time of this look.
    mono: Duration,
    /// What would be written was read live.
    confirmed: bool,
    /// Workloads whose ReplicaSets could not be asked.
    not_asked: Vec<(WorkloadKey, Applied)>,
}

/// What is done with a run.
#[derive(Debug)]
pub enum Decision {
    /// Nothing, ever again.
    Past,
    /// It has finished and stays so.
    Rests {
        /// Its turn.
        turn: Box<Turn>,
        /// Its status.
        old: Box<RepaveRunStatus>,
    },
    /// It is at work.
    Acts(Box<Acting>),
}

/// A run at work.
#[derive(Debug)]
pub struct Acting {
    look: Look,
    /// The run as its plan is today.
    v: Validated,
    decided: Decided,
    now: Timestamp,
}

impl Acting {
    /// The turn, to be ended.
    pub fn into_turn(self) -> Turn {
        self.look.turn
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Why not all of it was carried out.
    pub halt: Option<Halt>,
    /// Somebody was faster, or what was decided came up only now and is read live in the next look.
    pub look_again: bool,
}

/// Looks at the estate as the inventory shows it, and live at what orders the run, when it is its turn among the runs of its plan.
pub async fn observe(
    ctx: &Context,
    images: &Images,
    memory: &Memory,
    (run, v): (&RepaveRun, &Validated),
) -> Result<Seen, Failure> {
    if is_past(ctx, run).await? {
        return Ok(Seen::Past);
    }
    let mut turn = memory.enter(&v.plan_key(), &run.uid().unwrap_or_default()).await;
    let old = run.status.clone().unwrap_or_default();
    // What the status tells is not asked again, also after a restart.
    turn.remembered
        .steady
        .know(old.steady_until.as_ref().map(|time| time.0));
    let at = ctx.now();
    let seen = async {
        let known = (v, plan_uid(run), &turn.remembered);
        let ordered = observe::ordered(ctx, v, plan_uid(run), at).await?;
        let (orders, world) = observe::observe(ctx, images, known, ordered).await?;
        let active_runs = others::active_runs(ctx, v, &world, memory.now()).await?;
        Ok::<_, observe::ObserveError>((orders, world, active_runs))
    };
    match Box::pin(seen).await {
        Ok((orders, world, active_runs)) => Ok(Seen::Here(Box::new(Look {
            turn,
            old,
            orders,
            world,
            active_runs,
            at,
            mono: memory.now(),
            confirmed: false,
            not_asked: Vec::new(),
        }))),
        Err(error) => {
            turn.end(is_finished(run));
            Err(error.into())
        }
    }
}

async fn is_past(ctx: &Context, run: &RepaveRun) -> Result<bool, Failure> {
    if !is_finished(run) {
        return Ok(false);
    }
    let api: Api<BaseImage> = Api::namespaced(ctx.client.clone(), &run.namespace().unwrap_or_default());
    let base = api
        .named(&run.spec.base_image)
        .await
        .map_err(observe::ObserveError::Api)?;
    let released = base.and_then(|base| base.status).and_then(|status| status.released);
    Ok(released.is_none_or(|released| released.digest != run.spec.digest || released.sequence != run.spec.sequence))
}

/// Decides. Pure but for the memory of the run, which takes the look in.
pub fn decide(v: &Validated, seen: Seen, now: Timestamp) -> Decision {
    let mut look = match seen {
        Seen::Past => return Decision::Past,
        Seen::Here(look) => *look,
    };
    let target = look.world.target.as_ref();
    let v = today::narrow(v, look.orders.today.as_ref(), target, &mut look.world.estate);
    let before = Before {
        old: &look.old,
        active_runs: &look.active_runs,
    };
    let remembered = &mut look.turn.remembered;
    let decided = decide::decide(&v, &look.world, remembered, before, (now, look.mono));
    if !look.confirmed && look.old.finished.is_some() && !reopens(&look.world.gate, &decided.targets, &look.old) {
        // What is healthy now has soaked: whatever its roll-out looks like later, it is not judged again.
        let courses = decided.targets.iter().map(Target::course);
        remembered.steady.note(courses, &v.run_ref, decided.believed_until);
        return Decision::Rests {
            turn: Box::new(look.turn),
            old: Box::new(look.old),
        };
    }
    Decision::Acts(Box::new(Acting { look, v, decided, now }))
}

/// Reads live what would be written, to decide on that.
pub async fn confirm(
    ctx: &Context,
    (images, memory): (&Images, &Memory),
    (run, v): (&RepaveRun, &Validated),
    decision: Decision,
) -> Result<Confirmed<Runs>, Failure> {
    let Decision::Acts(acting) = decision else {
        return Ok(Confirmed::Stands(decision));
    };
    let questions = questions(&ctx.inventory, &acting.look.world, &acting.decided);
    if questions.live.is_empty() {
        return Ok(Confirmed::Stands(Decision::Acts(acting)));
    }
    let Look {
        turn,
        old,
        orders,
        world,
        at,
        ..
    } = acting.look;
    let seen = async {
        let known = (v, &turn.remembered.steady);
        let mut world = observe::refresh(ctx, images, known, &orders, world, &questions.live).await?;
        let not_asked = undone::ask(ctx, v, &mut world.estate, &questions.replica_sets).await?;
        // Last of all, because all else takes its time: who else is at work, and what is ordered.
        let active_runs = others::active_runs(ctx, v, &world, memory.now()).await?;
        let orders = world.order_anew(&orders, observe::ordered(ctx, v, plan_uid(run), at).await?);
        Ok::<_, observe::ObserveError>((orders, world, active_runs, not_asked))
    };
    match Box::pin(seen).await {
        Ok((orders, world, active_runs, not_asked)) => Ok(Confirmed::SeenAnew(Seen::Here(Box::new(Look {
            turn,
            old,
            orders,
            world,
            active_runs,
            at,
            mono: memory.now(),
            confirmed: true,
            not_asked,
        })))),
        Err(error) => {
            turn.end(old.finished.is_some());
            Err(error.into())
        }
    }
}

/// What has to be read live: whatever would be written, which is what failed and what is moved next, and whatever a lost
/// answer of ours may have changed, be it one of another run: they share limits. What is on its way needs no read of its own: the
/// inventory took in our write, so it can only be late in seeing the end of a roll-out, and then less is begun and not more.
pub fn questions(inventory: &Inventory, world: &Observed, decided: &Decided) -> Questions {
    let replica_sets = decided.to_ask();
    let now = plan::now(&decided.actions);
    let mut live: BTreeSet<WorkloadKey> = now.map(|action| action.workload().clone()).collect();
    live.extend(replica_sets.iter().cloned());
    let there = world.estate.workloads.iter().map(|seen| &seen.workload.key);
    live.extend(inventory.doubted(there));
    Questions { live, replica_sets }
}

/// What is read before anything is written.
pub struct Questions {
    /// These workloads.
    pub live: BTreeSet<WorkloadKey>,
    /// Those whose ReplicaSets are asked, too.
    pub replica_sets: BTreeSet<WorkloadKey>,
}

/// Carries it out, and takes in what came of it.
pub async fn apply(ctx: &Context, run: &RepaveRun, decision: &mut Decision) -> Receipt {
    let Decision::Acts(acting) = decision else {
        return Receipt::default();
    };
    let Acting { look, v, decided, .. } = acting.as_mut();
    let planned = decided.actions.len();
    let (live, free) = (&look.world.estate.live, undone::free(&look.world.estate.workloads));
    decided
        .actions
        .retain(|action| live.contains(action.workload()) && undone::may_go(action, &free));
    let orders = (run, plan_uid(run), &look.orders);
    let mut results = apply::apply(ctx, v, orders, &decided.actions).await;
    results.applied.extend(mem::take(&mut look.not_asked));
    overlay(&mut decided.targets, &decided.actions, &results.applied);
    note(&mut look.turn.remembered, v, decided, &results.applied, look.mono);
    let lost_race = results.applied.iter().any(|(_, applied)| *applied == Applied::LostRace);
    Receipt {
        halt: results.halt,
        look_again: lost_race || decided.actions.len() < planned,
    }
}

/// What the run says of it. Pure.
pub fn render(run: &RepaveRun, decision: &Decision, receipt: &Receipt) -> Outcome<RepaveRunStatus> {
    let acting = match decision {
        Decision::Past => return unchanged(run.status.clone().unwrap_or_default(), Requeue::AwaitChange),
        Decision::Rests { old, .. } => return unchanged(old.as_ref().clone(), Requeue::AwaitChange),
        Decision::Acts(acting) => acting,
    };
    let Acting { look, v, decided, now } = acting.as_ref();
    let remembered = &look.turn.remembered;
    status::summarize(&Summary {
        v,
        generation: run.metadata.generation.unwrap_or_default(),
        observed: &look.world,
        stop: plan::stop(v, &decided.targets, decided.hidden_failures),
        hidden_failures: decided.hidden_failures,
        missing: decided.missing,
        targets: &decided.targets,
        progress: &decided.progress,
        halt: receipt.halt.clone(),
        lost_race: receipt.look_again,
        retrying: remembered.refusals.any_pausing(),
        set_back: &remembered.set_back,
        steady: &remembered.steady,
        started: look.old.started.as_ref().map_or(*now, |time| time.0),
        stamp: decided.stamp,
        now: *now,
        old: look.old.clone(),
    })
}

/// Nothing to do and nothing to say.
pub fn unchanged(status: RepaveRunStatus, next: Requeue) -> Outcome<RepaveRunStatus> {
    Outcome {
        status,
        next,
        events: Vec::new(),
    }
}

/// The UID of the plan that made this run.
fn plan_uid(run: &RepaveRun) -> Option<&str> {
    let mut owners = run.metadata.owner_references.iter().flatten();
    owners
        .find(|owner| owner.controller == Some(true) && owner.kind == "RepavePlan" && owner.name == run.spec.plan)
        .map(|owner| owner.uid.as_str())
}
