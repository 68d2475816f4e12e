//! The estate of one plan: its workloads out of the inventory, what their images are, and who may touch them.
//!
//! The inventory says what is in question; what is about to be written or judged is read live (`refresh`), because a
//! budget that is counted on stale data is no budget. So a look costs what is in flight and not what there is. Reads only.

pub use super::seen::{Ask, Estate, EstateError, LedAway, ObservedWorkload, OtherKind, Query, RunningImage};

use super::{
    found::{Found, classify},
    images::Images,
    limit::Limited,
    pods,
    validate::Scope,
};
use crate::controllers::named::Named as _;
use crate::{
    controllers::{
        access::{self, Barred, May, NoAnswer},
        context::Context,
        inventory::{CountedKind, Entry, Watched},
        paging::{self, ListError},
    },
    domain::{
        image_ref::ImageRef,
        workload::{Workload, WorkloadKey},
    },
    readable::Meta,
};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt, api::ListParams, core::SelectorExt};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Deployments of one namespace that are listed.
const MAX_IN_NAMESPACE: usize = 50_000;
/// From so many on, the Deployments of a namespace are listed instead of read one by one.
const FEW: usize = 8;
/// Requests at the same time.
const AT_ONCE: usize = 8;

/// Looks at the whole estate of a plan, out of the inventory.
pub async fn look(ctx: &Context, images: &Images, ask: Ask<'_>) -> Result<Estate, EstateError> {
    ctx.inventory.ready().await?;
    let scope = ask.query.scope;
    let mut estate = Estate::default();
    let mut limited = Limited::new(ask);
    for (namespace, may) in places(ctx, ask, &mut estate).await? {
        let entries = ctx.inventory.workloads(&namespace, &scope.workloads).into_iter();
        limited.extend(entries.map(|entry| {
            let barred = barred(ctx, ask, &namespace, may, &entry.workload);
            Found::new(entry, barred)
        }));
        if !limited.is_over() {
            estate.others.extend(others(ctx, ask, &namespace).await);
        } else if ask.query.supervised.is_none() {
            // Nobody asks about what is on its way: a part of the rest is no answer.
            return Err(EstateError::TooMany(ask.max_targets));
        }
    }
    let (mut found, over) = limited.end();
    estate.over = over;
    estate.silent = pods::fill(ctx, &mut found, ask.query, pods::Effort::Bounded).await?;
    let hidden = ask.account.name.as_ref().map_or(0, |_| estate.hidden);
    estate.unseen = estate.unread.values().sum::<usize>() + hidden + estate.silent.len();
    let seen = classify(ctx, images, found, ask).await;
    Ok(Estate {
        workloads: seen.workloads,
        unknown: seen.unknown,
        not_yet: seen.not_yet,
        ..estate
    })
}

/// The namespaces that the plan selects and may see.
async fn places(ctx: &Context, ask: Ask<'_>, estate: &mut Estate) -> Result<Vec<(String, May)>, EstateError> {
    let scope = ask.query.scope;
    let mut asked = Vec::new();
    for namespace in ctx.inventory.namespaces(&scope.namespaces) {
        if let Some(why) = ctx.inventory.unread(&namespace) {
            *estate.unread.entry(why).or_insert(0) += 1;
        } else if ctx.inventory.has_any(&namespace, &scope.workloads) {
            asked.push(namespace);
        }
    }
    let questions: Vec<_> = asked
        .into_iter()
        .map(|namespace| {
            let asked = async move {
                let may = ctx
                    .access
                    .may(&ctx.client, ask.account, &namespace, access::TO_SHOW)
                    .await?;
                Ok::<_, NoAnswer>((namespace, may))
            };
            asked.boxed()
        })
        .collect();
    let answers: Vec<(String, May)> = stream::iter(questions).buffered(AT_ONCE).try_collect().await?;
    let (open, hidden): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, may)| *may != May::Nothing);
    estate.hidden = hidden.len();
    Ok(open)
}

/// Why nothing new is begun on a workload.
fn barred(ctx: &Context, ask: Ask<'_>, namespace: &str, may: May, workload: &Workload) -> Option<Barred> {
    let today = ask.today.is_none_or(|today| {
        let labels = ctx.inventory.namespace(namespace).unwrap_or_default().labels;
        today.namespaces.matches(&labels) && workload.labels.are_selected_by(&today.workloads)
    });
    if !today {
        return Some(Barred::NotInPlan);
    }
    match may {
        May::Write => None,
        May::Read | May::Nothing => Some(Barred::NotAllowed {
            account: ask.account.clone(),
            namespace: namespace.to_owned(),
        }),
    }
}

