//! What happens in the small cluster without Repave: the deployment controller, the pods, and what people and other tools do
//! to a workload.

use super::{
    objects::{bump, bump_generation, image_of, observed},
    world::{Behaviour, Kind, Sim, World},
};
use crate::domain::workload::{REVISION_ANNOTATION, WorkloadKey};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
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
    /// Time passes, on every clock.
    pub fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.mono += Duration::from_secs(seconds.unsigned_abs());
    }

    pub fn pods(&self, sim: &Sim) -> Vec<Pod> {
        let image = self.target();
        let on_target = image_of(&sim.object) == image;
        let crashes = match sim.behaviour {
            Behaviour::Crashes => true,
            Behaviour::CrashesLater => sim.object["status"]["availableReplicas"] == 0,
            Behaviour::Healthy | Behaviour::NeverReady | Behaviour::UnreadyLater => false,
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
}

impl Sim {
    /// The deployment controller numbers every template that it has not seen as the last one.
    fn note_revision(&mut self) {
        let template = &self.object["spec"]["template"];
        if self.templates.last() != Some(template) {
            self.templates.push(template.clone());
            self.object["metadata"]["annotations"][REVISION_ANNOTATION] = json!(self.templates.len().to_string());
        }
    }

    /// Available replicas (2 is all of them), and the reason of the condition Progressing.
    fn health(&mut self, target: &str, mono: Duration) -> (i32, &'static str) {
        let on_target = image_of(&self.object) == target && self.kind != Kind::OnTarget;
        let first = self.object["status"].is_null();
        let broken_by_its_team = team_env(&self.object).starts_with("bad");
        let result = match (self.kind, self.behaviour, on_target) {
            (Kind::UnhealthyBefore, _, _) => (1, "ProgressDeadlineExceeded"),
            (Kind::BusyBefore, _, false) if first => (1, "ReplicaSetUpdated"),
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
        let revision = self.templates.len();
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
