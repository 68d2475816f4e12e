//! Why a roll-out does not get on, in the words of whoever knows: the containers, the scheduler, or who creates the pods.
//!
//! Only words: whether a workload failed is decided elsewhere, and nothing here must decide it.

use super::{pod::PodEvidence, workload::Workload};

/// The cause, the nearest one first: a container that ends again and again, pods that may not be created, and then what
/// keeps a pod from being ready.
pub fn cause(workload: &Workload, evidence: &PodEvidence) -> Option<String> {
    let refused = workload.pods_refused.as_ref();
    let refused = || refused.map(|words| format!("its pods cannot be created: {words}"));
    evidence
        .crash
        .clone()
        .or_else(refused)
        .or_else(|| evidence.waiting.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{digest::Digest, image_ref::ImageRef, pod};
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    fn image() -> ImageRef {
        format!("r.test/base@{}", Digest::of(b"new")).parse().unwrap()
    }

    /// A Deployment as the deployment controller of 1.36 leaves it in this condition.
    fn workload(conditions: &Value) -> Workload {
        let object = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "1", "generation": 2},
            "spec": {"replicas": 2, "selector": {}, "template": {"spec": {"containers": [
                {"name": "app", "image": image().to_string()}]}}},
            "status": {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "availableReplicas": 2,
                "conditions": conditions},
        });
        Workload::from_deployment(&serde_json::from_value(object).unwrap()).unwrap()
    }

    fn pod(container: &Value, status: &Value) -> Pod {
        let mut spec = json!({"name": "app", "image": image().to_string()});
        for (key, value) in container.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let sidecar = json!({"name": "log", "image": "r.test/log:1"});
        serde_json::from_value(
            json!({"metadata": {"name": "web-1-x"}, "spec": {"containers": [spec, sidecar]}, "status": status}),
        )
        .unwrap()
    }

    fn container(name: &str, state: &Value, last: &Value, restarts: i32) -> Value {
        json!({"containerStatuses": [{"name": name, "image": "x", "imageID": "", "ready": false, "started": false,
            "restartCount": restarts, "state": state, "lastState": last}]})
    }

    fn waits(reason: &str, message: &str) -> Value {
        let state = json!({"waiting": {"reason": reason, "message": message}});
        container("app", &state, &json!({}), 0)
    }

    fn exit(code: i32, reason: &str) -> Value {
        json!({"terminated": {"exitCode": code, "reason": reason}})
    }

    /// The cause that is told of one pod.
    fn told(conditions: &Value, spec: &Value, status: &Value) -> Option<String> {
        let evidence = pod::evidence(&[pod(spec, status)], &image());
        cause(&workload(conditions), &evidence)
    }

    #[test]
    fn a_pod_that_is_not_created_or_has_no_node_is_named_with_the_words_of_who_refused_it() {
        let quota = json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": "pods \"web-6b474476c4-wfvwc\" is forbidden: exceeded quota: team, requested: cpu=1, used: cpu=4, limited: cpu=4"}]);
        let no_set = json!([{"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError",
            "message": "Failed to create new replica set \"web-6b474476c4\": replicasets.apps \"web-6b474476c4\" is forbidden: exceeded quota: count"}]);
        let unschedulable = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
             no new claims to deallocate, preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."}]});
        let says = |text: &str| Some(text.to_owned());
        let none = json!([]);
        assert_eq!(
            told(&none, &json!({}), &unschedulable),
            says(
                "no node takes its pod: 0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu"
            )
        );
        assert_eq!(
            told(&quota, &json!({}), &json!({})),
            says("its pods cannot be created: exceeded quota: team, requested: cpu=1, used: cpu=4, limited: cpu=4")
        );
        assert_eq!(
            told(&no_set, &json!({}), &json!({})),
            says("its pods cannot be created: exceeded quota: count")
        );
        assert_eq!(cause(&workload(&none), &pod::PodEvidence::default()), None);
    }

    #[test]
    fn a_container_is_named_with_what_keeps_it_from_being_ready() {
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let probe = json!({"httpGet": {"path": "/", "port": 8080}});
        let backoff = json!({"waiting": {"reason": "CrashLoopBackOff",
            "message": "back-off 40s restarting failed container=app pod=web-1-x_shop(1)"}});
        let pull = "rpc error: code = NotFound desc = failed to pull and unpack image \"r.test/base\": not found";
        let plain = json!({});
        for (name, spec, status, expected) in [
            (
                "an image that is not there",
                &plain,
                waits("ErrImagePull", pull),
                "container app cannot pull its image: failed to pull and unpack image \"r.test/base\": not found",
            ),
            (
                "the same a moment later",
                &plain,
                waits(
                    "ImagePullBackOff",
                    &format!("Back-off pulling image \"r.test/base\": ErrImagePull: {pull}"),
                ),
                "container app cannot pull its image: failed to pull and unpack image \"r.test/base\": not found",
            ),
            (
                "the same from an older kubelet",
                &plain,
                waits("ImagePullBackOff", "Back-off pulling image \"r.test/base\""),
                "container app cannot pull its image",
            ),
            (
                "a missing Secret",
                &plain,
                waits("CreateContainerConfigError", "secret \"db\" not found"),
                "container app waits: CreateContainerConfigError: secret \"db\" not found",
            ),
            (
                "a readiness probe",
                &json!({"readinessProbe": probe}),
                container("app", &running, &json!({}), 0),
                "container app runs, and its readiness probe fails",
            ),
            (
                "a startup probe",
                &json!({"readinessProbe": probe, "startupProbe": probe}),
                container("app", &running, &json!({}), 0),
                "container app runs, and its startup probe fails",
            ),
            (
                "a liveness probe",
                &json!({"livenessProbe": probe}),
                container("app", &backoff, &exit(137, "Error"), 4),
                "container app exits with 137, as one whose liveness probe fails does",
            ),
            (
                "out of memory",
                &json!({"livenessProbe": probe}),
                container("app", &backoff, &exit(137, "OOMKilled"), 4),
                "container app runs out of memory",
            ),
            (
                "a crash",
                &plain,
                container("app", &backoff, &exit(3, "Error"), 4),
                "container app exits with 3",
            ),
            (
                "a crash of another container",
                &plain,
                container("log", &backoff, &exit(9, "Error"), 4),
                "container log exits with 9",
            ),
            (
                "a volume that is not there",
                &plain,
                waits("ContainerCreating", ""),
                "container app is still being created: kubectl describe pod says what it waits for",
            ),
        ] {
            assert_eq!(told(&json!([]), spec, &status).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_container_that_is_not_on_the_new_image_is_a_cause_and_no_crash_of_the_new_image() {
        let backoff = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let last = json!({"terminated": {"exitCode": 9}});
        let log = pod(&json!({}), &container("log", &backoff, &last, 5));
        let evidence = pod::evidence(std::slice::from_ref(&log), &image());
        assert_eq!((evidence.crash, evidence.restarts), (None, 0));
        let app = pod(&json!({}), &container("app", &json!({"running": {}}), &last, 2));
        let both = [
            pod::evidence(&[app.clone(), log.clone()], &image()),
            pod::evidence(&[log, app], &image()),
        ];
        assert_eq!(both[0], both[1], "the order of a list says nothing");
        assert_eq!(
            (both[0].restarts, both[0].ended.as_deref()),
            (2, Some("container app exits with 9"))
        );
    }
}
