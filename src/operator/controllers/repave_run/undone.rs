//! Asks the ReplicaSets of the workloads that are about to be moved whether somebody had set them back: `kubectl rollout undo`
//! takes our own record away. One list a workload, by its own labels, or one list a namespace where a quarter of its Deployments or
//! more are moved next. Reads only.

use super::{
    apply::{Answer, Applied, answer},
    estate::Estate,
    plan::Action,
    seen::{LedAway, ObservedWorkload},
    validate::Validated,
};
use crate::{
    controllers::{
        context::Context,
        error::one_line,
        inventory::LeanReplicaSet,
        paging::{self, ListError},
    },
    domain::{
        revisions::{Revision, Revisions},
        workload::{Workload, WorkloadKey},
    },
    readable::Guarded,
};
use futures::{FutureExt, StreamExt, stream};
use kube::{Api, api::ListParams, core::error_boundary::InvalidObject};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// ReplicaSets of one workload that are read: the default of Kubernetes keeps ten.
const MAX_SETS: usize = 1_000;
/// ReplicaSets of a namespace that are read for each of its workloads that is asked about: a namespace that holds many more of
/// them costs more than a list a workload.
const SETS_EACH: usize = 40;
/// Workloads of one namespace from which on all its ReplicaSets are read, if they are a quarter of its Deployments: a thousand small
/// lists take longer than the patches after them.
const MANY: usize = 16;
/// Lists at the same time.
const AT_ONCE: usize = 8;

/// The workloads that these actions would move.
pub fn to_ask<'a>(actions: impl Iterator<Item = &'a Action>) -> BTreeSet<WorkloadKey> {
    let moves = actions.filter(|action| !action.is_rollback());
    moves.map(|action| action.workload().clone()).collect()
}

/// Fills in what the ReplicaSets of these workloads say, and gives back those that could not be asked: they are not moved,
/// and hold up no other. An error if the API server does not answer at all.
pub async fn ask(
    ctx: &Context,
    v: &Validated,
    estate: &mut Estate,
    keys: &BTreeSet<WorkloadKey>,
) -> Result<Vec<(WorkloadKey, Applied)>, ListError> {
    let mut namespaces: BTreeMap<&str, Vec<Arc<Workload>>> = BTreeMap::new();
    for seen in estate.workloads.iter().filter(|seen| keys.contains(&seen.workload.key)) {
        let asked = namespaces.entry(&seen.workload.key.namespace).or_default();
        asked.push(Arc::clone(&seen.workload));
    }
    let reads: Vec<_> = namespaces
        .into_iter()
        .map(|(namespace, asked)| in_namespace(ctx, v, namespace, asked).boxed())
        .collect();
    let read: Vec<Vec<_>> = stream::iter(reads).buffer_unordered(AT_ONCE).collect().await;
    let (mut answers, mut not_asked) = (BTreeMap::new(), Vec::new());
    for (key, result) in read.into_iter().flatten() {
        match result {
            Ok(led_away) => {
                answers.insert(key, led_away);
            }
            Err(error) => {
                let refusal = refusal(&error).ok_or(error)?;
                not_asked.push((key, refusal));
            }
        }
    }
    for seen in &mut estate.workloads {
        if let Some(answer) = answers.remove(&seen.workload.key) {
            Arc::make_mut(seen).led_away = answer;
        }
    }
    Ok(not_asked)
}

type Answered = (WorkloadKey, Result<LedAway, ListError>);

/// Asks about the workloads of one namespace: all its ReplicaSets at once where many are moved, else one list a workload.
async fn in_namespace(ctx: &Context, v: &Validated, namespace: &str, asked: Vec<Arc<Workload>>) -> Vec<Answered> {
    // Also those that the plan does not select: their ReplicaSets would be read, too.
    if asked.len() >= MANY && asked.len().saturating_mul(4) >= ctx.inventory.deployments(namespace) {
        match revisions_in(ctx, namespace, &asked).await {
            Ok(known) => {
                let of = |workload: &Arc<Workload>| (workload.key.clone(), Ok(answer_of(v, &workload.uid, &known)));
                return asked.iter().map(of).collect();
            }
            // Which of them that is about is found out one by one.
            Err(error) if refusal(&error).is_some() => {}
            Err(error) => {
                return asked
                    .first()
                    .map(|one| (one.key.clone(), Err(error)))
                    .into_iter()
                    .collect();
            }
        }
    }
    let reads: Vec<_> = asked
        .iter()
        .map(|workload| async move { (workload.key.clone(), led_away(ctx, v, workload).await) }.boxed())
        .collect();
    stream::iter(reads).buffer_unordered(AT_ONCE).collect().await
}

