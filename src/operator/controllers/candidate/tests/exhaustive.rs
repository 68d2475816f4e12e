//! Every order of events up to a depth, from small worlds of candidates: not at random but all of them, each state once.
//!
//! The promises are asserted in `world` at each write, as on the random walks; the end of one of a thousand states is walked
//! to as well. `REPAVE_MODEL_STATES` says how many distinct states are wanted (`make model`: a million); without it a few
//! thousand, so that the walk itself is tested with every other test. What waits to be gone on from is kept as the way to it
//! and not as a world: a million of those are more than a machine has memory for.

use super::{
    walk::{check_the_end, newest, round},
    world::{Fault, World},
    *,
};
use crate::api::phase::Phase;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    rc::Rc,
};

/// One of so many states is walked to its end.
const ENDS: u64 = 1024;
/// Just longer than opened gates hold.
const DAY: i64 = 24 * 3600 + 1;
/// A day passes only before that: later the vulnerability database would be too old, and every end an error.
const FIRST_DAY: i64 = 1_010_000;

#[derive(Debug, Clone, Copy)]
enum Event {
    Base(Fault),
    /// The n-th newest candidate.
    Candidate(usize, Fault),
    /// The cache of another leader catches up.
    Look,
    /// That other leader reconciles on what its cache has.
    Other(usize),
    EndJob(usize, bool),
    /// Jobs that have ended are collected.
    Collect,
    Upstream(u8),
    Policy(bool),
    /// The place for the result is put right, which is a new generation.
    Repository(u8),
    Waive(bool),
    Day,
}

/// Everything that can happen. No reconcile has more than two writes that count; upstream's third image has a finding.
const EVENTS: [Event; 27] = [
    Event::Base(Fault::None),
    Event::Base(Fault::Crash(0)),
    Event::Base(Fault::Crash(1)),
    Event::Candidate(0, Fault::None),
    Event::Candidate(0, Fault::Read),
    Event::Candidate(0, Fault::Refused(0)),
    Event::Candidate(0, Fault::Lost(0)),
    Event::Candidate(0, Fault::Lost(1)),
    Event::Candidate(0, Fault::Crash(0)),
    Event::Candidate(0, Fault::Crash(1)),
    Event::Candidate(1, Fault::None),
    Event::Candidate(1, Fault::Crash(0)),
    Event::Look,
    Event::Other(0),
    Event::Other(1),
    Event::EndJob(0, true),
    Event::EndJob(0, false),
    Event::EndJob(1, true),
    Event::Collect,
    Event::Upstream(2),
    Event::Upstream(3),
    Event::Policy(true),
    Event::Policy(false),
    Event::Repository(1),
    Event::Waive(true),
    Event::Waive(false),
    Event::Day,
];

/// Where the walk is.
#[derive(Clone)]
struct Place {
    world: World,
    /// What another leader's cache has of it.
    other: Rc<World>,
}

impl Place {
    fn happen(&mut self, event: Event) {
        let world = &mut self.world;
        match event {
            Event::Base(fault) => world.reconcile_base(fault),
            Event::Candidate(n, fault) => {
                let eyes = world.clone();
                if let Some(name) = newest(world, n) {
                    world.reconcile(&name, &eyes, fault);
                }
            }
            Event::Look => self.other = Rc::new(world.clone()),
            Event::Other(n) => {
                // Its cache is old and its clock is not.
                let mut eyes = World::clone(&self.other);
                eyes.now = world.now;
                if let Some(name) = newest(&eyes, n) {
                    world.reconcile(&name, &eyes, Fault::None);
                }
            }
            Event::EndJob(n, delivers) => world.end_job(n, delivers),
            Event::Collect => world.next_day(),
            Event::Upstream(upstream) => world.edit(|base| base.inputs.upstream = upstream),
            Event::Policy(strict) => world.edit(|base| base.inputs.strict = strict),
            Event::Repository(repository) => world.edit(|base| base.inputs.repository = repository),
            Event::Waive(on) => world.waive(on),
            Event::Day if world.now < FIRST_DAY => world.now += DAY,
            Event::Day => {}
        }
    }

    /// All that a decision can see or a promise depends on.
    fn fingerprint(&self) -> u64 {
        let world = &self.world;
        let mut hasher = DefaultHasher::new();
        hash_seen(world, None, world.now, &mut hasher);
        hash_seen(&self.other, Some(world), world.now, &mut hasher);
        format!("{} {:?} {:?}", world.now, world.channel, world.delivered).hash(&mut hasher);
        hasher.finish()
    }
}

/// What somebody sees. Versions and UIDs decide nothing; whether they are those of the live objects does.
fn hash_seen(seen: &World, live: Option<&World>, now: i64, hasher: &mut DefaultHasher) {
    format!("{:?} {}", seen.base, seen.waived).hash(hasher);
    for (name, (candidate, inputs)) in &seen.candidates {
        let one = live.and_then(|live| live.candidates.get(name));
        let same = one.is_some_and(|(one, _)| one.resource_version() == candidate.resource_version());
        let status = candidate.status.as_ref().filter(|_| !same);
        (name, format!("{inputs:?}"), same).hash(hasher);
        status.map(|status| printed(status, now)).hash(hasher);
    }
    for (name, job) in &seen.jobs {
        let one = live.and_then(|live| live.jobs.get(name));
        let same = one.is_some_and(|one| one.uid == job.uid);
        let mut candidates = seen.candidates.values();
        let owner = candidates.position(|(one, _)| one.uid().as_ref() == Some(&job.owner));
        (name, owner, job.ended, same).hash(hasher);
    }
}

