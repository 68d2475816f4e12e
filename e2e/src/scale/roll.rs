//! Rolls an estate to a release, by Repave and by a naive loop, and waits until Kubernetes has settled.

use super::objects;
use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Most time for one roll-out.
const LIMIT: Duration = Duration::from_secs(1200);
const LOOK: Duration = Duration::from_secs(2);
const PAGE: u32 = 500;

/// How far a roll-out is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Deployments that name the release.
    pub moved: usize,
    /// Of these, those that are settled as `kubectl rollout status` has it.
    pub settled: usize,
    /// Names the release and is not settled.
    pub in_flight: usize,
}

/// One look at the whole estate.
pub async fn progress(kube: &Client, release: u32) -> Result<Progress> {
    let image = objects::image(release);
    let mut progress = Progress::default();
    each(kube, |deployment| {
        let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let now = pod
            .and_then(|pod| pod.containers.first())
            .and_then(|container| container.image.as_deref());
        if now == Some(&image) {
            progress.moved += 1;
            progress.settled += usize::from(is_settled(deployment));
        }
    })
    .await?;
    progress.in_flight = progress.moved - progress.settled;
    Ok(progress)
}

async fn each(kube: &Client, mut look: impl FnMut(&Deployment)) -> Result<()> {
    let api = Api::<Deployment>::all(kube.clone());
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = api.list(&page).await?;
        list.items.iter().for_each(&mut look);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

fn is_settled(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
}

/// Looks until all `count` are settled on the release. `each_look` is called with every look. Gives the time.
pub async fn until_settled<F>(
    kube: &Client,
    release: u32,
    count: usize,
    mut each_look: impl FnMut(Progress) -> F,
) -> Result<Duration>
where
    F: Future<Output = Result<()>>,
{
    let start = Instant::now();
    loop {
        let now = progress(kube, release).await?;
        if now.settled >= count {
            return Ok(start.elapsed());
        }
        ensure!(
            start.elapsed() < LIMIT,
            "not settled within {LIMIT:?}: {now:?} of {count}"
        );
        each_look(now).await?;
        tokio::time::sleep(LOOK).await;
    }
}

/// All that `kubectl set image` does, `at_once` requests at a time, without a look at anything.
pub async fn naive(kube: &Client, release: u32, count: usize, at_once: usize) -> Result<()> {
    let image = objects::image(release);
    let image = image.as_str();
    futures::stream::iter(0..count)
        .map(|at| async move {
            let (namespace, name) = objects::place(at);
            let patch =
                serde_json::json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}});
            let api = Api::<Deployment>::namespaced(kube.clone(), &namespace);
            api.patch(&name, &PatchParams::default(), &Patch::Strategic(&patch))
                .await?;
            Ok(())
        })
        .buffer_unordered(at_once)
        .try_collect()
        .await
}

/// The generation of each Deployment: how often its spec was written.
pub async fn generations(kube: &Client) -> Result<BTreeMap<String, i64>> {
    let mut all = BTreeMap::new();
    each(kube, |deployment| {
        let key = format!(
            "{}/{}",
            deployment.namespace().unwrap_or_default(),
            deployment.name_any()
        );
        all.insert(key, deployment.metadata.generation.unwrap_or(0));
    })
    .await?;
    Ok(all)
}

/// Deployments that are settled, whatever they name.
pub async fn settled(kube: &Client) -> Result<usize> {
    let mut count = 0;
    each(kube, |deployment| count += usize::from(is_settled(deployment))).await?;
    Ok(count)
}

/// BaseImages that know what their tag names.
pub async fn resolved(kube: &Client) -> Result<usize> {
    let api = Api::<repave::api::BaseImage>::namespaced(kube.clone(), objects::PLATFORM);
    let mut page = ListParams::default().limit(PAGE);
    let mut count = 0;
    loop {
        let list = api.list(&page).await?;
        let known = list.items.iter().filter(|base| {
            let conditions = base.status.iter().flat_map(|status| &status.conditions);
            conditions
                .into_iter()
                .any(|c| c.type_ == "UpstreamResolved" && c.status == "True")
        });
        count += known.count();
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(count),
        }
    }
}
