//! When a run is made, and what a plan says.

use super::{
    observe::{Base, Observed, Released, is_run_of, released},
    plan::{Action, plan, run, run_name},
    status::summarize,
    validate::validate,
};
use crate::{
    api::{BaseImage, RepavePlan, RepaveRun},
    controllers::conditions,
    domain::{digest::Digest, lineage::Release},
};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

fn release(tag: &str) -> Release {
    Release {
        base_image: "debian".to_owned(),
        candidate: format!("debian-{tag}"),
        repository: "registry.test/base/debian".parse().unwrap(),
        digest: Digest::of(tag.as_bytes()),
        tag: tag.to_owned(),
        chain_id: Digest::of(b"chain"),
        layers: 1,
        sequence: 2,
        promoted_at: Timestamp::from_second(1).unwrap(),
        revoked: false,
    }
}

fn a_plan(spec: &Value) -> RepavePlan {
    let mut object = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "RepavePlan",
        "metadata": {"name": "all", "namespace": "platform", "uid": "plan-uid", "generation": 1},
        "spec": {"baseImageRefs": [{"name": "debian"}], "targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}}},
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn observed(release: Released, outdated: Option<usize>, runs: Vec<RepaveRun>) -> Observed {
    Observed {
        bases: vec![Base {
            name: "debian".to_owned(),
            release,
            outdated,
            incomplete: false,
        }],
        runs,
    }
}

fn made(plan_: &RepavePlan, observed: &Observed) -> Vec<RepaveRun> {
    plan(plan_, observed)
        .into_iter()
        .map(|Action::CreateRun(run)| *run)
        .collect()
}

#[test]
fn a_proven_release_that_something_waits_for_gets_one_run_with_a_name_of_its_digest() {
    let plan = a_plan(&json!({}));
    let runs = made(&plan, &observed(Released::Proven(release("v2")), Some(3), vec![]));
    let [run] = runs.as_slice() else { panic!("{runs:?}") };
    let which = Digest::of(b"debian/2");
    let name = format!("all-{}-{}", Digest::of(b"v2").short(), &which.hex()[..8]);
    assert_eq!(run.name_any(), name);
    assert_eq!(run.spec.sequence, 2);
    let owner = &run.owner_references()[0];
    assert_eq!(
        (owner.uid.as_str(), owner.controller, owner.block_owner_deletion),
        ("plan-uid", Some(true), Some(true))
    );
    assert_eq!(
        (run.spec.candidate.as_str(), &run.spec.digest),
        ("debian-v2", &Digest::of(b"v2"))
    );
    assert_eq!(run.spec.waves, plan.spec.waves);
    assert_eq!(
        made(&plan, &observed(Released::Proven(release("v2")), Some(3), vec![])),
        runs,
        "the same name every time"
    );
}

#[test]
fn the_same_digest_gets_a_run_for_each_release_and_for_each_base_image() {
    let plan = a_plan(&json!({}));
    let first = release("v2");
    let again = Release {
        sequence: 4,
        ..first.clone()
    };
    let elsewhere = Release {
        base_image: "bookworm".to_owned(),
        ..first.clone()
    };
    let names: std::collections::BTreeSet<_> = [&first, &again, &elsewhere].map(|r| run_name(&plan, r)).into();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| name.len() <= 62), "{names:?}");
    let first_run = run(&plan, &first).unwrap();
    assert!(is_run_of(&first_run, &first));
    assert!(!is_run_of(&first_run, &again) && !is_run_of(&first_run, &elsewhere));
    let current = observed(Released::Proven(again), Some(1), vec![first_run]);
    assert_eq!(
        made(&plan, &current).len(),
        1,
        "the run of the release before is not its run"
    );
}

#[test]
fn a_release_that_a_later_candidate_proves_again_keeps_its_place() {
    let v2 = release("v2");
    let again = Release {
        candidate: "debian-again".to_owned(),
        sequence: 7,
        ..v2.clone()
    };
    let base: BaseImage = serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": "debian"},
        "spec": {"source": {"image": "r.test/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "p"}],
            "promote": {"repository": "registry.test/base/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
        "status": {"released": {"digest": v2.digest, "tag": "v2", "sourceDigest": v2.digest, "candidate": "debian-again",
            "sequence": 2, "promotedAt": "2026-01-01T00:00:00Z"}},
    }))
    .unwrap();
    let Released::Proven(found) = released(Some(&base), &[v2, again]) else {
        panic!("not proven")
    };
    assert_eq!((found.candidate.as_str(), found.sequence), ("debian-again", 2));
}

