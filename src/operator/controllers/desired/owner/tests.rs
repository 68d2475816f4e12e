//! Who owns a repository, and what takes it from nobody.

use super::*;
use crate::domain::digest::Digest;
use proptest::prelude::*;
use serde_json::json;

/// `at` is seconds of 2026-01-01; `released` is the repository of its release.
fn base(name: &str, at: u32, production: &str, staging: Option<&str>, released: Option<&str>) -> BaseImage {
    let mut object = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
        "metadata": {"name": name, "namespace": format!("team-{name}"), "uid": name,
            "creationTimestamp": format!("2026-01-01T00:00:{at:02}Z")},
        "spec": {
            "source": {"image": "up.example.com/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "p"}],
            "promote": {"repository": production, "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}
        }
    });
    if let Some(staging) = staging {
        object["spec"]["promote"]["stagingRepository"] = json!(staging);
    }
    if let Some(repository) = released {
        object["status"] = json!({"released": {
            "digest": Digest::of(b"d"), "tag": "t", "sourceDigest": Digest::of(b"s"), "candidate": "c", "sequence": 1,
            "repository": repository, "promotedAt": "2026-01-01T00:00:00Z"}});
    }
    serde_json::from_value(object).unwrap()
}

fn conflict(of: &str, all: &[BaseImage]) -> Option<(&'static str, String)> {
    let claims: Vec<Claim> = all.iter().map(Claim::of).collect();
    let own = claims.iter().find(|claim| claim.uid.as_deref() == Some(of)).unwrap();
    taken(own, &claims).map(|found| (found.field, found.repository.to_string()))
}

#[test]
fn the_older_base_image_owns_the_repository_and_the_other_is_told_which_one() {
    let all = [
        base("a", 1, "r.test/base/light", None, None),
        base("b", 2, "r.test/base/light", None, None),
    ];
    assert_eq!(conflict("a", &all), None);
    let found = conflict("b", &all);
    assert_eq!(found, Some(("promote.repository", "r.test/base/light".to_owned())));
    let message = Taken {
        field: "promote.repository",
        repository: "r.test/base/light".parse().unwrap(),
    }
    .message();
    assert!(
        message.contains("r.test/base/light") && !message.contains("team-a"),
        "{message}"
    );
}

#[test]
fn of_two_of_the_same_second_the_name_decides() {
    let all = [
        base("b", 1, "r.test/x", None, None),
        base("a", 1, "r.test/x", None, None),
    ];
    assert_eq!(conflict("a", &all), None);
    assert!(conflict("b", &all).is_some());
}

#[test]
fn an_older_one_cannot_take_over_by_an_edit_what_has_been_released() {
    let all = [
        base("tenant", 1, "r.test/base/light", None, Some("r.test/tenant/light")),
        base("platform", 2, "r.test/base/light", None, Some("r.test/base/light")),
    ];
    assert_eq!(conflict("platform", &all), None);
    assert!(conflict("tenant", &all).is_some());
}

#[test]
fn unproven_images_never_go_where_another_one_promotes_to() {
    let older = [
        base("a", 1, "r.test/prod", None, None),
        base("b", 2, "r.test/other", Some("r.test/prod"), None),
    ];
    assert_eq!(conflict("a", &older), None);
    let found = conflict("b", &older);
    assert_eq!(found, Some(("promote.stagingRepository", "r.test/prod".to_owned())));
    let newer = [
        base("a", 1, "r.test/one", Some("r.test/shared"), None),
        base("b", 2, "r.test/shared", None, None),
    ];
    assert_eq!(
        conflict("a", &newer),
        None,
        "a newcomer does not stop it by claiming its staging repository"
    );
    assert!(conflict("b", &newer).is_some());
}

#[test]
fn two_may_share_a_staging_repository() {
    let all = [
        base("a", 1, "r.test/one", Some("r.test/staging"), None),
        base("b", 2, "r.test/two", Some("r.test/staging"), None),
    ];
    assert_eq!((conflict("a", &all), conflict("b", &all)), (None, None));
}

proptest! {
    #[test]
    fn of_all_that_promote_to_one_repository_exactly_one_may(
        ages in proptest::collection::vec((0_u32..4, any::<bool>()), 1..8),
    ) {
        let all: Vec<BaseImage> = ages
            .iter()
            .enumerate()
            .map(|(at, (age, released))| base(&format!("b{at}"), *age, "r.test/x", None, released.then_some("r.test/x")))
            .collect();
        let owners = (0..all.len()).filter(|at| conflict(&format!("b{at}"), &all).is_none()).count();
        prop_assert_eq!(owners, 1);
    }
}

#[test]
fn an_older_one_that_aims_at_the_staging_repository_does_not_stop_one_that_has_released() {
    let all = [
        base("tenant", 1, "r.test/base/light-staging", None, None),
        base("platform", 2, "r.test/base/light", None, Some("r.test/base/light")),
    ];
    assert_eq!(conflict("platform", &all), None);
    assert!(
        conflict("tenant", &all).is_some(),
        "it wants to promote where others put what is unproven"
    );
}

