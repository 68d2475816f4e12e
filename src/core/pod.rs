//! What the pods of a workload say: which digest a container really runs, and why it does not.
//!
//! Must not judge a workload by its pods alone: that is done together with the state of its roll-out.

use super::text::is_shown;
use super::{digest::Digest, image_ref::ImageRef};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use std::collections::BTreeSet;

/// Longest text of the cluster that is passed on, in characters.
const MAX_WORDS: usize = 160;
/// Restarts with a failure after which a container counts as crashing, even while it is just starting again.
const RESTARTS: i32 = 3;

/// What the pods with the new image say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodEvidence {
    /// A container of the new image that ends again and again.
    pub crash: Option<String>,
    /// What else keeps a pod from being ready.
    pub waiting: Option<String>,
    /// How often containers of the new image were started again, in all pods.
    pub restarts: u32,
    /// How one of them ended last, though it runs again.
    pub ended: Option<String>,
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|s| s.init_container_statuses.as_ref());
    let main = status.and_then(|s| s.container_statuses.as_ref());
    init.into_iter().flatten().chain(main.into_iter().flatten())
}

/// The digests that the living pods run in this container; none when one of them cannot be read. A pod that has not pulled its
/// image yet runs nothing.
pub fn running_digests(pods: &[Pod], container: &str) -> BTreeSet<Digest> {
    let living = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let own = living.flat_map(statuses).filter(|status| status.name == container);
    let pulled = own.filter(|status| !status.image_id.is_empty());
    let digests: Option<BTreeSet<Digest>> = pulled.map(|status| image_id_digest(&status.image_id)).collect();
    digests.unwrap_or_default()
}

/// A bare `sha256:…` is the digest of a configuration, not of a manifest: only what follows an `@` counts.
fn image_id_digest(image_id: &str) -> Option<Digest> {
    image_id.rsplit_once('@').and_then(|(_, digest)| digest.parse().ok())
}

/// What the pods that run this image say about it. The same pods give the same words, in whatever order they are listed.
pub fn evidence(pods: &[Pod], image: &ImageRef) -> PodEvidence {
    let is_new = |container: &Container| container.image.as_deref().is_some_and(|text| image.is_written_as(text));
    let mut evidence = PodEvidence::default();
    let mut reasons = Vec::new();
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let Some(spec) = pod.spec.as_ref() else { continue };
        let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
        if !containers().any(is_new) {
            continue;
        }
        reasons.extend(unscheduled(pod));
        for status in statuses(pod) {
            let container = containers().find(|container| container.name == status.name);
            let ended = ended(status, container);
            if container.is_some_and(is_new) {
                if crashes(status) {
                    evidence.crash = least(
                        evidence.crash,
                        Some(ended.clone().unwrap_or_else(|| again_and_again(status))),
                    );
                }
                let restarts = u32::try_from(status.restart_count).unwrap_or(0);
                evidence.restarts = evidence.restarts.saturating_add(restarts);
                evidence.ended = least(evidence.ended, ended);
            } else if crashes(status) {
                reasons.push((1, ended.unwrap_or_else(|| again_and_again(status))));
            }
            reasons.extend(waiting(status));
            reasons.extend(container.and_then(|container| unready(status, container)));
        }
    }
    evidence.waiting = reasons.into_iter().min().map(|(_, reason)| reason);
    evidence
}

fn least(a: Option<String>, b: Option<String>) -> Option<String> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn again_and_again(status: &ContainerStatus) -> String {
    format!("container {} ends again and again", status.name)
}

fn crashes(status: &ContainerStatus) -> bool {
    let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let backoff = waiting_reason(status) == Some("CrashLoopBackOff");
    let failed = ended.is_some_and(|end| end.exit_code != 0);
    !status.ready && (backoff || (failed && status.restart_count >= RESTARTS))
}

/// How a container ended last, if it did.
fn ended(status: &ContainerStatus, container: Option<&Container>) -> Option<String> {
    let end = status.last_state.as_ref()?.terminated.as_ref()?;
    let name = &status.name;
    // Kubernetes says in an event only that it was a probe; 137 and 143 are SIGKILL and SIGTERM.
    let probed = container.is_some_and(|container| container.liveness_probe.is_some());
    Some(match (end.reason.as_deref(), end.exit_code) {
        (Some("OOMKilled"), _) => format!("container {name} runs out of memory"),
        (_, code @ (137 | 143)) if probed => {
            format!("container {name} exits with {code}, as one whose liveness probe fails does")
        }
        (_, code) => format!("container {name} exits with {code}"),
    })
}

fn waiting_reason(status: &ContainerStatus) -> Option<&str> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    waiting.reason.as_deref()
}

/// The scheduler's own words about a pod that no node takes, without what it says about preemption.
fn unscheduled(pod: &Pod) -> Option<(u8, String)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions
        .iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    let message = scheduled.message.as_deref().unwrap_or("no reason is given");
    let message = message.split(". ").next().unwrap_or(message);
    Some((0, format!("no node takes its pod: {}", words(message))))
}

