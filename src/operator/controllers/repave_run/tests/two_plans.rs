//! Two plans over the same workloads: the first one keeps each, the second one says so, and never both move it.

use super::{
    super::{memory::RunMemory, others, plan::Action},
    objects::{bump, bump_generation, parse},
    sim::TeamChange,
    world::{Behaviour, Fault, Kind, World, release},
};
use crate::{
    api::RepaveRunStatus,
    controllers::{conditions, repave_run::validate::Validated},
    domain::{digest::Digest, workload::WorkloadKey},
};
use proptest::prelude::*;
use serde_json::json;

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);
const LOG_RUN: &str = "platform/all-log-2";

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
            run_ref: format!("{namespace}/second-v3"),
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
            self.world.active_runs.insert(self.world.v.run_ref.clone());
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

/// One plan, two base images, one workload with a container of each.
#[test]
fn the_run_of_a_second_base_image_of_one_plan_waits_for_the_first() {
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 1}]});
    let mut world = World::new(&spec, &[(Kind::TwoContainers, Behaviour::Healthy, false)]);
    let key = world.key(0);
    moved_by_the_log_run(&mut world, &key);
    assert_eq!(world.step(), []);
    let row = &world.status.attention[0];
    assert!(
        row.reason
            .starts_with("RepaveRun platform/all-log-2 moved another of its images"),
        "{row:?}"
    );
    // It was moved by an earlier run of this base image: that one goes by the order of releases.
    let mut earlier = world.clone();
    let annotations = &mut earlier.workloads.get_mut(&key).unwrap().object["metadata"]["annotations"];
    let record = annotations["repave.dev/moved"].as_str().unwrap();
    let (log, v1) = (Digest::of(b"log-2"), release("v1", 1).digest);
    annotations["repave.dev/moved"] = json!(record.replace(log.as_str(), v1.as_str()));
    assert_eq!(earlier.step().len(), 1);
    world.active_runs.clear();
    assert_eq!(world.step().len(), 1, "the first one has finished");
}

/// As the run of a second base image of the same plan moves it.
fn moved_by_the_log_run(world: &mut World, key: &WorkloadKey) {
    let sim = world.workloads.get_mut(key).unwrap();
    let before = parse(&sim.object);
    let digest = Digest::of(b"log-2");
    sim.object["spec"]["template"]["spec"]["containers"][1]["image"] = json!(format!("registry.test/log@{digest}"));
    let template = parse(&sim.object).template();
    let record = json!({"at": world.now.to_string(), "plan": "platform/all", "digest": digest, "sequence": 2, "uid": before.uid,
        "generation": before.generation, "template": template, "revision": before.revision});
    let annotations = &mut sim.object["metadata"]["annotations"];
    annotations["repave.dev/run"] = json!(LOG_RUN);
    annotations["repave.dev/moved"] = json!(record.to_string());
    bump(&mut sim.object, "resourceVersion");
    bump_generation(&mut sim.object);
    world.tick_all();
    // Limits and waves are promises of one run.
    world.second_leader = true;
    world.active_runs.insert(LOG_RUN.to_owned());
}

/// One plan, two base images that are released together, one canary with both: while the run of the first has it, the run of the
/// second would go on to its next wave, and nobody has seen its release run anywhere.
#[test]
fn the_run_of_a_second_base_image_does_not_go_past_a_canary_that_the_first_one_has() {
    let canary = (Kind::TwoContainers, Behaviour::Healthy, true);
    let mut world = World::new(&json!({}), &[canary, GOOD, GOOD]);
    let key = world.key(0);
    moved_by_the_log_run(&mut world, &key);
    for _ in 0..20 {
        assert_eq!(world.step(), [], "the release ran on no canary");
        world.tick_all();
        world.wait(5);
    }
    let reconciling = conditions::find(&world.status.conditions, "Reconciling").unwrap();
    assert_eq!(reconciling.reason, "WaitsForRun", "{}", reconciling.message);
    // That run has finished.
    world.active_runs.clear();
    let moved = world.step();
    assert_eq!(moved.iter().map(Action::workload).collect::<Vec<_>>(), [&key]);
    assert!(world.walk_to_the_end());
    assert_eq!(world.status.counts.done, 3);
}

