//! A small cluster in memory: Deployments as the API server stores them, JSON patches as it applies them, and a run that a
//! test drives step by step. What happens without Repave is in `sim`; every patch is checked against `promises`.

use super::{
    super::{
        apply::{Applied, Halt},
        assemble,
        estate::Query,
        gate::Gate,
        images::Layers,
        memory::RunMemory,
        observe::Observed,
        plan::{self, Action},
        progress,
        status::{self, Summary},
        step::{note, overlay, reopens},
        target::{self, Known},
        validate::{Validated, validate},
    },
    objects::{bump, bump_generation, new_workload, parse, patched},
};
use crate::{
    api::{RepaveRun, RepaveRunStatus},
    controllers::driver::Next,
    domain::{
        digest::Digest,
        lineage::{Release, ReleaseIndex, chain_ids},
        workload::{Rollout, WorkloadKey},
    },
};
use jiff::{SignedDuration, Timestamp};
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
}

impl Kind {
    /// Whether a run may ever patch it.
    pub fn movable(self) -> bool {
        matches!(self, Self::Direct | Self::TwoContainers | Self::BusyBefore)
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
    /// Until when a person holds it.
    pub hold: Option<Timestamp>,
    pub reverted: bool,
    pub settled_once: bool,
    /// When we moved it last.
    pub moved_at: Option<Timestamp>,
    /// Admission refuses every change of it by us.
    pub denied: bool,
    /// Its team has changed it in a way that a run may have to skip it for.
    pub touched: bool,
    /// Its team has changed its template since we moved it.
    pub later: bool,
    /// How many changes its team made.
    pub team: u32,
    /// The templates that the deployment controller has seen.
    pub templates: Vec<Value>,
    /// Since when it makes no progress, and in which revision.
    pub stuck: Option<(usize, Duration)>,
    /// Since when it was not settled at any look of the run.
    pub unsettled: Option<Duration>,
    /// It was so for the deadline of a roll-out at the last look: a run may have given it up.
    pub late: bool,
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
    pub active_at: Vec<Option<Timestamp>>,
    /// The waves that have passed for good.
    pub passed: Vec<bool>,
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
            "health": {"rolloutDeadline": "30s"},
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
            v,
            status: RepaveRunStatus::default(),
            workloads: BTreeMap::new(),
            gate: Gate::Open,
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
            let key = WorkloadKey {
                namespace: "shop".to_owned(),
                name,
            };
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
        let releases = ReleaseIndex::new("debian", self.releases.clone());
        let image = self.v.repository.at(&self.v.digest);
        let found = self
            .workloads
            .values()
            .map(|sim| (parse(&sim.object), self.pods(sim)))
            .collect();
        let query = Query {
            scope: &self.v.scope,
            releases: &releases,
            supervised: Some((&self.v.mark, &image)),
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

    /// One reconcile on what `seen` shows, written to this world.
    pub fn reconcile(&mut self, seen: &Self, fault: Fault) -> Vec<Action> {
        let actions = self.one_reconcile(seen, fault);
        if matches!(fault, Fault::CrashAfter(_)) {
            self.memory = RunMemory::default();
        }
        actions
    }

    fn one_reconcile(&mut self, seen: &Self, fault: Fault) -> Vec<Action> {
        let observed = seen.observed();
        let started = seen.status.started.as_ref().map_or(seen.now, |time| time.0);
        self.note_late(seen);
        let mut memory = seen.memory.clone();
        let elapsed = memory.sightings.look(target::looks(&seen.v, &observed), seen.mono);
        let refusals = memory.refusals.clone();
        let known = Known {
            waves: &seen.status.waves,
            elapsed: &elapsed,
            refusals: &refusals,
            mono: seen.mono,
            active_runs: &seen.active_runs,
        };
        let mut targets = target::targets(&self.v, &observed, known, seen.now);
        if seen.status.finished.is_some() && !reopens(&observed.gate, &targets) {
            return Vec::new();
        }
        let progress = progress::progress(&self.v, &targets, &seen.status.waves, seen.now);
        let actions = plan::plan(&self.v, &observed, &targets, &progress, seen.now);
        assert_eq!(
            actions,
            plan::plan(&self.v, &observed, &targets, &progress, seen.now),
            "the plan is a function"
        );
        let mut applied = Vec::new();
        for (at, action) in actions.iter().enumerate() {
            if fault == Fault::CrashAfter(at) {
                return actions;
            }
            let result = self.apply(action);
            let result = if fault == Fault::LostResponses {
                Applied::Unknown
            } else {
                result
            };
            applied.push((action.workload().clone(), result));
        }
        if matches!(fault, Fault::CrashAfter(_)) {
            return actions;
        }
        overlay(&mut targets, &actions, &applied);
        note(&mut memory, &targets, &applied, seen.mono);
        let retrying = memory.refusals.any_pausing();
        if seen.mono == self.mono {
            self.memory = memory;
        }
        let outcome = status::summarize(&Summary {
            v: &seen.v,
            old: seen.status.clone(),
            generation: 1,
            observed: &observed,
            stop: plan::stop(&seen.v, &targets),
            targets: &targets,
            progress: &progress,
            halt: (fault == Fault::LostResponses && !applied.is_empty()).then(|| Halt::Unavailable {
                message: "no answer".to_owned(),
                quiet: Duration::from_secs(5),
            }),
            lost_race: false,
            retrying,
            started,
            now: seen.now,
        });
        let c = &outcome.status.counts;
        assert_eq!(
            c.total,
            c.pending + c.rolling + c.done + c.failed + c.held + c.skipped,
            "exactly one state each"
        );
        assert!(
            serde_json::to_string(&outcome.status).unwrap().len() < 8192,
            "a status stays small"
        );
        if outcome.status.finished.is_some() {
            assert_eq!(actions, [], "a finished run has nothing to do");
            assert!(
                targets.iter().all(target::Target::ended),
                "finished before everything came to its end"
            );
            assert_eq!(outcome.next, Next::AwaitChange);
        }
        self.status = outcome.status;
        self.check_soaks();
        actions
    }

    /// The world's own count of what has not settled for too long.
    fn note_late(&mut self, seen: &Self) {
        for (key, sim) in &seen.workloads {
            let unsettled = parse(&sim.object).rollout != Rollout::Settled;
            let since = unsettled.then(|| sim.unsettled.unwrap_or(seen.mono));
            let late = since.is_some_and(|since| {
                SignedDuration::try_from(seen.mono.saturating_sub(since)).unwrap() >= self.v.rollout_deadline
            });
            if let Some(own) = self.workloads.get_mut(key) {
                (own.unsettled, own.late) = (since, late);
            }
        }
    }

    /// The targets as the run sees them now.
    pub fn targets<'a>(&self, observed: &'a Observed) -> Vec<target::Target<'a>> {
        self.targets_of(&self.v, observed)
    }

