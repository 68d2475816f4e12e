//! `container`: an image and command of the user's own.
//!
//! Its container has the candidate's OCI layout (read-only), a folder for the result and one for temporary files; no
//! credentials, no token, no rights. Our runner pulls the layout before it starts, and is copied next to it to run it.

use super::{
    Subject,
    pod::{check_command, install, pull, unprivileged, volumes},
};
use crate::api::checks::{ContainerCheck, ResultFormat};
use serde_json::{Value, json};

/// Pull (runner, credentials), install (the runner into a folder), check (the user's image).
pub(super) fn pod(subject: &Subject<'_>, container: &ContainerCheck) -> Value {
    let mut volumes = volumes(
        subject.job,
        &["work", "tools", "tmp"],
        subject.validated.registry_secret.as_deref(),
    );
    if let Some(list) = volumes.as_array_mut() {
        list.push(json!({"name": "result", "emptyDir": {"sizeLimit": "64Mi"}}));
    }
    json!({
        "initContainers": [pull(subject.validated, subject.settings, subject.image, "/work/image"), install(subject.settings, &["--without-goss"])],
        "containers": [{
            "name": "check",
            "image": container.image,
            "command": command(subject, container),
            "securityContext": unprivileged(),
            "resources": {"requests": {"cpu": "250m", "memory": "128Mi"}, "limits": {"memory": "2Gi"}},
            "volumeMounts": [
                {"name": "work", "mountPath": "/work", "readOnly": true},
                {"name": "tools", "mountPath": "/repave-tools", "readOnly": true},
                {"name": "inputs", "mountPath": "/inputs", "readOnly": true},
                {"name": "result", "mountPath": "/result"},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        }],
        "volumes": volumes,
    })
}

fn command(subject: &Subject<'_>, container: &ContainerCheck) -> Vec<String> {
    let mut command = check_command("/repave-tools/repave", subject.check, subject.image);
    let format = match container.result {
        ResultFormat::ExitCode => "exit-code",
        ResultFormat::JUnit => "junit",
        ResultFormat::Sarif => "sarif",
        ResultFormat::Repave => "repave",
    };
    command.extend(["--result-format", format, "--result", "/result/result", "--"].map(String::from));
    // The kubelet expands `$(NAME)` and makes `$` of `$$`; the command is to arrive as it was written.
    command.extend(container.command.iter().map(|word| word.replace('$', "$$")));
    command
}