/// What all ReplicaSets of a namespace tell of these workloads. By their owners alone: a label can be taken off.
async fn revisions_in(ctx: &Context, namespace: &str, of: &[Arc<Workload>]) -> Result<Revisions, ListError> {
    let uids: BTreeSet<&str> = of.iter().map(|workload| workload.uid.as_str()).collect();
    let api: Api<Guarded<LeanReplicaSet>> = Api::namespaced(ctx.client.clone(), namespace);
    let most = of.len().saturating_mul(SETS_EACH);
    let sets = paging::list(&api, ListParams::default(), most, |set| match set.0 {
        Ok(set) => {
            let revision = Revision::read(&set.metadata, &set.images)?;
            uids.contains(revision.workload()).then_some(Ok(revision))
        }
        Err(invalid) => Some(Err(unreadable(invalid))),
    })
    .await?;
    sets.into_iter().collect()
}

/// What an error says about this one workload; none if it is the API server's own.
fn refusal(error: &ListError) -> Option<Applied> {
    let words = || {
        format!(
            "whether it was set back by hand could not be read from its ReplicaSets: {}",
            one_line(error)
        )
    };
    match error {
        ListError::Api(inner) => match answer(inner) {
            Answer::Refused(_) | Answer::FailedTest(_) | Answer::LostRace => Some(Applied::Refused(words())),
            Answer::Failed(_) => Some(Applied::Failed(words())),
            Answer::Unavailable(_) => None,
        },
        ListError::TooMany { .. } | ListError::Unreadable { .. } => Some(Applied::Refused(words())),
        ListError::LongSelector { found } => Some(Applied::Refused(format!(
            "its label selector has {found} bytes, more than a request can carry: whether it was set back by hand cannot be read; use a shorter one"
        ))),
        ListError::Stuck => None,
    }
}

async fn led_away(ctx: &Context, v: &Validated, workload: &Workload) -> Result<LedAway, ListError> {
    // One that cannot be read, or selects all, finds nothing that could be told from others'.
    let Some(selector) = workload.pod_selector.parse().filter(|selector| !selector.selects_all()) else {
        return Ok(LedAway::FromNone);
    };
    let api: Api<Guarded<LeanReplicaSet>> = Api::namespaced(ctx.client.clone(), &workload.key.namespace);
    let sets = paging::list(&api, paging::selecting(&selector)?, MAX_SETS, |set| match set.0 {
        Ok(set) => Revision::read(&set.metadata, &set.images).map(Ok),
        Err(invalid) => Some(Err(unreadable(invalid))),
    })
    .await?;
    let revisions = sets.into_iter().collect::<Result<Revisions, _>>()?;
    Ok(answer_of(v, &workload.uid, &revisions))
}

fn unreadable(invalid: InvalidObject) -> ListError {
    ListError::Unreadable {
        name: invalid.metadata.name.unwrap_or_default(),
        why: invalid.error,
    }
}

/// What the ReplicaSets of the workload with this UID say.
pub fn answer_of(v: &Validated, uid: &str, known: &Revisions) -> LedAway {
    let moved = known.led_away_from(uid, &v.digest, v.sequence);
    moved.map_or(LedAway::FromNone, |moved| LedAway::From(Box::new(moved)))
}

/// The workloads that may be moved: those that were asked and were not set back.
pub fn free(seen: &[Arc<ObservedWorkload>]) -> BTreeSet<&WorkloadKey> {
    let free = seen.iter().filter(|seen| seen.led_away == LedAway::FromNone);
    free.map(|seen| &seen.workload.key).collect()
}

/// Whether an action may be carried out.
pub fn may_go(action: &Action, free: &BTreeSet<&WorkloadKey>) -> bool {
    match action {
        Action::Move { workload, .. } => free.contains(workload),
        Action::RollBack { .. } => true,
    }
}
