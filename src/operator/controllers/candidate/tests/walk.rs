//! Candidates of one BaseImage on their way, with everything that can go wrong on it. The promises themselves are asserted in
//! `world` at each write.

use super::world::{Fault, World};
use crate::{
    api::{ImageCandidate, phase::Phase},
    testing::cases,
};
use kube::ResourceExt as _;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Event {
    Base(Fault),
    Candidate(usize, Fault),
    /// Remembers the world as another process sees it.
    Snapshot,
    /// That other process reconciles on what it remembers.
    Stale(usize),
    EndJob(usize, bool),
    LoseJob(usize),
    Upstream(u8),
    Policy(bool),
    Repository(u8),
    Suspend(bool),
    Recreate,
    Collect,
    Waive(bool),
    Revoke(u8, bool),
    Sign(bool),
    Clock(i64),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::Read),
        1 => (0_usize..3).prop_map(Fault::Refused),
        1 => (0_usize..3).prop_map(Fault::Lost),
        1 => (0_usize..3).prop_map(Fault::Crash),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => fault().prop_map(Event::Base),
        24 => (0_usize..4, fault()).prop_map(|(n, fault)| Event::Candidate(n, fault)),
        2 => Just(Event::Snapshot),
        4 => (0_usize..4).prop_map(Event::Stale),
        10 => (0_usize..4, prop::bool::weighted(0.85)).prop_map(|(n, ok)| Event::EndJob(n, ok)),
        1 => (0_usize..8).prop_map(Event::LoseJob),
        3 => (1_u8..7).prop_map(Event::Upstream),
        1 => any::<bool>().prop_map(Event::Policy),
        1 => (0_u8..2).prop_map(Event::Repository),
        2 => any::<bool>().prop_map(Event::Suspend),
        1 => Just(Event::Recreate),
        1 => Just(Event::Collect),
        2 => any::<bool>().prop_map(Event::Waive),
        1 => (1_u8..7, any::<bool>()).prop_map(|(upstream, on)| Event::Revoke(upstream, on)),
        1 => any::<bool>().prop_map(Event::Sign),
        2 => (-3600_i64..3600).prop_map(Event::Clock),
    ]
}

/// The n-th newest candidate.
pub fn newest(world: &World, n: usize) -> Option<String> {
    let mut all: Vec<&ImageCandidate> = world.candidates.values().map(|(one, _)| one).collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.spec.sequence));
    all.get(n).map(|one| one.name_any())
}

fn play(world: &mut World, events: &[Event]) {
    let mut remembered = world.clone();
    for event in events {
        match *event {
            Event::Base(fault) => world.reconcile_base(fault),
            Event::Candidate(n, fault) => {
                let eyes = world.clone();
                if let Some(name) = newest(world, n) {
                    world.reconcile(&name, &eyes, fault);
                }
            }
            Event::Snapshot => remembered = world.clone(),
            Event::Stale(n) => {
                if let Some(name) = newest(&remembered, n) {
                    world.reconcile(&name, &remembered, Fault::None);
                }
            }
            Event::EndJob(n, delivers) => world.end_job(n, delivers),
            Event::LoseJob(n) => world.lose_job(n),
            Event::Upstream(upstream) => world.edit(|base| base.inputs.upstream = upstream),
            Event::Policy(strict) => world.edit(|base| base.inputs.strict = strict),
            Event::Repository(repository) => world.edit(|base| base.inputs.repository = repository),
            Event::Suspend(suspend) => world.edit(|base| base.suspend = suspend),
            Event::Recreate => world.recreate(),
            Event::Collect => world.collect(),
            Event::Waive(on) => world.waive(on),
            Event::Revoke(upstream, on) => world.revoke(upstream, on),
            Event::Sign(on) => world.signed = on,
            Event::Clock(seconds) => world.now = (world.now + seconds).clamp(1_000_100, 1_100_100),
        }
    }
}

/// Until nothing changes any more, and the day after, when what ended is collected, neither.
fn settle(world: &mut World) {
    world.edit(|base| base.suspend = false);
    world.signed = true;
    world.collect();
    for _ in 0..300 {
        let before = format!("{world:?}");
        round(world);
        if !unchanged(&before, world) {
            continue;
        }
        world.next_day();
        if unchanged(&before, world) {
            return;
        }
    }
    panic!("it never comes to rest: {world:?}");
}

