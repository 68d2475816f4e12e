//! What is kept of images, for how long, and of whom.

use super::*;

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + minutes * 60).unwrap()
}

fn digest(seed: usize) -> Digest {
    Digest::of(&seed.to_be_bytes())
}

fn repository(name: &str) -> Repository {
    format!("registry.test/{name}").parse().unwrap()
}

fn place(seed: usize, name: &str, asker: &str) -> Place {
    (digest(seed), repository(name), asker.to_owned())
}

fn places(names: &[&str]) -> Sources {
    let from = |name: &&str| (repository(name), ["team".to_owned()].into());
    names.iter().map(from).collect()
}

fn fail(images: &Images, place: &Place, now: Timestamp) {
    images.memory().failures.note(place, "team", now);
}

#[test]
fn a_failed_lookup_waits_longer_each_time_and_never_more_than_a_day() {
    let images = Images::default();
    let (mut now, places) = (at(0), places(&["app"]));
    for minutes in [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440] {
        fail(&images, &place(1, "app", "a"), now);
        let wanted: Wanted = [(digest(1), places.clone())].into();
        let due = |after: i64| images.has_missing(&wanted, "a", now + SignedDuration::from_mins(after));
        assert_eq!((due(minutes - 1), due(minutes)), (false, true), "{minutes}");
        now += SignedDuration::from_mins(minutes);
    }
}

#[test]
fn after_some_failures_no_run_waits_for_an_image_any_more_and_it_is_still_tried() {
    let (images, places) = (Images::default(), places(&["app"]));
    let wanted: Wanted = [(digest(1), places.clone())].into();
    for (times, expected) in [
        (1, Layers::NotYet),
        (2, Layers::NotYet),
        (3, Layers::Unreadable),
        (4, Layers::Unreadable),
    ] {
        fail(&images, &place(1, "app", "a"), at(0));
        let later = at(24 * 60);
        assert_eq!(images.layers(&digest(1), &places, "a", later), expected, "{times}");
        assert!(images.has_missing(&wanted, "a", later), "{times}");
    }
}

#[test]
fn a_failure_counts_for_one_asker_and_one_repository_only() {
    let images = Images::default();
    fail(&images, &place(1, "private", "tenant/x"), at(0));
    let ask = |names: &[&str], asker: &str| images.layers(&digest(1), &places(names), asker, at(1));
    assert_eq!(ask(&["private"], "tenant/x"), Layers::Unreadable);
    assert_eq!(ask(&["private"], "platform/debian"), Layers::NotYet);
    assert_eq!(ask(&["private", "public"], "tenant/x"), Layers::NotYet);
}

#[test]
fn what_one_asker_has_read_is_known_to_all() {
    let images = Images::default();
    let layers = [digest(7), digest(8)];
    images.found(&place(1, "app", "a"), &layers, at(0));
    let found = images.layers(&digest(1), &places(&["elsewhere"]), "b", at(1));
    assert_eq!(found, Layers::Known(layers.into()));
}

#[test]
fn a_full_memory_forgets_the_oldest_one_only_and_always_comes_to_an_end() {
    let images = Images::default();
    for seed in 0..MAX_KEPT {
        images.found(&place(seed, "app", "a"), &[digest(seed)], at(i64::from(seed > 0)));
    }
    let ask = |seed: usize, now: Timestamp| images.layers(&digest(seed), &places(&["app"]), "a", now);
    // All are in use: there is no room for one more, and saying "not yet" for ever would hold up every run.
    assert_eq!(ask(MAX_KEPT, at(2)), Layers::Unreadable);
    assert_eq!(ask(MAX_KEPT, at(120)), Layers::NotYet);
    images.found(&place(MAX_KEPT, "app", "a"), &[digest(3)], at(120));
    assert!(matches!(ask(MAX_KEPT, at(120)), Layers::Known(_)));
    assert_eq!(ask(0, at(120)), Layers::NotYet, "the oldest went");
    assert!(matches!(ask(1, at(120)), Layers::Known(_)), "all others stay");
}