/// Two runs, each of which has a canary: neither waits for the other one.
#[test]
fn a_wave_of_which_one_is_healthy_does_not_wait_for_what_another_run_has() {
    let canary = (Kind::TwoContainers, Behaviour::Healthy, true);
    let mut world = World::new(&json!({}), &[canary, canary, GOOD]);
    let key = world.key(0);
    moved_by_the_log_run(&mut world, &key);
    assert!(world.walk_to_the_end());
    assert_eq!((world.status.counts.done, world.status.counts.skipped), (2, 1));
}

/// One plan, two base images, one at a time, and a fault that hits both: the run of the other one is giving its workload the old image
/// back when one of this run breaks in its soak.
#[test]
fn a_rollback_of_another_run_of_the_plan_counts_among_the_rollbacks() {
    let spec = json!({"waves": [{"name": "all", "maxConcurrent": 1, "soak": "1h"}], "onFailure": {"budget": 9}});
    let later = (Kind::Direct, Behaviour::CrashesLater, false);
    let mut world = World::new(&spec, &[(Kind::Unrelated, Behaviour::Healthy, false), later, GOOD]);
    let [old, new] = ["log-1", "log-2"].map(|version| crate::domain::lineage::Release {
        base_image: "log".to_owned(),
        repository: "registry.test/log".parse().unwrap(),
        digest: Digest::of(version.as_bytes()),
        chain_id: Digest::of(version.as_bytes()),
        layers: usize::MAX,
        ..release("v1", 1)
    });
    world.releases.extend([old.clone(), new.clone()]);
    let (other, own) = (world.key(0), world.key(1));
    assert_eq!(world.step().len(), 1);
    world.tick(&own);
    let now = world.now.to_string();
    let sim = world.workloads.get_mut(&other).unwrap();
    sim.object["spec"]["template"]["spec"]["containers"][0]["image"] =
        json!(format!("registry.test/log@{}", old.digest));
    let workload = parse(&sim.object);
    let record = json!({"at": now, "plan": "platform/all", "digest": new.digest, "sequence": 2, "uid": workload.uid, "rolledBack": true,
        "generation": workload.generation, "template": workload.template(), "revision": workload.revision});
    let annotations = &mut sim.object["metadata"]["annotations"];
    annotations["repave.dev/run"] = json!(LOG_RUN);
    annotations["repave.dev/moved"] = json!(record.to_string());
    bump(&mut sim.object, "resourceVersion");
    bump_generation(&mut sim.object);
    assert_eq!(world.step(), [], "control: it counts among all that are in flight");
    world.tick(&own);
    assert_eq!(world.step(), [], "one gets its old image back, and one may");
    world.tick(&other);
    assert!(matches!(world.step().as_slice(), [Action::RollBack { .. }]));
}

/// One plan over ten base images, all of them in one namespace, all their runs over and pruned: nobody is at work.
#[tokio::test]
async fn runs_that_are_over_keep_nothing_back_however_many_base_images_a_namespace_has() {
    let mut world = World::new(&json!({}), &[GOOD; 12]);
    for at in 0..12 {
        let key = world.key(at);
        let sim = world.workloads.get_mut(&key).unwrap();
        let template = parse(&sim.object).template();
        let digest = Digest::of(format!("other-{at}").as_bytes());
        let record = json!({"at": "1970-01-01T00:00:01Z", "plan": "platform/all", "digest": digest, "sequence": 2,
            "uid": sim.object["metadata"]["uid"], "generation": 0, "template": template});
        let annotations = &mut sim.object["metadata"]["annotations"];
        annotations["repave.dev/run"] = json!(format!("platform/all-base-{at:02}"));
        annotations["repave.dev/moved"] = json!(record.to_string());
    }
    let server = crate::controllers::testing::Api::default();
    let observed = world.observed();
    let ctx = server.context();
    let active = others::active_runs(&ctx, &world.v, &observed, world.mono);
    let active = active.await.unwrap();
    assert!(
        active.is_empty(),
        "there is no run at all, and these are taken to be at work, for ever: {active:?}"
    );
}
