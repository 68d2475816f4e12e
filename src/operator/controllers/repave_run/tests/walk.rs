//! Random estates on their way to the end, with everything that can go wrong on it. The promises themselves are asserted
//! in `world` at each patch and each status.

use super::{
    super::{gate::Gate, plan},
    objects::image_of,
    sim::TeamChange,
    world::{Behaviour, Fault, Kind, World},
};
use crate::{controllers::conditions, testing::cases};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
enum Event {
    Reconcile(Fault),
    /// Remembers the world as another process sees it.
    Snapshot,
    /// That other process reconciles on what it remembers.
    Stale,
    Tick(usize),
    Wait(i64),
    Hold(usize, Option<i64>),
    Revert(usize),
    Replace(usize),
    Undo(usize),
    /// The clock is set.
    Jump(i64),
    Team(usize, TeamChange),
    Deny(usize, bool),
    Suspend,
    Resume,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        2 => (0_usize..3).prop_map(Fault::CrashAfter),
        1 => Just(Fault::LostResponses),
    ]
}

fn team_change() -> impl Strategy<Value = TeamChange> {
    prop_oneof![
        3 => Just(TeamChange::Good),
        2 => Just(TeamChange::Bad),
        2 => (0_u32..5).prop_map(TeamChange::Scale),
        1 => Just(TeamChange::Pause),
        2 => Just(TeamChange::Resume),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => fault().prop_map(Event::Reconcile),
        6 => (0_usize..12).prop_map(Event::Tick),
        4 => (1_i64..15).prop_map(Event::Wait),
        1 => ((0_usize..12), proptest::option::of(1_i64..40)).prop_map(|(at, until)| Event::Hold(at, until)),
        1 => (0_usize..12).prop_map(Event::Revert),
        1 => (0_usize..12).prop_map(Event::Replace),
        2 => (0_usize..12).prop_map(Event::Undo),
        1 => prop_oneof![Just(3600), Just(-3600)].prop_map(Event::Jump),
        3 => ((0_usize..12), team_change()).prop_map(|(at, change)| Event::Team(at, change)),
        1 => ((0_usize..12), any::<bool>()).prop_map(|(at, denied)| Event::Deny(at, denied)),
        1 => Just(Event::Suspend),
        2 => Just(Event::Resume),
    ]
}

fn event_with_a_second_leader() -> impl Strategy<Value = Event> {
    prop_oneof![6 => event(), 1 => Just(Event::Snapshot), 2 => Just(Event::Stale)]
}

fn workload() -> impl Strategy<Value = (Kind, Behaviour, bool)> {
    let kind = prop_oneof![
        8 => Just(Kind::Direct),
        2 => Just(Kind::TwoContainers),
        2 => Just(Kind::BusyBefore),
        1 => Just(Kind::OnTarget),
        1 => Just(Kind::Derived),
        1 => Just(Kind::Unrelated),
        1 => Just(Kind::Flux),
        1 => Just(Kind::Mirror),
        1 => Just(Kind::Paused),
        1 => Just(Kind::UnhealthyBefore),
    ];
    let behaviour = prop_oneof![
        8 => Just(Behaviour::Healthy),
        1 => Just(Behaviour::Crashes),
        1 => Just(Behaviour::NeverReady),
        1 => Just(Behaviour::CrashesLater),
        1 => Just(Behaviour::UnreadyLater),
        1 => Just(Behaviour::Restarts),
    ];
    (kind, behaviour, prop::bool::weighted(0.3))
}

fn spec() -> impl Strategy<Value = Value> {
    let limit = prop_oneof![Just(json!(1)), Just(json!(2)), Just(json!(3)), Just(json!("30%"))];
    let budget = prop_oneof![Just(json!(0)), Just(json!(1)), Just(json!(3)), Just(json!("50%"))];
    let action = prop_oneof![3 => Just("RollbackWorkload"), 1 => Just("Pause")];
    let stay = prop_oneof![2 => Just(0), 2 => 1_u32..12];
    let all = (limit, budget, action, 0_u32..25, any::<bool>(), stay);
    all.prop_map(|(limit, budget, action, soak, half, stay)| {
        let mut waves = vec![
            json!({"name": "canary", "selector": {"matchLabels": {"tier": "canary"}}, "maxConcurrent": 1, "soak": format!("{soak}s")}),
        ];
        if half {
            waves.push(json!({"name": "half", "percent": 50, "maxConcurrent": limit, "soak": "5s"}));
        }
        waves.push(json!({"name": "rest", "maxConcurrent": limit, "soak": "0s"}));
        json!({"waves": waves, "onFailure": {"budget": budget, "action": action},
            "health": {"rolloutDeadline": "30s", "minReadySeconds": stay}})
    })
}