    /// The same for another text of the run.
    pub fn targets_of<'a>(&self, v: &Validated, observed: &'a Observed) -> Vec<target::Target<'a>> {
        let mut memory = self.memory.clone();
        let elapsed = memory.sightings.look(target::looks(v, observed), self.mono);
        let known = Known {
            waves: &self.status.waves,
            elapsed: &elapsed,
            refusals: &memory.refusals,
            mono: self.mono,
            active_runs: &self.active_runs,
        };
        target::targets(v, observed, known, self.now)
    }

    pub fn step(&mut self) -> Vec<Action> {
        let seen = self.clone();
        self.reconcile(&seen, Fault::None)
    }

    /// Reconciles, lets everything settle and time pass, until the run is finished or waits for a person.
    pub fn walk_to_the_end(&mut self) -> bool {
        for _ in 0..500 {
            self.step();
            if self.status.finished.is_some() {
                return true;
            }
            self.tick_all();
            self.wait(5);
        }
        false
    }

    fn apply(&mut self, action: &Action) -> Applied {
        let key = action.workload().clone();
        let patch = match action {
            Action::Move { patch, .. } | Action::RollBack { patch, .. } => serde_json::to_value(patch).unwrap(),
        };
        if self.workloads[&key].denied {
            return Applied::Refused(format!("policy: no changes ({})", self.mono.as_secs()));
        }
        let before = self.workloads[&key].object.clone();
        let Some(mut after) = patched(&before, &patch) else {
            return Applied::LostRace;
        };
        self.check_patch(&key, action, &before, &after);
        bump(&mut after, "resourceVersion");
        bump_generation(&mut after);
        let now = self.now;
        let sim = self.workloads.get_mut(&key).unwrap();
        sim.object = after;
        match action {
            Action::Move { .. } => {
                sim.forward += 1;
                (sim.later, sim.moved_at) = (false, Some(now));
            }
            Action::RollBack { .. } => sim.back += 1,
        }
        let sim = &self.workloads[&key];
        assert!(
            sim.forward <= sim.back + 1 && sim.back <= sim.forward,
            "{key} was moved {} times and rolled back {} times",
            sim.forward,
            sim.back
        );
        if matches!(action, Action::Move { .. }) && !self.second_leader {
            self.check_limit(&key);
        }
        Applied::Written
    }
}
