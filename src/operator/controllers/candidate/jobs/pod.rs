//! What the pods of all Jobs share: containers of our own, rights, volumes.

use super::{PlannedCheck, Subject, ValidatedCandidate};
use crate::{
    controllers::context::Settings,
    domain::{digest::Digest, inputs},
};
use serde_json::{Value, json};

/// Where the runner is in the tools and builder images.
pub(super) const RUNNER: &str = "/usr/local/bin/repave";
/// Where it is in the operator's own image.
pub(super) const OPERATOR: &str = "/repave";

/// The arguments that every check has; the runner's subcommand is the name of its kind.
pub(super) fn check_command(runner: &str, check: &PlannedCheck, image: &Digest) -> Vec<String> {
    let timeout = check.spec.timeout.get().as_secs().to_string();
    let words = [
        runner,
        "runner",
        check.spec.kind.name(),
        "--check",
        &check.name,
        "--image",
        image.as_str(),
        "--timeout",
        &timeout,
    ];
    let mut command: Vec<String> = words.map(String::from).into();
    command.extend(["--options", "/inputs/options.json", "--work", "/tmp"].map(String::from));
    // What is mounted there is compared with this before anything is examined.
    let inputs = inputs::digest(&super::files(check, &[]));
    command.extend(["--inputs".to_owned(), inputs.as_str().to_owned()]);
    command
}

/// What Pod Security `restricted` demands.
pub(super) fn unprivileged() -> Value {
    json!({
        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// A container of our own image.
pub(super) fn runner(settings: &Settings, name: &str, command: &[String], work: &Value) -> Value {
    json!({
        "name": name,
        "image": settings.runner_image.to_string(),
        "command": command,
        "securityContext": unprivileged(),
        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [work],
    })
}

/// Puts the runner, and what else the words say, where a container of another image finds it. The tools image sees no
/// credentials. A namespace with a quota admits no pod with a container that says nothing of its resources.
pub(super) fn install(settings: &Settings, words: &[&str]) -> Value {
    let command: Vec<&str> = [RUNNER, "runner", "install", "/repave-tools"]
        .iter()
        .chain(words)
        .copied()
        .collect();
    json!({
        "name": "install",
        "image": settings.tools_image.to_string(),
        "command": command,
        "securityContext": unprivileged(),
        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [{"name": "tools", "mountPath": "/repave-tools"}],
    })
}

/// The same container with the registry's peculiarities and, if there is one, the credentials.
pub(super) fn with_registry(mut container: Value, settings: &Settings, secret: Option<&str>) -> Value {
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
pub(super) fn volumes(inputs: &str, empty: &[&str], secret: Option<&str>) -> Value {
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

/// The container that brings an image of the staging repository into a folder of `/work`; it alone sees credentials.
pub(super) fn pull(validated: &ValidatedCandidate, settings: &Settings, image: &Digest, into: &str) -> Value {
    let reference = validated.staging.at(image).to_string();
    let words = [OPERATOR, "runner", "pull", "--image", &reference, "--out", into].map(String::from);
    let work = json!({"name": "work", "mountPath": "/work"});
    let container = runner(settings, "pull", &words, &work);
    with_registry(container, settings, validated.registry_secret.as_deref())
}

/// A pod over an OCI layout that the runner pulled; nothing of the candidate is executed.
pub(super) fn layout(subject: &Subject<'_>) -> Value {
    let Subject {
        validated,
        settings,
        check,
        image,
        job: name,
        ..
    } = subject;
    let mut command = check_command(RUNNER, check, image);
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
        "initContainers": [pull(validated, settings, image, "/work/image")],
        "containers": [container],
        "volumes": volumes(name, &["work", "tmp"], validated.registry_secret.as_deref()),
    })
}