#[test]
fn no_run_is_made_without_proof_without_need_or_while_suspended() {
    let (plan, suspended) = (a_plan(&json!({})), a_plan(&json!({"suspend": true})));
    let proven = || Released::Proven(release("v2"));
    let unproven = Released::Unproven {
        candidate: "debian-v2".to_owned(),
    };
    for (name, plan, observed) in [
        ("nothing outdated", &plan, observed(proven(), Some(0), vec![])),
        (
            "not counted, because it has a run",
            &plan,
            observed(proven(), None, vec![]),
        ),
        ("unproven", &plan, observed(unproven, Some(1), vec![])),
        ("missing", &plan, observed(Released::Missing, None, vec![])),
        ("nothing released", &plan, observed(Released::Nothing, None, vec![])),
        ("suspended", &suspended, observed(proven(), Some(1), vec![])),
    ] {
        assert_eq!(made(plan, &observed), [], "{name}");
    }
}

#[test]
fn a_release_is_proven_by_its_own_candidate_with_its_own_digest_only() {
    let base = |candidate: &str, digest: &Digest| -> BaseImage {
        serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": "debian"},
            "spec": {"source": {"image": "r.test/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "p"}],
                "promote": {"repository": "registry.test/base/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
            "status": {"released": {"digest": digest, "tag": "v2", "sourceDigest": digest, "candidate": candidate,
                "sequence": 2, "promotedAt": "2026-01-01T00:00:00Z"}},
        }))
        .unwrap()
    };
    let v2 = release("v2");
    let foreign = Release {
        base_image: "alpine".to_owned(),
        ..v2.clone()
    };
    let known = [v2.clone(), release("v1")];
    assert_eq!(
        released(Some(&base("debian-v2", &v2.digest)), &known),
        Released::Proven(v2.clone())
    );
    for (candidate, digest, known) in [
        ("debian-v1", &v2.digest, known.as_slice()),
        ("debian-v2", &release("v1").digest, known.as_slice()),
        ("debian-v2", &v2.digest, &[foreign]),
        ("debian-v2", &v2.digest, &[]),
    ] {
        let unproven = Released::Unproven {
            candidate: candidate.to_owned(),
        };
        assert_eq!(released(Some(&base(candidate, digest)), known), unproven);
    }
    assert_eq!(released(None, &known), Released::Missing);
    let mut taken = base("debian-v2", &v2.digest);
    let condition = json!([{"type": "RepositoryOwned", "status": "False", "reason": "RepositoryTaken", "message": "another's",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    taken.status.as_mut().unwrap().conditions = serde_json::from_value(condition).unwrap();
    assert!(matches!(released(Some(&taken), &known), Released::NotOwned { .. }));
}

#[test]
fn a_plan_says_how_its_run_stands_and_an_unchanged_world_changes_nothing() {
    let now = Timestamp::from_second(9).unwrap();
    let mut plan = a_plan(&json!({}));
    let before = observed(Released::Proven(release("v2")), Some(3), vec![]);
    let runs = made(&plan, &before);
    let first = summarize(&plan, &before, &runs, now);
    assert_eq!(first.status.run.as_deref(), Some(runs[0].name_any().as_str()));
    assert_eq!(first.notices.len(), 1);
    plan.status = Some(first.status.clone());
    let after = observed(Released::Proven(release("v2")), None, runs.clone());
    let second = summarize(&plan, &after, &runs, now + jiff::SignedDuration::from_secs(60));
    assert_eq!((&second.status, second.notices.len()), (&first.status, 0));
    let ready = conditions::find(&second.status.conditions, "Ready").unwrap();
    assert_eq!(ready.reason, "RunActive");
}

#[test]
fn a_plan_that_would_make_a_bad_run_makes_none() {
    let wave = |field: Value| json!({"waves": [{"name": "a", "maxConcurrent": 1}, field]});
    for spec in [
        json!({"targets": {"namespaceSelector": {}}}),
        json!({"targets": {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}}),
        json!({"onFailure": {"budget": "many"}}),
        wave(json!({"name": "b", "percent": 0})),
        wave(json!({"name": "b", "maxConcurrent": "x%"})),
        wave(json!({"name": "b", "selector": {"matchExpressions": [{"key": "a", "operator": ""}]}})),
    ] {
        let error = validate(&a_plan(&spec)).unwrap_err().to_string();
        assert!(error.contains(": ") || error.contains("must be"), "{error}");
    }
    assert_eq!(validate(&a_plan(&json!({}))).unwrap().base_images, ["debian"]);
}
