//! The Jobs of a candidate as data: what runs where, with which rights. Pure.
//!
//! Only our runner ever sees credentials; the container that runs instructions or code of the candidate has none, no
//! token, and nothing of the cluster mounted. Names are made of what decides the outcome, so creating twice is once.

use super::validate::{PlannedCheck, Wish};
use crate::{
    api::{
        ImageCandidate,
        refs::{LABEL_BASE_IMAGE, LABEL_CANDIDATE, LABEL_CHECK},
    },
    checks::native,
    controllers::context::Settings,
    domain::{digest::Digest, report::ToolName},
};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::Resource;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How long the build may take, in seconds.
const BUILD_SECONDS: u64 = 1800;
/// What a check's pod may take longer than its tool: scheduling and image pulls, in seconds.
const POD_SECONDS: u64 = 300;
/// Finished Jobs stay for a day, so that people can look at them.
const KEEP_SECONDS: u64 = 86_400;
/// Where the runner is in the tools and builder images.
const RUNNER: &str = "/usr/local/bin/repave";
/// Where it is in the operator's own image.
const OPERATOR: &str = "/repave";

/// The name of a candidate's build Job, without the attempt.
pub fn build_name(candidate: &str) -> String {
    format!("{candidate}-build")
}

/// The name of a check's Job, without the attempt.
pub fn check_name(key: &Digest) -> String {
    format!("repave-check-{}", &key.hex()[..20])
}

/// The name of one attempt.
pub fn attempt_name(name: &str, attempt: u32) -> String {
    if attempt == 1 {
        name.to_owned()
    } else {
        format!("{name}-{attempt}")
    }
}

/// The Job that builds: pull (runner, credentials), build (buildah, none), push (runner, credentials).
pub fn build(candidate: &ImageCandidate, wish: &Wish, settings: &Settings, attempt: u32) -> (ConfigMap, Job) {
    let name = attempt_name(&build_name(&wish.name), attempt);
    let mut files = BTreeMap::from([("Containerfile".to_owned(), wish.containerfile.clone())]);
    for (n, pem) in candidate.spec.build.ca_certificates.iter().enumerate() {
        files.insert(format!("ca-{n}.crt"), pem.clone());
    }
    let source = wish.staging.at(&candidate.spec.source_digest).to_string();
    let mut pull = vec![
        OPERATOR.to_owned(),
        "runner".into(),
        "pull".into(),
        "--image".into(),
        source,
    ];
    pull.extend(["--out", "/work/in"].map(String::from));
    let mut push = vec![
        OPERATOR.to_owned(),
        "runner".into(),
        "push".into(),
        "--layout".into(),
        "/work/out".into(),
    ];
    push.extend(["--repository".to_owned(), wish.staging.to_string()]);
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
    let build: Vec<&str> = build.into_iter().chain(dirs).collect();
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
            with_registry(runner(settings, "pull", &pull, &work), settings, wish.registry_secret.as_deref()),
            builder,
        ],
        "containers": [with_registry(runner(settings, "push", &push, &work), settings, wish.registry_secret.as_deref())],
        "volumes": volumes(&name, &["work", "storage", "tmp"], wish.registry_secret.as_deref()),
        "hostUsers": false,
    });
    let labels = [(LABEL_CANDIDATE, wish.name.as_str())];
    (
        inputs(candidate, wish, &name, &files),
        job(candidate, wish, &name, &labels, BUILD_SECONDS, pod),
    )
}

/// The Job of one check.
pub fn check(
    candidate: &ImageCandidate,
    wish: &Wish,
    settings: &Settings,
    check: &PlannedCheck,
    image: &Digest,
    env: &[String],
    attempt: u32,
) -> (ConfigMap, Job) {
    let name = attempt_name(&check_name(&check.key(image, &settings.tools_image)), attempt);
    let mut files = BTreeMap::from([("options.json".to_owned(), options(check, env).to_string())]);
    if let Some(gossfile) = &check.gossfile {
        files.insert("goss.yaml".to_owned(), gossfile.clone());
    }
    let pod = match check.tool {
        ToolName::Native => layout_pod(wish, settings, check, image, &name, "native"),
        ToolName::Grype => layout_pod(wish, settings, check, image, &name, "grype"),
        ToolName::Openscap => openscap_pod(wish, settings, check, image, &name),
        ToolName::Goss => goss_pod(wish, settings, check, image, &name),
    };
    let seconds = check.spec.timeout.get().as_secs() + POD_SECONDS;
    let labels = [
        (LABEL_CANDIDATE, wish.name.as_str()),
        (LABEL_CHECK, check.name.as_str()),
    ];
    (
        inputs(candidate, wish, &name, &files),
        job(candidate, wish, &name, &labels, seconds, pod),
    )
}

