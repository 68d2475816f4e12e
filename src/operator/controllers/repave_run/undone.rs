//! Asks the ReplicaSets of the workloads that are about to be moved whether somebody had set them back: `kubectl rollout undo`
//! takes our own record away. One list a workload, by its own labels, and only of what is moved next. Reads only.

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
        paging::{self, ListError},
    },
    domain::{
        revisions,
        wave::parse_selector,
        workload::{Workload, WorkloadKey},
    },
    readable::Guarded,
};
use futures::{FutureExt, StreamExt, stream};
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::Api;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// ReplicaSets of one workload that are read: the default of Kubernetes keeps ten.
const MAX_SETS: usize = 1_000;
/// Lists at the same time.
const AT_ONCE: usize = 8;

/// The workloads that these actions would move.
pub fn to_ask(actions: &[Action]) -> BTreeSet<WorkloadKey> {
    let moves = actions.iter().filter(|action| matches!(action, Action::Move { .. }));
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
    let asked = estate.workloads.iter().filter(|seen| keys.contains(&seen.workload.key));
    let reads: Vec<_> = asked
        .map(|seen| {
            let workload: &Workload = &seen.workload;
            async move { (workload.key.clone(), led_away(ctx, v, workload).await) }.boxed()
        })
        .collect();
    let read: Vec<_> = stream::iter(reads).buffer_unordered(AT_ONCE).collect().await;
    let (mut answers, mut not_asked) = (BTreeMap::new(), Vec::new());
    for (key, result) in read {
        match result {
            Ok(led_away) => {
                answers.insert(key, led_away);
            }
            Err(error) => {
                let words = refusal(&error).ok_or(error)?;
                not_asked.push((key, Applied::Refused(words)));
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

/// What an error says about this one workload; none if it is the API server's own.
fn refusal(error: &ListError) -> Option<String> {
    let words = || {
        format!(
            "whether it was set back by hand could not be read from its ReplicaSets: {}",
            one_line(error)
        )
    };
    match error {
        ListError::Api(inner) => match answer(inner) {
            Answer::Refused(_) | Answer::FailedTest(_) | Answer::LostRace => Some(words()),
            Answer::Unavailable(_) => None,
        },
        ListError::TooMany { .. } | ListError::Unreadable { .. } => Some(words()),
        ListError::LongSelector { found } => Some(format!(
            "its label selector has {found} bytes, more than a request can carry: whether it was set back by hand cannot be read; use a shorter one"
        )),
        ListError::Stuck => None,
    }
}

async fn led_away(ctx: &Context, v: &Validated, workload: &Workload) -> Result<LedAway, ListError> {
    let selector = parse_selector(&workload.pod_selector);
    // One that cannot be read, or selects all, finds nothing that could be told from others'.
    let Some(selector) = selector.ok().filter(|selector| !selector.selects_all()) else {
        return Ok(LedAway::FromNone);
    };
    let api: Api<Guarded<ReplicaSet>> = Api::namespaced(ctx.client.clone(), &workload.key.namespace);
    let sets = paging::list(&api, paging::selecting(&selector)?, MAX_SETS, |set| Some(set.0)).await?;
    let sets = sets.into_iter().collect::<Result<Vec<ReplicaSet>, _>>();
    let sets = sets.map_err(|invalid| ListError::Unreadable {
        name: invalid.metadata.name.unwrap_or_default(),
        why: invalid.error,
    })?;
    Ok(answer_of(v, &workload.uid, &sets))
}

/// What the ReplicaSets of the workload with this UID say.
pub fn answer_of(v: &Validated, uid: &str, sets: &[ReplicaSet]) -> LedAway {
    let moved = revisions::led_away_from(sets, uid, &v.digest, v.sequence);
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
