//! What the workloads of the whole cluster use, read live: their Deployments, and the pods of everything else. Reads only.
//!
//! Asked only where a past release would be deleted from production. What cannot be read whole is not known.

use crate::{
    controllers::{context::Context, error::one_line, paging::PAGE},
    domain::usage::InUse,
    readable::Guarded,
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Api, api::ListParams};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Pages of one kind; in a larger cluster, of 200 000 objects, nothing is deleted from production.
const MAX_PAGES: usize = 8_000;

/// What is in use, or `None` if that cannot be told.
pub async fn in_use(ctx: &Context) -> Option<InUse> {
    let mut in_use = InUse::default();
    let deployments = each(ctx, |one: &Deployment| in_use.deployment(one)).await;
    let read = match deployments {
        Ok(true) => each(ctx, |one: &Pod| in_use.pod(one)).await,
        other => other,
    };
    match read {
        Ok(true) => Some(in_use),
        Ok(false) => {
            tracing::warn!(
                "there are more workloads than are looked at, or one that cannot be read: nothing is deleted from production"
            );
            None
        }
        Err(error) => {
            tracing::warn!(
                error = one_line(&error),
                "what is in use is not known: nothing is deleted from production"
            );
            None
        }
    }
}

/// Shows each object of a kind, one page in memory; `false` if there are more than are read, or one that cannot be read.
async fn each<K>(ctx: &Context, mut show: impl FnMut(&K)) -> Result<bool, kube::Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api = Api::<Guarded<K>>::all(ctx.client.clone());
    let mut params = ListParams::default().limit(PAGE);
    for _ in 0..MAX_PAGES {
        let page = api.list(&params).await?;
        for one in &page.items {
            // What cannot be read may use anything.
            let Ok(one) = &one.0 else { return Ok(false) };
            show(one);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(true),
        }
    }
    Ok(false)
}
