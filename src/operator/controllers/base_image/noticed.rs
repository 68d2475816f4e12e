//! How new the newest change of a candidate is that was noticed: so that a read from the API server's cache is never older than
//! the event that led to it. A consistent read waits for etcd, about 90 ms where nobody writes; this one does not.
//!
//! Must not be needed for anything to be right: what is forgotten here is read consistently.

use crate::{
    api::{BaseImage, ImageCandidate},
    controllers::bounded::BoundedMap,
    readable::{Guarded, Meta},
};
use kube::{Resource as _, ResourceExt as _, runtime::reflector::ObjectRef};
use std::sync::{Mutex, PoisonError};

/// Base images that are remembered.
const MAX: usize = 20_000;

/// The newest resource version of any candidate, by namespace and base image. What was noticed longest ago goes first: reading it
/// consistently costs the least.
#[derive(Debug)]
pub struct Noticed(Mutex<BoundedMap<(String, String), u64>>);

impl Default for Noticed {
    fn default() -> Self {
        Self(Mutex::new(BoundedMap::new(MAX)))
    }
}

impl Noticed {
    /// Notes a change of a candidate, and gives the BaseImage that it belongs to.
    pub fn note(&self, candidate: &Meta<ImageCandidate>) -> Option<ObjectRef<Guarded<BaseImage>>> {
        let mut owners = candidate.metadata.owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.controller == Some(true) && owner.kind == BaseImage::kind(&()))?;
        let namespace = candidate.namespace()?;
        // Versions are compared as numbers since Kubernetes says so; one that is none is not remembered.
        if let Some(version) = candidate.resource_version().and_then(|version| version.parse().ok()) {
            self.remember((namespace.clone(), owner.name.clone()), version);
        }
        Some(ObjectRef::new(&owner.name).within(&namespace))
    }

    fn remember(&self, key: (String, String), version: u64) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let version = newest.get(&key).map_or(version, |known| version.max(*known));
        newest.insert(key, version);
    }

    /// At least how new a read has to be.
    pub fn version(&self, namespace: &str, base_image: &str) -> Option<String> {
        let newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        newest
            .get(&(namespace.to_owned(), base_image.to_owned()))
            .map(u64::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn candidate(version: &str, owner_kind: &str) -> Meta<ImageCandidate> {
        serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
            "metadata": {"name": "debian-a", "namespace": "platform", "resourceVersion": version, "ownerReferences": [
                {"apiVersion": "repave.dev/v1alpha1", "kind": owner_kind, "name": "debian", "uid": "u", "controller": true}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_newest_version_of_any_candidate_is_kept_and_its_base_image_is_woken() {
        let noticed = Noticed::default();
        assert_eq!(noticed.version("platform", "debian"), None);
        let woken = noticed.note(&candidate("9", "BaseImage")).unwrap();
        assert_eq!(
            (woken.name.as_str(), woken.namespace.as_deref()),
            ("debian", Some("platform"))
        );
        noticed.note(&candidate("10", "BaseImage"));
        noticed.note(&candidate("8", "BaseImage"));
        assert_eq!(noticed.version("platform", "debian").as_deref(), Some("10"));
        assert_eq!(noticed.version("other", "debian"), None);
    }

    #[test]
    fn a_candidate_of_something_else_wakes_nothing() {
        assert_eq!(Noticed::default().note(&candidate("9", "RepavePlan")), None);
    }
}
