//! What the pods of a workload say: which digest a container really runs, and why it does not.
//!
//! Must not judge a workload by its pods alone: that is done together with the state of its roll-out.

use super::{digest::Digest, image_ref::ImageRef};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// Restarts with a failure after which a container counts as crashing, even while it is just starting again.
const RESTARTS: i32 = 3;

/// What the pods with the new image say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodEvidence {
    /// A container that ends again and again.
    pub crash: Option<String>,
    /// A container that does not start, and what it waits for.
    pub waiting: Option<String>,
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|s| s.init_container_statuses.as_ref());
    let main = status.and_then(|s| s.container_statuses.as_ref());
    init.into_iter().flatten().chain(main.into_iter().flatten())
}

/// The digest that every living pod runs in this container; `None` when there is none, or they do not agree.
pub fn running_digest(pods: &[Pod], container: &str) -> Option<Digest> {
    let living = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let mut found: Option<Digest> = None;
    for status in living.flat_map(statuses).filter(|status| status.name == container) {
        let digest = image_id_digest(&status.image_id)?;
        match &found {
            Some(other) if *other != digest => return None,
            Some(_) | None => found = Some(digest),
        }
    }
    found
}

/// A bare `sha256:…` is the digest of a configuration, not of a manifest: only what follows an `@` counts.
fn image_id_digest(image_id: &str) -> Option<Digest> {
    image_id.rsplit_once('@').and_then(|(_, digest)| digest.parse().ok())
}

/// What the pods that run this image say about it.
pub fn evidence(pods: &[Pod], image: &ImageRef) -> PodEvidence {
    let text = image.to_string();
    let mut evidence = PodEvidence::default();
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let Some(spec) = pod.spec.as_ref() else { continue };
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let named: Vec<&str> = containers
            .filter(|container| container.image.as_deref() == Some(text.as_str()))
            .map(|container| container.name.as_str())
            .collect();
        for status in statuses(pod).filter(|status| named.contains(&status.name.as_str())) {
            evidence.crash = evidence.crash.or_else(|| crash(status));
            evidence.waiting = evidence.waiting.or_else(|| waiting(status));
        }
    }
    evidence
}

fn crash(status: &ContainerStatus) -> Option<String> {
    let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let backoff = waiting_reason(status) == Some("CrashLoopBackOff");
    let failed = ended.is_some_and(|end| end.exit_code != 0);
    if status.ready || !(backoff || (failed && status.restart_count >= RESTARTS)) {
        return None;
    }
    Some(ended.map_or_else(
        || format!("container {} ends again and again", status.name),
        |end| match end.reason.as_deref() {
            Some("OOMKilled") => format!("container {} runs out of memory", status.name),
            Some(_) | None => format!("container {} exits with {}", status.name, end.exit_code),
        },
    ))
}

fn waiting_reason(status: &ContainerStatus) -> Option<&str> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    waiting.reason.as_deref()
}

fn waiting(status: &ContainerStatus) -> Option<String> {
    let reason = waiting_reason(status).filter(|reason| !matches!(*reason, "ContainerCreating" | "PodInitializing"))?;
    Some(format!(
        "container {} waits: {}",
        status.name,
        reason.chars().take(60).collect::<String>()
    ))
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
            (None, says("container app waits: ImagePullBackOff"))
        );
    }

    #[test]
    fn a_digest_is_believed_only_when_all_living_pods_agree() {
        let with = |id: &str| {
            let mut status = status(0, true, &json!({}), &json!({}));
            status["imageID"] = json!(id);
            pod("r.test/base:1", &status)
        };
        let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
        let id = |digest: &Digest| format!("docker-pullable://r.test/base@{digest}");
        assert_eq!(running_digest(&[with(&id(&a)), with(&id(&a))], "app"), Some(a.clone()));
        assert_eq!(running_digest(&[with(&id(&a)), with(&id(&b))], "app"), None);
        assert_eq!(running_digest(&[with(a.as_str())], "app"), None);
        assert_eq!(running_digest(&[with("")], "app"), None);
        assert_eq!(running_digest(&[with(&id(&a))], "other"), None);
        assert_eq!(running_digest(&[], "app"), None);
    }
}