fn play(world: &mut World, events: &[Event]) {
    let mut remembered = world.clone();
    for event in events {
        match event {
            Event::Reconcile(fault) => {
                let seen = world.clone();
                world.reconcile(&seen, *fault);
            }
            Event::Snapshot => remembered = world.clone(),
            Event::Stale => {
                world.second_leader = true;
                world.reconcile(&remembered, Fault::None);
            }
            Event::Tick(at) => world.tick(&world.key(*at)),
            Event::Wait(seconds) => world.wait(*seconds),
            Event::Team(at, change) => world.team(&world.key(*at), *change),
            Event::Hold(at, until) => {
                let until = until.map(|seconds| world.now + SignedDuration::from_secs(seconds));
                world.hold(&world.key(*at), until);
            }
            Event::Revert(at) => world.revert(&world.key(*at)),
            Event::Replace(at) => world.replace(&world.key(*at)),
            Event::Undo(at) => world.undo(&world.key(*at)),
            Event::Jump(seconds) => world.jump(*seconds),
            Event::Deny(at, denied) => {
                let key = world.key(*at);
                let sim = world.workloads.get_mut(&key).unwrap();
                (sim.denied, sim.touched) = (*denied, true);
            }
            Event::Suspend => world.gate = Gate::Suspended,
            Event::Resume => world.gate = Gate::open(),
        }
    }
}

/// What must be so when nothing happens any more.
pub fn check_the_end(world: &mut World) {
    world.gate = Gate::open();
    let finished = world.walk_to_the_end();
    let observed = world.observed();
    let stopped = plan::stop(&world.v, &world.targets(&observed)).is_some();
    let stalled = conditions::find(&world.status.conditions, "Stalled");
    let waits = stalled.is_some_and(|condition| condition.status == "True" && condition.reason == "WaveNotProven");
    assert!(
        finished || stopped || waits,
        "neither finished nor stopped: {:?}",
        world.status
    );
    let target = world.target();
    for (key, sim) in &world.workloads {
        let touched_by_people = sim.hold.is_some() || sim.reverted || sim.touched;
        // One that is busy with its own roll-out for the whole deadline is left alone.
        let left_alone = touched_by_people || sim.late;
        if !sim.kind.movable() {
            assert_eq!((sim.forward, sim.back), (0, 0), "{key}");
        } else if finished && sim.behaviour == Behaviour::Healthy && !left_alone {
            assert_eq!(image_of(&sim.object), target, "{key} was forgotten");
        } else if sim.back > 0 && sim.back == sim.forward && !sim.later {
            // Nobody has undone our rollback.
            assert_ne!(image_of(&sim.object), target, "{key}");
            assert!(
                sim.object["metadata"]["annotations"]["repave.dev/hold"].is_string(),
                "{key} is not held"
            );
        }
    }
    let before = world.status.clone();
    if !finished {
        world.step();
        world.wait(7);
        world.step();
        assert_eq!(world.status, before, "nothing changed, but the status would be written");
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn no_promise_is_broken_on_the_way_through_any_estate(
        spec in spec(),
        workloads in proptest::collection::vec(workload(), 1..12),
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let mut world = World::new(&spec, &workloads);
        play(&mut world, &events);
        check_the_end(&mut world);
    }

    #[test]
    fn a_second_leader_with_stale_eyes_moves_nothing_twice_and_touches_nothing_held(
        spec in spec(),
        workloads in proptest::collection::vec(workload(), 1..12),
        events in proptest::collection::vec(event_with_a_second_leader(), 0..80),
    ) {
        let mut world = World::new(&spec, &workloads);
        play(&mut world, &events);
        check_the_end(&mut world);
    }
}
