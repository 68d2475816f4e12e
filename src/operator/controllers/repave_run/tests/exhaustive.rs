//! Every order of events up to a depth, from small estates: not at random but all of them, each state once.
//!
//! The promises are asserted in `world` at each patch and each status, as on the random walks; the end of one of a thousand
//! states is walked to as well. `REPAVE_MODEL_STATES` says how many distinct states are wanted (`make model`: a million);
//! without it a few thousand, so that the walk itself is tested with every other test.

use super::{
    super::gate::Gate,
    sim::TeamChange,
    walk::check_the_end,
    world::{Behaviour, Fault, Kind, World},
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

/// The deepest walk; a billion states would not be enough to go on.
const DEEPEST: u8 = 40;
/// One of so many states is walked to its end.
const ENDS: u64 = 1024;

#[derive(Debug, Clone, Copy)]
enum Event {
    Reconcile(Fault),
    Tick(usize),
    Wait(i64),
    Hold(usize),
    Revert(usize),
    Undo(usize),
    Jump(i64),
    Team(usize, TeamChange),
    Suspend,
    Resume,
}

/// Everything that can happen to an estate of two. 31 s is past the deadline, 11 s past a soak.
const EVENTS: [Event; 20] = [
    Event::Reconcile(Fault::None),
    Event::Reconcile(Fault::CrashAfter(0)),
    Event::Reconcile(Fault::CrashAfter(1)),
    Event::Reconcile(Fault::LostResponses),
    Event::Tick(0),
    Event::Tick(1),
    Event::Wait(11),
    Event::Wait(31),
    Event::Hold(0),
    Event::Revert(0),
    Event::Undo(0),
    Event::Jump(3600),
    Event::Jump(-3600),
    Event::Team(0, TeamChange::Good),
    Event::Team(1, TeamChange::Bad),
    Event::Team(0, TeamChange::Scale(0)),
    Event::Team(1, TeamChange::Pause),
    Event::Team(1, TeamChange::Resume),
    Event::Suspend,
    Event::Resume,
];

fn happen(world: &mut World, event: Event) {
    match event {
        Event::Reconcile(fault) => {
            let seen = world.clone();
            world.reconcile(&seen, fault);
        }
        Event::Tick(at) => world.tick(&world.key(at)),
        Event::Wait(seconds) => world.wait(seconds),
        Event::Hold(at) => {
            let until = world.now + SignedDuration::from_secs(20);
            world.hold(&world.key(at), Some(until));
        }
        Event::Revert(at) => world.revert(&world.key(at)),
        Event::Undo(at) => world.undo(&world.key(at)),
        Event::Jump(seconds) => world.jump(seconds),
        Event::Team(at, change) => world.team(&world.key(at), change),
        Event::Suspend => world.gate = Gate::Suspended,
        Event::Resume => world.gate = Gate::open(),
    }
}

/// All that a decision can see or a promise depends on. The version of an object is neither.
fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (key, sim) in &world.workloads {
        world.out(key).hash(&mut hasher);
        format!("{:?}", sim.sets).hash(&mut hasher);
        let object = &sim.object;
        for part in [
            &object["metadata"]["annotations"],
            &object["metadata"]["generation"],
            &object["spec"],
            &object["status"],
        ] {
            part.to_string().hash(&mut hasher);
        }
        format!(
            "{:?}",
            (
                sim.forward,
                sim.back,
                sim.hold,
                sim.reverted,
                sim.settled_once,
                sim.later,
                &sim.stuck,
                (sim.complete_since, sim.up_since, sim.stayed, sim.was_complete)
            )
        )
        .hash(&mut hasher);
    }
    format!("{:?} {:?} {:?} {:?}", world.status, world.gate, world.now, world.passed).hash(&mut hasher);
    // Its maps have no order: two that differ in that only are one state.
    let memory = format!("{:#?}", world.memory);
    let mut lines: Vec<&str> = memory.lines().collect();
    lines.sort_unstable();
    lines.hash(&mut hasher);
    hasher.finish()
}

#[derive(Default)]
struct Walk {
    /// Each state, and how deep was still gone from it.
    seen: HashMap<u64, u8>,
    transitions: u64,
    ends: u64,
    /// What has happened on the way to where the walk is.
    path: Vec<Event>,
}

