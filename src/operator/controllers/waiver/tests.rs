//! How a waiver stands over its life, and whom it is about.

use super::{
    observe::{newest_first, user},
    status::summarize,
    validate::suppressions,
};
use crate::{
    api::{ImageCandidate, Waiver},
    controllers::{
        conditions::{find, is_true},
        driver::Requeue,
    },
    domain::digest::Digest,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

fn waiver(spec: &Value) -> Waiver {
    let mut object = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "Waiver",
        "metadata": {"name": "w", "namespace": "platform", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"owner": "team-a", "reason": "not reachable", "expiresAt": "2026-03-01T00:00:00Z",
            "scope": {"findings": [{"id": "CVE-2026-*", "package": "openssl"}]}},
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_waiver_goes_through_its_life_and_an_idle_one_is_not_written() {
    let mut waiver = waiver(&json!({"notBefore": "2026-01-10T00:00:00Z"}));
    for (now, active, reason, events, next) in [
        ("2026-01-09T00:00:00Z", false, "NotYet", vec![], Some(86_400)),
        ("2026-01-10T00:00:00Z", true, "Active", vec![], Some(43 * 86_400)),
        (
            "2026-02-22T00:00:00Z",
            true,
            "ExpiringSoon",
            vec!["ExpiringSoon"],
            Some(7 * 86_400),
        ),
        ("2026-03-01T00:00:00Z", false, "Expired", vec!["Expired"], None),
    ] {
        let now = at(now);
        let outcome = summarize(&waiver, &["c".to_owned()], now);
        let conditions = &outcome.status.conditions;
        assert_eq!(is_true(conditions, "Active"), active, "{now}");
        assert_eq!(find(conditions, "Ready").unwrap().reason, reason);
        assert_eq!(outcome.events.iter().map(|n| n.reason).collect::<Vec<_>>(), events);
        let expected = next.map_or(Requeue::AwaitChange, |seconds| {
            Requeue::After(Duration::from_secs(seconds))
        });
        assert_eq!(outcome.next, expected, "{now}");
        waiver.status = Some(outcome.status.clone());
        let again = summarize(&waiver, &["c".to_owned()], now + jiff::SignedDuration::from_secs(60));
        assert_eq!((&again.status, again.events.len()), (&outcome.status, 0), "{now}");
    }
    let message = &find(&waiver.status.unwrap().conditions, "Ready")
        .unwrap()
        .message
        .clone();
    assert_eq!(
        message,
        "it ended at 2026-03-01T00:00:00Z: what it covers counts again, needed by 1. team-a: delete it, or write a later expiresAt"
    );
}

#[test]
fn one_that_would_last_too_long_has_no_effect_and_says_the_latest_date() {
    let long = waiver(&json!({"expiresAt": "2027-01-02T00:00:01Z"}));
    assert_eq!(suppressions(&long, "debian", &[]), []);
    let outcome = summarize(&long, &[], at("2026-01-02T00:00:00Z"));
    let ready = find(&outcome.status.conditions, "Stalled").unwrap();
    assert!(ready.message.contains("at most 366 days"), "{}", ready.message);
    assert!(ready.message.contains("2027-01-02T00:00:00Z"), "{}", ready.message);
    let longest = waiver(&json!({"expiresAt": "2027-01-02T00:00:00Z"}));
    assert_eq!(suppressions(&longest, "debian", &[]).len(), 1);
}

#[test]
fn a_waiver_is_about_the_images_it_names_and_without_any_about_all() {
    let (this, other) = (Digest::of(b"this"), Digest::of(b"other"));
    let about = |images: Value| {
        let scope = json!({"images": images, "findings": [{"id": "CVE-1"}, {"id": "CVE-2"}]});
        suppressions(&waiver(&json!({"scope": scope})), "debian", &[&this]).len()
    };
    assert_eq!(about(json!({})), 2);
    assert_eq!(about(json!({"baseImages": ["debian"]})), 2);
    assert_eq!(about(json!({"baseImages": ["alpine"]})), 0);
    assert_eq!(about(json!({"digests": [this]})), 2);
    assert_eq!(about(json!({"digests": [other]})), 0);
    assert_eq!(about(json!({"baseImages": ["alpine"], "digests": [this]})), 2);
}

#[test]
fn its_users_are_the_candidates_that_name_it_newest_first() {
    let candidate = |name: &str, created: &str, waivers: &[&str]| -> ImageCandidate {
        serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"baseImage": "d", "source": "up.local/d", "sourceTag": "12", "sourceDigest": Digest::of(b"v1"),
                "inputsHash": Digest::of(b"i"), "staging": "r.local/s", "build": {}, "policies": [],
                "promote": {"repository": "r.local/b", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
            "status": {"waivers": waivers},
        }))
        .unwrap()
    };
    let all = [
        candidate("a", "2026-01-01T00:00:00Z", &["w"]),
        candidate("b", "2026-01-02T00:00:00Z", &["v"]),
        candidate("c", "2026-01-03T00:00:00Z", &["v", "w"]),
    ];
    let users = all.iter().filter_map(|candidate| user("w", candidate)).collect();
    assert_eq!(newest_first(users), ["c", "a"]);
    let unused = summarize(&waiver(&json!({})), &[], at("2026-01-02T00:00:00Z"));
    assert!(is_true(&unused.status.conditions, "Unused") && is_true(&unused.status.conditions, "Ready"));
}
