//! Carries out a plan: one PATCH an action, and nothing else is ever written to a workload.
//!
//! A few at a time, and after each few the question whether the orders are still the same: a lost lease, a plan that was suspended
//! or changed, a newer release, one that was taken back, or an API server that asks for quiet stops the rest, which the next
//! reconcile decides anew. A patch that
//! fails its own tests lost a race: that is no failure; the next reconcile sees what somebody else did.

use super::{orders::Orders, patch::Op, plan::Action, refusals::sentence, validate::Validated};
use crate::controllers::named::Named as _;
use crate::{
    api::RepaveRun,
    controllers::{
        context::Context,
        error::one_line,
        history,
        inventory::Watched,
        paging::ListError,
        writes::{self, Unsent},
    },
    domain::workload::{Workload, WorkloadKey},
    readable::Meta,
    runtime::metrics::Kind,
};
use futures::{FutureExt as _, StreamExt as _, TryFutureExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt as _, api::Patch, core::SelectorExt as _};
use std::{
    collections::BTreeSet,
    iter,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Field manager of every change of a workload.
const ESTATE_MANAGER: &str = "repave/estate";
/// Patches at the same time, and those between two questions whether they are still wanted.
pub const AT_ONCE: usize = 16;
/// How long an API server that does not answer, or does not say how long it wants quiet, is left alone.
const QUIET: Duration = Duration::from_secs(5);
/// The longest that it is left alone, whatever it says: what rolls must be watched.
const LONGEST_QUIET: Duration = Duration::from_secs(60);

/// What came of one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It was written.
    Written,
    /// Somebody was faster.
    LostRace,
    /// The API server refused it, in these words.
    Refused(String),
    /// The API server failed at it, in these words: whether it was written is seen in the next look.
    Failed(String),
    /// It was not sent, or no answer came: whether it was written is seen in the next look.
    Unknown,
}

/// Why the rest of a plan was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// The API server asked for quiet, or did not answer.
    Unavailable {
        /// What it said.
        message: String,
        /// How long to leave it alone.
        quiet: Duration,
    },
    /// This process is not the leader any more.
    NotLeader,
    /// The plan, or what is released or taken back, is not what it was when this was decided.
    NotWanted,
}

/// What came of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Results {
    /// One entry an action, in their order.
    pub applied: Vec<(WorkloadKey, Applied)>,
    /// Why it was not carried out to its end.
    pub halt: Option<Halt>,
}

/// What an answer of the API server to a patch means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Conflict, or the workload is gone.
    LostRace,
    /// A failed test of the patch is answered so, and a few refusals are too: to be told apart by reading again.
    FailedTest(String),
    /// A refusal, in its own words.
    Refused(String),
    /// The API server failed at it: by a fault of its own, or because an admission webhook of this one workload is away.
    Failed(String),
    /// No answer about this patch.
    Unavailable(Duration),
}

/// Reads an answer. A failed `test` of a JSON patch is 422 with reason `Invalid` and no causes
/// (`NewGenericServerResponse` in the API server drops them); a refusal by validation has causes, one by admission or quota
/// is 403 or has another reason.
pub fn answer(error: &kube::Error) -> Answer {
    let words = sentence(&one_line(error));
    let status = match error {
        kube::Error::Api(status) => status,
        // It was never sent, and the API server is none the worse: what is wrong is wrong with this one workload.
        kube::Error::BuildRequest(_) => return Answer::Refused(words),
        _ => return Answer::Unavailable(QUIET),
    };
    let causes = status
        .details
        .as_ref()
        .is_some_and(|details| !details.causes.is_empty());
    match status.code {
        404 | 409 => Answer::LostRace,
        422 if status.reason == "Invalid" && !causes => Answer::FailedTest(words),
        500 => Answer::Failed(words),
        401 | 408 | 429 | 501..=599 => {
            let asked = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            let asked = Duration::from_secs(u64::from(asked));
            Answer::Unavailable(asked.clamp(QUIET, LONGEST_QUIET))
        }
        _ => Answer::Refused(words),
    }
}