/// A status with how long ago its gates were decided, and without what is only told to people.
fn printed(status: &ImageCandidateStatus, now: i64) -> String {
    let conditions = status.conditions.iter();
    let conditions: Vec<_> = conditions.map(|one| (&one.type_, &one.status, &one.reason)).collect();
    let age = |time: &Time| now - time.0.as_second();
    let steps = status.timeline.iter();
    let steps: Vec<_> = steps
        .map(|entry| (entry.step, entry.finished.as_ref().map(age)))
        .collect();
    let mut rest = status.clone();
    rest.conditions.clear();
    rest.timeline.clear();
    if let Some(promoted) = &mut rest.promoted {
        promoted.at = Time(at(0));
    }
    format!("{rest:?} {conditions:?} {steps:?}")
}

/// A walk. Ways are numbers of `EVENTS`.
struct Walk {
    seen: HashSet<u64>,
    /// The ways to states that nothing was gone on from, the shortest first.
    ahead: VecDeque<Vec<u8>>,
    transitions: u64,
    ends: u64,
    /// The way to where the walk is.
    way: Vec<u8>,
    /// Where it came past: the start, and one more an event.
    places: Vec<Place>,
}

impl Drop for Walk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let way: Vec<Event> = self.way.iter().map(|n| EVENTS[usize::from(*n)]).collect();
            eprintln!("a promise is broken after {way:?}");
        }
    }
}

impl Walk {
    fn begin(world: World) -> Self {
        let other = Rc::new(world.clone());
        let start = Place { world, other };
        Self {
            seen: HashSet::from([start.fingerprint()]),
            ahead: VecDeque::from([Vec::new()]),
            transitions: 0,
            ends: 0,
            way: Vec::new(),
            places: vec![start],
        }
    }

    /// Until so many states were seen. All orders of as many events as the last way has were walked then.
    fn go(mut self, wanted: usize) -> Self {
        while self.seen.len() < wanted
            && let Some(way) = self.ahead.pop_front()
        {
            self.go_to(&way);
            for n in (0_u8..).take(EVENTS.len()) {
                self.try_one(n);
            }
        }
        self
    }

    /// Goes back to where the two ways part, and on from there.
    fn go_to(&mut self, way: &[u8]) {
        let common = self.way.iter().zip(way).take_while(|(old, new)| old == new).count();
        self.way.truncate(common);
        self.places.truncate(common + 1);
        for n in &way[common..] {
            let place = self.after(*n);
            self.places.push(place);
        }
    }

    /// Where an event leads to from here; the way has it afterwards.
    fn after(&mut self, n: u8) -> Place {
        self.way.push(n);
        let mut place = self.places.last().unwrap().clone();
        place.happen(EVENTS[usize::from(n)]);
        place
    }

    fn try_one(&mut self, n: u8) {
        let mut place = self.after(n);
        self.transitions += 1;
        let state = place.fingerprint();
        if self.seen.insert(state) {
            self.ahead.push_back(self.way.clone());
            if state.is_multiple_of(ENDS) {
                self.ends += 1;
                check_the_end(&mut place.world);
            }
        }
        self.way.pop();
    }
}

/// The worlds; each is walked on its own. They begin where the decisions are only a few events away.
fn starts() -> Vec<(&'static str, World)> {
    let until = |phase: Phase, upstream: u8, waived: bool| {
        let mut world = World::new(2);
        world.edit(|base| base.inputs.upstream = upstream);
        world.waive(waived);
        for _ in 0..60 {
            round(&mut world);
            let (named, _) = world.named().unwrap();
            if world.phase(&named.name_any()) == Some(phase) {
                return world;
            }
        }
        panic!("{phase:?} never comes: {world:?}");
    };
    let mut judged = until(Phase::Check, 1, false);
    round(&mut judged);
    let mut refused = World::new(2);
    check_the_end(&mut refused);
    refused.edit(|base| base.inputs.upstream = 3);
    check_the_end(&mut refused);
    vec![
        ("nothing is there", World::new(1)),
        ("its reports have come", judged),
        ("its gates were opened by a waiver", until(Phase::Promote, 3, true)),
        ("one is released, the next is refused", refused),
    ]
}

#[test]
fn no_promise_about_candidates_is_broken_in_any_order_of_events_up_to_a_depth() {
    let wanted: usize = std::env::var("REPAVE_MODEL_STATES")
        .ok()
        .map_or(3_000, |text| text.parse().unwrap());
    let starts = starts();
    let share = wanted.div_ceil(starts.len());
    let walked = std::thread::scope(|scope| {
        let walk = |(name, world)| {
            scope.spawn(move || {
                let walk = Walk::begin(world).go(share);
                (name, walk.way.len(), walk.seen.len(), walk.transitions, walk.ends)
            })
        };
        let threads: Vec<_> = starts.into_iter().map(walk).collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap());
        ended.collect::<Vec<_>>()
    });
    let mut all = 0;
    for (name, depth, states, transitions, ends) in walked {
        println!("{name}: {states} distinct states, {transitions} transitions, {depth} deep, {ends} walked to the end");
        all += states;
    }
    println!("candidates: {all} distinct states in all");
    assert!(all >= wanted, "{all} distinct states, wanted {wanted}");
}
