//! What happens in the small cluster without Repave: the deployment controller, the pods, and what people and other tools do
//! to a workload.

use super::{
    objects::{bump, bump_generation, image_of, observed},
    world::{Behaviour, Kind, Sim, World},
};
use crate::{
    controllers::inventory::LeanReplicaSet,
    domain::{
        revisions::{Revision, Revisions},
        workload::{REVISION_ANNOTATION, WorkloadKey},
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// `spec.progressDeadlineSeconds`.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(60);

/// What a team changes in its own workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TeamChange {
    /// `kubectl rollout restart`, a new environment variable: it becomes healthy.
    Good,
    /// A change that never becomes ready.
    Bad,
    /// `kubectl scale`.
    Scale(u32),
    /// `kubectl rollout pause`.
    Pause,
    /// `kubectl rollout resume`.
    Resume,
}

fn team_env(object: &Value) -> &str {
    let env = object.pointer("/spec/template/spec/containers/0/env/0/value");
    env.and_then(Value::as_str).unwrap_or_default()
}

impl World {
    /// Somebody or NTP sets the clock.
    pub fn jump(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// Time passes, on every clock.
    pub fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.mono += Duration::from_secs(seconds.unsigned_abs());
    }

    pub fn pods(&self, sim: &Sim) -> Vec<Pod> {
        let image = self.target();
        let on_target = image_of(&sim.object) == image;
        if sim.behaviour == Behaviour::Restarts && on_target && observed(&sim.object) {
            return sim.restarting(&image, self.mono).into_iter().collect();
        }
        let crashes = match sim.behaviour {
            Behaviour::Crashes => true,
            Behaviour::CrashesLater => sim.object["status"]["availableReplicas"] == 0,
            Behaviour::Healthy | Behaviour::NeverReady | Behaviour::UnreadyLater | Behaviour::Restarts => false,
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
        let (target, now, mono) = (self.target(), self.now, self.mono);
        let sim = self.workloads.get_mut(key).unwrap();
        if sim.object["spec"]["paused"] == true && sim.kind != Kind::Paused {
            let seen = sim.object["metadata"]["generation"].clone();
            sim.object["status"]["observedGeneration"] = seen;
            // Kubernetes counts its deadline from when it is resumed.
            sim.stuck = None;
            return;
        }
        sim.note_revision();
        let wanted = sim.object["spec"]["replicas"].as_u64().unwrap_or_default();
        let (available, reason) = match sim.health(&target, mono) {
            // Without pods nothing is missing.
            _ if wanted == 0 && sim.kind.movable() => (0, "NewReplicaSetAvailable"),
            (2, reason) => (wanted, reason),
            (1, reason) => (wanted.saturating_sub(1), reason),
            (_, reason) => (0, reason),
        };
        let since = sim.object.pointer("/status/conditions/1/lastTransitionTime").cloned();
        let up = available > 0 || wanted == 0;
        let status = json!({
            "observedGeneration": sim.object["metadata"]["generation"],
            "replicas": wanted, "updatedReplicas": wanted,
            "availableReplicas": available,
            "conditions": [
                {"type": "Progressing", "status": if reason == "ProgressDeadlineExceeded" { "False" } else { "True" }, "reason": reason},
                {"type": "Available", "status": if up { "True" } else { "False" },
                    "lastTransitionTime": since.unwrap_or_else(|| json!(now.to_string()))}],
        });
        if sim.object["status"] != status {
            sim.object["status"] = status;
            bump(&mut sim.object, "resourceVersion");
        }
        let on_target = image_of(&sim.object) == target;
        let complete = on_target && (available == wanted);
        sim.was_complete |= complete;
        sim.complete_since = complete.then(|| sim.complete_since.unwrap_or(mono));
        sim.up_since = on_target.then(|| sim.up_since.unwrap_or(mono));
        self.note_stayed();
    }

    /// The deployment controller's status of the present generation.
    pub fn shows(&mut self, key: &WorkloadKey, mut status: Value) {
        let sim = self.workloads.get_mut(key).unwrap();
        status["observedGeneration"] = sim.object["metadata"]["generation"].clone();
        sim.object["status"] = status;
        bump(&mut sim.object, "resourceVersion");
    }

    /// A team changes its own workload.
    pub fn team(&mut self, key: &WorkloadKey, change: TeamChange) {
        let sim = self.workloads.get_mut(key).unwrap();
        sim.touched |= !matches!(change, TeamChange::Scale(_));
        let spec = &mut sim.object["spec"];
        match change {
            TeamChange::Good | TeamChange::Bad => {
                sim.team += 1;
                let word = if change == TeamChange::Bad { "bad" } else { "good" };
                let value = format!("{word}-{}", sim.team);
                spec["template"]["spec"]["containers"][0]["env"] = json!([{"name": "TEAM", "value": value}]);
                sim.later = true;
            }
            TeamChange::Scale(replicas) => spec["replicas"] = json!(replicas),
            TeamChange::Pause => spec["paused"] = json!(true),
            TeamChange::Resume => spec["paused"] = json!(sim.kind == Kind::Paused),
        }
        bump(&mut sim.object, "resourceVersion");
        bump_generation(&mut sim.object);
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
        // Annotations of a Deployment are copied to its ReplicaSets, so they count as a change of its spec.
        bump_generation(&mut sim.object);
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

    /// `kubectl replace` with the file that it was made from: no annotation survives it.
    pub fn replace(&mut self, key: &WorkloadKey) {
        self.revert(key);
        let target = self.target();
        let sim = self.workloads.get_mut(key).unwrap();
        if sim.reverted {
            sim.object["metadata"]["annotations"] = json!({});
            (sim.hold, sim.touched) = (None, true);
            sim.note_forgotten(&target);
            bump(&mut sim.object, "resourceVersion");
        }
    }

    /// `kubectl rollout undo`, as `polymorphichelpers/rollback.go` of kubectl 1.36 does it: the template and the annotations of
    /// the ReplicaSet with the second greatest revision, but for the annotations that it skips.
    pub fn undo(&mut self, key: &WorkloadKey) {
        let target = self.target();
        let sim = self.workloads.get_mut(key).unwrap();
        let mut sets: Vec<&Set> = sim.sets.iter().collect();
        sets.sort_by_key(|set| std::cmp::Reverse(set.revision));
        let (Some(set), false) = (sets.get(1).copied().cloned(), sim.object["spec"]["paused"] == true) else {
            return;
        };
        if set.template == sim.object["spec"]["template"] {
            return;
        }
        let before = image_of(&sim.object) == target;
        let mut annotations = sim.object["metadata"]["annotations"].as_object().unwrap().clone();
        annotations.retain(|key, _| SKIPPED.contains(&key.as_str()));
        annotations.extend(set.annotations.clone());
        sim.object["metadata"]["annotations"] = Value::Object(annotations);
        sim.object["spec"]["template"] = set.template;
        let after = image_of(&sim.object) == target;
        sim.reverted = !after && (before || sim.reverted);
        (sim.later, sim.touched) = (true, true);
        sim.note_forgotten(&target);
        sim.hold = held_by_a_person(&sim.object);
        bump(&mut sim.object, "resourceVersion");
        bump_generation(&mut sim.object);
    }

    /// The world's own idea of what has stayed healthy.
    pub fn note_stayed(&mut self) {
        let (mono, must) = (self.mono, self.v.min_ready);
        for sim in self.workloads.values_mut() {
            let since = sim.complete_since.max(sim.last_restart(mono));
            let complete = sim.complete_since.is_some();
            sim.stayed |= complete && since.is_some_and(|since| mono.saturating_sub(since) >= must);
            sim.stayed &= sim.up_since.is_some();
        }
    }
}

/// Annotations that neither the deployment controller copies to a ReplicaSet nor kubectl brings back from one.
const SKIPPED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION_ANNOTATION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];
/// `spec.revisionHistoryLimit`.
const HISTORY_LIMIT: usize = 10;
/// How often a container with [`Behaviour::Restarts`] ends.
const RESTARTS_EVERY: u64 = 4;

/// A ReplicaSet, as far as it is remembered.
#[derive(Debug, Clone, Hash)]
pub struct Set {
    pub template: Value,
    pub annotations: Map<String, Value>,
    pub revision: i64,
}

pub fn held_by_a_person(object: &Value) -> Option<Timestamp> {
    let text = object["metadata"]["annotations"]["repave.dev/hold"].as_str()?;
    let hold: Value = serde_json::from_str(text).unwrap();
    let until = hold["until"].as_str().map(|until| until.parse().unwrap());
    (hold["by"] == "ann").then(|| until.unwrap_or(Timestamp::MAX))
}

impl Sim {
    /// What `getNewReplicaSet` of the deployment controller does: the ReplicaSet of the template is made, or used again, and gets
    /// the greatest revision and the Deployment's annotations on top of its own.
    fn note_revision(&mut self) {
        let template = self.object["spec"]["template"].clone();
        let at = self.sets.iter().position(|set| set.template == template);
        let at = at.unwrap_or_else(|| {
            let (annotations, revision) = (Map::new(), 0);
            self.sets.push(Set {
                template,
                annotations,
                revision,
            });
            self.sets.len() - 1
        });
        let others = self.sets.iter().enumerate().filter(|(other, _)| *other != at);
        let greatest = others.map(|(_, set)| set.revision).max().unwrap_or(0);
        let set = &mut self.sets[at];
        set.revision = set.revision.max(greatest + 1);
        let own = self.object["metadata"]["annotations"].as_object().unwrap();
        let copied = own.iter().filter(|(key, _)| !SKIPPED.contains(&key.as_str()));
        set.annotations
            .extend(copied.map(|(key, value)| (key.clone(), value.clone())));
        let revision = set.revision;
        self.object["metadata"]["annotations"][REVISION_ANNOTATION] = json!(revision.to_string());
        if self.sets.len() > HISTORY_LIMIT + 1 {
            self.sets.sort_by_key(|set| set.revision);
            self.sets.remove(0);
        }
    }

    /// What no ReplicaSet tells of, only a process that saw it can know: then nothing is promised.
    pub fn note_forgotten(&mut self, target: &str) {
        let told = |set: &Set| set.template["spec"]["containers"][0]["image"] == target;
        if self.reverted && !self.sets.iter().any(told) {
            (self.reverted, self.forgotten) = (false, true);
            (self.forward, self.back) = (0, 0);
        }
    }

    fn revision(&self) -> i64 {
        self.sets.iter().map(|set| set.revision).max().unwrap_or(0)
    }

    /// Its ReplicaSets, as the API server shows them.
    pub fn revisions(&self) -> Revisions {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "controller": true,
            "name": self.object["metadata"]["name"], "uid": self.object["metadata"]["uid"]}]);
        let sets = self.sets.iter().map(|set| {
            let mut annotations = set.annotations.clone();
            annotations.insert(REVISION_ANNOTATION.to_owned(), json!(set.revision.to_string()));
            let object = json!({"metadata": {"annotations": annotations, "ownerReferences": owner},
                "spec": {"selector": {}, "template": set.template}});
            serde_json::from_value(object).unwrap()
        });
        sets.filter_map(|set: LeanReplicaSet| Revision::read(&set.metadata, &set.images))
            .collect()
    }

    fn restarts(&self, mono: Duration) -> u64 {
        let up = self.up_since.map_or(Duration::ZERO, |since| mono.saturating_sub(since));
        if self.behaviour == Behaviour::Restarts {
            up.as_secs() / RESTARTS_EVERY
        } else {
            0
        }
    }

    fn last_restart(&self, mono: Duration) -> Option<Duration> {
        let restarts = self.restarts(mono);
        let after = Duration::from_secs(restarts * RESTARTS_EVERY);
        self.up_since.filter(|_| restarts > 0).map(|since| since + after)
    }

    /// A pod without a readiness probe, whose container ends now and then: it is always ready when somebody looks.
    fn restarting(&self, image: &str, mono: Duration) -> Option<Pod> {
        let mut status = json!({"name": "app", "image": image, "imageID": image, "ready": true,
            "restartCount": self.restarts(mono), "state": {"running": {}}});
        if self.restarts(mono) > 0 {
            status["lastState"] = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        }
        let pod = json!({
            "spec": {"containers": [{"name": "app", "image": image}]}, "status": {"containerStatuses": [status]}});
        serde_json::from_value(pod).ok()
    }

    /// Available replicas (2 is all of them), and the reason of the condition Progressing.
    fn health(&mut self, target: &str, mono: Duration) -> (i32, &'static str) {
        let on_target = image_of(&self.object) == target && self.kind != Kind::OnTarget;
        let first = self.object["status"].is_null();
        let broken_by_its_team = team_env(&self.object).starts_with("bad");
        let result = match (self.kind, self.behaviour, on_target) {
            (Kind::UnhealthyBefore, _, _) => (1, "ProgressDeadlineExceeded"),
            (Kind::BusyBefore | Kind::MovedBefore, _, false) if first => (1, "ReplicaSetUpdated"),
            _ if broken_by_its_team => (1, self.stuck(mono)),
            (_, Behaviour::Crashes | Behaviour::NeverReady, true) => (1, self.stuck(mono)),
            (_, Behaviour::CrashesLater | Behaviour::UnreadyLater, true) if self.settled_once => {
                (0, "NewReplicaSetAvailable")
            }
            _ => (2, "NewReplicaSetAvailable"),
        };
        self.settled_once = on_target && (result.0 == 2 || self.settled_once);
        result
    }

    fn stuck(&mut self, mono: Duration) -> &'static str {
        let revision = self.revision();
        let same = self.stuck.filter(|(of, _)| *of == revision);
        let since = same.map_or(mono, |(_, since)| since);
        self.stuck = Some((revision, since));
        if mono.saturating_sub(since) >= PROGRESS_DEADLINE {
            "ProgressDeadlineExceeded"
        } else {
            "ReplicaSetUpdated"
        }
    }
}
