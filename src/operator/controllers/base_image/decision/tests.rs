//! What is released, what is wanted and what is made, over worlds of one base image.

use super::{super::testing::World, *};
use crate::api::image_candidate::CandidateResult;
use proptest::prelude::*;
use serde_json::json;

/// v1, v2 built, promoted and released, in this order. Gives the names of their candidates.
fn two_releases() -> (World, String, String) {
    let mut world = World::new();
    let first = world.step();
    world.promote(&first, "b1").step();
    let second = world.upstream("v2").step();
    world.promote(&second, "b2").step();
    assert_eq!(world.released(), Some((Digest::of(b"b2"), 2)));
    (world, first, second)
}

fn made(world: &World) -> Vec<ImageCandidate> {
    let of = |Action::CreateCandidate(candidate): Action| *candidate;
    world.decide().actions.into_iter().map(of).collect()
}

#[test]
fn the_same_world_always_asks_for_the_same_candidate_and_only_once() {
    let mut world = World::new();
    let first = made(&world);
    assert_eq!(first, made(&world));
    assert_eq!(first[0].spec.staging.to_string(), "prod.example.com/debian-staging");
    assert_eq!(first[0].spec.sequence, 1);
    world.step();
    assert_eq!(made(&world), []);
}

#[test]
fn another_digest_or_another_customisation_is_another_candidate() {
    let mut world = World::new();
    let mut names = std::collections::BTreeSet::from([made(&world)[0].name_any()]);
    names.insert(made(world.upstream("v2"))[0].name_any());
    names.insert(made(world.containerfile("USER 1"))[0].name_any());
    assert_eq!(names.len(), 3);
}

#[test]
fn a_candidate_comes_after_every_candidate_and_release_and_its_place_is_no_input() {
    let mut world = World::new();
    let first = made(&world).remove(0);
    world.base.status = serde_json::from_value(json!({"released": {
        "digest": Digest::of(b"b"), "tag": "t", "sourceDigest": Digest::of(b"v0"), "candidate": "pruned", "sequence": 9,
        "promotedAt": "2026-01-01T00:00:00Z"}}))
    .unwrap();
    let next = made(&world).remove(0);
    assert_eq!(
        (next.spec.sequence, &next.spec.inputs_hash),
        (10, &first.spec.inputs_hash)
    );
    let mut other = first.clone();
    other.spec.sequence = 12;
    other.spec.inputs_hash = Digest::of(b"other");
    world.observed.candidates.push(other);
    assert_eq!(made(&world)[0].spec.sequence, 13);
}

#[test]
fn a_suspended_base_image_starts_nothing_and_still_releases_what_was_under_way() {
    let mut world = World::new();
    let first = world.step();
    world.base.spec.suspend = true;
    world.upstream("v2");
    assert_eq!(made(&world), []);
    world.promote(&first, "b1").step();
    assert_eq!(world.released(), Some((Digest::of(b"b1"), 1)));
}

#[test]
fn a_reverted_customisation_makes_the_earlier_digest_a_release_again() {
    let mut world = World::new();
    let first = world.containerfile("ENV A=1").step();
    world.promote(&first, "b1").step();
    let second = world.containerfile("ENV A=2").step();
    world.promote(&second, "b2").step();
    let again = world.containerfile("ENV A=1").step();
    assert_ne!(again, first);
    assert!(again.ends_with("-3") && again.len() == first.len(), "{again}");
    assert_eq!(
        world.candidate(&again).spec.inputs_hash.clone(),
        world.candidate(&first).spec.inputs_hash
    );
    assert_eq!(
        world.released(),
        Some((Digest::of(b"b2"), 2)),
        "not before it has passed today's checks"
    );
    world.promote(&again, "b1").step();
    assert_eq!(world.released(), Some((Digest::of(b"b1"), 3)));
    assert_eq!(made(&world), []);
}

