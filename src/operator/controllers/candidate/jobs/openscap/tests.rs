//! Both pods: what each container may do, and what it sees.

use super::*;
use crate::{
    api::{ImageCandidate, checks::CheckKind},
    controllers::{
        candidate::{tests::settings, validate},
        context::Settings,
    },
    domain::digest::Digest,
};

fn made(candidate_root: CandidateRoot, openscap: &Value, files: &Value) -> Value {
    let candidate: ImageCandidate = serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate", "metadata": {"name": "c", "namespace": "n", "uid": "u"},
        "spec": {
            "baseImage": "b", "source": "up.local/debian", "sourceTag": "12", "sourceDigest": Digest::of(b"v1"),
            "inputsHash": Digest::of(b"i"), "staging": "r.local:5000/staging", "build": {},
            "policies": [{"name": "p", "files": {"cis": files}, "spec": {"checks": [{"name": "cis", "openscap": openscap}]}}],
            "promote": {"repository": "r.local:5000/base", "channelTag": "12", "signing": {"keyRef": {"name": "key"}}}
        }
    }))
    .unwrap();
    let validated = validate::validate(&candidate).unwrap();
    let settings = Settings {
        candidate_root,
        ..settings()
    };
    let check = &validated.checks[0];
    let CheckKind::Openscap(openscap) = &check.spec.kind else {
        panic!("another kind: {check:?}")
    };
    let subject = Subject {
        validated: &validated,
        settings: &settings,
        check,
        image: &Digest::of(b"built"),
        job: "job",
    };
    pod(&subject, openscap)
}

fn cis(candidate_root: CandidateRoot) -> Value {
    made(candidate_root, &json!({"profile": "cis_level1_server"}), &json!({}))
}

#[test]
fn the_pod_with_an_image_volume() {
    insta::assert_yaml_snapshot!(cis(CandidateRoot::ImageVolume));
}

#[test]
fn the_pod_with_a_copy() {
    insta::assert_yaml_snapshot!(cis(CandidateRoot::Snapshot));
}

#[test]
fn a_copy_needs_neither_an_image_volume_nor_a_user_namespace() {
    let pod = cis(CandidateRoot::Snapshot).to_string();
    assert!(!pod.contains("hostUsers") && !pod.contains("pullPolicy"), "{pod}");
}

#[test]
fn no_container_has_a_capability_that_pod_security_baseline_refuses() {
    let baseline = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETFCAP", "SYS_CHROOT"];
    for pod in [cis(CandidateRoot::ImageVolume), cis(CandidateRoot::Snapshot)] {
        let lists = ["containers", "initContainers"].map(|list| pod[list].as_array().cloned().unwrap_or_default());
        for container in lists.concat() {
            let context = &container["securityContext"];
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
            assert_eq!(context["allowPrivilegeEscalation"], json!(false));
            for added in context["capabilities"]["add"].as_array().into_iter().flatten() {
                assert!(baseline.contains(&added.as_str().unwrap()), "{added}");
            }
        }
    }
}

#[test]
fn a_named_data_stream_and_a_tailoring_reach_the_runner() {
    let openscap = json!({"profile": "stig", "dataStream": "ssg-rhel9-ds.xml", "tailoringRef": {"name": "t"}});
    let pod = made(
        CandidateRoot::ImageVolume,
        &openscap,
        &json!({"tailoring.xml": "<Tailoring/>"}),
    );
    let command = pod["containers"][0]["command"].to_string();
    assert!(
        command
            .contains(r#""--datastream","ssg-rhel9-ds.xml","--profile","stig","--tailoring","/inputs/tailoring.xml""#),
        "{command}"
    );
    let without = cis(CandidateRoot::ImageVolume)["containers"][0]["command"].to_string();
    assert!(
        without.contains(r#""--datastream","auto""#) && !without.contains("--tailoring"),
        "{without}"
    );
}
