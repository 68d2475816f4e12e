//! What a BaseImage wants, as its candidates see it from reconcile to reconcile.

use super::{
    is_of,
    spec::{MAX_SPEC, wanted_spec},
    wanted::{Wanted, made_of, named, other},
};
use crate::{
    controllers::{
        base_image::testing::World,
        error::{Class, Classified as _},
    },
    domain::digest::Digest,
};
use kube::ResourceExt as _;

/// What the world says now of the candidate of this name, its status included as a reconcile leaves it.
fn judged(world: &World, name: &str) -> Wanted {
    let find = |name: &str| world.observed.candidates.iter().find(|one| one.name_any() == name);
    let candidate = find(name).unwrap();
    let current = other(candidate, &world.base).and_then(find);
    match named(candidate, Some(&world.base), current) {
        Wanted::Yes => made_of(candidate, &world.base, &world.validated(), &world.observed.inputs).unwrap(),
        said => said,
    }
}

/// A reconcile that also says what it followed.
fn reconcile(world: &mut World) -> String {
    let decision = world.decide();
    let wanted = decision.followed.wanted();
    let name = world.step();
    let sequence = world.candidate(&name).spec.sequence;
    let status = world.base.status.as_mut().unwrap();
    status.observed_generation = Some(1);
    status.source = Some("up.example.com/debian:12".to_owned());
    status.upstream = serde_json::from_value(serde_json::json!({
        "tag": "12", "digest": world.observed.upstream, "firstSeen": "2026-01-01T00:00:00Z",
        "held": (*wanted != world.observed.upstream).then_some(wanted),
    }))
    .unwrap();
    status.candidate =
        serde_json::from_value(serde_json::json!({"name": name, "sequence": sequence, "step": "New"})).unwrap();
    name
}

fn instead(wanted: &Wanted) -> &str {
    match wanted {
        Wanted::No { instead } => instead,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_base_image_asks_for_is_wanted_and_everything_that_changes_it_is_named() {
    let mut world = World::new();
    let name = reconcile(&mut world);
    assert_eq!(judged(&world, &name), Wanted::Yes);
    world.base.spec.suspend = true;
    assert_eq!(judged(&world, &name), Wanted::Suspended);
    world.base.spec.suspend = false;
    world.containerfile("USER 1");
    assert!(instead(&judged(&world, &name)).contains("another customisation"));
    world.containerfile("");
    world.base.spec.verify = serde_json::from_value(serde_json::json!([{"digests": [Digest::of(b"v1")]}])).unwrap();
    assert!(instead(&judged(&world, &name)).contains("another verification"));
    world.base.spec.verify.clear();
    world.base.spec.promote.channel_tag = "13".to_owned();
    assert!(instead(&judged(&world, &name)).contains("another place"));
    world.base.spec.promote.channel_tag = "12".to_owned();
    let policy = serde_json::json!([{"name": "strict", "spec": {"checks": [{"name": "hardening", "native": {}}]}}]);
    world.observed.inputs.policies = serde_json::from_value(policy).unwrap();
    assert!(instead(&judged(&world, &name)).contains("another policy"));
}

#[test]
fn a_newer_digest_supersedes_as_soon_as_the_base_image_names_its_candidate() {
    let mut world = World::new();
    let first = reconcile(&mut world);
    world.upstream("v2");
    assert_eq!(
        judged(&world, &first),
        Wanted::Yes,
        "the base image has not seen it yet"
    );
    let second = reconcile(&mut world);
    assert!(instead(&judged(&world, &first)).contains(Digest::of(b"v2").short()));
    assert_eq!(judged(&world, &second), Wanted::Yes);
}

#[test]
fn of_two_with_the_same_inputs_the_later_one_is_wanted() {
    let mut world = World::new();
    let first = reconcile(&mut world);
    world.reject(&first);
    world.containerfile("ENV A=2");
    reconcile(&mut world);
    world.containerfile("");
    let again = reconcile(&mut world);
    assert!(instead(&judged(&world, &first)).contains(&again));
    assert_eq!(judged(&world, &again), Wanted::Yes);
}

#[test]
fn while_upstream_plays_back_an_older_digest_the_released_one_stays_wanted() {
    let mut world = World::new();
    let first = reconcile(&mut world);
    world.promote(&first, "b1");
    world.upstream("v2");
    let second = reconcile(&mut world);
    world.promote(&second, "b2");
    reconcile(&mut world);
    world.upstream("v1");
    reconcile(&mut world);
    assert_eq!(judged(&world, &second), Wanted::Yes);
    assert!(instead(&judged(&world, &first)).contains(Digest::of(b"v2").short()));
}

#[test]
fn before_the_tag_of_the_spec_has_been_looked_up_nothing_is_said() {
    let mut world = World::new();
    let name = reconcile(&mut world);
    world.base.spec.source.track.tag = "13".to_owned();
    assert!(matches!(judged(&world, &name), Wanted::NotYetKnown { .. }));
    world.base.spec.source.track.tag = "12".to_owned();
    world.base.status = None;
    assert!(matches!(judged(&world, &name), Wanted::NotYetKnown { .. }));
}

#[test]
fn a_base_image_of_the_same_name_that_was_made_later_is_not_its_own() {
    let mut world = World::new();
    let name = reconcile(&mut world);
    assert!(is_of(&world.candidate(&name).clone(), &world.base));
    world.base.metadata.uid = Some("later".to_owned());
    assert!(matches!(judged(&world, &name), Wanted::BaseImageGone { .. }));
}

#[test]
fn inputs_that_no_object_can_hold_are_refused_with_their_size_and_are_not_tried_again() {
    let mut world = World::new();
    world.observed.inputs.build.containerfile = "x".repeat(MAX_SPEC);
    let error = wanted_spec(
        &world.base,
        &world.validated(),
        &world.observed.inputs,
        &Digest::of(b"d"),
    )
    .unwrap_err();
    assert_eq!((error.reason(), error.class()), ("InputsTooLarge", Class::Stalled));
    let words = error.to_string();
    assert!(
        words.contains("at most 1048576 bytes") && words.contains("found 104"),
        "{words}"
    );
    world.observed.inputs.build.containerfile = "x".repeat(MAX_SPEC - 4_000);
    assert!(
        wanted_spec(
            &world.base,
            &world.validated(),
            &world.observed.inputs,
            &Digest::of(b"d")
        )
        .is_ok()
    );
}
