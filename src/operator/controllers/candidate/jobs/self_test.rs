//! The self-test of one tool: the tools image examines fixtures that the runner makes. No candidate, no credentials.

use super::{
    LABEL_CANDIDATE, Wish, attempt_name, inputs, job,
    pod::{RUNNER, unprivileged, volumes},
};
use crate::{
    api::{ImageCandidate, refs::LABEL_SELF_TEST},
    controllers::{candidate::observe::self_tests::SelfTest, context::Settings},
    domain::{digest::Digest, report::ToolName, self_test},
};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use serde_json::json;
use std::collections::BTreeMap;

/// How long a self-test may take, in seconds.
const SECONDS: u64 = 600;

/// The name of a self-test's Job, without the attempt.
pub fn self_test_name(key: &Digest) -> String {
    format!("repave-selftest-{}", &key.hex()[..20])
}

/// The Job. It belongs to the candidate that needed it first; others read it as well.
pub fn self_test(
    candidate: &ImageCandidate,
    wish: &Wish,
    settings: &Settings,
    test: &SelfTest,
    attempt: u32,
) -> (ConfigMap, Job) {
    let name = attempt_name(&self_test_name(&test.key(&settings.tools_image)), attempt);
    let tool = word(test.tool);
    let subject = self_test::subject();
    let words = [
        RUNNER,
        "runner",
        "self-test",
        "--tool",
        tool,
        "--check",
        self_test::CHECK,
        "--image",
    ];
    let mut command: Vec<String> = words.map(String::from).into();
    command.push(subject.as_str().to_owned());
    command.extend(
        [
            "--options",
            "/inputs/options.json",
            "--work",
            "/tmp",
            "--timeout",
            "300",
        ]
        .map(String::from),
    );
    let mut mounts = vec![
        json!({"name": "inputs", "mountPath": "/inputs", "readOnly": true}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    let mut volumes = volumes(&name, &["tmp"], None);
    if let (Some(database), Some(list)) = (&test.database, volumes.as_array_mut()) {
        let id = database.digest.as_ref().map(ToString::to_string).unwrap_or_default();
        command.extend(["--database".to_owned(), "/database".into(), "--database-id".into(), id]);
        mounts.push(json!({"name": "database", "mountPath": "/database", "readOnly": true}));
        let reference = database.to_string();
        list.push(json!({"name": "database", "image": {"reference": reference, "pullPolicy": "IfNotPresent"}}));
    }
    let pod = json!({
        "containers": [{
            "name": "check",
            "image": settings.tools_image.to_string(),
            "command": command,
            "securityContext": unprivileged(),
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1536Mi"}},
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    });
    let labels = [(LABEL_CANDIDATE, wish.name.as_str()), (LABEL_SELF_TEST, tool)];
    let files = BTreeMap::from([("options.json".to_owned(), "{}".to_owned())]);
    (
        inputs(candidate, wish, &name, &files),
        job(candidate, wish, &name, &labels, SECONDS, pod),
    )
}

/// The runner's word for the tool.
fn word(tool: ToolName) -> &'static str {
    match tool {
        ToolName::Native => "native",
        ToolName::Goss => "goss",
        ToolName::Openscap => "openscap",
        ToolName::Grype => "grype",
        ToolName::Trivy => "trivy",
        ToolName::Container => "container",
    }
}