/// What a container waits for, the more telling first.
fn waiting(status: &ContainerStatus) -> Option<(u8, String)> {
    let name = &status.name;
    let state = status.state.as_ref()?.waiting.as_ref()?;
    let reason = state.reason.as_deref()?;
    let message = state.message.as_deref().unwrap_or_default();
    Some(match reason {
        // What follows is the same in both, which take turns.
        "ErrImagePull" | "ImagePullBackOff" => {
            let detail = message.rsplit_once("ErrImagePull: ").map_or(message, |(_, rest)| rest);
            let detail = detail.split_once("desc = ").map_or(detail, |(_, rest)| rest);
            let told = !detail.is_empty() && !detail.starts_with("Back-off");
            let detail = if told {
                format!(": {}", words(detail))
            } else {
                String::new()
            };
            (1, format!("container {name} cannot pull its image{detail}"))
        }
        // Told by how the container ended, and by the init container that it waits for.
        "CrashLoopBackOff" | "PodInitializing" => return None,
        "ContainerCreating" => (
            4,
            format!("container {name} is still being created: kubectl describe pod says what it waits for"),
        ),
        reason if message.is_empty() => (1, format!("container {name} waits: {}", words(reason))),
        reason => (
            1,
            format!("container {name} waits: {}: {}", words(reason), words(message)),
        ),
    })
}

/// A container that runs and is not ready.
fn unready(status: &ContainerStatus, container: &Container) -> Option<(u8, String)> {
    let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
    if !running || status.ready {
        return None;
    }
    let name = &status.name;
    if container.startup_probe.is_some() && status.started != Some(true) {
        return Some((2, format!("container {name} runs, and its startup probe fails")));
    }
    if container.readiness_probe.is_some() {
        return Some((2, format!("container {name} runs, and its readiness probe fails")));
    }
    Some((3, format!("container {name} runs and has not ended or become ready")))
}

/// Words of the cluster: bounded, and on one line.
pub fn words(text: &str) -> String {
    text.chars().filter(|c| is_shown(*c)).take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn image() -> ImageRef {
        format!("r.test/base@{}", Digest::of(b"new")).parse().unwrap()
    }

    fn pod(image: &str, status: &Value) -> Pod {
        serde_json::from_value(json!({
            "spec": {"containers": [{"name": "app", "image": image}]},
            "status": {"containerStatuses": [status]},
        }))
        .unwrap()
    }

    fn status(restarts: i32, ready: bool, state: &Value, last: &Value) -> Value {
        json!({"name": "app", "image": "x", "imageID": format!("r.test/base@{}", Digest::of(b"new")),
            "ready": ready, "restartCount": restarts, "state": state, "lastState": last})
    }

    #[test]
    fn a_crash_is_seen_with_its_exit_code_and_only_in_pods_with_the_new_image() {
        let backoff = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let running = json!({"running": {}});
        let exit = |code: i32| json!({"terminated": {"exitCode": code}});
        let says = |text: &str| Some(text.to_owned());
        for (name, status, expected) in [
            (
                "backoff",
                status(1, false, &backoff, &exit(1)),
                says("container app exits with 1"),
            ),
            (
                "third restart",
                status(3, false, &running, &exit(7)),
                says("container app exits with 7"),
            ),
            ("second restart", status(2, false, &running, &exit(7)), None),
            ("recovered", status(9, true, &running, &exit(7)), None),
            ("ends well", status(9, false, &running, &exit(0)), None),
        ] {
            assert_eq!(
                evidence(&[pod(&image().to_string(), &status)], &image()).crash,
                expected,
                "{name}"
            );
            assert_eq!(
                evidence(&[pod("r.test/base:old", &status)], &image()).crash,
                None,
                "{name}"
            );
            let with_a_tag = image().to_string().replace('@', ":12@");
            assert_eq!(
                evidence(&[pod(&with_a_tag, &status)], &image()).crash,
                expected,
                "{name}"
            );
        }
        let pull = status(
            0,
            false,
            &json!({"waiting": {"reason": "ImagePullBackOff"}}),
            &json!({}),
        );
        let found = evidence(&[pod(&image().to_string(), &pull)], &image());
        assert_eq!(
            (found.crash, found.waiting),
            (None, says("container app cannot pull its image"))
        );
    }

    #[test]
    fn the_digests_are_those_of_all_living_pods_and_none_if_one_cannot_be_read() {
        let with = |id: &str| {
            let mut status = status(0, true, &json!({}), &json!({}));
            status["imageID"] = json!(id);
            pod("r.test/base:1", &status)
        };
        let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
        let id = |digest: &Digest| format!("docker-pullable://r.test/base@{digest}");
        let digests = |ids: &[&str], name: &str| {
            let pods: Vec<Pod> = ids.iter().map(|id| with(id)).collect();
            running_digests(&pods, name)
        };
        let (id_a, id_b) = (id(&a), id(&b));
        assert_eq!(digests(&[&id_a, &id_a], "app"), [a.clone()].into());
        assert_eq!(digests(&[&id_a, &id_b], "app"), [a.clone(), b.clone()].into());
        assert_eq!(digests(&[&id_a, ""], "app"), [a.clone()].into(), "not pulled yet");
        assert_eq!(digests(&[&id_a, a.as_str()], "app"), BTreeSet::new());
        assert_eq!(digests(&[""], "app"), BTreeSet::new());
        assert_eq!(digests(&[&id_a], "other"), BTreeSet::new());
        assert_eq!(digests(&[], "app"), BTreeSet::new());
    }
}