/// What the runner is told besides its arguments; see each reader in `checks/` for the fields.
fn options(check: &PlannedCheck, env: &[String]) -> Value {
    match check.tool {
        ToolName::Native => {
            let ours = check.spec.native.clone().unwrap_or_default();
            let standard = native::Options::default();
            json!({
                // In addition to Debian's standard programs, not instead of them.
                "suidAllowed": standard.suid_allowed.union(&ours.suid_allowed).collect::<BTreeSet<_>>(),
                "fileCapabilitiesAllowed": ours.file_capabilities_allowed,
                "applicationShellsAllowed": ours.application_shells_allowed,
            })
        }
        ToolName::Goss => json!({"minTests": check.gate.minimum_evaluated}),
        ToolName::Openscap => json!({"minEvaluated": check.gate.minimum_evaluated, "env": env}),
        ToolName::Grype => json!({}),
    }
}

/// The arguments that every check has.
fn check_command(runner: &str, subcommand: &str, check: &PlannedCheck, image: &Digest) -> Vec<String> {
    let timeout = check.spec.timeout.get().as_secs().to_string();
    let words = [
        runner,
        "runner",
        subcommand,
        "--check",
        &check.name,
        "--image",
        image.as_str(),
        "--timeout",
        &timeout,
    ];
    let mut command: Vec<String> = words.map(String::from).into();
    command.extend(["--options", "/inputs/options.json", "--work", "/tmp"].map(String::from));
    command
}

/// `native` and `grype`: an OCI layout that the runner pulled; nothing of the candidate is executed.
fn layout_pod(
    wish: &Wish,
    settings: &Settings,
    check: &PlannedCheck,
    image: &Digest,
    name: &str,
    subcommand: &str,
) -> Value {
    let work = json!({"name": "work", "mountPath": "/work"});
    let reference = wish.staging.at(image).to_string();
    let pull = [
        OPERATOR,
        "runner",
        "pull",
        "--image",
        &reference,
        "--out",
        "/work/image",
    ]
    .map(String::from);
    let mut command = check_command(RUNNER, subcommand, check, image);
    command.extend(["--layout", "/work/image"].map(String::from));
    let mut container = json!({
        "name": "check",
        "image": settings.tools_image.to_string(),
        "command": command,
        "securityContext": unprivileged(),
        "resources": {"requests": {"cpu": "250m", "memory": "128Mi"}, "limits": {"memory": "2Gi"}},
    });
    container["volumeMounts"] = json!([
        {"name": "work", "mountPath": "/work", "readOnly": true},
        {"name": "inputs", "mountPath": "/inputs", "readOnly": true},
        {"name": "tmp", "mountPath": "/tmp"},
    ]);
    json!({
        "initContainers": [with_registry(runner(settings, "pull", &pull, &work), settings, wish.registry_secret.as_deref())],
        "containers": [container],
        "volumes": volumes(name, &["work", "tmp"], wish.registry_secret.as_deref()),
    })
}

/// `openscap`: the candidate as a read-only image volume, in a user namespace; nothing of it is executed.
fn openscap_pod(wish: &Wish, settings: &Settings, check: &PlannedCheck, image: &Digest, name: &str) -> Value {
    let profile = check
        .spec
        .openscap
        .as_ref()
        .map_or("", |openscap| openscap.profile.as_str());
    let mut command = check_command(RUNNER, "openscap", check, image);
    command.extend(["--root", "/candidate", "--datastream", "auto", "--profile", profile].map(String::from));
    let mut volumes = volumes(name, &["tmp"], None);
    if let Some(list) = volumes.as_array_mut() {
        let reference = wish.staging.at(image).to_string();
        list.push(json!({"name": "candidate", "image": {"reference": reference, "pullPolicy": "IfNotPresent"}}));
    }
    json!({
        "containers": [{
            "name": "check",
            "image": settings.tools_image.to_string(),
            "command": command,
            // Root of its own user namespace without any capability but reading what root owns: CIS rules look at
            // /etc/shadow.
            "securityContext": {
                "runAsUser": 0, "runAsGroup": 0, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "1536Mi"}},
            "volumeMounts": [
                {"name": "candidate", "mountPath": "/candidate", "readOnly": true},
                {"name": "inputs", "mountPath": "/inputs", "readOnly": true},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        }],
        "volumes": volumes,
        "hostUsers": false,
    })
}

