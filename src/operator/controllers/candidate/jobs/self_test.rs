//! The self-test of one tool: the tools image examines fixtures that the runner makes. No candidate, no credentials.

use super::{
    LABEL_BASE_IMAGE, ValidatedCandidate, attempt_name, inputs, job,
    pod::{RUNNER, unprivileged, volumes},
};
use crate::{
    api::{ImageCandidate, refs::LABEL_SELF_TEST},
    controllers::context::Settings,
    domain::{digest::Digest, image_ref::ImageRef, self_test, tool::ToolName},
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, LocalObjectReference},
};
use kube::ResourceExt;
use serde_json::json;
use std::collections::BTreeMap;

/// How long a self-test may take, in seconds.
const SECONDS: u64 = 600;

/// The name of a self-test's Job, without the attempt.
pub fn self_test_name(key: &Digest) -> String {
    format!("repave-selftest-{}", &key.hex()[..20])
}

/// The Job. It runs in the operator's own namespace, where no tenant can put something in its place, and belongs to nobody:
/// its report is about a tool and not about the candidate that needed it first.
pub fn self_test(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    settings: &Settings,
    (tool, database): (ToolName, Option<&ImageRef>),
    attempt: u32,
) -> (ConfigMap, Job) {
    let key = self_test::key(tool, &settings.tools_image, database);
    let name = attempt_name(&self_test_name(&key), attempt);
    let tool = tool.facts().word;
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
    if let (Some(database), Some(list)) = (database, volumes.as_array_mut()) {
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
    let labels = [(LABEL_SELF_TEST, tool)];
    let files = BTreeMap::from([("options.json".to_owned(), "{}".to_owned())]);
    let mut inputs = inputs(candidate, validated, &name, &files);
    let mut job = job(candidate, validated, &name, &labels, SECONDS, pod);
    // The names of a tenant's objects have no business here; the label is what limits are counted by.
    let labels = BTreeMap::from([
        (LABEL_BASE_IMAGE.to_owned(), "self-test".to_owned()),
        (LABEL_SELF_TEST.to_owned(), tool.to_owned()),
    ]);
    for metadata in [&mut inputs.metadata, &mut job.metadata] {
        metadata.namespace = Some(settings.namespace.clone());
        metadata.owner_references = None;
        metadata.labels = Some(labels.clone());
    }
    if let Some(spec) = &mut job.spec {
        let template = spec.template.metadata.get_or_insert_default();
        template.labels = Some(labels);
        if let Some(pod) = &mut spec.template.spec {
            let secrets = settings
                .pull_secrets
                .iter()
                .map(|name| LocalObjectReference { name: name.clone() });
            pod.image_pull_secrets = Some(secrets.collect());
        }
    }
    (inputs, job)
}

/// Whether a Job is a self-test that this operator made: only the operator and who administers its namespace write there.
pub fn is_self_test(job: &Job, tool: ToolName, settings: &Settings) -> bool {
    let image = settings.tools_image.to_string();
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    job.metadata.namespace.as_deref() == Some(settings.namespace.as_str())
        && job.labels().get(LABEL_SELF_TEST).map(String::as_str) == Some(tool.facts().word)
        && pod.is_some_and(|pod| {
            pod.containers
                .iter()
                .all(|container| container.image.as_ref() == Some(&image))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::{
        candidate::{tests::candidate, validate},
        testing::settings,
    };

    #[test]
    fn a_self_test_runs_in_our_own_namespace_and_is_believed_nowhere_else() {
        let (candidate, settings) = (candidate(), settings());
        let validated = validate::validate(&candidate).unwrap();
        let ours = self_test(&candidate, &validated, &settings, (ToolName::Native, None), 1).1;
        assert!(is_self_test(&ours, ToolName::Native, &settings));
        assert_eq!(ours.metadata.namespace.as_ref(), Some(&settings.namespace));
        assert!(!is_self_test(&ours, ToolName::Goss, &settings), "of another tool");
        let mut elsewhere = ours.clone();
        elsewhere.metadata.namespace = Some(validated.namespace.clone());
        let mut other_image = ours.clone();
        let pod = other_image
            .spec
            .as_mut()
            .and_then(|spec| spec.template.spec.as_mut())
            .unwrap();
        pod.containers[0].image = Some("evil.example/found-it-all".to_owned());
        for forged in [elsewhere, other_image] {
            assert!(
                !is_self_test(&forged, ToolName::Native, &settings),
                "{:?}",
                forged.metadata
            );
        }
    }
}