/// Carries out the actions: `AT_ONCE` are under way at any moment, begun in their order. After so many, and before the next one,
/// is asked whether the orders are still those that all of it was decided on; so no more than that are begun after they are not.
pub async fn apply(
    ctx: &Context,
    v: &Validated,
    (run, plan_uid, orders): (&RepaveRun, Option<&str>, &Orders),
    actions: &[Action],
) -> Results {
    let stopped = AtomicBool::new(false);
    // One question for each few, put by the first of them that is begun. What was read for this decision is fresh enough for the
    // first few.
    let questions: Vec<_> = actions
        .chunks(AT_ONCE)
        .enumerate()
        .map(|(nth, next)| {
            let question = async move {
                match nth {
                    0 => None,
                    _ => halted(ctx, v, (run, plan_uid, orders), next).await,
                }
            };
            question.boxed().shared()
        })
        .collect();
    let sent: Vec<_> = actions
        .iter()
        .zip(questions.iter().flat_map(|question| iter::repeat_n(question, AT_ONCE)))
        .enumerate()
        .map(|(at, (action, question))| {
            let (stopped, question) = (&stopped, question.clone());
            async move {
                let is_stopped = || stopped.load(Ordering::Relaxed);
                let halt = if is_stopped() { None } else { question.await };
                let (applied, halt) = match halt {
                    Some(halt) => (Applied::Unknown, Some(halt)),
                    None if is_stopped() => (Applied::Unknown, None),
                    None => send(ctx, action).await,
                };
                stopped.fetch_or(halt.is_some(), Ordering::Relaxed);
                (at, action.workload().clone(), applied, halt)
            }
            .boxed()
        })
        .collect();
    let mut sent: Vec<_> = stream::iter(sent).buffer_unordered(AT_ONCE).collect().await;
    sent.sort_by_key(|(at, ..)| *at);
    let mut results = Results::default();
    for (_, workload, applied, halt) in sent {
        results.applied.push((workload, applied));
        results.halt = results.halt.or(halt);
    }
    results
}

/// Why no more may be sent: the orders are read again, and compared with those of the decision; the run must still be there, and the
/// namespaces of the next few must still be those that the plan selects.
async fn halted(
    ctx: &Context,
    v: &Validated,
    (run, plan_uid, orders): (&RepaveRun, Option<&str>, &Orders),
    next: &[Action],
) -> Option<Halt> {
    let asked = futures::try_join!(
        Orders::read(ctx, v, plan_uid),
        is_there(ctx, v, run).map_err(history::Error::from),
        are_selected(ctx, v, next).map_err(history::Error::from),
    );
    match asked {
        Ok(((now, _), true, true)) if now.are_as(orders) => None,
        Ok(_) => Some(Halt::NotWanted),
        Err(history::Error::Api(error) | history::Error::List(ListError::Api(error))) => Some(unavailable(&error)),
        Err(error) => Some(Halt::Unavailable {
            message: one_line(&error),
            quiet: QUIET,
        }),
    }
}

/// Whether the run is the one that was read, and nobody deletes it.
async fn is_there(ctx: &Context, v: &Validated, run: &RepaveRun) -> Result<bool, kube::Error> {
    let api: Api<Meta<RepaveRun>> = Api::namespaced(ctx.client.clone(), &v.namespace);
    let live = api.named(&run.name_any()).await?;
    Ok(live.is_some_and(|live| live.metadata.uid == run.metadata.uid && live.metadata.deletion_timestamp.is_none()))
}

/// Whether the plan selects the namespaces of these.
async fn are_selected(ctx: &Context, v: &Validated, actions: &[Action]) -> Result<bool, kube::Error> {
    let api: Api<Meta<Namespace>> = Api::all(ctx.client.clone());
    let namespaces: BTreeSet<&str> = actions
        .iter()
        .map(|action| action.workload().namespace.as_str())
        .collect();
    let reads = namespaces.into_iter().map(|namespace| api.named(namespace));
    let live = futures::future::try_join_all(reads).await?;
    Ok(live.iter().all(|namespace| {
        let living = namespace
            .as_ref()
            .filter(|one| one.metadata.deletion_timestamp.is_none());
        living.is_some_and(|namespace| v.scope.namespaces.matches(namespace.labels()))
    }))
}

fn unavailable(error: &kube::Error) -> Halt {
    let quiet = match answer(error) {
        Answer::Unavailable(quiet) => quiet,
        Answer::LostRace | Answer::FailedTest(_) | Answer::Refused(_) | Answer::Failed(_) => QUIET,
    };
    Halt::Unavailable {
        message: one_line(error),
        quiet,
    }
}

async fn send(ctx: &Context, action: &Action) -> (Applied, Option<Halt>) {
    let (workload, ops) = match action {
        Action::Move { workload, patch } => (workload, patch),
        Action::RollBack {
            workload,
            patch,
            reason,
        } => {
            tracing::warn!(%workload, reason, "rolling back");
            (workload, patch)
        }
    };
    let patch = match serde_json::to_value(ops).and_then(serde_json::from_value) {
        Ok(patch) => Patch::<()>::Json(patch),
        Err(error) => return (Applied::Refused(sentence(&one_line(&error))), None),
    };
    let api: Api<Meta<Watched>> = Api::namespaced(ctx.client.clone(), &workload.namespace);
    let at = (workload.namespace.as_str(), workload.name.as_str());
    // Before it is sent, because this work may be dropped while the answer is on its way.
    let write = ctx.inventory.begin_write(workload);
    match writes::patch::<Watched, _>(ctx, Kind::Deployment, ESTATE_MANAGER, at, &patch).await {
        Ok(written) => {
            tracing::info!(%workload, "patched");
            // The watch shows it a moment later; the next look must not count without it.
            match Workload::from_deployment(&written.0) {
                Some(written) => ctx.inventory.learn(written),
                None => ctx.inventory.doubt(workload),
            }
            write.answered();
            (Applied::Written, None)
        }
        Err(Unsent::NotLeader(error)) => {
            write.answered();
            tracing::warn!(error = one_line(&error), "the rest is left to the leader");
            (Applied::Unknown, Some(Halt::NotLeader))
        }
        Err(Unsent::Api(error)) => {
            // It may have been written and only the answer is lost; or somebody was faster, and the watch is behind.
            drop(write);
            refused(&api, workload, ops, &error).await
        }
    }
}

