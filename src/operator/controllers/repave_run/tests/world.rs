//! A small cluster in memory: Deployments as the API server stores them, JSON patches as it applies them, and a run that a
//! test drives step by step (`reconcile`). What happens without Repave is in `sim`; every patch is checked against `promises`.

use super::{
    super::{
        assemble,
        gate::Gate,
        images::Layers,
        memory::RunMemory,
        observe::Observed,
        seen::{Query, Supervised},
        validate::{Validated, validate},
    },
    objects::{new_workload, parse},
    sim::Set,
};
use crate::{
    api::{RepaveRun, RepaveRunStatus},
    domain::{
        digest::Digest,
        lineage::{Release, ReleaseIndex, chain_ids},
        workload::{Workload, WorkloadKey},
    },
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub const REPOSITORY: &str = "registry.test/base/debian";

/// How a workload behaves on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Healthy,
    Crashes,
    NeverReady,
    /// Settles, and then its pods crash.
    CrashesLater,
    /// Settles, and then its pods are not ready any more.
    UnreadyLater,
    /// Settles, and then a container ends and is started again every few seconds, without a probe that would tell.
    Restarts,
}

/// What a workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Direct,
    TwoContainers,
    OnTarget,
    Derived,
    Unrelated,
    Flux,
    Mirror,
    Paused,
    UnhealthyBefore,
    BusyBefore,
    /// On its way to the release before, where an earlier run of the plan has just moved it.
    MovedBefore,
}

impl Kind {
    /// Whether a run may ever patch it.
    pub fn movable(self) -> bool {
        matches!(
            self,
            Self::Direct | Self::TwoContainers | Self::BusyBefore | Self::MovedBefore
        )
    }
}

// What may have happened to it is independent of each other.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone)]
pub struct Sim {
    pub kind: Kind,
    pub behaviour: Behaviour,
    pub object: Value,
    pub forward: u32,
    pub back: u32,
    /// What it ran, healthy, before we moved it.
    pub before: String,
    /// When we took it back last.
    pub back_at: Option<Duration>,
    /// It was in flight at the last look of the run, and whether on its way back.
    pub place: Option<Place>,
    /// Until when a person holds it.
    pub hold: Option<Timestamp>,
    pub reverted: bool,
    /// It was set back, and nothing in the cluster tells of our move any more: its controller has never seen it.
    pub forgotten: bool,
    pub settled_once: bool,
    /// In which reconcile we moved it last.
    pub moved_in: u64,
    /// Since when it is complete on the target.
    pub complete_since: Option<Duration>,
    /// Since when it runs on the target.
    pub up_since: Option<Duration>,
    /// It was complete at some time since we moved it.
    pub was_complete: bool,
    /// It was complete for as long as it must stay so.
    pub stayed: bool,
    /// Admission refuses every change of it by us.
    pub denied: bool,
    /// Its team has changed it in a way that a run may have to skip it for.
    pub touched: bool,
    /// Its team has changed its template since we moved it.
    pub later: bool,
    /// How many changes its team made.
    pub team: u32,
    /// Its ReplicaSets.
    pub sets: Vec<Set>,
    /// Since when it makes no progress, and in which revision.
    pub stuck: Option<(i64, Duration)>,
    /// Since when it was not settled at any look of the run.
    pub unsettled: Option<Duration>,
    /// It was so for the deadline of a roll-out at the last look: a run may have given it up.
    pub late: bool,
}

/// A place of the limit.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// When it was seen in flight last.
    pub seen: Duration,
    pub back: bool,
}

/// What orders the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Plan and run are there.
    Stands,
    /// The run is gone, and is made again as soon as the plan makes runs.
    RunGone,
    /// The plan is gone; the run is as it was, until it is collected.
    PlanGone,
    /// Both are gone.
    AllGone,
}

#[derive(Debug, Clone)]
pub struct World {
    pub v: Validated,
    pub status: RepaveRunStatus,
    pub workloads: BTreeMap<WorkloadKey, Sim>,
    pub gate: Gate,
    /// The time of day.
    pub now: Timestamp,
    /// The monotonic time.
    pub mono: Duration,
    /// What the process remembers; a crash loses it.
    pub memory: RunMemory,
    /// Runs of other plans that are at work.
    pub active_runs: BTreeSet<String>,
    pub releases: Vec<Release>,
    /// A stale plan has written: limits are then only promised by the lease.
    pub second_leader: bool,
    /// By the monotonic time.
    pub active_at: Vec<Option<Duration>>,
    /// The waves that have passed for good.
    pub passed: Vec<bool>,
    /// How many reconciles there were.
    pub reconciles: u64,
    /// In which of them each wave soaked last.
    pub soaked_in: Vec<u64>,
    pub order: Order,
    /// How many objects were made anew: each has a UID of its own.
    pub made: u64,
    /// Workloads that were deleted, as they were then.
    pub graves: BTreeMap<WorkloadKey, Sim>,
    /// The places of those that were deleted in flight.
    pub vanished: Vec<Place>,
    /// How many reconciles there had been when this run was made.
    pub run_began: u64,
    /// The waves of which this run has moved something.
    pub moved: Vec<bool>,
    /// Those of which its status says so.
    pub begun: Vec<bool>,
    /// What the process that writes has seen of each workload; `None` for one that sees everything at once.
    pub eyes: Option<BTreeMap<WorkloadKey, Value>>,
}

