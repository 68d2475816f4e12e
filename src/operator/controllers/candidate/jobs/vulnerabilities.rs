//! `vulnerabilities`: a scanner over the packages of the layers, or over the list of packages that was kept.
//!
//! The database comes as a read-only image volume, by digest: the pod needs no network for it and the report can say
//! which one it was. Must not pull the image again to judge it by a newer database.

use super::{
    PlannedCheck, Subject, job,
    pod::{self, OPERATOR, RUNNER, check_command, runner, unprivileged, volumes, with_registry},
};
use crate::{
    api::{
        ImageCandidate,
        refs::{LABEL_CANDIDATE, LABEL_CHECK},
    },
    controllers::{candidate::validate::ValidatedCandidate, context::Settings},
    domain::{digest::Digest, image_ref::ImageRef},
};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use serde_json::{Value, json};

/// The layers as an OCI layout.
pub(super) fn pod(subject: &Subject<'_>) -> Value {
    let mut pod = pod::layout(subject);
    scan_with(&mut pod, subject.check);
    pod
}

/// Chooses the scanner and mounts its database into the pod's last container.
fn scan_with(pod: &mut Value, check: &PlannedCheck) {
    let mut more = vec!["--scanner".to_owned(), check.tool.facts().word.to_owned()];
    if let Some(database) = &check.database {
        more.extend(["--database".to_owned(), "/database".to_owned()]);
        if let Some(digest) = &database.digest {
            more.extend(["--database-id".to_owned(), digest.to_string()]);
        }
        if let Some(mounts) = pod["containers"][0]["volumeMounts"].as_array_mut() {
            mounts.push(json!({"name": "database", "mountPath": "/database", "readOnly": true}));
        }
        if let Some(volumes) = pod["volumes"].as_array_mut() {
            let reference = database.to_string();
            volumes.push(json!({"name": "database", "image": {"reference": reference, "pullPolicy": "IfNotPresent"}}));
        }
    }
    if let Some(command) = pod["containers"][0]["command"].as_array_mut() {
        command.extend(more.into_iter().map(Value::String));
    }
}

/// What is judged again.
#[derive(Debug, Clone, Copy)]
pub struct Rescan<'a> {
    /// The image, by digest, in the repository that keeps its reports.
    pub image: &'a ImageRef,
    /// Its digest.
    pub digest: &'a Digest,
    /// The manifest of the report artifact with the list of packages.
    pub artifact: &'a Digest,
}

/// The Job that judges an image again from its kept list of packages. `name` must name everything that decides the
/// outcome: image, check and database.
pub fn rescan(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    settings: &Settings,
    check: &PlannedCheck,
    again: Rescan<'_>,
    name: &str,
) -> (ConfigMap, Job) {
    let secret = validated.registry_secret.as_deref();
    let work = json!({"name": "work", "mountPath": "/work"});
    let (image, artifact) = (again.image.to_string(), again.artifact.to_string());
    let fetch = [
        OPERATOR,
        "runner",
        "fetch-sbom",
        "--image",
        &image,
        "--artifact",
        &artifact,
        "--out",
        "/work/sbom.cdx.json",
    ]
    .map(String::from);
    let mut command = check_command(RUNNER, check, again.digest);
    command.extend(["--sbom", "/work/sbom.cdx.json"].map(String::from));
    let mut pod = json!({
        "initContainers": [with_registry(runner(settings, "fetch-sbom", &fetch, &work), settings, secret)],
        "containers": [{
            "name": "check",
            "image": settings.tools_image.to_string(),
            "command": command,
            "securityContext": unprivileged(),
            "resources": {"requests": {"cpu": "250m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
            "volumeMounts": [
                {"name": "work", "mountPath": "/work", "readOnly": true},
                {"name": "inputs", "mountPath": "/inputs", "readOnly": true},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        }],
        "volumes": volumes(name, &["work", "tmp"], secret),
    });
    scan_with(&mut pod, check);
    let seconds = check.spec.timeout.get().as_secs() + super::POD_SECONDS;
    let labels = [
        (LABEL_CANDIDATE, validated.name.as_str()),
        (LABEL_CHECK, check.name.as_str()),
    ];
    (
        super::inputs(candidate, validated, name, &super::files(check, &[])),
        job(candidate, validated, name, &labels, seconds, pod),
    )
}

#[cfg(test)]
mod tests;
