//! `openscap`: a SCAP profile over the candidate's files, which are an image volume or a copy; nothing of them is run.
//!
//! Must not mount anything secret beside the candidate: OpenSCAP follows links by plain path rules.

use super::{
    Subject,
    pod::{RUNNER, check_command, unprivileged, volumes},
};
use crate::{
    api::checks::{OpenscapCheck, TAILORING},
    runtime::args::CandidateRoot,
};
use serde_json::{Value, json};

/// Where the copy is in its volume.
const COPY: &str = "/stage/root";

/// The pod, with the candidate as the cluster can show it.
pub(super) fn pod(subject: &Subject<'_>, openscap: &OpenscapCheck) -> Value {
    match subject.settings.candidate_root {
        CandidateRoot::ImageVolume => image_volume(subject, openscap),
        CandidateRoot::Snapshot => snapshot(subject, openscap),
    }
}

/// The candidate as a read-only image volume, in a user namespace.
fn image_volume(subject: &Subject<'_>, openscap: &OpenscapCheck) -> Value {
    let reference = subject.validated.staging.at(subject.image).to_string();
    let mut volumes = volumes(subject.job, &["tmp"], None);
    if let Some(list) = volumes.as_array_mut() {
        list.push(json!({"name": "candidate", "image": {"reference": reference, "pullPolicy": "IfNotPresent"}}));
    }
    json!({
        "containers": [container(subject, openscap, "/candidate", &json!({"name": "candidate", "mountPath": "/candidate", "readOnly": true}))],
        "volumes": volumes,
        "hostUsers": false,
    })
}

/// A copy of the candidate's files. The kubelet pulls the image; the only program that runs in its container is our own
/// static runner, from a volume.
fn snapshot(subject: &Subject<'_>, openscap: &OpenscapCheck) -> Value {
    let tools = json!({"name": "tools", "mountPath": "/repave-tools"});
    let stage = json!({"name": "stage", "mountPath": "/stage"});
    let read_only = |mount: &Value| {
        let mut mount = mount.clone();
        mount["readOnly"] = json!(true);
        mount
    };
    json!({
        "initContainers": [
            {
                "name": "install",
                "image": subject.settings.tools_image.to_string(),
                "command": [RUNNER, "runner", "install", "/repave-tools"],
                "securityContext": unprivileged(),
                "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
                "volumeMounts": [tools],
            },
            {
                "name": "copy",
                "image": subject.validated.staging.at(subject.image).to_string(),
                "command": ["/repave-tools/repave", "runner", "snapshot", "/", COPY, "--except", "/repave-tools"],
                // What keeps owners, modes and file capabilities in the copy; all of Pod Security `baseline`.
                "securityContext": rights(&["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETFCAP"]),
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
                "volumeMounts": [read_only(&tools), stage],
            },
        ],
        "containers": [container(subject, openscap, COPY, &read_only(&stage))],
        "volumes": volumes(subject.job, &["tools", "stage", "tmp"], None),
    })
}

/// OpenSCAP over the candidate's root.
fn container(subject: &Subject<'_>, openscap: &OpenscapCheck, root: &str, candidate: &Value) -> Value {
    let Subject {
        settings, check, image, ..
    } = subject;
    let profile = openscap.profile.as_str();
    let datastream = openscap.data_stream.as_deref().unwrap_or("auto");
    let mut command = check_command(RUNNER, check, image);
    command.extend(["--root", root, "--datastream", datastream, "--profile", profile].map(String::from));
    if check.files.contains_key(TAILORING) {
        command.extend(["--tailoring".to_owned(), format!("/inputs/{TAILORING}")]);
    }
    json!({
        "name": "check",
        "image": settings.tools_image.to_string(),
        "command": command,
        // SYS_CHROOT: OpenSCAP reads the RPM database in a chroot, and aborts without; which OS it is, only the runner
        // sees. DAC_OVERRIDE: /etc/shadow has mode 0000 on RHEL, home folders have 0700, and what a rule may not read
        // it takes for empty. Pod Security `baseline` allows both; the candidate is mounted read-only.
        "securityContext": rights(&["DAC_OVERRIDE", "SYS_CHROOT"]),
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "1536Mi"}},
        "volumeMounts": [
            candidate,
            {"name": "inputs", "mountPath": "/inputs", "readOnly": true},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    })
}

/// Root with exactly these capabilities and a read-only root folder.
fn rights(capabilities: &[&str]) -> Value {
    json!({
        "runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false, "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"], "add": capabilities},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

#[cfg(test)]
mod tests;