/// A manifest of 4 MiB may name some 35 000 layers, and the configuration as many diff IDs.
#[test]
fn what_is_kept_is_bounded_in_bytes_and_not_only_in_images() {
    let (images, places) = (Images::default(), places(&["tenant/x"]));
    let layers: Vec<Digest> = (0..35_000).map(digest).collect();
    fail(&images, &place(0, "tenant/x", "evil"), at(0));
    images.found(&place(0, "tenant/x", "evil"), &layers, at(0));
    let known = images.layers(&digest(0), &places, "evil", at(0));
    assert_eq!(known, Layers::Unreadable, "it is not looked up at once again");
    for seed in 0..1_500 {
        images.found(&place(seed, "tenant/x", "evil"), &layers[..MAX_LAYERS], at(0));
    }
    let mut memory = images.memory();
    let bytes: usize = memory.layers.values().map(|kept| kept.value.layers.len() * BYTES).sum();
    let held = memory.all.bytes;
    assert_eq!((bytes, bytes <= MAX_BYTES), (held, true), "{} MiB", bytes >> 20);
    assert!(
        !memory.has_room("evil", at(1)) && memory.has_room("evil", at(120)),
        "what is in use stays"
    );
}

/// As many images as one namespace has Deployments with no replicas, and each costs its tenant a manifest and a configuration that name one empty layer a thousand times.
#[test]
fn the_images_of_one_asker_leave_room_for_those_of_the_others() {
    let (images, mine) = (Images::default(), places(&["tenant/x"]));
    let layers = vec![digest(7); MAX_LAYERS];
    for seed in 0..1_049 {
        images.found(&place(seed, "tenant/x", "tenant/evil"), &layers, at(0));
    }
    for minutes in (30..4 * 60).step_by(30) {
        // His plan looks at them again and again: they are in use.
        for seed in 0..1_049 {
            images.layers(&digest(seed), &mine, "tenant/evil", at(minutes));
        }
        let (victim, theirs) = (digest(1_000_000), places(&["platform/app"]));
        let ask = images.layers(&victim, &theirs, "platform/debian", at(minutes + 1));
        assert_eq!(
            ask,
            Layers::NotYet,
            "after {minutes} minutes nobody else's image is looked up any more"
        );
    }
    for seed in 2_000..2_010 {
        images.found(&place(seed, "platform/app", "platform/debian"), &layers, at(4 * 60));
        let known = images.layers(&digest(seed), &places(&["platform/app"]), "platform/debian", at(4 * 60));
        assert!(matches!(known, Layers::Known(_)), "{seed}");
    }
    let memory = images.memory();
    assert!(memory.all.bytes <= MAX_BYTES && memory.layers.len() == memory.all.images);
    let (evil, platform) = (memory.held["tenant"].images, memory.held["platform"].images);
    assert!(platform == 10 && evil > 1_000, "no more went than was needed: {evil}");
}

/// Each has its part, and what one has beyond it is the first to go; nobody pushes out what others have in use.
#[test]
fn who_holds_his_share_pushes_out_nothing_that_is_in_use() {
    let images = Images::default();
    let layers = vec![digest(7); MAX_LAYERS];
    let most = MAX_BYTES / (MAX_LAYERS * BYTES);
    for seed in 0..2 * most {
        let asker = if seed < most { "a/x" } else { "b/x" };
        images.found(&place(seed, "app", asker), &layers, at(0));
    }
    let held = |by: &str| images.memory().held[by].images;
    assert_eq!((held("a"), held("b")), (most - most / 2, most / 2));
    images.found(&place(9_999, "app", "a/y"), &layers, at(1));
    let ask = images.layers(&digest(9_999), &places(&["elsewhere"]), "a/y", at(1));
    assert_eq!(
        (ask, held("b")),
        (Layers::Unreadable, most / 2),
        "another base image of the same namespace"
    );
}
