//! Whether a run may start anything: every missing or wrong piece of the proof keeps the gate shut.

use super::{
    super::{
        gate::{Gate, gate, release},
        validate::{Validated, validate},
    },
    world::run,
};
use crate::{
    api::{BaseImage, ImageCandidate, RepavePlan},
    domain::{digest::Digest, lineage::Release},
};
use serde_json::{Value, json};

fn validated() -> Validated {
    validate(&run(&json!({}))).unwrap()
}

fn base_image(released: &Value) -> BaseImage {
    serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": "debian"},
        "spec": {"source": {"image": "r.test/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "p"}],
            "promote": {"repository": "registry.test/base/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
        "status": {"released": released},
    }))
    .unwrap()
}

/// The base image with the target of a run as its release.
pub fn base_image_of(v: &Validated) -> BaseImage {
    base_image(&released(&v.digest))
}

fn released(digest: &Digest) -> Value {
    json!({"digest": digest, "tag": "v3", "sourceDigest": digest, "candidate": "debian-v3", "sequence": 3, "promotedAt": "2026-01-01T00:00:00Z"})
}

/// The candidate of the run's target, with changes by JSON pointer.
fn candidate(changes: &[(&str, Value)]) -> ImageCandidate {
    let digest = Digest::of(b"v3");
    let mut object = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate", "metadata": {"name": "debian-v3"},
        "spec": {"baseImage": "debian", "sequence": 3, "source": "r.test/debian", "sourceTag": "12", "sourceDigest": digest,
            "inputsHash": digest, "staging": "registry.test/base/debian-staging", "build": {}, "policies": [],
            "promote": {"repository": "registry.test/base/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
        "status": {
            "promoted": {"repository": "registry.test/base/debian", "digest": digest, "tag": "v3", "chainId": digest,
                "layers": 1, "at": "2026-01-01T00:00:00Z"},
            "conditions": [{"type": "Promoted", "status": "True", "reason": "Promoted", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    for (path, value) in changes {
        *object.pointer_mut(path).unwrap() = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn plan(suspend: bool) -> RepavePlan {
    serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "RepavePlan", "metadata": {"name": "all"},
        "spec": {"baseImageRefs": [{"name": "debian"}], "suspend": suspend,
            "targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}}},
    }))
    .unwrap()
}

#[test]
fn only_a_whole_and_matching_proof_opens_the_gate() {
    let v = validated();
    let base = base_image(&released(&v.digest));
    let open = |candidate: Option<&ImageCandidate>| {
        gate(
            &v,
            Some(&plan(false)),
            Some(&base),
            candidate.map_or(&[], std::slice::from_ref),
            None,
        )
    };
    assert!(open(Some(&candidate(&[]))).is_open());
    for (name, change) in [
        ("not promoted", ("/status/conditions/0/status", json!("False"))),
        ("unknown", ("/status/conditions/0/status", json!("Unknown"))),
        ("another condition", ("/status/conditions/0/type", json!("Built"))),
        ("no record", ("/status/promoted", json!(null))),
        ("another digest", ("/status/promoted/digest", json!(Digest::of(b"v2")))),
        (
            "another repository",
            ("/status/promoted/repository", json!("registry.test/base/other")),
        ),
        ("another base image", ("/spec/baseImage", json!("alpine"))),
    ] {
        let shut = open(Some(&candidate(&[change])));
        assert!(
            matches!(
                shut,
                Gate::Shut {
                    reason: "NotPromoted",
                    ..
                }
            ),
            "{name}: {shut:?}"
        );
    }
    assert!(matches!(
        open(None),
        Gate::Shut {
            reason: "CandidateMissing",
            ..
        }
    ));
    assert_eq!(release(&candidate(&[])).unwrap().digest, v.digest);
}

#[test]
fn the_history_proves_a_target_whose_candidate_was_pruned_and_never_a_revoked_one() {
    let v = validated();
    let base = base_image(&released(&v.digest));
    let asked = |change: &dyn Fn(&mut Release)| {
        let mut recorded = release(&candidate(&[])).unwrap();
        change(&mut recorded);
        match gate(&v, Some(&plan(false)), Some(&base), &[], Some(&recorded)) {
            Gate::Open(_) => "Open",
            Gate::Shut { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asked(&|_| {}), "Open");
    assert_eq!(asked(&|one| one.revoked = true), "Revoked");
    assert_eq!(asked(&|one| one.base_image = "alpine".to_owned()), "CandidateMissing");
    assert_eq!(asked(&|one| one.digest = Digest::of(b"v2")), "CandidateMissing");
    assert_eq!(
        asked(&|one| one.repository = "registry.test/base/other".parse().unwrap()),
        "CandidateMissing"
    );
    // The candidate alone is no proof against a revocation.
    let mut revoked = release(&candidate(&[])).unwrap();
    revoked.revoked = true;
    let shut = gate(&v, Some(&plan(false)), Some(&base), &[candidate(&[])], Some(&revoked));
    assert!(matches!(shut, Gate::Shut { reason: "Revoked", .. }), "{shut:?}");
}

#[test]
fn a_missing_order_a_newer_release_and_a_suspension_are_told_apart() {
    let v = validated();
    let proof = candidate(&[]);
    let current = base_image(&released(&v.digest));
    let newer = base_image(&released(&Digest::of(b"v4")));
    let mut same_digest_again = released(&v.digest);
    same_digest_again["sequence"] = json!(4);
    let again = base_image(&same_digest_again);
    let nothing = base_image(&json!(null));
    let reason = |plan: Option<&RepavePlan>, base: Option<&BaseImage>| match gate(
        &v,
        plan,
        base,
        std::slice::from_ref(&proof),
        None,
    ) {
        Gate::Open(_) => "Open".to_owned(),
        Gate::Suspended => "Suspended".to_owned(),
        Gate::Superseded { by } => by.short().to_owned(),
        Gate::Shut { reason, .. } | Gate::Ended { reason, .. } => reason.to_owned(),
    };
    let (go, stop) = (plan(false), plan(true));
    assert_eq!(reason(Some(&go), Some(&current)), "Open");
    assert_eq!(reason(Some(&stop), Some(&current)), "Suspended");
    assert_eq!(reason(None, Some(&current)), "PlanMissing");
    assert_eq!(reason(Some(&go), None), "BaseImageMissing");
    let mut taken = current.clone();
    let condition = json!([{"type": "RepositoryOwned", "status": "False", "reason": "RepositoryTaken", "message": "another's",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    taken.status.as_mut().unwrap().conditions = serde_json::from_value(condition).unwrap();
    assert_eq!(reason(Some(&go), Some(&taken)), "RepositoryTaken");
    assert_eq!(reason(Some(&go), Some(&nothing)), "NotReleased");
    assert_eq!(reason(Some(&go), Some(&again)), v.digest.short());
    assert_eq!(reason(Some(&stop), Some(&newer)), Digest::of(b"v4").short());
}

#[test]
fn what_todays_policy_rejects_is_not_moved_to_any_more() {
    let v = validated();
    let reason = |changes: &[(&str, Value)], named: &str| {
        let mut today = candidate(&[
            ("/metadata/name", json!("debian-v3-strict")),
            ("/spec/sequence", json!(4)),
        ]);
        let mut object = serde_json::to_value(&today).unwrap();
        object["status"] = json!({"result": "Rejected"});
        for (path, value) in changes {
            *object.pointer_mut(path).unwrap() = value.clone();
        }
        today = serde_json::from_value(object).unwrap();
        let mut base = base_image(&released(&v.digest));
        let asked = json!({"name": named, "sequence": 4, "step": "Rejected"});
        base.status.as_mut().unwrap().candidate = serde_json::from_value(asked).unwrap();
        match gate(&v, Some(&plan(false)), Some(&base), &[candidate(&[]), today], None) {
            Gate::Open(_) => "Open",
            Gate::Shut { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    };
    let strict = "debian-v3-strict";
    assert_eq!(reason(&[], strict), "RefusedToday");
    // It is still being judged, could not be judged, or was given up: nothing is known against the release.
    for result in ["Running", "Waiting", "Error", "Superseded"] {
        assert_eq!(reason(&[("/status/result", json!(result))], strict), "Open", "{result}");
    }
    // Another image, another base image, or one that is not asked for any more.
    assert_eq!(
        reason(&[("/spec/sourceDigest", json!(Digest::of(b"v4")))], strict),
        "Open"
    );
    assert_eq!(reason(&[("/spec/baseImage", json!("alpine"))], strict), "Open");
    assert_eq!(reason(&[], "debian-v3"), "Open");
    let as_built = [
        ("/spec/sourceDigest", json!(Digest::of(b"v4"))),
        ("/status", json!({"result": "Rejected", "builtDigest": v.digest})),
    ];
    assert_eq!(reason(&as_built, strict), "RefusedToday");
}