#[test]
fn an_older_candidate_that_is_promoted_late_changes_nothing() {
    let mut world = World::new();
    let slow = world.step();
    let fast = world.upstream("v2").step();
    world.promote(&fast, "b2").step();
    world.promote(&slow, "b1").step();
    assert_eq!(world.released(), Some((Digest::of(b"b2"), 2)));
}

#[test]
fn what_builds_the_digest_that_is_released_keeps_its_place_its_tag_and_its_time() {
    let mut world = World::new();
    let first = world.step();
    world.promote(&first, "b1").step();
    let before = world.base.status.clone().unwrap().released.unwrap();
    world.base.spec.verify = serde_json::from_value(json!([{"digests": [Digest::of(b"v1")]}])).unwrap();
    let second = world.step();
    assert_ne!(second, first);
    world.promote(&second, "b1").step();
    let after = world.base.status.clone().unwrap().released.unwrap();
    assert_eq!(after.candidate, second, "the newer proof counts");
    assert_eq!(
        (after.sequence, &after.tag, &after.promoted_at, &after.digest),
        (before.sequence, &before.tag, &before.promoted_at, &before.digest)
    );
    world.step();
    assert_eq!(world.base.status.unwrap().released.unwrap(), after, "and it stays so");
}

#[test]
fn the_same_digest_in_another_repository_is_another_release() {
    let mut world = World::new();
    let first = world.step();
    world.promote(&first, "b1").step();
    world.base.spec.promote.repository = "prod.example.com/new".to_owned();
    let second = world.step();
    world.promote(&second, "b1").step();
    let released = world.base.status.unwrap().released.unwrap();
    assert_eq!(
        (released.sequence, released.repository.unwrap().to_string().as_str()),
        (2, "prod.example.com/new")
    );
}

#[test]
fn upstreams_tag_that_goes_back_is_held_until_somebody_says_otherwise() {
    let (mut world, _, second) = two_releases();
    world.upstream("v1");
    let replay = Followed::Replay {
        found: Digest::of(b"v1"),
        held: Digest::of(b"v2"),
    };
    assert_eq!(world.decide().followed, replay);
    assert_eq!(world.step(), second, "what is released stays wanted");
    assert_eq!(made(&world), []);
    world.base.spec.source.on_upstream_rollback = OnUpstreamRollback::Follow;
    let back = world.step();
    assert_eq!(world.candidate(&back).spec.sequence, 3);
    world.base.spec.source.on_upstream_rollback = OnUpstreamRollback::Hold;
    assert_eq!(
        world.decide().followed,
        Followed::Tag(Digest::of(b"v1")),
        "it was followed on purpose"
    );
    world.promote(&back, "b1").step();
    assert_eq!(world.released(), Some((Digest::of(b"b1"), 3)));
    world.upstream("v2");
    assert!(matches!(world.decide().followed, Followed::Replay { .. }));
    world.upstream("v3");
    assert_eq!(world.decide().followed, Followed::Tag(Digest::of(b"v3")));
}

#[test]
fn a_changed_policy_under_a_held_digest_judges_that_digest_again() {
    let (mut world, ..) = two_releases();
    world.upstream("v1").containerfile("USER 1");
    assert_eq!(made(&world)[0].spec.source_digest, Digest::of(b"v2"));
}

#[test]
fn another_tag_in_the_spec_is_an_order_and_no_replay() {
    let (mut world, ..) = two_releases();
    world.base.spec.source.track.tag = "11".to_owned();
    world.upstream("v1");
    assert_eq!(world.decide().followed, Followed::Tag(Digest::of(b"v1")));
    let eleven = world.step();
    world.promote(&eleven, "b11").step();
    world.base.spec.source.track.tag = "12".to_owned();
    assert_eq!(world.decide().followed, Followed::Tag(Digest::of(b"v1")));
}

