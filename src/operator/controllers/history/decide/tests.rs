use super::*;
use crate::{
    controllers::conditions,
    domain::promotion::{Entry, State},
};
use serde_json::{Value, json};

mod lost;

fn digest(content: u8) -> Digest {
    Digest::of(&[content])
}

fn production() -> Repository {
    "r.test/base/debian".parse().unwrap()
}

fn base(status: &Value, revoke: Option<&str>) -> BaseImage {
    let mut base: BaseImage = serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
        "metadata": {"name": "debian-12", "namespace": "platform", "uid": "u"},
        "spec": {"source": {"image": "up.test/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "hardened"}],
                 "promote": {"repository": "r.test/base/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
        "status": status,
    }))
    .unwrap();
    if let Some(revoke) = revoke {
        base.annotations_mut()
            .insert(ANNOTATION_REVOKE.to_owned(), revoke.to_owned());
    }
    base
}

fn candidate(sequence: u64, content: u8) -> ImageCandidate {
    serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
        "metadata": {"name": format!("debian-12-{sequence}"), "namespace": "platform"},
        "spec": {"baseImage": "debian-12", "sequence": sequence, "source": "up.test/debian", "sourceTag": "12",
                 "sourceDigest": digest(content + 100), "inputsHash": digest(0), "staging": "r.test/base/debian-staging",
                 "build": {}, "policies": [],
                 "promote": {"repository": "r.test/base/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
        "status": {"result": "Passed",
                   "promoted": {"repository": "r.test/base/debian", "digest": digest(content), "tag": format!("12-{content}"),
                                "chainId": digest(content + 200), "layers": 3, "at": "2026-01-05T00:00:00Z"},
                   "conditions": [{"type": "Promoted", "status": "True", "reason": "P", "message": "",
                                   "lastTransitionTime": "2026-01-05T00:00:00Z"}]}
    }))
    .unwrap()
}

fn now() -> Timestamp {
    "2026-02-01T00:00:00Z".parse().unwrap()
}

fn decided(base: &BaseImage, stored: Option<&Stored>, rebuild: &Rebuild, candidates: &[ImageCandidate]) -> Decided {
    let production = production();
    let known = Known {
        base,
        stored,
        rebuild,
        candidates,
        production: &production,
    };
    decide(known, now())
}

/// What the next look finds stored.
fn stored(decided: &Decided) -> Stored {
    let spec = decided.write.clone().unwrap();
    Stored::of(History::from(&spec), spec.searched)
}

fn done(entries: Vec<Entry>) -> Rebuild {
    Rebuild::Done {
        entries,
        unproven: 2,
        cut: false,
    }
}

fn said(decided: &Decided, rebuild: &Rebuild, type_: &str) -> Option<(String, String, String)> {
    let mut all = Conditions::from(&[], 1, now());
    decided.report(&mut all, rebuild, &production());
    let all = all.into_list();
    conditions::find(&all, type_).map(|one| (one.status.clone(), one.reason.clone(), one.message.clone()))
}

fn revoke(content: u8, lift: bool) -> String {
    json!([{"release": digest(content), "reason": "CVE-1", "by": "ann", "lift": lift}]).to_string()
}

#[test]
fn a_promotion_is_written_before_it_is_released_and_then_the_world_is_quiet() {
    let base = base(&json!(null), None);
    let candidates = [candidate(1, 1)];
    let nothing = decided(&base, None, &done(vec![]), &[]);
    assert_eq!((nothing.write.as_ref().unwrap().count, &nothing.released), (0, &None));
    let first = decided(&base, Some(&stored(&nothing)), &Rebuild::NotNeeded, &candidates);
    assert_eq!(first.write.as_ref().unwrap().releases.len(), 1);
    let released = first.released.clone().unwrap();
    assert_eq!((released.digest, released.sequence), (digest(1), 1));
    assert_eq!(first.events[0].message, "12-1 is released");
    // The next look, whether the status was written or not.
    let again = decided(&base, Some(&stored(&first)), &Rebuild::NotNeeded, &candidates);
    assert_eq!((again.write, again.events), (None, vec![]));
    assert_eq!(again.released, first.released);
}

