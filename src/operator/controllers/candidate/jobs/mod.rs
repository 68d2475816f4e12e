//! The Jobs of a candidate as data: what runs where, with which rights. Pure.
//!
//! Only our runner ever sees credentials; the container that runs instructions or code of the candidate has none, no
//! token, and nothing of the cluster mounted. Names are made of what decides the outcome, so creating twice is once.
//! One file per kind of pod; `pod` has what they share.

mod build;
mod container;
mod goss;
mod openscap;
mod pod;
mod same;
mod self_test;
mod vulnerabilities;

pub use build::build;
pub use same::{difference, difference_of_pod};
pub use self_test::{is_self_test, self_test, self_test_name};
pub use vulnerabilities::{Rescan, rescan};

use super::validate::{PlannedCheck, ValidatedCandidate};
use crate::{
    api::{
        ImageCandidate,
        checks::CheckKind,
        refs::{LABEL_BASE_IMAGE, LABEL_CANDIDATE, LABEL_CHECK},
    },
    controllers::context::Settings,
    domain::digest::Digest,
};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::Resource;
use repave_policy::ImageFacts;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a check's pod may take longer than its tool: scheduling and image pulls, in seconds.
const POD_SECONDS: u64 = 300;
/// Finished Jobs stay for a day, so that people can look at them.
const KEEP_SECONDS: u64 = 86_400;

/// The name of a candidate's build Job, without the attempt.
pub fn build_name(candidate: &str) -> String {
    format!("{candidate}-build")
}

/// The name of a check's Job, without the attempt.
pub fn check_name(key: &Digest) -> String {
    format!("repave-check-{}", &key.hex()[..20])
}

/// The name of the Job that evaluates a released image again, without the attempt.
pub fn rescan_name(key: &Digest) -> String {
    format!("repave-rescan-{}", &key.hex()[..20])
}

/// The name of one attempt.
pub fn attempt_name(name: &str, attempt: u32) -> String {
    if attempt == 1 {
        name.to_owned()
    } else {
        format!("{name}-{attempt}")
    }
}

/// What a check's pod is about.
struct Subject<'a> {
    validated: &'a ValidatedCandidate,
    settings: &'a Settings,
    check: &'a PlannedCheck,
    image: &'a Digest,
    /// The Job's name, and that of the ConfigMap with its inputs.
    job: &'a str,
}

/// The Job of one check.
pub fn check(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    settings: &Settings,
    check: &PlannedCheck,
    image: &Digest,
    env: &[String],
    attempt: u32,
) -> (ConfigMap, Job) {
    let name = attempt_name(&check_name(&check.key(image, &settings.tools_image)), attempt);
    let subject = Subject {
        validated,
        settings,
        check,
        image,
        job: &name,
    };
    let pod = match &check.spec.kind {
        CheckKind::Native(_) => pod::layout(&subject),
        CheckKind::Goss(goss) => goss::pod(&subject, goss),
        CheckKind::Openscap(openscap) => openscap::pod(&subject, openscap),
        CheckKind::Vulnerabilities(_) => vulnerabilities::pod(&subject),
        CheckKind::Container(container) => container::pod(&subject, container),
    };
    let files = files(check, env);
    let seconds = check.spec.timeout.get().as_secs() + POD_SECONDS;
    let labels = [
        (LABEL_CANDIDATE, validated.name.as_str()),
        (LABEL_CHECK, check.name.as_str()),
    ];
    (
        inputs(candidate, validated, &name, &files),
        job(candidate, validated, &name, &labels, seconds, pod),
    )
}

/// What a check's Job finds in its folder of inputs.
fn files(check: &PlannedCheck, env: &[String]) -> BTreeMap<String, String> {
    let mut files = check.files.clone();
    let options = check.options(&ImageFacts { env });
    files.insert("options.json".to_owned(), options.to_string());
    files
}

/// The inputs of a Job. They get their owner, the Job, when that is there.
fn inputs(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    name: &str,
    files: &BTreeMap<String, String>,
) -> ConfigMap {
    let mut map = ConfigMap {
        data: Some(files.clone()),
        immutable: Some(true),
        ..ConfigMap::default()
    };
    map.metadata.name = Some(name.to_owned());
    map.metadata.namespace = Some(validated.namespace.clone());
    map.metadata.labels = Some(labels_of(candidate, &[(LABEL_CANDIDATE, &validated.name)]));
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
    validated: &ValidatedCandidate,
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
    if let Some(secret) = &validated.registry_secret {
        pod["imagePullSecrets"] = json!([{"name": secret}]);
    }
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": validated.namespace,
            "labels": labels,
            "ownerReferences": candidate.controller_owner_ref(&()).map(|owner| vec![owner]),
        },
        "spec": {
            // Until its inputs are there.
            "suspend": true,
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

#[cfg(test)]
mod tests_goss_container;
