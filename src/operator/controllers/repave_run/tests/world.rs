//! A small cluster in memory: Deployments as the API server stores them, JSON patches as it applies them, and a
//! deployment controller that a test drives step by step. Every patch is checked against the promises of a run.

use super::{
    super::{
        apply::Applied,
        assemble,
        estate::Query,
        gate::Gate,
        images::Layers,
        observe::Observed,
        overlay,
        plan::{self, Action},
        progress,
        status::{self, Summary},
        target,
        validate::{Validated, validate},
    },
    objects::{bump, bump_generation, image_of, new_workload, observed, parse, patched, without_ours},
};
use crate::{
    api::{RepaveRun, RepaveRunStatus},
    controllers::driver::Next,
    domain::{
        digest::Digest,
        lineage::{Release, ReleaseIndex, chain_ids},
        wave,
        workload::{Rollout, WorkloadKey},
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub const REPOSITORY: &str = "registry.test/base/debian";

/// How a workload behaves on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Healthy,
    Crashes,
    NeverReady,
    CrashesLater,
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
    /// Since when it makes no progress, and in which generation.
    pub stuck: Option<(Value, Timestamp)>,
}

#[derive(Debug, Clone)]
pub struct World {
    pub v: Validated,
    pub status: RepaveRunStatus,
    pub workloads: BTreeMap<WorkloadKey, Sim>,
    pub gate: Gate,
    pub now: Timestamp,
    pub releases: Vec<Release>,
    /// A stale plan has written: limits are then only promised by the lease.
    pub second_leader: bool,
    active_at: Vec<Option<Timestamp>>,
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
            v,
            status: RepaveRunStatus::default(),
            workloads: BTreeMap::new(),
            gate: Gate::Open,
            now: Timestamp::from_second(1_000).unwrap(),
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

    fn pods(&self, sim: &Sim) -> Vec<Pod> {
        let image = self.target();
        let on_target = image_of(&sim.object) == image;
        let crashes = match sim.behaviour {
            Behaviour::Crashes => true,
            Behaviour::CrashesLater => sim.object["status"]["availableReplicas"] == 0,
            Behaviour::Healthy | Behaviour::NeverReady => false,
        };
        if !(on_target && crashes && observed(&sim.object)) {
            return Vec::new();
        }
        let pod = json!({
            "spec": {"containers": [{"name": "app", "image": image}]},
            "status": {"containerStatuses": [{"name": "app", "image": image, "imageID": image, "ready": false,
                "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1}}}]},
        });
        vec![serde_json::from_value(pod).unwrap()]
    }

    /// The deployment controller looks at one workload.
    pub fn tick(&mut self, key: &WorkloadKey) {
        let (target, now) = (self.target(), self.now);
        let sim = self.workloads.get_mut(key).unwrap();
        let on_target = image_of(&sim.object) == target && sim.kind != Kind::OnTarget;
        let first = sim.object["status"].is_null();
        let (available, reason) = match (sim.kind, sim.behaviour, on_target) {
            (Kind::UnhealthyBefore, _, _) => (1, "ProgressDeadlineExceeded"),
            (Kind::BusyBefore, _, false) if first => (1, "ReplicaSetUpdated"),
            (_, Behaviour::Crashes | Behaviour::NeverReady, true) => {
                let generation = sim.object["metadata"]["generation"].clone();
                let since = sim
                    .stuck
                    .take()
                    .filter(|(of, _)| *of == generation)
                    .map_or(now, |(_, since)| since);
                sim.stuck = Some((generation, since));
                // spec.progressDeadlineSeconds
                let gave_up = now.duration_since(since) >= SignedDuration::from_secs(60);
                (
                    1,
                    if gave_up {
                        "ProgressDeadlineExceeded"
                    } else {
                        "ReplicaSetUpdated"
                    },
                )
            }
            (_, Behaviour::CrashesLater, true) if sim.settled_once => (0, "NewReplicaSetAvailable"),
            _ => (2, "NewReplicaSetAvailable"),
        };
        sim.settled_once = on_target && (available == 2 || sim.settled_once);
        let since = sim.object.pointer("/status/conditions/1/lastTransitionTime").cloned();
        let up = available > 0;
        let status = json!({
            "observedGeneration": sim.object["metadata"]["generation"],
            "replicas": 2, "updatedReplicas": 2, "availableReplicas": available,
            "conditions": [
                {"type": "Progressing", "status": if reason == "ProgressDeadlineExceeded" { "False" } else { "True" }, "reason": reason},
                {"type": "Available", "status": if up { "True" } else { "False" },
                    "lastTransitionTime": since.unwrap_or_else(|| json!(now.to_string()))}],
        });
        if sim.object["status"] != status {
            sim.object["status"] = status;
            bump(&mut sim.object, "resourceVersion");
        }
    }

    pub fn tick_all(&mut self) {
        for key in self.workloads.keys().cloned().collect::<Vec<_>>() {
            self.tick(&key);
        }
    }

    /// A person holds a workload.
    pub fn hold(&mut self, key: &WorkloadKey, until: Option<Timestamp>) {
        let sim = self.workloads.get_mut(key).unwrap();
        let mut hold = json!({"reason": "freeze", "by": "ann"});
        if let Some(until) = until {
            hold["until"] = json!(until.to_string());
        }
        sim.object["metadata"]["annotations"]["repave.dev/hold"] = json!(hold.to_string());
        sim.hold = Some(until.unwrap_or(Timestamp::MAX));
        bump(&mut sim.object, "resourceVersion");
    }

    /// A person sets the image back.
    pub fn revert(&mut self, key: &WorkloadKey) {
        let old = self.v.repository.at(&self.releases[0].digest).to_string();
        let sim = self.workloads.get_mut(key).unwrap();
        if sim.kind.movable() && sim.forward > 0 && sim.back == 0 {
            sim.object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(old);
            sim.reverted = true;
            bump(&mut sim.object, "resourceVersion");
            bump_generation(&mut sim.object);
        }
    }

    /// One reconcile on what `seen` shows, written to this world.
    pub fn reconcile(&mut self, seen: &Self, fault: Fault) -> Vec<Action> {
        let observed = seen.observed();
        let started = seen.status.started.as_ref().map_or(seen.now, |time| time.0);
        if seen.status.finished.is_some() {
            return Vec::new();
        }
        let mut targets = target::targets(&self.v, &observed, started, seen.now);
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
                Applied::Refused("no answer".to_owned())
            } else {
                result
            };
            applied.push((action.workload().clone(), result));
        }
        if matches!(fault, Fault::CrashAfter(_)) {
            return actions;
        }
        overlay(&mut targets, &actions, &applied);
        let outcome = status::summarize(&Summary {
            v: &seen.v,
            old: seen.status.clone(),
            generation: 1,
            observed: &observed,
            stop: plan::stop(&seen.v, &targets),
            targets: &targets,
            progress: &progress,
            refused: (fault == Fault::LostResponses && !applied.is_empty()).then(|| "no answer".to_owned()),
            lost_race: false,
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
        self.note_activity();
        actions
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
            self.now += SignedDuration::from_secs(5);
        }
        false
    }

    fn apply(&mut self, action: &Action) -> Applied {
        let key = action.workload().clone();
        let patch = match action {
            Action::Move { patch, .. } | Action::RollBack { patch, .. } => serde_json::to_value(patch).unwrap(),
        };
        let before = self.workloads[&key].object.clone();
        let Some(mut after) = patched(&before, &patch) else {
            return Applied::LostRace;
        };
        self.check_patch(&key, action, &before, &after);
        bump(&mut after, "resourceVersion");
        bump_generation(&mut after);
        let sim = self.workloads.get_mut(&key).unwrap();
        sim.object = after;
        match action {
            Action::Move { .. } => sim.forward += 1,
            Action::RollBack { .. } => sim.back += 1,
        }
        let sim = &self.workloads[&key];
        assert!(sim.forward <= 1 && sim.back <= 1, "{key} was patched twice");
        if matches!(action, Action::Move { .. }) && !self.second_leader {
            self.check_limit(&key);
        }
        Applied::Written
    }

    fn check_patch(&self, key: &WorkloadKey, action: &Action, before: &Value, after: &Value) {
        let sim = &self.workloads[key];
        assert!(sim.kind.movable(), "{key} ({:?}) must never be touched", sim.kind);
        let held = sim.hold.is_some_and(|until| until > self.now);
        assert!(!held, "{key} is held and was touched");
        assert_eq!(
            without_ours(before),
            without_ours(after),
            "{key}: another field was written"
        );
        match action {
            Action::Move { .. } => {
                // A suspension that came after a second process had looked is seen by it the next time.
                assert!(
                    self.second_leader || self.gate == Gate::Open,
                    "{key} was started though the gate is shut"
                );
                assert_eq!(
                    parse(before).rollout,
                    Rollout::Settled,
                    "{key} was started though it is not settled"
                );
                assert_eq!(image_of(after), self.target());
                if !self.second_leader {
                    self.check_waves(key);
                }
            }
            Action::RollBack { .. } => {
                assert_eq!(
                    image_of(after),
                    self.v.repository.at(&self.releases[0].digest).to_string()
                );
                let moved_at = parse(before).marks.moved_at.unwrap();
                let late = self.now.duration_since(moved_at) >= self.v.rollout_deadline;
                assert!(
                    late || sim.behaviour != Behaviour::Healthy,
                    "{key} is healthy, had time left and was rolled back"
                );
            }
        }
    }

    fn wave_of(&self, key: &WorkloadKey) -> usize {
        let labels = parse(&self.workloads[key].object).labels;
        wave::assign(&self.v.waves, &key.namespace, &key.name, &labels).unwrap()
    }

    fn in_flight(&self, sim: &Sim) -> bool {
        let held = sim.hold.is_some_and(|until| until > self.now);
        sim.forward > 0 && !held && !sim.reverted && parse(&sim.object).rollout != Rollout::Settled
    }

    /// Not the code's own idea of "in flight", but what a person would count.
    fn check_limit(&self, moved: &WorkloadKey) {
        let at = self.wave_of(moved);
        let in_flight = self.workloads.values().filter(|sim| self.in_flight(sim)).count();
        let direct = |sim: &Sim| !matches!(sim.kind, Kind::Derived | Kind::Unrelated);
        let size = self
            .workloads
            .iter()
            .filter(|(key, sim)| direct(sim) && self.wave_of(key) == at)
            .count();
        let limit = self.v.waves[at].max_concurrent.as_limit(size);
        assert!(in_flight <= limit, "{in_flight} in flight, {limit} may be");
    }

    fn active(&self, at: usize) -> bool {
        self.workloads.iter().any(|(key, sim)| {
            let held = sim.hold.is_some_and(|until| until > self.now);
            let waits = sim.kind.movable() && sim.forward == 0 && !held;
            self.wave_of(key) == at && (waits || self.in_flight(sim))
        })
    }

    fn note_activity(&mut self) {
        for at in 0..self.v.waves.len() {
            if self.active(at) {
                self.active_at[at] = Some(self.now);
            }
        }
    }

    fn check_waves(&self, moved: &WorkloadKey) {
        for at in 0..self.wave_of(moved) {
            assert!(!self.active(at), "{moved} overtook wave {at}");
            if let Some(last) = self.active_at[at] {
                let since = self.now.duration_since(last);
                assert!(since >= self.v.waves[at].soak, "wave {at} soaked {since} only");
            }
        }
    }
}
