//! Two processes and one lease, at random and in single steps. At every write the limits are asserted (`promises`): of a wave, of
//! the plan, and of rollbacks, of what the process that writes has seen. Waves and soaks are promised on what was seen, too; they are
//! checked on the walk of one process that sees everything at once (`walk`).

use super::{
    deletions::Anew,
    leaders::{Leaders, Mid, Middle},
    objects::{bump, bump_generation, parse},
    walk::{Happening, check_the_end, happening, spec, workload},
    world::{Behaviour, Kind, World, release},
};
use crate::{
    domain::{digest::Digest, lineage::Release, workload::WorkloadKey},
    testing::cases,
};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;

const BUSY: (Kind, Behaviour, bool) = (Kind::BusyBefore, Behaviour::Healthy, false);
const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);

fn one_by_one(workloads: &[(Kind, Behaviour, bool)]) -> Leaders {
    Leaders::new(World::new(
        &json!({"waves": [{"name": "all", "maxConcurrent": 1}]}),
        workloads,
    ))
}

impl Leaders {
    /// The holder looks at the run; how many were moved until now.
    fn look(&mut self, what: Mid) -> u32 {
        let mid = Middle {
            what,
            ..Middle::default()
        };
        self.reconcile(self.lease, &mid);
        self.world.workloads.values().map(|sim| sim.forward).sum()
    }
}

/// The watch is late, the answer is lost, the work is dropped, or another process has the lease by now. The limit is one, and the
/// next one in turn was busy before.
#[test]
fn what_was_written_counts_whoever_looks_next_and_whether_or_not_it_was_answered() {
    for what in [Mid::Nothing, Mid::AnswerLost(0), Mid::Dropped(0)] {
        for goes in [false, true] {
            let mut leaders = one_by_one(&[BUSY, GOOD]);
            assert_eq!(leaders.look(what), 1);
            let busy = leaders.world.key(0);
            leaders.world.tick(&busy);
            leaders.show(&busy);
            if goes {
                leaders.lease_goes();
            }
            assert_eq!(leaders.look(Mid::Nothing), 1, "{what:?} {goes}");
        }
    }
}

/// The new leader sees that the first one is not busy any more, and moves it before the patch of the old one is sent.
#[test]
fn what_is_left_of_a_batch_is_not_written_without_the_lease() {
    let mut leaders = one_by_one(&[BUSY, GOOD]);
    let busy = leaders.world.key(0);
    leaders.world.tick(&busy);
    assert_eq!(leaders.look(Mid::LeaseGoes(0)), 1);
    assert_eq!(leaders.world.workloads[&busy].forward, 1);
}

/// It was deleted and made anew, which the watch does not show yet. It is moved: that is known, whoever asks next in this process,
/// be it another run of the plan.
#[test]
fn a_write_to_one_that_was_made_anew_is_known_before_the_watch_shows_it() {
    let mut leaders = one_by_one(&[BUSY, GOOD]);
    let (busy, anew) = (leaders.world.key(0), leaders.world.key(1));
    leaders.world.make_anew(&anew, Anew::Old);
    leaders.world.tick(&anew);
    assert_eq!(leaders.look(Mid::Nothing), 1);
    leaders.world.delete_run();
    leaders.world.tick(&busy);
    leaders.show(&busy);
    assert_eq!(leaders.look(Mid::Nothing), 1, "one is on its way, and one may be");
}

/// A release of another base image of the same plan.
fn log(version: &str, sequence: u64) -> Release {
    let digest = Digest::of(version.as_bytes());
    Release {
        base_image: "log".to_owned(),
        candidate: version.to_owned(),
        repository: "registry.test/log".parse().unwrap(),
        tag: version.to_owned(),
        chain_id: digest.clone(),
        layers: usize::MAX,
        digest,
        sequence,
        ..release("v1", 1)
    }
}