/// What one reconcile is made to suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The process dies after so many actions: no status.
    CrashAfter(usize),
    /// Everything is written, but no answer arrives.
    LostResponses,
}

fn layers(seeds: &[u8]) -> Vec<Digest> {
    seeds.iter().map(|seed| Digest::of(&[*seed])).collect()
}

pub fn release(tag: &str, at: i64) -> Release {
    let seed = u8::try_from(at).unwrap();
    Release {
        base_image: "debian".to_owned(),
        candidate: format!("debian-{tag}"),
        repository: REPOSITORY.parse().unwrap(),
        digest: Digest::of(tag.as_bytes()),
        tag: tag.to_owned(),
        chain_id: chain_ids(&layers(&[seed])).pop().unwrap(),
        layers: 1,
        sequence: u64::from(seed),
        // Times are for people: the clock of this world runs backwards, and nothing may depend on it.
        promoted_at: Timestamp::from_second(-at).unwrap(),
        revoked: false,
    }
}

pub fn run(spec: &Value) -> RepaveRun {
    let target = release("v3", 3);
    let mut object = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "RepaveRun",
        "metadata": {"name": "all-v3", "namespace": "platform", "generation": 1, "uid": "run"},
        "spec": {
            "plan": "all", "baseImage": "debian", "candidate": target.candidate, "repository": REPOSITORY,
            "digest": target.digest, "tag": "v3", "sequence": target.sequence,
            "targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}},
            "waves": [
                {"name": "canary", "selector": {"matchLabels": {"tier": "canary"}}, "maxConcurrent": 1, "soak": "10s"},
                {"name": "rest", "maxConcurrent": 2, "soak": "0s"}],
            "health": {"rolloutDeadline": "30s", "minReadySeconds": 0},
            "onFailure": {"budget": 1, "action": "RollbackWorkload"},
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

impl World {
    pub fn new(spec: &Value, workloads: &[(Kind, Behaviour, bool)]) -> Self {
        let run = run(spec);
        let v = validate(&run).unwrap();
        let mut world = Self {
            active_at: vec![None; v.waves.len()],
            passed: vec![false; v.waves.len()],
            reconciles: 0,
            soaked_in: vec![0; v.waves.len()],
            order: Order::Stands,
            made: 0,
            graves: BTreeMap::new(),
            vanished: Vec::new(),
            run_began: 0,
            moved: vec![false; v.waves.len()],
            begun: vec![false; v.waves.len()],
            eyes: None,
            v,
            status: RepaveRunStatus::default(),
            workloads: BTreeMap::new(),
            gate: Gate::open(),
            now: Timestamp::from_second(1_000).unwrap(),
            mono: Duration::ZERO,
            memory: RunMemory::default(),
            active_runs: BTreeSet::new(),
            releases: vec![release("v1", 1), release("v2", 2), release("v3", 3)],
            second_leader: false,
        };
        for (at, (kind, behaviour, canary)) in workloads.iter().enumerate() {
            let name = format!("app-{at}");
            let sim = new_workload(&name, *kind, *behaviour, *canary);
            let key = WorkloadKey::deployment("shop", name);
            world.workloads.insert(key.clone(), sim);
            world.tick(&key);
        }
        world
    }

    pub fn key(&self, at: usize) -> WorkloadKey {
        self.workloads.keys().nth(at % self.workloads.len()).unwrap().clone()
    }

    pub fn target(&self) -> String {
        self.v.repository.at(&self.v.digest).to_string()
    }

    pub fn observed(&self) -> Observed {
        let sims = self.workloads.values();
        self.observed_of(sims.map(|sim| (parse(&sim.object), self.pods(sim))).collect())
    }

    /// What is observed where these workloads are seen, with their pods.
    pub fn observed_of(&self, found: Vec<(Workload, Vec<Pod>)>) -> Observed {
        let releases = ReleaseIndex::new("debian", self.releases.clone());
        let image = self.v.repository.at(&self.v.digest);
        let query = Query {
            scope: &self.v.scope,
            releases: &releases,
            supervised: Some(Supervised {
                run_ref: &self.v.run_ref,
                image: &image,
                steady: &self.memory.steady,
            }),
        };
        let layers = |digest: &Digest| {
            if *digest == Digest::of(b"derived") {
                Layers::Known(layers(&[1, 9]).into())
            } else {
                Layers::Unreadable
            }
        };
        Observed {
            gate: self.gate.clone(),
            estate: assemble(found, query, &layers),
            target: Some(self.releases[2].clone()),
            releases,
        }
    }

    pub fn tick_all(&mut self) {
        for key in self.workloads.keys().cloned().collect::<Vec<_>>() {
            self.tick(&key);
        }
    }
}
