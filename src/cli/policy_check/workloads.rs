//! Which Deployments run which digest, in all namespaces that the user may read.
//!
//! By digest alone: images that were built on a release have digests of their own and are not found here.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Namespace};
use kube::{Api, Client, api::ListParams};
use repave_cluster::readable::{self, Guarded, Meta};
use repave_core::{digest::Digest, image_ref::ImageRef, workload::Workload};
use std::collections::{BTreeMap, BTreeSet};

/// Deployments of one request.
const PAGE: u32 = 500;
/// Requests per list: an estate of 100 000 Deployments.
const PAGES: usize = 200;

/// Who runs what.
#[derive(Debug, Default)]
pub struct Estate {
    by_digest: BTreeMap<Digest, BTreeSet<String>>,
    /// Namespaces that could not be read.
    pub unread: Vec<String>,
}

impl Estate {
    /// The workloads with this digest in one of their containers.
    pub fn running(&self, digest: &Digest) -> Vec<String> {
        self.by_digest.get(digest).into_iter().flatten().cloned().collect()
    }

    fn add(&mut self, deployment: &Deployment) {
        let read = serde_json::to_value(deployment).and_then(serde_json::from_value);
        let Some(workload) = read.ok().as_ref().and_then(Workload::from_deployment) else {
            return;
        };
        for container in &workload.containers {
            let digest = container.image.parse::<ImageRef>().ok().and_then(|image| image.digest);
            if let Some(digest) = digest {
                self.by_digest
                    .entry(digest)
                    .or_default()
                    .insert(workload.key.to_string());
            }
        }
    }
}

/// Reads the Deployments of the whole cluster, or of each namespace where only that is allowed.
pub async fn read(client: &Client) -> Result<Estate, kube::Error> {
    let mut estate = Estate::default();
    match pages(&Api::all(client.clone()), &mut estate).await {
        Err(error) if is_forbidden(&error) => {}
        other => return other.map(|()| estate),
    }
    let namespaces = match Api::<Meta<Namespace>>::all(client.clone())
        .list(&ListParams::default())
        .await
    {
        Ok(list) => list
            .items
            .into_iter()
            .filter_map(|namespace| namespace.metadata.name)
            .collect(),
        Err(error) if is_forbidden(&error) => vec![client.default_namespace().to_owned()],
        Err(error) => return Err(error),
    };
    for namespace in namespaces {
        match pages(&Api::namespaced(client.clone(), &namespace), &mut estate).await {
            Ok(()) => {}
            Err(error) if is_forbidden(&error) => estate.unread.push(namespace),
            Err(error) => return Err(error),
        }
    }
    Ok(estate)
}

async fn pages(api: &Api<Guarded<Deployment>>, estate: &mut Estate) -> Result<(), kube::Error> {
    let mut params = ListParams::default().limit(PAGE);
    for _ in 0..PAGES {
        let page = api.list(&params).await?;
        let next = page.metadata.continue_.clone();
        for deployment in readable::told(page) {
            estate.add(&deployment);
        }
        match next.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
    // More than is read: the rest is said to be unread rather than left out silently.
    estate
        .unread
        .push(format!("all after the first {} Deployments", PAGES * PAGE as usize));
    Ok(())
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_workload_is_found_by_the_digest_of_any_of_its_containers() {
        let (released, other) = (Digest::of(b"released"), Digest::of(b"other"));
        let deployment = |name: &str, images: [String; 2]| -> Deployment {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "shop", "uid": "u", "resourceVersion": "1", "generation": 1},
                "spec": {"selector": {}, "template": {"spec": {
                    "initContainers": [{"name": "i", "image": images[0]}],
                    "containers": [{"name": "c", "image": images[1]}]}}},
            }))
            .unwrap()
        };
        let mut estate = Estate::default();
        estate.add(&deployment("a", [format!("r.io/b@{released}"), "r.io/app:1".into()]));
        estate.add(&deployment("b", ["x".into(), format!("r.io/other@{released}")]));
        estate.add(&deployment("c", ["x".into(), format!("r.io/b@{other}")]));
        assert_eq!(estate.running(&released), ["Deployment shop/a", "Deployment shop/b"]);
        assert!(estate.running(&Digest::of(b"never")).is_empty());
    }
}