/// One plan, two base images, one at a time. The run of the other base image moved its workload, and nobody answered; the watch is late.
/// The run of this base image has its turn next.
#[test]
fn what_another_run_of_the_plan_wrote_without_an_answer_takes_its_place_in_the_limit() {
    for answered in [true, false] {
        let mut world = World::new(
            &json!({"waves": [{"name": "all", "maxConcurrent": 1}]}),
            &[(Kind::Unrelated, Behaviour::Healthy, false), GOOD],
        );
        world.releases.extend([log("log-1", 1), log("log-2", 2)]);
        let image = |version: &str| format!("registry.test/log@{}", Digest::of(version.as_bytes()));
        let other = world.key(0);
        let set_image = |world: &mut World, version: &str| {
            let sim = world.workloads.get_mut(&other).unwrap();
            sim.object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image(version));
        };
        set_image(&mut world, "log-1");
        world.tick(&other);
        let mut leaders = Leaders::new(world);
        let before = parse(&leaders.world.workloads[&other].object);
        set_image(&mut leaders.world, "log-2");
        let now = leaders.world.now.to_string();
        let sim = leaders.world.workloads.get_mut(&other).unwrap();
        let record = json!({"at": now, "plan": "platform/all", "digest": Digest::of(b"log-2"), "sequence": 2, "uid": before.uid,
            "generation": before.generation, "template": parse(&sim.object).template(), "revision": before.revision});
        let annotations = &mut sim.object["metadata"]["annotations"];
        annotations["repave.dev/run"] = json!("platform/all-log-2");
        annotations["repave.dev/moved"] = json!(record.to_string());
        bump(&mut sim.object, "resourceVersion");
        bump_generation(&mut sim.object);
        if answered {
            leaders.show(&other);
        } else {
            leaders.doubt(&other);
        }
        assert_eq!(
            leaders.look(Mid::Nothing),
            0,
            "one is on its way, and one may be (answered: {answered})"
        );
    }
}

#[derive(Debug, Clone)]
enum Event {
    /// The holder looks at the run.
    Reconcile(Middle),
    /// The other process, which held the lease before, looks at it once more.
    LastLook,
    LeaseGoes,
    /// The holder's watch shows one workload.
    Show(usize),
    ShowAll,
    Happens(Happening),
}

fn middle() -> impl Strategy<Value = Middle> {
    let what = prop_oneof![
        6 => Just(Mid::Nothing),
        2 => (0_usize..4).prop_map(Mid::LeaseGoes),
        1 => (0_usize..4).prop_map(Mid::Dies),
        2 => (0_usize..4).prop_map(Mid::AnswerLost),
        2 => (0_usize..4).prop_map(Mid::Happens),
        1 => (0_usize..4).prop_map(Mid::Dropped),
    ];
    (what, happening()).prop_map(|(what, happening)| Middle { what, happening })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => middle().prop_map(Event::Reconcile),
        1 => Just(Event::LastLook),
        1 => Just(Event::LeaseGoes),
        4 => (0_usize..12).prop_map(Event::Show),
        2 => Just(Event::ShowAll),
        12 => happening().prop_map(Event::Happens),
    ]
}

fn play(leaders: &mut Leaders, events: &[Event]) {
    for event in events {
        match event {
            Event::Reconcile(mid) => leaders.reconcile(leaders.lease, mid),
            Event::LastLook => leaders.reconcile(1 - leaders.lease, &Middle::default()),
            Event::LeaseGoes => leaders.lease_goes(),
            Event::Show(at) => {
                let eyes = leaders.world.eyes.as_ref().unwrap();
                let keys: BTreeSet<WorkloadKey> = eyes.keys().chain(leaders.world.workloads.keys()).cloned().collect();
                if let Some(key) = at.checked_rem(keys.len()).and_then(|at| keys.iter().nth(at)) {
                    leaders.show(key);
                }
            }
            Event::ShowAll => leaders.show_all(),
            Event::Happens(happening) => leaders.happen(happening),
        }
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn two_processes_and_one_lease_never_replace_more_than_the_limit(
        spec in spec(),
        workloads in proptest::collection::vec(workload(), 1..12),
        events in proptest::collection::vec(event(), 0..80),
    ) {
        let mut leaders = Leaders::new(World::new(&spec, &workloads));
        play(&mut leaders, &events);
        // The last leader sees everything at once.
        let mut world = leaders.world;
        world.eyes = None;
        check_the_end(&mut world);
    }
}
