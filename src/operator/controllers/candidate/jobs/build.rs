//! The Job that builds a candidate. Only its first and last container see credentials.

use super::{
    LABEL_CANDIDATE, ValidatedCandidate, attempt_name, build_name, inputs, job,
    pod::{OPERATOR, RUNNER, pull, runner, volumes, with_registry},
};
use crate::{api::ImageCandidate, controllers::context::Settings, domain::inputs as digests};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use serde_json::json;
use std::collections::BTreeMap;

/// How long the build may take, in seconds.
const BUILD_SECONDS: u64 = 1800;

/// The Job that builds: pull (runner, credentials), build (buildah, none), push (runner, credentials).
pub fn build(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    settings: &Settings,
    attempt: u32,
) -> (ConfigMap, Job) {
    let name = attempt_name(&build_name(&validated.name), attempt);
    let mut files = BTreeMap::from([("Containerfile".to_owned(), validated.containerfile.clone())]);
    for (n, pem) in candidate.spec.build.ca_certificates.iter().enumerate() {
        files.insert(format!("ca-{n}.crt"), pem.clone());
    }
    let mut push = vec![
        OPERATOR.to_owned(),
        "runner".into(),
        "push".into(),
        "--layout".into(),
        "/work/out".into(),
    ];
    push.extend(["--repository".to_owned(), validated.staging.to_string()]);
    let build = [
        RUNNER,
        "runner",
        "build",
        "--containerfile",
        "/inputs/Containerfile",
        "--context",
        "/inputs",
    ];
    let dirs = [
        "--layout-in",
        "/work/in",
        "--layout-out",
        "/work/out",
        "--work",
        "/storage",
        "--network",
        "none",
    ];
    let asked = digests::digest(&files);
    let build: Vec<&str> = build
        .into_iter()
        .chain(dirs)
        .chain(["--inputs", asked.as_str()])
        .collect();
    let work = json!({"name": "work", "mountPath": "/work"});
    let builder = json!({
        "name": "build",
        "image": settings.builder_image.to_string(),
        "command": build,
        // Root of its own user namespace with the default capabilities: what Pod Security `baseline` allows and what
        // buildah's chroot isolation needs. A seccomp profile would refuse its mounts.
        "securityContext": {"runAsUser": 0, "runAsGroup": 0},
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}},
        "volumeMounts": [work, {"name": "inputs", "mountPath": "/inputs", "readOnly": true}, {"name": "storage", "mountPath": "/storage"}, {"name": "tmp", "mountPath": "/tmp"}],
    });
    let pod = json!({
        "initContainers": [
            pull(validated, settings, &candidate.spec.source_digest, "/work/in"),
            builder,
        ],
        "containers": [with_registry(runner(settings, "push", &push, &work), settings, validated.registry_secret.as_deref())],
        "volumes": volumes(&name, &["work", "storage", "tmp"], validated.registry_secret.as_deref()),
        "hostUsers": false,
    });
    let labels = [(LABEL_CANDIDATE, validated.name.as_str())];
    (
        inputs(candidate, validated, &name, &files),
        job(candidate, validated, &name, &labels, BUILD_SECONDS, pod),
    )
}
