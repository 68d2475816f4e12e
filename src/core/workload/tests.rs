//! How a Deployment is read: its containers, its roll-out, and whose that is.

use super::*;
use serde_json::{Value, json};

fn deployment(spec: &Value, status: &Value) -> Deployment {
    let mut object = json!({
        "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 3},
        "spec": {"replicas": 2, "selector": {}, "template": {"spec": {
            "initContainers": [{"name": "setup", "image": "r.test/setup:1"}],
            "containers": [{"name": "app", "image": "r.test/app:1"}, {"name": "log", "image": "r.test/log:1"}],
        }}},
        "status": status,
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn status(generation: i64, counts: [i32; 3], conditions: &Value) -> Value {
    json!({"observedGeneration": generation, "replicas": counts[0], "updatedReplicas": counts[1],
        "availableReplicas": counts[2], "conditions": conditions})
}

fn read(spec: &Value, status: &Value) -> Rollout {
    Workload::from_deployment(&deployment(spec, status)).unwrap().rollout
}

#[test]
fn a_rollout_is_judged_as_kubectl_rollout_status_judges_it() {
    let progressing = json!([{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}]);
    let complete = json!([{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]);
    let down = json!([
        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
        {"type": "Available", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let late = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}]);
    let rolling = |supervised| Rollout::Rolling { supervised };
    let since = "2026-01-01T00:00:00Z".parse().unwrap();
    for (name, spec, status, expected) in [
        ("settled", json!({}), status(3, [2, 2, 2], &complete), Rollout::Settled),
        (
            "no replicas wanted",
            json!({"replicas": 0}),
            status(3, [0, 0, 0], &complete),
            Rollout::Settled,
        ),
        (
            "not seen yet",
            json!({}),
            status(2, [2, 2, 2], &complete),
            rolling(true),
        ),
        ("no status", json!({}), json!({}), rolling(true)),
        (
            "old replica left",
            json!({}),
            status(3, [3, 2, 2], &progressing),
            rolling(true),
        ),
        (
            "one is new",
            json!({}),
            status(3, [2, 1, 2], &progressing),
            rolling(true),
        ),
        (
            "not available",
            json!({}),
            status(3, [2, 2, 1], &progressing),
            rolling(true),
        ),
        (
            "nobody watches",
            json!({}),
            status(3, [2, 2, 1], &json!([])),
            rolling(false),
        ),
        (
            "a new one begins",
            json!({}),
            status(3, [2, 0, 2], &complete),
            rolling(true),
        ),
        (
            "recreate begins",
            json!({}),
            status(3, [0, 0, 0], &complete),
            rolling(true),
        ),
        (
            "lost one",
            json!({}),
            status(3, [2, 2, 1], &complete),
            Rollout::Degraded {
                unavailable_since: None,
            },
        ),
        (
            "lost too many",
            json!({}),
            status(3, [2, 2, 0], &down),
            Rollout::Degraded {
                unavailable_since: Some(since),
            },
        ),
        (
            "gave up",
            json!({}),
            status(3, [2, 2, 1], &late),
            Rollout::Unhealthy {
                reason: "timed out".to_owned(),
            },
        ),
        (
            "paused",
            json!({"paused": true}),
            status(3, [2, 2, 2], &complete),
            Rollout::Paused,
        ),
    ] {
        assert_eq!(read(&spec, &status), expected, "{name}");
    }
}

#[test]
fn containers_keep_their_place_in_their_own_list() {
    let workload = Workload::from_deployment(&deployment(&json!({}), &json!({}))).unwrap();
    let places: Vec<_> = workload
        .containers
        .iter()
        .map(|c| (c.name.as_str(), c.init, c.index))
        .collect();
    assert_eq!(places, [("setup", true, 0), ("app", false, 0), ("log", false, 1)]);
}

#[test]
fn a_workload_that_is_being_deleted_is_none() {
    let mut deployment = deployment(&json!({}), &json!({}));
    deployment.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    assert_eq!(Workload::from_deployment(&deployment), None);
}