/// `goss`: runs inside the candidate, with the runner and Goss copied in. Its report is marked candidate-executed.
fn goss_pod(wish: &Wish, settings: &Settings, check: &PlannedCheck, image: &Digest, name: &str) -> Value {
    let mut command = check_command("/repave-tools/repave", "goss", check, image);
    command.extend(["--goss", "/repave-tools/goss", "--gossfile", "/inputs/goss.yaml"].map(String::from));
    json!({
        "initContainers": [{
            "name": "install",
            "image": settings.tools_image.to_string(),
            "command": [RUNNER, "runner", "install", "/repave-tools"],
            "securityContext": unprivileged(),
            "volumeMounts": [{"name": "tools", "mountPath": "/repave-tools"}],
        }],
        "containers": [{
            "name": "check",
            "image": wish.staging.at(image).to_string(),
            "command": command,
            "securityContext": {
                "runAsUser": 0, "runAsGroup": 0, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
            "volumeMounts": [
                {"name": "tools", "mountPath": "/repave-tools", "readOnly": true},
                {"name": "inputs", "mountPath": "/inputs", "readOnly": true},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        }],
        "volumes": volumes(name, &["tools", "tmp"], None),
        "hostUsers": false,
    })
}

/// What Pod Security `restricted` demands.
fn unprivileged() -> Value {
    json!({
        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// A container of our own image.
fn runner(settings: &Settings, name: &str, command: &[String], work: &Value) -> Value {
    json!({
        "name": name,
        "image": settings.runner_image.to_string(),
        "command": command,
        "securityContext": unprivileged(),
        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [work],
    })
}

/// The same container with the registry's peculiarities and, if there is one, the credentials.
fn with_registry(mut container: Value, settings: &Settings, secret: Option<&str>) -> Value {
    let mut extra: Vec<String> = Vec::new();
    for host in &settings.insecure_registries {
        extra.extend(["--insecure-host".to_owned(), host.clone()]);
    }
    if secret.is_some() {
        extra.extend(["--auth", "/registry/.dockerconfigjson"].map(String::from));
        if let Some(mounts) = container["volumeMounts"].as_array_mut() {
            mounts.push(json!({"name": "registry", "mountPath": "/registry", "readOnly": true}));
        }
    }
    if let Some(command) = container["command"].as_array_mut() {
        command.extend(extra.into_iter().map(Value::String));
    }
    container
}

/// The pod's volumes: its inputs, empty folders, and the credentials where our runner needs them.
fn volumes(inputs: &str, empty: &[&str], secret: Option<&str>) -> Value {
    let mut volumes = vec![json!({"name": "inputs", "configMap": {"name": inputs}})];
    volumes.extend(
        empty
            .iter()
            .map(|name| json!({"name": name, "emptyDir": {"sizeLimit": "4Gi"}})),
    );
    if let Some(secret) = secret {
        volumes.push(json!({"name": "registry", "secret": {"secretName": secret, "defaultMode": 0o440}}));
    }
    Value::Array(volumes)
}

fn inputs(candidate: &ImageCandidate, wish: &Wish, name: &str, files: &BTreeMap<String, String>) -> ConfigMap {
    let mut map = ConfigMap {
        data: Some(files.clone()),
        immutable: Some(true),
        ..ConfigMap::default()
    };
    map.metadata.name = Some(name.to_owned());
    map.metadata.namespace = Some(wish.namespace.clone());
    map.metadata.owner_references = candidate.controller_owner_ref(&()).map(|owner| vec![owner]);
    map.metadata.labels = Some(labels_of(candidate, &[(LABEL_CANDIDATE, &wish.name)]));
    map
}

fn labels_of(candidate: &ImageCandidate, labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = [(LABEL_BASE_IMAGE, candidate.spec.base_image.as_str())];
    own.iter()
        .chain(labels)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// The Job around a pod: one try, a deadline, kept for a day.
fn job(
    candidate: &ImageCandidate,
    wish: &Wish,
    name: &str,
    labels: &[(&str, &str)],
    seconds: u64,
    mut pod: Value,
) -> Job {
    let labels = labels_of(candidate, labels);
    pod["restartPolicy"] = json!("Never");
    pod["automountServiceAccountToken"] = json!(false);
    pod["enableServiceLinks"] = json!(false);
    pod["terminationGracePeriodSeconds"] = json!(5);
    pod["securityContext"] = json!({"fsGroup": 65532});
    if let Some(secret) = &wish.registry_secret {
        pod["imagePullSecrets"] = json!([{"name": secret}]);
    }
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": wish.namespace,
            "labels": labels,
            "ownerReferences": candidate.controller_owner_ref(&()).map(|owner| vec![owner]),
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds,
            "ttlSecondsAfterFinished": KEEP_SECONDS,
            "podReplacementPolicy": "Failed",
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    });
    // The literal above is a Job: a test walks every variant, so a mistake shows there and not here.
    serde_json::from_value(job).unwrap_or_default()
}