/// What a failed patch means for the one workload, and for the rest.
async fn refused(
    api: &Api<Meta<Watched>>,
    workload: &WorkloadKey,
    ops: &[Op],
    error: &kube::Error,
) -> (Applied, Option<Halt>) {
    match answer(error) {
        Answer::LostRace => (Applied::LostRace, None),
        Answer::Refused(words) => (Applied::Refused(words), None),
        Answer::Failed(words) => (Applied::Failed(words), Some(unavailable(error))),
        Answer::Unavailable(_) => (Applied::Unknown, Some(unavailable(error))),
        Answer::FailedTest(words) => match changed_since(api, workload, ops).await {
            Ok(true) => (Applied::LostRace, None),
            Ok(false) => (Applied::Refused(words), None),
            Err(error) => (Applied::Unknown, Some(unavailable(&error))),
        },
    }
}

/// Whether the workload is another one, or in another version, than the patch was made for.
async fn changed_since(api: &Api<Meta<Watched>>, workload: &WorkloadKey, patch: &[Op]) -> Result<bool, kube::Error> {
    let live = api.named(&workload.name).await?;
    let tested = |field: &str| {
        patch.iter().find_map(|op| match op {
            Op::Test { path, value } if path == field => value.as_str(),
            Op::Test { .. } | Op::Replace { .. } | Op::Add { .. } | Op::Remove { .. } => None,
        })
    };
    let same = live.is_some_and(|live| {
        live.metadata.uid.as_deref() == tested("/metadata/uid")
            && live.metadata.resource_version.as_deref() == tested("/metadata/resourceVersion")
    });
    Ok(!same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn api_error(status: &Value) -> kube::Error {
        kube::Error::Api(serde_json::from_value(status.clone()).unwrap())
    }

    #[test]
    fn an_answer_is_read_as_a_real_api_server_gives_it() {
        let refused = |words: &str| Answer::Refused(words.to_owned());
        let seconds = |n| Answer::Unavailable(Duration::from_secs(n));
        // As kube-apiserver 1.36 answers a JSON patch whose test fails.
        let failed_test = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "the server rejected our request due to an error in our request", "reason": "Invalid", "details": {}, "code": 422});
        for (name, status, expected) in [
            (
                "a failed test",
                failed_test,
                Answer::FailedTest("the server rejected our request due to an error in our request".to_owned()),
            ),
            (
                "an invalid object whose name has the word",
                json!({"code": 422, "reason": "Invalid", "message": "Deployment.apps \"test-shop\" is invalid: spec: Required value",
                    "details": {"name": "test-shop", "causes": [{"reason": "FieldValueRequired", "message": "Required value", "field": "spec"}]}}),
                refused("Deployment.apps \"test-shop\" is invalid: spec: Required value"),
            ),
            (
                "a webhook with a code of its own",
                json!({"code": 422, "reason": "", "message": "admission webhook \"v\" denied the request: greatest-app"}),
                refused("admission webhook \"v\" denied the request: greatest-app"),
            ),
            (
                "a quota",
                json!({"code": 403, "reason": "Forbidden", "message": "exceeded quota: q"}),
                refused("exceeded quota: q"),
            ),
            (
                "a conflict",
                json!({"code": 409, "reason": "Conflict"}),
                Answer::LostRace,
            ),
            ("gone", json!({"code": 404, "reason": "NotFound"}), Answer::LostRace),
            (
                "throttled",
                json!({"code": 429, "details": {"retryAfterSeconds": 30}}),
                seconds(30),
            ),
            (
                "throttled for a day",
                json!({"code": 429, "details": {"retryAfterSeconds": 86400}}),
                seconds(60),
            ),
            ("overloaded", json!({"code": 503}), seconds(5)),
            (
                "a webhook that is away",
                json!({"code": 500, "reason": "InternalError", "message": "Internal error occurred: failed calling webhook \"v\": connection refused"}),
                Answer::Failed("Internal error occurred: failed calling webhook \"v\": connection refused".to_owned()),
            ),
        ] {
            assert_eq!(answer(&api_error(&status)), expected, "{name}");
        }
    }
}