pub fn round(world: &mut World) {
    world.reconcile_base(Fault::None);
    let names: Vec<String> = world.candidates.keys().cloned().collect();
    for name in names {
        let eyes = world.clone();
        world.reconcile(&name, &eyes, Fault::None);
    }
    for n in (0..world.unfinished()).rev() {
        world.end_job(n, true);
    }
    world.now += 1;
}

/// Compares all but the clock and the counter of names.
fn unchanged(before: &str, world: &World) -> bool {
    let without = |text: &str| {
        let from = text.find("base:").unwrap();
        let to = text.rfind("next:").unwrap();
        text[from..to].to_owned()
    };
    without(before) == without(&format!("{world:?}"))
}

pub fn check_the_end(world: &mut World) {
    settle(world);
    let (wanted, inputs) = world.named().cloned().expect("the BaseImage names a candidate");
    let base = world.base.clone().unwrap();
    assert_eq!(inputs, base.inputs, "the candidate of today's inputs is the wanted one");
    for (name, (one, _)) in &world.candidates {
        let phase = world.phase(name).unwrap();
        assert!(phase.is_final(), "{name} is forgotten at {phase:?}");
        if phase == Phase::Superseded {
            assert!(one.status.as_ref().unwrap().promoted.is_none());
        }
    }
    assert_eq!(world.unfinished(), 0, "a Job is left");
    let phase = world.phase(&wanted.name_any()).unwrap();
    assert_ne!(phase, Phase::Superseded, "what is wanted was given up");
    if phase == Phase::Released {
        let digest = wanted.status.clone().unwrap().promoted.unwrap().digest;
        assert_eq!(base.released, Some((wanted.spec.sequence, digest.clone())));
        assert_eq!(world.channel, Some(digest));
    } else if is_recalled(&wanted) {
        assert_eq!(phase, Phase::Rejected, "only that is out for good");
    } else if !inputs.upstream.is_multiple_of(3) || !inputs.strict || world.waived {
        assert_eq!(
            phase,
            Phase::Error,
            "a good image may only be out because its Jobs broke three times"
        );
    }
    if let Some((_, digest)) = &base.released {
        assert_eq!(world.channel.as_ref(), Some(digest));
    }
}

fn is_recalled(candidate: &ImageCandidate) -> bool {
    let status = candidate.status.iter();
    let mut said = status.flat_map(|status| &status.conditions);
    said.any(|condition| condition.type_ == "Stalled" && condition.reason == "Revoked")
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn no_promise_is_broken_on_the_way_of_any_candidates(
        events in prop::collection::vec(event(), 1..160),
        slots in 1_usize..4,
    ) {
        let mut world = World::new(slots);
        play(&mut world, &events);
        check_the_end(&mut world);
    }
}

#[test]
fn the_plain_way_ends_with_a_release_and_a_second_digest_follows_it() {
    let mut world = World::new(2);
    check_the_end(&mut world);
    assert_eq!(world.base.as_ref().unwrap().released.as_ref().unwrap().0, 1);
    world.edit(|base| base.inputs.upstream = 2);
    check_the_end(&mut world);
    assert_eq!((world.promoted.len(), world.base.unwrap().released.unwrap().0), (2, 2));
}

/// Its scan passed by a waiver. Before it is promoted the BaseImage is suspended, the waiver is taken away, and two months pass.
#[test]
fn what_was_waived_is_not_promoted_after_the_waiver_was_taken_away() {
    let mut world = World::new(9);
    world.waive(true);
    world.edit(|base| base.inputs.upstream = 3);
    let mut name = String::new();
    for _ in 0..60 {
        round(&mut world);
        name = world.named().unwrap().0.name_any();
        if world.phase(&name) == Some(Phase::Promote) {
            break;
        }
    }
    assert_eq!(world.phase(&name), Some(Phase::Promote));
    world.edit(|base| base.suspend = true);
    world.waive(false);
    world.now += 60 * 24 * 3600;
    world.next_day();
    for _ in 0..5 {
        round(&mut world);
    }
    assert_eq!(world.phase(&name), Some(Phase::Promote));
    world.edit(|base| base.suspend = false);
    for _ in 0..20 {
        round(&mut world);
    }
    assert!(
        world.promoted.is_empty(),
        "promoted by a waiver that is gone, on a scan that is 60 days old"
    );
}
