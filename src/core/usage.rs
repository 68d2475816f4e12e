//! Which images the workloads of a cluster use, or may be given back: those must not be deleted from a registry.
//!
//! Rather too many than too few: whatever names a digest counts, and so does a tag that is written in place of one.

use super::{digest::Digest, image_ref::ImageRef, workload_annotations::WorkloadAnnotations};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStatus, Pod, PodSpec},
};
use std::collections::BTreeSet;

/// What is in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    digests: BTreeSet<Digest>,
    /// `repository:tag`, where no digest is written.
    tagged: BTreeSet<String>,
}

impl InUse {
    /// Adds what a Deployment runs, and what its record says it ran before a run moved it.
    pub fn deployment(&mut self, deployment: &Deployment) {
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        if let Some(pod) = template.and_then(|template| template.spec.as_ref()) {
            self.template(pod);
        }
        let annotations = deployment.metadata.annotations.clone().unwrap_or_default();
        for image in WorkloadAnnotations::parse(&annotations).previous.values() {
            self.digests.extend(image.digest.clone());
        }
    }

    /// Adds what a pod was told to run, and what it runs.
    pub fn pod(&mut self, pod: &Pod) {
        if let Some(spec) = &pod.spec {
            self.template(spec);
        }
        let Some(status) = &pod.status else { return };
        let kinds = [
            &status.init_container_statuses,
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ];
        for container in kinds.into_iter().flatten().flatten() {
            self.running(container);
        }
    }

    fn running(&mut self, container: &ContainerStatus) {
        let digest = container.image_id.rsplit_once('@').map(|(_, digest)| digest);
        self.digests.extend(digest.and_then(|digest| digest.parse().ok()));
    }

    fn template(&mut self, pod: &PodSpec) {
        let init = pod.init_containers.iter().flatten();
        let mut images: Vec<&str> = init
            .chain(&pod.containers)
            .filter_map(|one| one.image.as_deref())
            .collect();
        let volumes = pod.volumes.iter().flatten();
        images.extend(volumes.filter_map(|volume| volume.image.as_ref()?.reference.as_deref()));
        images.extend(
            pod.ephemeral_containers
                .iter()
                .flatten()
                .filter_map(|one| one.image.as_deref()),
        );
        for image in images {
            let Ok(image) = image.parse::<ImageRef>() else { continue };
            match (&image.digest, &image.tag) {
                (Some(digest), _) => drop(self.digests.insert(digest.clone())),
                (None, Some(tag)) => drop(self.tagged.insert(format!("{}:{tag}", image.repository))),
                (None, None) => {}
            }
        }
    }

    /// Whether anything uses this digest, or this tag of the repository.
    pub fn has(&self, digest: &Digest, tagged: &str) -> bool {
        self.digests.contains(digest) || self.tagged.contains(tagged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::ANNOTATION_PREVIOUS;
    use serde_json::json;

    #[test]
    fn what_is_written_what_runs_and_what_may_be_given_back_is_in_use() {
        let at = |name: &str| format!("r.test/debian@{}", Digest::of(name.as_bytes()));
        let mut in_use = InUse::default();
        in_use.deployment(
            &serde_json::from_value(json!({
                "metadata": {"name": "a", "annotations": {
                    ANNOTATION_PREVIOUS: json!({"app": at("before")}).to_string(),
                }},
                "spec": {"selector": {}, "template": {"spec": {
                    "initContainers": [{"name": "init", "image": at("init")}],
                    "containers": [{"name": "app", "image": at("app")}, {"name": "side", "image": "r.test/debian:12-1"}],
                    "volumes": [{"name": "v", "image": {"reference": at("volume")}}],
                }}},
            }))
            .unwrap(),
        );
        in_use.pod(
            &serde_json::from_value(json!({
                "metadata": {"name": "p"},
                "spec": {"containers": [{"name": "app", "image": "r.test/debian:12"}]},
                "status": {"containerStatuses": [{"name": "app", "image": "x", "imageID": at("running"), "ready": true,
                    "restartCount": 0}]},
            }))
            .unwrap(),
        );
        for name in ["before", "init", "app", "volume", "running"] {
            assert!(in_use.has(&Digest::of(name.as_bytes()), "r.test/debian:none"), "{name}");
        }
        let unused = Digest::of(b"unused");
        assert!(in_use.has(&unused, "r.test/debian:12-1") && in_use.has(&unused, "r.test/debian:12"));
        assert!(!in_use.has(&unused, "r.test/debian:12-2"));
    }
}
