//! `goss`: functional tests inside the candidate.

use super::{
    PlannedCheck, Subject,
    pod::{RUNNER, check_command, unprivileged, volumes},
};
use serde_json::{Value, json};

/// What the runner is told besides its arguments.
pub(super) fn options(check: &PlannedCheck) -> Value {
    json!({"minTests": check.gate.minimum_evaluated})
}

/// `goss`: runs inside the candidate, with the runner and Goss copied in. Its report is marked candidate-executed.
pub(super) fn pod(subject: &Subject<'_>) -> Value {
    let Subject {
        wish,
        settings,
        check,
        image,
        job: name,
        ..
    } = subject;
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
