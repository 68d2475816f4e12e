use super::*;
use crate::{
    controllers::conditions,
    domain::promotion::{Entry, State},
};
use serde_json::{Value, json};

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
fn a_lost_history_is_rebuilt_from_the_registry_and_what_the_status_knows_stays_revoked() {
    let candidates = [candidate(1, 1), candidate(2, 2), candidate(3, 3)];
    let order = revoke(3, false);
    let before = decided(&base(&json!(null), Some(&order)), None, &done(vec![]), &candidates);
    let entries: Vec<Entry> = before
        .history
        .entries()
        .iter()
        .map(|entry| Entry {
            state: State::Superseded,
            ..entry.clone()
        })
        .collect();
    // All candidates were pruned; the status is there.
    let status = json!({"released": before.released, "revoked": before.revoked});
    let after = decided(&base(&status, None), None, &done(entries.clone()), &[]);
    assert_eq!(after.released.clone().unwrap().digest, digest(2));
    assert!(after.is_revoked(&digest(3)));
    let (status, reason, message) = said(&after, &done(entries.clone()), HISTORY_REBUILT).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Found"));
    assert!(
        message.starts_with("3 releases are proven") && message.contains("2 more tags"),
        "{message}"
    );
    assert_eq!(after.events[0].reason, HISTORY_REBUILT);
    // Restored without a status: the newest is out, and the annotation takes it back again.
    let bare = decided(&base(&json!(null), Some(&order)), None, &done(entries), &[]);
    assert_eq!(bare.released.unwrap().digest, digest(2));
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

/// The object is deleted, the candidates are pruned but perhaps that of what is released, and the registry throttles at the
/// first look.
#[test]
fn a_history_that_is_lost_while_the_registry_is_away_forgets_neither_the_release_nor_what_was_revoked() {
    let candidates = [candidate(1, 1), candidate(2, 2), candidate(3, 3)];
    let order = revoke(3, false);
    let before = decided(&base(&json!(null), Some(&order)), None, &done(vec![]), &candidates);
    // What is signed has the number of its candidate: going back signs nothing.
    let as_found = |entry: &Entry| {
        let made = |one: &&ImageCandidate| one.name_any() == entry.promotion.candidate;
        let mut promotion = entry.promotion.clone();
        promotion.sequence = candidates.iter().find(made).unwrap().spec.sequence;
        Entry {
            state: State::Superseded,
            promotion,
        }
    };
    let entries: Vec<Entry> = before.history.entries().iter().map(as_found).collect();
    let failed = Rebuild::Failed {
        reason: "RegistryUnreachable",
        message: "no answer".to_owned(),
    };
    for kept in [&[][..], &candidates[1..2]] {
        let status = json!({"released": before.released, "revoked": before.revoked});
        let first = decided(&base(&status, None), None, &failed, kept);
        assert_eq!(first.write, None, "what would be written knows less than the status");
        assert_eq!((&first.released, &first.revoked), (&before.released, &before.revoked));
        assert!(first.is_revoked(&digest(3)));
        let status = json!({"released": first.released, "revoked": first.revoked});
        let later = decided(&base(&status, None), None, &done(entries.clone()), kept);
        assert!(later.write.is_some() && later.is_revoked(&digest(3)), "{later:?}");
        assert_eq!(later.released.unwrap().digest, digest(2));
    }
}

/// Gone back and forth, then lost: the number of what is released must not fall, or older workloads look newer.
#[test]
fn a_history_that_is_lost_gives_the_release_no_smaller_number_than_the_status_says() {
    let candidates = [candidate(1, 1), candidate(2, 2)];
    let released = json!({"digest": digest(1), "repository": "r.test/base/debian", "tag": "12-1", "sourceDigest": digest(101),
        "candidate": "debian-12-1", "sequence": 7, "promotedAt": "2026-01-05T00:00:00Z"});
    let after = decided(
        &base(&json!({"released": released}), None),
        None,
        &done(vec![]),
        &candidates,
    );
    let out = after.released.unwrap();
    assert_eq!(out.digest, digest(1));
    assert!(out.sequence >= 7, "it was 7 and is {}", out.sequence);
}

fn as_signed(sequence: u64) -> Entry {
    let candidate = candidate(sequence, u8::try_from(sequence).unwrap());
    Entry {
        promotion: convert::promotion(&candidate).unwrap(),
        state: State::Superseded,
    }
}

fn shown(content: u8, sequence: u64) -> Value {
    json!({"digest": digest(content), "repository": "r.test/base/debian", "tag": format!("12-{content}"),
        "sourceDigest": digest(content + 100), "candidate": format!("debian-12-{content}"), "sequence": sequence,
        "promotedAt": "2026-01-05T00:00:00Z"})
}

fn taken_back(content: u8) -> Value {
    json!({"digest": digest(content), "repository": "r.test/base/debian", "tag": format!("12-{content}"), "at": "2026-01-06T00:00:00Z",
        "by": "ann", "reason": "CVE-1"})
}

/// review: the history is gone, and the registry is away or refuses to list its tags (for ever): an order to take the release back
/// is neither followed nor is anybody told.
#[test]
fn review_a_release_is_taken_back_also_while_the_history_is_lost_and_the_registry_is_away() {
    let failed = Rebuild::Failed {
        reason: "RegistryDenied",
        message: "tags are not listed for us".to_owned(),
    };
    let candidates = [candidate(1, 1), candidate(2, 2)];
    let status = json!({"released": shown(2, 2)});
    let order = revoke(2, false);
    let after = decided(&base(&status, Some(&order)), None, &failed, &candidates);
    let told = said(&after, &failed, REVOCATION_UNREADABLE).is_some();
    let out = after.released.clone().map(|released| released.digest);
    assert!(after.is_revoked(&digest(2)) || told, "the order is followed or refused");
    assert_ne!(out, Some(digest(2)), "what was ordered back stays out");
}

/// review: who revokes a release often deletes its tag, too. The history is lost later; the status still says what was taken back.
#[test]
fn review_what_the_status_says_was_revoked_stays_so_though_the_registry_has_no_tag_of_it() {
    let status = json!({"released": shown(2, 4), "revoked": [taken_back(3)]});
    let after = decided(&base(&status, None), None, &done(vec![as_signed(1), as_signed(2)]), &[]);
    assert_eq!(after.released.clone().unwrap().digest, digest(2));
    assert!(after.is_revoked(&digest(3)), "{:?}", after.revoked);
}

/// review: and then the same content is built again.
#[test]
fn review_what_the_status_says_was_revoked_is_not_released_again_after_the_history_was_lost() {
    let status = json!({"released": shown(2, 4), "revoked": [taken_back(3)]});
    let after = decided(&base(&status, None), None, &done(vec![as_signed(1), as_signed(2)]), &[]);
    let again = decided(
        &base(&status, None),
        Some(&stored(&after)),
        &Rebuild::NotNeeded,
        &[candidate(5, 3)],
    );
    assert_ne!(
        again.released.unwrap().digest,
        digest(3),
        "the revoked digest is released again"
    );
}

/// review: the history is lost; the registry does not prove what is released (a retention rule took its tag, the key was rotated
/// since, more tags than are looked at).
#[test]
fn review_a_release_that_the_registry_does_not_prove_is_not_replaced_by_an_older_one() {
    let status = json!({"released": shown(3, 3)});
    let after = decided(&base(&status, None), None, &done(vec![as_signed(1), as_signed(2)]), &[]);
    let out = after.released.clone().map(|out| (out.digest, out.sequence));
    assert_ne!(
        out.clone().map(|(digest, _)| digest),
        Some(digest(2)),
        "gone back without an order, with a number behind it: {out:?} {:?}",
        after.events
    );
}

/// review: a backup brings a status from before the newest releases; the registry knows them.
#[test]
fn review_what_is_out_is_newer_than_all_that_is_found_whether_or_not_its_candidate_is_there() {
    let candidates = [candidate(1, 1), candidate(2, 2), candidate(3, 3)];
    let found: Vec<Entry> = (1..=5).map(as_signed).collect();
    let status = json!({"released": shown(2, 2)});
    for kept in [&candidates[1..2], &[][..]] {
        let after = decided(&base(&status, None), None, &done(found.clone()), kept);
        let out = after.released.clone().unwrap();
        let entries = after.history.entries().iter();
        let newest = entries
            .filter(|one| one.revocation().is_none())
            .map(|one| one.promotion.sequence)
            .max();
        assert_eq!(
            Some(out.sequence),
            newest,
            "kept {}: workloads on 12-5 look newer than the release for ever",
            kept.len()
        );
    }
}

/// review: a candidate was promoted, and before its BaseImage has looked the history is lost.
#[test]
fn review_what_was_promoted_since_the_status_is_released_though_the_history_is_lost() {
    let candidates = [candidate(1, 1), candidate(2, 2), candidate(3, 3)];
    let status = json!({"released": shown(2, 2)});
    let after = decided(
        &base(&status, None),
        None,
        &done(vec![as_signed(1), as_signed(2)]),
        &candidates,
    );
    let again = decided(
        &base(&status, None),
        Some(&stored(&after)),
        &Rebuild::NotNeeded,
        &candidates,
    );
    for one in [after, again] {
        assert_eq!(
            one.released.unwrap().digest,
            digest(3),
            "a promoted candidate is forgotten for ever"
        );
    }
}