impl Drop for Walk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("a promise is broken after {:?}", self.path);
        }
    }
}

impl Walk {
    fn go(&mut self, world: &World, left: u8) {
        let state = fingerprint(world);
        let new = !self.seen.contains_key(&state);
        if !new && self.seen[&state] >= left {
            return;
        }
        self.seen.insert(state, left);
        if new && state.is_multiple_of(ENDS) {
            self.ends += 1;
            check_the_end(&mut world.clone());
        }
        if left == 0 {
            return;
        }
        for event in EVENTS {
            let mut next = world.clone();
            self.path.push(event);
            happen(&mut next, event);
            self.transitions += 1;
            self.go(&next, left - 1);
            self.path.pop();
        }
    }
}

/// Its name, the spec of its run, and its workloads.
type Estate = (&'static str, Value, Vec<(Kind, Behaviour, bool)>);

/// The estates; each is walked on its own.
fn estates() -> Vec<Estate> {
    use {Behaviour as B, Kind as K};
    let waves = json!([
        {"name": "canary", "selector": {"matchLabels": {"tier": "canary"}}, "maxConcurrent": 1, "soak": "10s"},
        {"name": "rest", "maxConcurrent": 1, "soak": "0s"}]);
    let spec = |budget: u32, action: &str| json!({"waves": waves, "onFailure": {"budget": budget, "action": action}});
    vec![
        (
            "one good, one crashes",
            spec(1, "RollbackWorkload"),
            vec![(K::Direct, B::Healthy, true), (K::Direct, B::Crashes, false)],
        ),
        (
            "both break later",
            spec(0, "RollbackWorkload"),
            vec![
                (K::Direct, B::CrashesLater, true),
                (K::TwoContainers, B::UnreadyLater, false),
            ],
        ),
        (
            "busy, and never ready",
            spec(1, "RollbackWorkload"),
            vec![(K::BusyBefore, B::Healthy, false), (K::Direct, B::NeverReady, false)],
        ),
        (
            "left as it is",
            spec(1, "Pause"),
            vec![(K::Direct, B::Crashes, true), (K::Direct, B::Healthy, false)],
        ),
        (
            "both good",
            spec(0, "RollbackWorkload"),
            vec![(K::Direct, B::Healthy, false), (K::TwoContainers, B::Healthy, false)],
        ),
        (
            "one is started again and again",
            json!({"waves": waves, "onFailure": {"budget": 1, "action": "RollbackWorkload"},
                "health": {"rolloutDeadline": "30s", "minReadySeconds": 11}}),
            vec![(K::Direct, B::Healthy, true), (K::Direct, B::Restarts, true)],
        ),
        (
            "one may not be touched",
            spec(0, "RollbackWorkload"),
            vec![(K::Direct, B::UnreadyLater, false), (K::Flux, B::Healthy, true)],
        ),
    ]
}

#[test]
fn no_promise_is_broken_in_any_order_of_events_up_to_a_depth() {
    let wanted: usize = std::env::var("REPAVE_MODEL_STATES")
        .ok()
        .map_or(2_000, |text| text.parse().unwrap());
    let estates = estates();
    let share = wanted.div_ceil(estates.len());
    let walked = std::thread::scope(|scope| {
        let threads = estates.into_iter().map(|(name, spec, workloads)| {
            // Each level of the walk holds a world.
            let thread = std::thread::Builder::new().stack_size(64 << 20);
            let walk = move || {
                let start = World::new(&spec, &workloads);
                let mut depth = 2;
                loop {
                    let mut walk = Walk::default();
                    walk.go(&start, depth);
                    if walk.seen.len() >= share || depth == DEEPEST {
                        return (name, depth, walk);
                    }
                    depth += 1;
                }
            };
            thread.spawn_scoped(scope, walk).unwrap()
        });
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    let mut all = 0;
    for (name, depth, walk) in walked {
        println!(
            "{name}: {} distinct states, {} transitions, {depth} deep, {} walked to the end",
            walk.seen.len(),
            walk.transitions,
            walk.ends
        );
        all += walk.seen.len();
    }
    println!("{all} distinct states in all");
    assert!(all >= wanted, "{all} distinct states, wanted {wanted}");
}
