//! A candidate whose BaseImage changes its mind: it waits for what is not known, and ends when it is not wanted.

use super::*;
use crate::{
    api::BaseImage,
    controllers::{
        candidate::observe::JobRef,
        desired::wanted::{Wanted, named},
    },
};
use serde_json::Value;

/// A BaseImage that wants the candidate of `candidate()`, with changes by JSON pointer.
fn base(changes: &[(&str, Value)]) -> BaseImage {
    let mut object = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
        "metadata": {"name": "debian-12", "namespace": "platform", "uid": "base", "generation": 3, "deletionTimestamp": null},
        "spec": {"suspend": false,
            "source": {"image": "up.local/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "hardened"}],
            "promote": {"repository": "r.local:5000/base", "channelTag": "12", "signing": {"keyRef": {"name": "key"}}}},
        "status": {"observedGeneration": 3, "candidate": {"name": "debian-12-0123456789ab", "step": "New"}}
    });
    for (at, value) in changes {
        *object.pointer_mut(at).unwrap() = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn made(name: &str, created: i64) -> ImageCandidate {
    let mut made = owned();
    made.metadata.name = Some(name.to_owned());
    made.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(created)));
    made
}

fn owned() -> ImageCandidate {
    let mut candidate = candidate();
    candidate.metadata.owner_references = Some(vec![
        serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "name": "debian-12", "uid": "base", "controller": true,
        }))
        .unwrap(),
    ]);
    candidate.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(2000)));
    candidate
}

#[test]
fn only_a_base_image_that_has_seen_its_own_spec_and_names_this_candidate_wants_it() {
    let other = [("/status/candidate/name", json!("debian-12-other"))];
    let (older, newer) = (made("debian-12-other", 1000), made("debian-12-other", 3000));
    let word = |base: Option<&BaseImage>, current: Option<&ImageCandidate>| match named(&owned(), base, current) {
        Wanted::Yes => "yes".to_owned(),
        Wanted::NotYetKnown { .. } => "wait".to_owned(),
        Wanted::Suspended => "suspended".to_owned(),
        Wanted::No { instead } => instead,
        Wanted::BaseImageGone { .. } => "gone".to_owned(),
    };
    let says = |changes: &[(&str, Value)], current: Option<&ImageCandidate>| word(Some(&base(changes)), current);
    assert_eq!(says(&[], None), "yes");
    assert_eq!(word(None, None), "gone");
    assert_eq!(
        says(&[("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))], None),
        "gone"
    );
    assert_eq!(says(&[("/metadata/uid", json!("another"))], None), "gone", "recreated");
    assert_eq!(says(&[("/spec/suspend", json!(true))], None), "suspended");
    assert_eq!(
        says(&[("/metadata/generation", json!(4))], None),
        "wait",
        "its status lags"
    );
    assert_eq!(says(&[("/status/candidate", json!(null))], None), "wait");
    assert_eq!(
        says(&other, Some(&older)),
        "wait",
        "the status is older than this candidate"
    );
    assert_eq!(says(&other, None), "wait", "the other one is not there");
    assert!(says(&other, Some(&newer)).starts_with("debian-12-other (tag 12"));
    let nobodys = candidate();
    assert!(matches!(
        named(&nobodys, Some(&base(&[])), None),
        Wanted::BaseImageGone { .. }
    ));
}

fn left(wanted: Wanted) -> Observed {
    Observed {
        stage: Stage::Unwanted {
            wanted,
            jobs: vec![JobRef {
                name: "repave-check-1".into(),
                uid: "j".into(),
            }],
        },
    }
}

/// On its way to production: nothing but the promotion is missing.
fn on_its_way() -> ImageCandidateStatus {
    let mut status = all_reported("");
    status.built_digest = Some(Digest::of(b"built"));
    status
}

#[test]
fn a_superseded_candidate_takes_back_its_jobs_and_says_what_is_wanted_instead() {
    let no = Wanted::No {
        instead: "debian-12-other (tag 12, upstream digest 0123456789ab)".into(),
    };
    let job = JobRef {
        name: "repave-check-1".into(),
        uid: "j".into(),
    };
    assert_eq!(
        planned_for(on_its_way(), left(no.clone()).stage),
        [Action::DeleteJob(job)]
    );
    let status = summarize(&left(no.clone()), &Applied::default(), Some(on_its_way()));
    assert_eq!(status.result, Some(CandidateResult::Superseded));
    let said = conditions::find(&status.conditions, "Stalled").unwrap();
    assert_eq!(said.reason, "Superseded");
    assert!(
        said.message.contains("BaseImage debian-12 wants debian-12-other"),
        "{}",
        said.message
    );
    let finished = Observed { stage: Stage::Finished };
    assert_eq!(
        summarize(&finished, &Applied::default(), Some(status.clone())),
        status,
        "it is final"
    );
}

#[test]
fn a_candidate_that_is_held_does_nothing_keeps_its_steps_and_is_never_promoted() {
    for wanted in [
        Wanted::Suspended,
        Wanted::NotYetKnown { why: "it lags".into() },
        Wanted::BaseImageGone {
            why: "it is gone".into(),
        },
    ] {
        let before = on_its_way();
        let held = Observed {
            stage: Stage::Unwanted {
                wanted: wanted.clone(),
                jobs: Vec::new(),
            },
        };
        assert_eq!(planned_for(before.clone(), held.stage.clone()), [], "{wanted:?}");
        let status = summarize(&held, &Applied::default(), Some(before.clone()));
        assert!(!status.result.is_some_and(CandidateResult::is_final), "{wanted:?}");
        for step in &Step::ALL[3..5] {
            assert!(conditions::is_true(&status.conditions, step.as_str()), "{wanted:?}");
        }
        if matches!(wanted, Wanted::NotYetKnown { .. }) {
            assert_eq!(status, before, "a lag writes nothing");
        }
        let first = summarize(&held, &Applied::default(), None);
        assert!(conditions::is_true(&first.conditions, "Reconciling"), "{wanted:?}");
    }
}

#[test]
fn a_waiver_wakes_only_the_newest_refused_candidate_of_each_base_image() {
    let one = |name: &str, base: &str, sequence, result| {
        let mut one = candidate();
        one.metadata.name = Some(name.to_owned());
        one.spec.base_image = base.to_owned();
        one.spec.sequence = sequence;
        one.status = Some(ImageCandidateStatus {
            result: Some(result),
            ..ImageCandidateStatus::default()
        });
        one
    };
    let (rejected, passed) = (CandidateResult::Rejected, CandidateResult::Passed);
    let all = [
        one("a-1", "a", 1, rejected),
        one("a-3", "a", 3, rejected),
        one("a-2", "a", 2, passed),
        one("b-1", "b", 1, rejected),
        one("b-2", "b", 2, passed),
    ];
    let woken = |namespace| -> Vec<String> {
        let woken = crate::controllers::candidate::newest_refused(all.iter(), Some(namespace));
        woken.map(kube::ResourceExt::name_any).collect()
    };
    assert_eq!(woken("platform"), ["a-3"]);
    assert_eq!(woken("other"), Vec::<String>::new());
}