#[test]
fn a_revoked_release_goes_back_and_says_who_and_why() {
    let candidates = [candidate(1, 1), candidate(2, 2)];
    let before = decided(&base(&json!(null), None), None, &done(vec![]), &candidates);
    let order = revoke(2, false);
    let after = decided(
        &base(&json!(null), Some(&order)),
        Some(&stored(&before)),
        &Rebuild::NotNeeded,
        &candidates,
    );
    let released = after.released.clone().unwrap();
    assert_eq!(
        (released.digest, released.sequence, released.candidate.as_str()),
        (digest(1), 3, "debian-12-1")
    );
    assert!(after.is_revoked(&digest(2)) && !after.is_revoked(&digest(1)));
    assert_eq!(after.revoked[0].by.as_deref(), Some("ann"));
    let (_, reason, message) = said(&after, &Rebuild::NotNeeded, RELEASE_REVOKED).unwrap();
    assert_eq!(reason, "Revoked");
    assert!(
        message.starts_with("12-2 was revoked by ann: CVE-1. 12-1 is released instead."),
        "{message}"
    );
    let reasons: Vec<&str> = after.events.iter().map(|notice| notice.reason).collect();
    assert_eq!(reasons, ["Revoked", "ReleasedAgain"]);
    // The annotation is taken off: nothing changes, and nothing is written.
    let off = decided(
        &base(&json!(null), None),
        Some(&stored(&after)),
        &Rebuild::NotNeeded,
        &candidates,
    );
    assert_eq!((off.write, off.released), (None, after.released));
}

#[test]
fn an_annotation_that_cannot_be_read_changes_nothing_and_says_why() {
    let candidates = [candidate(1, 1), candidate(2, 2)];
    let order = revoke(2, false);
    let revoked = decided(&base(&json!(null), Some(&order)), None, &done(vec![]), &candidates);
    for (annotation, reason, says) in [
        ("{", "Unreadable", "stays revoked"),
        (&revoke(9, false), "NotDone", "is no release of this base image"),
    ] {
        let base = base(&json!(null), Some(annotation));
        let next = decided(&base, Some(&stored(&revoked)), &Rebuild::NotNeeded, &candidates);
        assert_eq!(
            (next.write.is_none(), &next.released),
            (true, &revoked.released),
            "{annotation}"
        );
        let (status, found, message) = said(&next, &Rebuild::NotNeeded, REVOCATION_UNREADABLE).unwrap();
        assert_eq!((status.as_str(), found.as_str()), ("True", reason));
        assert!(message.contains(says), "{message}");
    }
    assert_eq!(said(&revoked, &Rebuild::NotNeeded, REVOCATION_UNREADABLE), None);
}

#[test]
fn a_registry_that_does_not_answer_holds_nothing_up_and_is_asked_again() {
    let failed = Rebuild::Failed {
        reason: "RegistryUnreachable",
        message: "no answer".to_owned(),
    };
    let first = decided(&base(&json!(null), None), None, &failed, &[candidate(1, 1)]);
    assert_eq!(first.released.clone().unwrap().digest, digest(1));
    assert_eq!(
        first.write.clone().unwrap().searched,
        None,
        "so it is looked through later"
    );
    let (status, reason, _) = said(&first, &failed, HISTORY_REBUILT).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "RegistryUnreachable"));
    let later = decided(
        &base(&json!(null), None),
        Some(&stored(&first)),
        &done(vec![]),
        &[candidate(1, 1)],
    );
    assert_eq!(later.write.unwrap().searched, Some(production()));
}

#[test]
fn a_base_image_that_is_made_again_knows_its_releases_and_starts_without_those_of_another_repository() {
    let before = decided(&base(&json!(null), None), None, &done(vec![]), &[candidate(1, 1)]);
    let again = decided(
        &base(&json!(null), None),
        Some(&stored(&before)),
        &Rebuild::NotNeeded,
        &[],
    );
    assert_eq!(again.released, before.released);
    let elsewhere: Repository = "r.test/other".parse().unwrap();
    let base = base(&json!(null), None);
    let stored = stored(&before);
    let known = Known {
        base: &base,
        stored: Some(&stored),
        rebuild: &Rebuild::NotNeeded,
        candidates: &[],
        production: &elsewhere,
    };
    assert_eq!(decide(known, now()).released, None);
}
