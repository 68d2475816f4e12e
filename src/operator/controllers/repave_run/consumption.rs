//! What the images of a workload are to a release of a base image. Pure.
//!
//! Only what runs an older release of the same base image, from the repository that it is promoted to, can be moved;
//! everything else is reported.

use super::estate::ObservedWorkload;
use crate::domain::{
    image_ref::Repository,
    lineage::{Lineage, Release},
};

/// What the images of a workload are to the base image and the target.
#[derive(Debug, Default)]
pub struct Consumption {
    /// Places of the containers that run an older release from the target's repository.
    pub outdated: Vec<usize>,
    /// Whether one runs the target.
    pub current: bool,
    /// A newer release that one runs.
    pub newer: Option<Release>,
    /// Another repository that one pulls an older release from.
    pub elsewhere: Option<Repository>,
    /// An older release that one is built on.
    pub derived: Option<Release>,
}

/// Whether a release comes before the target: by the order that the base image gave, never by a time. One that was taken
/// back comes before every other one.
fn is_older(release: &Release, target: &Release) -> bool {
    release.digest != target.digest && (release.revoked || release.sequence < target.sequence)
}

/// Reads it off the lineage of every container.
pub fn consumption(seen: &ObservedWorkload, target: &Release) -> Consumption {
    let mut found = Consumption::default();
    for (at, image) in seen.images.iter().enumerate() {
        match &image.lineage {
            Lineage::Direct(release) if release.base_image != target.base_image => {}
            Lineage::Direct(release) if release.digest == target.digest => found.current = true,
            Lineage::Direct(release) if !is_older(release, target) => found.newer = Some(release.clone()),
            Lineage::Direct(_) if image.repository.as_ref() != Some(&target.repository) => {
                found.elsewhere.clone_from(&image.repository);
            }
            Lineage::Direct(_) => found.outdated.push(at),
            Lineage::Derived { release, .. }
                if release.base_image == target.base_image && is_older(release, target) =>
            {
                found.derived = Some(release.clone());
            }
            Lineage::Derived { .. } | Lineage::Unknown => {}
        }
    }
    found
}

/// Whether a workload runs, or is built on, a release that is older than the target.
pub fn is_outdated(seen: &ObservedWorkload, target: &Release) -> bool {
    let found = consumption(seen, target);
    !found.outdated.is_empty() || found.elsewhere.is_some() || found.derived.is_some()
}
