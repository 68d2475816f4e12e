//! `openscap`: a SCAP profile over the candidate's files.

use super::{
    Subject,
    pod::{RUNNER, check_command, volumes},
};
use serde_json::{Value, json};

/// What the runner is told besides its arguments.
pub(super) fn options(subject: &Subject<'_>) -> Value {
    json!({"minEvaluated": subject.check.gate.minimum_evaluated, "env": subject.env})
}

/// `openscap`: the candidate as a read-only image volume, in a user namespace; nothing of it is executed.
pub(super) fn pod(subject: &Subject<'_>) -> Value {
    let Subject {
        wish,
        settings,
        check,
        image,
        job: name,
        ..
    } = subject;
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