#[test]
fn a_flapping_upstream_whose_newer_digest_is_rejected_makes_no_candidates() {
    let mut world = World::new();
    let first = world.step();
    world.promote(&first, "b1").step();
    let second = world.upstream("v2").step();
    world.reject(&second);
    for _ in 0..5 {
        assert_eq!(world.upstream("v1").step(), first, "it is released already");
        assert_eq!(world.upstream("v2").step(), second);
    }
    assert_eq!(world.observed.candidates.len(), 2);
    assert_eq!(world.released(), Some((Digest::of(b"b1"), 1)));
}

#[test]
fn one_that_was_given_up_is_made_anew_when_it_is_wanted_again() {
    let mut world = World::new();
    let first = world.step();
    world.candidate(&first).status = serde_json::from_value(json!({"result": "Superseded"})).unwrap();
    let again = world.step();
    assert_eq!(world.candidate(&again).spec.sequence, 2);
    assert_eq!(made(&world), []);
}

#[test]
fn a_deleted_candidate_is_tried_again() {
    let mut world = World::new();
    let first = world.step();
    world.candidate(&first).status = serde_json::from_value(json!({"result": "Error"})).unwrap();
    assert_eq!(made(&world), [], "an error is not tried again by itself");
    world.observed.candidates.clear();
    assert_eq!(made(&world)[0].name_any(), first);
}

/// Something that happens to a base image.
#[derive(Debug, Clone)]
enum Event {
    Upstream(u8),
    Containerfile(u8),
    Follow(bool),
    Promote(usize, u8),
    Reject(usize),
    Reconcile,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0_u8..3).prop_map(Event::Upstream),
        (0_u8..2).prop_map(Event::Containerfile),
        any::<bool>().prop_map(Event::Follow),
        (0_usize..6, 0_u8..3).prop_map(|(which, build)| Event::Promote(which, build)),
        (0_usize..6).prop_map(Event::Reject),
        Just(Event::Reconcile),
    ]
}

fn happens(world: &mut World, event: &Event) {
    let open = |world: &World, which: usize| {
        let all = world.observed.candidates.iter().filter(|one| one.status.is_none());
        all.map(ResourceExt::name_any).nth(which)
    };
    match event {
        Event::Upstream(version) => drop(world.upstream(&format!("v{version}"))),
        Event::Containerfile(version) => drop(world.containerfile(&format!("ENV A={version}"))),
        Event::Follow(true) => world.base.spec.source.on_upstream_rollback = OnUpstreamRollback::Follow,
        Event::Follow(false) => world.base.spec.source.on_upstream_rollback = OnUpstreamRollback::Hold,
        Event::Promote(which, build) => {
            if let Some(name) = open(world, *which) {
                world.promote(&name, &format!("b{build}"));
            }
        }
        Event::Reject(which) => {
            if let Some(name) = open(world, *which) {
                world.reject(&name);
            }
        }
        Event::Reconcile => drop(world.step()),
    }
}

proptest! {
    #[test]
    fn sequence_never_goes_back_is_never_given_twice_and_every_world_comes_to_rest(
        events in proptest::collection::vec(event(), 0..40),
    ) {
        let mut world = World::new();
        let mut last = 0;
        for event in &events {
            happens(&mut world, event);
            if let Some((digest, sequence)) = world.released() {
                prop_assert!(sequence >= last, "{sequence} after {last}");
                last = sequence;
                let proof = world.base.status.clone().unwrap().released.unwrap().candidate;
                let promoted = world.candidate(&proof).status.clone().unwrap();
                prop_assert_eq!(promoted.result, Some(CandidateResult::Passed));
                prop_assert_eq!(promoted.promoted.unwrap().digest, digest);
            }
            let mut given: Vec<u64> = world.observed.candidates.iter().map(|one| one.spec.sequence).collect();
            let mut names: Vec<String> = world.observed.candidates.iter().map(ResourceExt::name_any).collect();
            let all = given.len();
            given.sort_unstable();
            given.dedup();
            names.sort();
            names.dedup();
            prop_assert_eq!((given.len(), names.len()), (all, all));
        }
        world.step();
        let rest = world.step();
        prop_assert_eq!(made(&world), []);
        prop_assert_eq!(world.step(), rest);
    }
}
