//! `goss`: functional tests inside the candidate.

use super::{
    Subject,
    pod::{RUNNER, check_command, install, volumes},
};
use crate::api::checks::{GOSS_VARIABLES, GOSSFILE, GossCheck, GossMode};
use serde_json::{Value, json};

/// Where the candidate's root directory is in mode Chroot.
const ROOT: &str = "/candidate";
/// The folder of the candidate over which an empty one is mounted, with our tools and inputs in it: every distribution
/// has it (FHS 3.0, 3.18). In mode InImage it is an empty folder too.
const FOLDER: &str = "/candidate/tmp";
/// Empty in every image; a plain file stands for its `null`, because nobody but the node may make a device.
const DEVICES: &str = "/candidate/dev";

/// `goss`: its report is marked candidate-executed, in both modes.
pub(super) fn pod(subject: &Subject<'_>, goss: &GossCheck) -> Value {
    match goss.mode {
        GossMode::InImage => in_image(subject),
        GossMode::Chroot => in_chroot(subject),
    }
}

/// A container of the candidate, with the runner and Goss copied in.
fn in_image(subject: &Subject<'_>) -> Value {
    let mut command = check_command("/repave-tools/repave", subject.check, subject.image);
    command.extend(inputs(subject, "/repave-tools", "/inputs"));
    json!({
        "initContainers": [install(subject.settings, &[])],
        "containers": [{
            "name": "check",
            "image": subject.validated.staging.at(subject.image).to_string(),
            "command": command,
            "securityContext": security(&json!({"drop": ["ALL"]})),
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
            "volumeMounts": [
                {"name": "tools", "mountPath": "/repave-tools", "readOnly": true},
                {"name": "inputs", "mountPath": "/inputs", "readOnly": true},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        }],
        "volumes": volumes(subject.job, &["tools", "tmp"], None),
        "hostUsers": false,
    })
}

/// A container of the tools, with the candidate as a read-only image volume. Goss is not linked statically, so its
/// loader and libraries must be reachable below the candidate's root: volumes are mounted inside its `/tmp`.
fn in_chroot(subject: &Subject<'_>) -> Value {
    let (tools, given) = (format!("{FOLDER}/.repave-tools"), format!("{FOLDER}/.repave-inputs"));
    let mut command = check_command(RUNNER, subject.check, subject.image);
    command.extend(["--root", ROOT].map(String::from));
    command.extend(inputs(subject, &tools, &given));
    let candidate = json!({"name": "candidate", "mountPath": ROOT, "readOnly": true});
    let mut install = install(subject.settings, &[]);
    let more = [
        "--expect-folder",
        FOLDER,
        "--expect-folder",
        DEVICES,
        "--null-file",
        "/repave-dev/null",
    ];
    push(&mut install["command"], more.map(Value::from));
    let devices = json!({"name": "dev", "mountPath": "/repave-dev"});
    push(&mut install["volumeMounts"], [candidate.clone(), devices]);
    let mut volumes = volumes(subject.job, &["tools", "tmp", "folder", "dev"], None);
    let reference = subject.validated.staging.at(subject.image).to_string();
    let image = json!({"reference": reference, "pullPolicy": "IfNotPresent"});
    push(&mut volumes, [json!({"name": "candidate", "image": image})]);
    json!({
        "initContainers": [install],
        "containers": [{
            "name": "check",
            "image": subject.settings.tools_image.to_string(),
            "command": command,
            // Given up before Goss starts; Pod Security `baseline` allows it.
            "securityContext": security(&json!({"drop": ["ALL"], "add": ["SYS_CHROOT"]})),
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
            "volumeMounts": [
                candidate,
                {"name": "dev", "mountPath": DEVICES},
                {"name": "folder", "mountPath": FOLDER},
                {"name": "tools", "mountPath": tools, "readOnly": true},
                {"name": "inputs", "mountPath": given, "readOnly": true},
                {"name": "inputs", "mountPath": "/inputs", "readOnly": true},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        }],
        "volumes": volumes,
        "hostUsers": false,
    })
}

/// Where Goss, the gossfile and its variables are.
fn inputs(subject: &Subject<'_>, tools: &str, given: &str) -> Vec<String> {
    let mut args = vec!["--goss".to_owned(), format!("{tools}/goss")];
    args.extend(["--gossfile".to_owned(), format!("{given}/{GOSSFILE}")]);
    if subject.check.files.contains_key(GOSS_VARIABLES) {
        args.extend(["--vars".to_owned(), format!("{given}/{GOSS_VARIABLES}")]);
    }
    args
}

/// Root of a user namespace: reads what root owns, and may do nothing else but what is added.
fn security(capabilities: &Value) -> Value {
    json!({
        "runAsUser": 0, "runAsGroup": 0, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": capabilities, "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn push<const N: usize>(list: &mut Value, more: [Value; N]) {
    if let Some(list) = list.as_array_mut() {
        list.extend(more);
    }
}
