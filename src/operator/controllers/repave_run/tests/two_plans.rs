//! Two plans over the same workloads: the first one keeps each, the second one says so, and never both move it.

use super::{
    super::memory::RunMemory,
    sim::TeamChange,
    world::{Behaviour, Fault, Kind, World},
};
use crate::{api::RepaveRunStatus, controllers::repave_run::validate::Validated};
use proptest::prelude::*;
use serde_json::json;

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);

/// The other run, while the world plays one.
struct Other {
    v: Validated,
    status: RepaveRunStatus,
    memory: RunMemory,
    soaked_in: Vec<u64>,
    passed: Vec<bool>,
}

struct Two {
    world: World,
    other: Other,
}

impl Two {
    fn new(namespace: &str, workloads: &[(Kind, Behaviour, bool)]) -> Self {
        let mut world = World::new(
            &json!({"waves": [{"name": "all", "maxConcurrent": 3, "soak": "10s"}]}),
            workloads,
        );
        // Limits and waves are promises of one run.
        world.second_leader = true;
        let v = Validated {
            mark: format!("{namespace}/second-v3"),
            namespace: namespace.to_owned(),
            plan: "second".to_owned(),
            ..world.v.clone()
        };
        let other = Other {
            v,
            status: RepaveRunStatus::default(),
            memory: RunMemory::default(),
            soaked_in: world.soaked_in.clone(),
            passed: world.passed.clone(),
        };
        Self { world, other }
    }

    /// The other run has its turn.
    fn swap(&mut self) {
        self.world.active_runs.clear();
        if self.world.status.finished.is_none() {
            self.world.active_runs.insert(self.world.v.mark.clone());
        }
        std::mem::swap(&mut self.world.v, &mut self.other.v);
        std::mem::swap(&mut self.world.status, &mut self.other.status);
        std::mem::swap(&mut self.world.memory, &mut self.other.memory);
        std::mem::swap(&mut self.world.soaked_in, &mut self.other.soaked_in);
        std::mem::swap(&mut self.world.passed, &mut self.other.passed);
    }

    fn rows(&self) -> Vec<String> {
        let rows = self.world.status.attention.iter();
        rows.map(|row| row.reason.clone()).collect()
    }
}

#[test]
fn the_first_plan_keeps_a_workload_and_the_second_says_so_with_its_name_only_in_its_own_namespace() {
    for (namespace, says) in [
        ("platform", "RepavePlan all moved it"),
        ("team", "another RepavePlan moved it"),
    ] {
        let mut two = Two::new(namespace, &[GOOD]);
        assert_eq!(two.world.step().len(), 1);
        two.swap();
        assert_eq!(two.world.step(), []);
        assert!(two.rows()[0].starts_with(says), "{:?}", two.rows());
        let told = two.rows()[0].contains("all");
        assert_eq!(told, namespace == "platform", "{:?}", two.rows());
    }
}

#[derive(Debug, Clone)]
enum Event {
    Step(Fault),
    Swap,
    Tick(usize),
    Wait(i64),
    Undo(usize),
    Revert(usize),
    Team(usize, TeamChange),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop_oneof![3 => Just(Fault::None), 1 => Just(Fault::CrashAfter(1)), 1 => Just(Fault::LostResponses)]
            .prop_map(Event::Step),
        4 => Just(Event::Swap),
        4 => (0_usize..4).prop_map(Event::Tick),
        2 => (1_i64..15).prop_map(Event::Wait),
        1 => (0_usize..4).prop_map(Event::Undo),
        1 => (0_usize..4).prop_map(Event::Revert),
        1 => (0_usize..4).prop_map(|at| Event::Team(at, TeamChange::Good)),
    ]
}

proptest! {
    #![proptest_config(crate::testing::cases(64))]

    /// That no workload is moved twice without a rollback in between is asserted at each patch.
    #[test]
    fn never_do_both_move_one_workload(
        broken in any::<bool>(),
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let behaviour = if broken { Behaviour::Crashes } else { Behaviour::Healthy };
        let mut two = Two::new("team", &[GOOD, (Kind::Direct, behaviour, true), GOOD]);
        for event in events {
            let world = &mut two.world;
            match event {
                Event::Step(fault) => {
                    let seen = world.clone();
                    world.reconcile(&seen, fault);
                }
                Event::Swap => two.swap(),
                Event::Tick(at) => world.tick(&world.key(at)),
                Event::Wait(seconds) => world.wait(seconds),
                Event::Undo(at) => world.undo(&world.key(at)),
                Event::Revert(at) => world.revert(&world.key(at)),
                Event::Team(at, change) => world.team(&world.key(at), change),
            }
        }
    }
}