#[test]
fn whoever_takes_its_only_release_back_keeps_its_repository() {
    let mut platform = base("platform", 2, "r.test/base/light", None, None);
    platform.status = Some(
        serde_json::from_value(json!({"revoked": [{
            "digest": Digest::of(b"d"), "tag": "t", "reason": "CVE", "at": "2026-01-02T00:00:00Z"}]}))
        .unwrap(),
    );
    let mut all = [base("tenant", 1, "r.test/base/light", None, None), platform];
    assert_eq!(
        conflict("platform", &all),
        None,
        "of an older version: where is not known"
    );
    let known = |all: &mut [BaseImage], at: usize, repository: &str| {
        let status = all[at].status.get_or_insert_default();
        let revoked = json!({"digest": Digest::of(b"d"), "tag": "t", "reason": "CVE", "at": "2026-01-02T00:00:00Z",
            "repository": repository});
        status.revoked = vec![serde_json::from_value(revoked).unwrap()];
    };
    known(&mut all, 1, "r.test/base/light");
    known(&mut all, 0, "r.test/tenant/light");
    assert_eq!(conflict("platform", &all), None);
    assert!(
        conflict("tenant", &all).is_some(),
        "it took back what it had released elsewhere"
    );
}

#[test]
fn an_owner_with_a_broken_edit_does_not_lose_its_repository_for_good() {
    let all = [
        base("tenant", 1, "r.test/base/light", None, None),
        base(
            "platform",
            2,
            "r.test/base/light",
            Some("r.test/UPPER"),
            Some("r.test/base/light"),
        ),
    ];
    assert!(conflict("tenant", &all).is_some(), "the owner has released there");
}

#[test]
fn one_registry_is_the_same_however_its_host_is_written() {
    let all = [
        base("platform", 1, "r.test/base/light", None, Some("r.test/base/light")),
        base("tenant", 2, "R.TEST/base/light", None, None),
        base("other", 3, "r.test:443/base/light", None, None),
    ];
    assert!(conflict("tenant", &all).is_some() && conflict("other", &all).is_some());
}

fn revoked(mut base: BaseImage, repository: &str) -> BaseImage {
    let revoked = json!({"digest": Digest::of(b"d"), "tag": "t", "reason": "CVE", "at": "2026-01-02T00:00:00Z",
        "repository": repository});
    base.status.get_or_insert_default().revoked = vec![serde_json::from_value(revoked).unwrap()];
    base
}

/// docs/releases.md: an older object cannot take a repository over by an edit. It gave the repository up, and
/// moved on; the next owner has released there since.
#[test]
fn who_gave_a_repository_up_cannot_take_it_back_by_an_edit_from_who_has_released_there_since() {
    let tenant = revoked(
        base("tenant", 1, "r.test/base/light", None, Some("r.test/tenant/own")),
        "r.test/base/light",
    );
    let all = [
        tenant,
        base("platform", 2, "r.test/base/light", None, Some("r.test/base/light")),
    ];
    assert_eq!(
        conflict("platform", &all),
        None,
        "its release is there, and what was revoked is not released"
    );
    assert!(conflict("tenant", &all).is_some());
}

/// Released to `shop/light` with a staging repository of its own, then the field is taken out again.
#[test]
fn a_release_beside_it_takes_no_repository_from_who_has_released_there() {
    let platform = base(
        "platform",
        2,
        "r.test/shop/light-staging",
        None,
        Some("r.test/shop/light-staging"),
    );
    let elsewhere = Some("r.test/tenant/unproven");
    let own = Some("r.test/shop/light");
    let before = [base("tenant", 1, "r.test/shop/light", elsewhere, own), platform.clone()];
    assert_eq!(
        (conflict("platform", &before), conflict("tenant", &before)),
        (None, None),
        "control"
    );
    let after = [base("tenant", 1, "r.test/shop/light", None, own), platform];
    assert_eq!(
        conflict("platform", &after),
        None,
        "its release is there; that of the tenant is not"
    );
    assert!(
        conflict("tenant", &after).is_some(),
        "it would put what is unproven where another one has released"
    );
}

/// The tenant's BaseImage is the older one. A staging repository that is named has no release in it.
#[test]
fn an_older_one_cannot_stop_a_released_one_by_naming_its_staging_repository() {
    let platform = || {
        base(
            "platform",
            2,
            "r.test/base/light",
            Some("r.test/scratch"),
            Some("r.test/base/light"),
        )
    };
    let tenant = |production: &str| base("tenant", 1, production, None, Some("r.test/tenant/light"));
    assert_eq!(
        conflict("platform", &[tenant("r.test/tenant/light"), platform()]),
        None,
        "control"
    );
    assert_eq!(conflict("platform", &[tenant("r.test/scratch"), platform()]), None);
}

/// The same with a BaseImage that never was anything: made early, with any repository, and edited later.
#[test]
fn nor_can_one_that_never_released() {
    let platform = base(
        "platform",
        2,
        "r.test/base/light",
        Some("r.test/scratch"),
        Some("r.test/base/light"),
    );
    let tenant = base("tenant", 1, "r.test/scratch", Some("r.test/tenant/x"), None);
    assert_eq!(conflict("platform", &[tenant, platform]), None);
}

#[test]
fn another_spelling_of_a_registry_is_no_other_repository() {
    let mut missed = Vec::new();
    for (own, other) in [
        ("docker.io/acme/base", "index.docker.io/acme/base"),
        ("docker.io/acme/base", "registry-1.docker.io/acme/base"),
        ("r.test/base", "r.test:0443/base"),
        ("r.test:5000/base", "r.test:05000/base"),
        ("10.1.0.2:5000/base", "10.1.2:5000/base"),
        ("10.1.0.2:5000/base", "0xa.1.0.2:5000/base"),
        ("r.test/base", "R.TEST:443/base"),
        ("r.test/base", "r.test./base"),
    ] {
        let all = [base("a", 1, own, None, Some(own)), base("tenant", 2, other, None, None)];
        // What is no repository is refused before anything is asked.
        if other.parse::<Repository>().is_ok() && conflict("tenant", &all).is_none() {
            missed.push(other);
        }
    }
    assert!(missed.is_empty(), "both may promote and move the tag there: {missed:?}");
}
