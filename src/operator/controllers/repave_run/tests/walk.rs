//! Random estates on their way to the end, with everything that can go wrong on it. The promises themselves are asserted
//! in `world` at each patch and each status.

use super::{
    super::plan,
    deletions::Anew,
    objects::{image_of, parse},
    sim::TeamChange,
    world::{Behaviour, Fault, Kind, Order, World},
};
use crate::{
    controllers::conditions,
    domain::workload::{Rollout, WorkloadKey},
    testing::cases,
};
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
    Happens(Happening),
}

/// What happens without the run.
#[derive(Debug, Clone)]
pub enum Happening {
    /// To one workload.
    To(usize, Deed),
    /// A workload is there again under the name of one that was deleted, or instead of one that is there.
    Anew(usize, Anew),
    Wait(i64),
    /// The clock is set.
    Jump(i64),
    Suspend,
    Resume,
    /// The run is deleted in mid-way; its plan makes it again.
    DeleteRun,
    DeletePlan,
    MakePlanAgain,
}

#[derive(Debug, Clone, Copy)]
pub enum Deed {
    Tick,
    Hold(Option<i64>),
    Revert,
    Replace,
    Undo,
    Team(TeamChange),
    Deny(bool),
    Delete,
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

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => Just(Deed::Tick),
        1 => proptest::option::of(1_i64..40).prop_map(Deed::Hold),
        1 => Just(Deed::Revert),
        1 => Just(Deed::Replace),
        2 => Just(Deed::Undo),
        3 => team_change().prop_map(Deed::Team),
        1 => any::<bool>().prop_map(Deed::Deny),
        1 => Just(Deed::Delete),
    ]
}

pub fn happening() -> impl Strategy<Value = Happening> {
    let anew = prop_oneof![2 => Just(Anew::Old), 1 => Just(Anew::OnTarget), 2 => Just(Anew::Copy)];
    prop_oneof![
        32 => ((0_usize..12), deed()).prop_map(|(at, deed)| Happening::To(at, deed)),
        4 => ((0_usize..12), anew).prop_map(|(at, anew)| Happening::Anew(at, anew)),
        8 => (1_i64..15).prop_map(Happening::Wait),
        2 => prop_oneof![Just(3600), Just(-3600)].prop_map(Happening::Jump),
        2 => Just(Happening::Suspend),
        4 => Just(Happening::Resume),
        1 => Just(Happening::DeleteRun),
        1 => Just(Happening::DeletePlan),
        2 => Just(Happening::MakePlanAgain),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![2 => fault().prop_map(Event::Reconcile), 6 => happening().prop_map(Event::Happens)]
}

fn event_with_a_second_leader() -> impl Strategy<Value = Event> {
    prop_oneof![6 => event(), 1 => Just(Event::Snapshot), 2 => Just(Event::Stale)]
}

pub fn workload() -> impl Strategy<Value = (Kind, Behaviour, bool)> {
    let kind = prop_oneof![
        8 => Just(Kind::Direct),
        2 => Just(Kind::TwoContainers),
        2 => Just(Kind::BusyBefore),
        1 => Just(Kind::MovedBefore),
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

pub fn spec() -> impl Strategy<Value = Value> {
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

impl World {
    /// Something happens without the run.
    pub fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::To(at, deed) => {
                if let Some(key) = nth(self.workloads.keys(), *at) {
                    self.happen_to(&key, *deed);
                }
            }
            Happening::Anew(at, anew) => {
                if let Some(key) = nth(self.workloads.keys().chain(self.graves.keys()), *at) {
                    self.make_anew(&key, *anew);
                }
            }
            Happening::Wait(seconds) => self.wait(*seconds),
            Happening::Jump(seconds) => self.jump(*seconds),
            Happening::Suspend => self.suspend(true),
            Happening::Resume => self.suspend(false),
            Happening::DeleteRun => self.delete_run(),
            Happening::DeletePlan => self.delete_plan(),
            Happening::MakePlanAgain => self.make_plan_again(),
        }
    }

    fn happen_to(&mut self, key: &WorkloadKey, deed: Deed) {
        match deed {
            Deed::Tick => self.tick(key),
            Deed::Team(change) => self.team(key, change),
            Deed::Hold(until) => {
                let until = until.map(|seconds| self.now + SignedDuration::from_secs(seconds));
                self.hold(key, until);
            }
            Deed::Revert => self.revert(key),
            Deed::Replace => self.replace(key),
            Deed::Undo => self.undo(key),
            Deed::Deny(denied) => {
                let sim = self.workloads.get_mut(key).unwrap();
                (sim.denied, sim.touched) = (denied, true);
            }
            Deed::Delete => self.delete(key),
        }
    }
}

fn nth<'a>(mut keys: impl Iterator<Item = &'a WorkloadKey> + Clone, at: usize) -> Option<WorkloadKey> {
    let count = keys.clone().count();
    keys.nth(at.checked_rem(count)?).cloned()
}

fn play(world: &mut World, events: &[Event]) {
    let mut remembered = world.clone();
    for event in events {
        match event {
            Event::Reconcile(fault) => {
                if world.has_run() {
                    let seen = world.clone();
                    world.reconcile(&seen, *fault);
                }
            }
            Event::Snapshot => remembered = world.clone(),
            Event::Stale => {
                world.second_leader = true;
                if matches!(remembered.order, Order::Stands | Order::PlanGone) {
                    world.reconcile(&remembered, Fault::None);
                }
            }
            Event::Happens(happening) => world.happen(happening),
        }
    }
}

/// A run that nobody orders any more begins nothing, which is asserted at each patch, and ends.
fn check_the_end_without_a_plan(world: &mut World) {
    if world.order != Order::PlanGone {
        return;
    }
    assert!(
        world.walk_to_the_end(),
        "its plan is gone, and it does not end: {:?}",
        world.status
    );
}

/// A run may wait for a person only where it moved something of a wave, and nothing of that wave is seen to do well.
fn check_what_it_waits_for(world: &World) {
    let healthy = |at: usize| {
        world.workloads.iter().any(|(key, sim)| {
            let there = image_of(&sim.object) == world.target() && parse(&sim.object).rollout == Rollout::Settled;
            there && sim.hold.is_none() && world.wave_of(key) == at
        })
    };
    let waits = (0..world.v.waves.len()).any(|at| world.moved[at] && !healthy(at));
    assert!(
        waits || world.second_leader,
        "nothing is to be proven: {:?}",
        world.status
    );
}

/// What must be so when nothing happens any more.
pub fn check_the_end(world: &mut World) {
    check_the_end_without_a_plan(world);
    world.make_plan_again();
    world.suspend(false);
    assert!(world.has_run() && world.gate.is_open());
    let mut finished = world.walk_to_the_end();
    for _ in 0..2 {
        // What was made after the run had finished may still be on its way to be ready.
        world.tick_all();
        finished = finished && world.walk_to_the_end();
    }
    let observed = world.observed();
    let stopped = plan::stop(&world.v, &world.targets(&observed), 0).is_some();
    let stalled = conditions::find(&world.status.conditions, "Stalled");
    let waits = stalled.is_some_and(|condition| condition.status == "True" && condition.reason == "WaveNotProven");
    assert!(
        finished || stopped || waits,
        "neither finished nor stopped: {:?}",
        world.status
    );
    if !finished && !stopped {
        check_what_it_waits_for(world);
    }
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
