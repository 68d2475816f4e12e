//! The BaseImages of the whole cluster, as their controller's watch has them: to see who else names a repository.
//!
//! Must not be read for anything that has to be current: for that there is the API server.

use super::owner::Claim;
use crate::api::BaseImage;
use crate::domain::image_ref::Repository;
use crate::readable::Guarded;
use futures::FutureExt as _;
use kube::{ResourceExt as _, runtime::reflector::Store};
use std::sync::OnceLock;

/// Every BaseImage that can be read.
#[derive(Default)]
pub struct BaseImages(OnceLock<Store<Guarded<BaseImage>>>);

impl BaseImages {
    /// Gives it the store of the controller. Only the first one counts: there is one controller a process.
    pub fn fill(&self, store: Store<Guarded<BaseImage>>) {
        if self.0.set(store).is_err() {
            tracing::error!("the store of BaseImages was given twice: the first one stays");
        }
    }

    /// What the others that may name a repository of `base` claim; `None` while the first list is not complete. Costs one
    /// comparison of texts for each BaseImage of the cluster; only those that can name the same repository are parsed.
    pub fn rivals(&self, base: &BaseImage) -> Option<Vec<Claim>> {
        let store = self.0.get()?;
        store.wait_until_ready().now_or_never()?.ok()?;
        let ends = last_parts(base);
        let others = store.state_filter(|guarded: &Guarded<BaseImage>| {
            guarded.0.as_ref().is_ok_and(|other| {
                other.uid() != base.uid() && last_parts(other).iter().any(|part| ends.contains(part))
            })
        });
        let readable = others.iter().filter_map(|guarded| guarded.0.as_ref().ok());
        Some(readable.map(Claim::of).collect())
    }
}

/// The last parts of the paths that a BaseImage names or has released to: equal repositories have equal ones, however they
/// are written.
fn last_parts(base: &BaseImage) -> Vec<&str> {
    let production = base.spec.promote.repository.as_str();
    let staging = base.spec.promote.staging_repository.as_deref().unwrap_or(production);
    let status = base.status.as_ref();
    let released = status.and_then(|status| status.released.as_ref()?.repository.as_ref());
    let revoked = status.into_iter().flat_map(|status| &status.revoked);
    let past = revoked.filter_map(|release| release.repository.as_ref());
    let past = released.into_iter().chain(past).map(Repository::path);
    let mut parts: Vec<&str> = [production, staging].into_iter().chain(past).map(last_part).collect();
    parts.dedup();
    parts
}

/// `light` of `registry.example.com/base/light-staging`: a repository and its default staging one have the same, also where
/// its own name ends in `-staging`.
fn last_part(repository: &str) -> &str {
    let last = repository.rsplit_once('/').map_or(repository, |(_, last)| last);
    last.trim_end_matches("-staging")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::{reflector, watcher};
    use serde_json::json;

    fn base(name: &str, repository: &str) -> Guarded<BaseImage> {
        let base = serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
            "metadata": {"name": name, "namespace": "n", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "source": {"image": "up.example.com/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "p"}],
                "promote": {"repository": repository, "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}
            }
        }));
        Guarded(Ok(base.unwrap()))
    }

    #[test]
    fn nothing_is_known_before_the_first_list_is_complete() {
        let known = BaseImages::default();
        let own = base("own", "r.test/base/light");
        let own = own.0.as_ref().unwrap();
        assert_eq!(known.rivals(own), None);
        let (store, mut writer) = reflector::store();
        known.fill(store);
        assert_eq!(known.rivals(own), None);
        writer.apply_watcher_event(&watcher::Event::Init);
        writer.apply_watcher_event(&watcher::Event::InitDone);
        assert_eq!(known.rivals(own), Some(vec![]));
    }

    #[test]
    fn whoever_can_name_the_same_repository_is_found_however_it_is_written() {
        let known = BaseImages::default();
        let (store, mut writer) = reflector::store();
        known.fill(store);
        writer.apply_watcher_event(&watcher::Event::Init);
        for (name, repository) in [
            ("own", "docker.io/team/light"),
            ("same", "team/light"),
            ("staging", "docker.io/team/light-staging"),
            ("other", "docker.io/team/dark"),
        ] {
            writer.apply_watcher_event(&watcher::Event::InitApply(base(name, repository)));
        }
        writer.apply_watcher_event(&watcher::Event::InitDone);
        let own = base("own", "docker.io/team/light");
        let rivals = known.rivals(own.0.as_ref().unwrap()).unwrap();
        assert_eq!(rivals.len(), 2, "{rivals:?}");
    }

    /// `managedFields` are anybody's to write who may write the object.
    #[test]
    fn a_base_image_with_a_time_that_nobody_can_read_is_read_and_its_claim_counts() {
        let mut object = serde_json::to_value(base("same", "docker.io/team/light").0.unwrap()).unwrap();
        object["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Update", "apiVersion": "repave.dev/v1alpha1",
            "time": "9999-12-31T23:59:59Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {}}}}]);
        let (known, own) = (BaseImages::default(), base("own", "docker.io/team/light"));
        let (store, mut writer) = reflector::store();
        known.fill(store);
        let listed = [serde_json::from_value(object).unwrap(), own.clone()];
        for event in [watcher::Event::Init]
            .into_iter()
            .chain(listed.map(watcher::Event::InitApply))
        {
            writer.apply_watcher_event(&event);
        }
        writer.apply_watcher_event(&watcher::Event::InitDone);
        assert_eq!(known.rivals(own.0.as_ref().unwrap()).unwrap().len(), 1);
    }

    /// The default staging repository of one whose own name ends in `-staging`.
    #[test]
    fn whoever_promotes_to_our_default_staging_repository_is_found_whatever_its_name_ends_in() {
        let known = BaseImages::default();
        let (store, mut writer) = reflector::store();
        known.fill(store);
        let own = base("own", "r.test/base/light-staging");
        writer.apply_watcher_event(&watcher::Event::Init);
        writer.apply_watcher_event(&watcher::Event::InitApply(own.clone()));
        writer.apply_watcher_event(&watcher::Event::InitApply(base(
            "tenant",
            "r.test/base/light-staging-staging",
        )));
        writer.apply_watcher_event(&watcher::Event::InitDone);
        let rivals = known.rivals(own.0.as_ref().unwrap()).unwrap();
        assert_eq!(rivals.len(), 1, "what is unproven goes where another one promotes to");
    }
}