/// Objects of other kinds with an image that is a release, or comes by tag from where releases are; of the kinds that the plan's
/// account may list there.
async fn others(ctx: &Context, ask: Ask<'_>, namespace: &str) -> Vec<OtherKind> {
    let releases = ask.query.releases;
    let concerns = |image: &ImageRef| match &image.digest {
        Some(digest) => releases.by_digest(digest).is_some(),
        None => releases.has_repository(&image.repository),
    };
    let found = ctx.inventory.counted(namespace, &ask.query.scope.workloads).into_iter();
    let found: Vec<_> = found
        .filter(|(_, _, counted)| counted.images.iter().any(concerns))
        .collect();
    let mut told = BTreeSet::new();
    for kind in CountedKind::ALL {
        let there = found.iter().any(|(found, _, _)| *found == kind);
        let asked = |kind: CountedKind| {
            let access = &ctx.access;
            access.may_list(&ctx.client, ask.account, namespace, kind.resource(), access::TO_SHOW)
        };
        // They are only reported: no answer is no permission, and holds nothing up.
        if there && matches!(asked(kind).await, Ok(true)) {
            told.insert(kind);
        }
    }
    let told = found.into_iter().filter(|(kind, _, _)| told.contains(kind));
    let others = told.map(|(kind, name, counted)| OtherKind {
        kind,
        name: format!("{namespace}/{name}"),
        images: counted.images,
    });
    others.collect()
}

/// Reads these workloads live and puts them in the place of what the inventory knew.
pub async fn refresh(
    ctx: &Context,
    images: &Images,
    ask: Ask<'_>,
    mut estate: Estate,
    keys: &BTreeSet<WorkloadKey>,
) -> Result<Estate, EstateError> {
    let mut by_namespace: BTreeMap<String, Vec<WorkloadKey>> = BTreeMap::new();
    for key in keys {
        by_namespace.entry(key.namespace.clone()).or_default().push(key.clone());
    }
    let reads: Vec<_> = by_namespace
        .into_iter()
        .map(|(namespace, keys)| live_in(ctx, ask, namespace, keys).boxed())
        .collect();
    let read: Vec<Vec<Found>> = stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
    let mut found: Vec<Found> = read.into_iter().flatten().collect();
    let silent = pods::fill(ctx, &mut found, ask.query, pods::Effort::All).await?;
    estate.unseen += silent.difference(&estate.silent).count();
    estate.silent.extend(silent);
    estate.workloads.retain(|seen| !keys.contains(&seen.workload.key));
    estate.live.extend(found.iter().map(|found| found.workload.key.clone()));
    let fresh = classify(ctx, images, found, ask).await;
    estate.workloads.extend(fresh.workloads);
    estate.workloads.sort_by(|a, b| a.workload.key.cmp(&b.workload.key));
    Ok(estate)
}

/// The workloads of one namespace, live, with a live answer to what may be done there. What is gone or has left the scope
/// is left out.
async fn live_in(
    ctx: &Context,
    ask: Ask<'_>,
    namespace: String,
    keys: Vec<WorkloadKey>,
) -> Result<Vec<Found>, EstateError> {
    let (scope, namespace) = (ask.query.scope, namespace.as_str());
    let api: Api<Meta<Namespace>> = Api::all(ctx.client.clone());
    let living = api.named(namespace).await.map_err(ListError::Api)?;
    if let Some(living) = &living {
        // The watch may be late: the next look does not ask for what is not selected any more.
        ctx.inventory.learn_namespace(&living.metadata);
    }
    let living = living.filter(|namespace| namespace.metadata.deletion_timestamp.is_none());
    let selected = living.is_some_and(|namespace| scope.namespaces.matches(namespace.labels()));
    let may = ctx
        .access
        .may(&ctx.client, ask.account, namespace, access::TO_WRITE)
        .await?;
    if !selected || may == May::Nothing {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for workload in deployments(ctx, namespace, &keys, scope).await? {
        if !workload.labels.are_selected_by(&scope.workloads) {
            continue;
        }
        let barred = barred(ctx, ask, namespace, may, &workload);
        let entry = Entry {
            workload: Arc::new(workload),
            pods: None,
        };
        found.push(Found::new(entry, barred));
    }
    Ok(found)
}

async fn deployments(
    ctx: &Context,
    namespace: &str,
    keys: &[WorkloadKey],
    scope: &Scope,
) -> Result<Vec<Workload>, EstateError> {
    let api: Api<Watched> = Api::namespaced(ctx.client.clone(), namespace);
    let parse = |watched: Watched| Workload::from_deployment(&watched.0);
    let workloads: Vec<Workload> = if keys.len() > FEW {
        let wanted: BTreeSet<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        let params = ListParams::default().labels_from(&scope.workloads);
        paging::list(&api, params, MAX_IN_NAMESPACE, |watched| {
            wanted
                .contains(watched.name_any().as_str())
                .then(|| parse(watched))
                .flatten()
        })
        .await?
    } else {
        let reads: Vec<_> = keys
            .iter()
            .map(|key| {
                let (api, name) = (api.clone(), key.name.clone());
                async move { api.named(&name).await }.boxed()
            })
            .collect();
        let read: Vec<_> = stream::iter(reads)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
            .map_err(ListError::Api)?;
        read.into_iter().flatten().filter_map(parse).collect()
    };
    for key in keys {
        match workloads.iter().find(|workload| workload.key == *key) {
            Some(workload) => ctx.inventory.learn(workload.clone()),
            None => ctx.inventory.gone(key),
        }
    }
    Ok(workloads)
}
