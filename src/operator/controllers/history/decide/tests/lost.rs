//! What a base image decides when its history is gone: its status, its candidates and the production repository are left.

use super::*;

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

/// The history is gone, and the registry is away or refuses to list its tags (for ever): an order to take the release back
/// is neither followed nor is anybody told.
#[test]
fn a_release_is_taken_back_also_while_the_history_is_lost_and_the_registry_is_away() {
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

/// Who revokes a release often deletes its tag, too. The history is lost later; the status still says what was taken back.
#[test]
fn what_the_status_says_was_revoked_stays_so_though_the_registry_has_no_tag_of_it() {
    let status = json!({"released": shown(2, 4), "revoked": [taken_back(3)]});
    let after = decided(&base(&status, None), None, &done(vec![as_signed(1), as_signed(2)]), &[]);
    assert_eq!(after.released.clone().unwrap().digest, digest(2));
    assert!(after.is_revoked(&digest(3)), "{:?}", after.revoked);
}

/// And then the same content is built again.
#[test]
fn what_the_status_says_was_revoked_is_not_released_again_after_the_history_was_lost() {
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

/// The history is lost; the registry does not prove what is released (a retention rule took its tag, the key was rotated
/// since, more tags than are looked at).
#[test]
fn a_release_that_the_registry_does_not_prove_is_not_replaced_by_an_older_one() {
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

/// A backup brings a status from before the newest releases; the registry knows them.
#[test]
fn what_is_out_is_newer_than_all_that_is_found_whether_or_not_its_candidate_is_there() {
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

/// A candidate was promoted, and before its BaseImage has looked the history is lost.
#[test]
fn what_was_promoted_since_the_status_is_released_though_the_history_is_lost() {
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

fn refuses() -> Rebuild {
    Rebuild::Refused {
        reason: "RegistryRefused",
        message: "it answered 405 to list_tags".to_owned(),
    }
}

fn away() -> Rebuild {
    Rebuild::Failed {
        reason: "RegistryUnreachable",
        message: "no answer".to_owned(),
    }
}

#[test]
fn a_registry_that_never_lists_its_tags_is_not_waited_for_and_is_asked_again() {
    let status = json!({"released": shown(2, 2), "revoked": [taken_back(3)]});
    let first = decided(&base(&status, None), None, &refuses(), &[]);
    let written = first
        .write
        .clone()
        .expect("candidates wait for a history that is written");
    assert_eq!((written.count, written.unlisted.len(), written.searched), (1, 1, None));
    let (truth, reason, message) = said(&first, &refuses(), HISTORY_REBUILT).unwrap();
    assert_eq!((truth.as_str(), reason.as_str()), ("False", "RegistryRefused"));
    assert!(message.contains("nothing waits for them"), "{message}");
    let again = decided(&base(&status, None), Some(&stored(&first)), &refuses(), &[]);
    assert_eq!((again.write, again.events), (None, vec![]));
    // It lists them after all: what runs on the release is recognised by its layers then.
    let later = decided(
        &base(&status, None),
        Some(&stored(&first)),
        &done(vec![as_signed(1), as_signed(2)]),
        &[],
    );
    assert_eq!(later.released.clone().unwrap().digest, digest(2));
    let entry = later.history.released().unwrap();
    assert_eq!(
        (entry.promotion.layers, &entry.promotion.chain_id),
        (3, &Some(digest(202)))
    );
    assert!(later.is_revoked(&digest(3)));
}

#[test]
fn what_is_decided_while_the_registry_is_away_is_decided_once_and_stands_when_it_is_back() {
    let candidates = [candidate(1, 1), candidate(2, 2)];
    let order = revoke(2, false);
    let first = decided(
        &base(&json!({"released": shown(2, 2)}), Some(&order)),
        None,
        &away(),
        &candidates,
    );
    let reasons: Vec<&str> = first.events.iter().map(|event| event.reason).collect();
    assert_eq!((first.write.clone(), reasons), (None, vec!["Revoked", "ReleasedAgain"]));
    let status = json!({"released": first.released, "revoked": first.revoked});
    let second = decided(&base(&status, Some(&order)), None, &away(), &candidates);
    assert_eq!(
        (second.events.clone(), &second.released, &second.revoked),
        (vec![], &first.released, &first.revoked)
    );
    let back = decided(&base(&status, None), None, &done(vec![as_signed(1), as_signed(2)]), &[]);
    assert_eq!(back.released, first.released);
    assert!(back.write.is_some() && back.is_revoked(&digest(2)));
}

#[test]
fn an_order_about_a_release_that_nobody_knows_while_the_history_is_lost_says_that_it_is() {
    let status = json!({"released": shown(2, 2)});
    let after = decided(&base(&status, Some(&revoke(1, false))), None, &away(), &[]);
    let (_, reason, message) = said(&after, &away(), REVOCATION_UNREADABLE).unwrap();
    assert_eq!(reason, "NotDone");
    assert!(message.contains("is lost and not rebuilt yet"), "{message}");
}

#[test]
fn more_than_a_status_can_show_is_written_though_the_registry_is_away() {
    let revoked: Vec<Value> = (100..120).map(taken_back).collect();
    let status = json!({"released": shown(2, 2), "revoked": revoked});
    let candidates = [candidate(1, 1), candidate(2, 2)];
    let fits = decided(&base(&status, None), None, &away(), &candidates);
    assert_eq!((fits.write, fits.revoked.len()), (None, 20));
    let more = decided(&base(&status, Some(&revoke(2, false))), None, &away(), &candidates);
    assert_eq!(more.revoked.len(), 20);
    assert_eq!(stored(&more).history.revoked().count(), 21);
}

#[test]
fn a_revocation_of_which_nothing_else_is_known_is_lifted_like_any_other() {
    let status = json!({"released": shown(2, 4), "revoked": [taken_back(3)]});
    let before = decided(&base(&status, None), None, &done(vec![as_signed(2)]), &[]);
    let lifted = decided(
        &base(&status, Some(&revoke(3, true))),
        Some(&stored(&before)),
        &Rebuild::NotNeeded,
        &[],
    );
    assert_eq!((lifted.revoked.len(), lifted.events[0].reason), (0, "RevocationLifted"));
    let built = decided(
        &base(&status, None),
        Some(&stored(&lifted)),
        &Rebuild::NotNeeded,
        &[candidate(5, 3)],
    );
    assert_eq!(built.released.unwrap().digest, digest(3));
}
