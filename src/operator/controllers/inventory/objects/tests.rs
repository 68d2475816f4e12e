//! What is built of the objects of the estate, and what is not.

use super::*;
use crate::domain::workload::Workload;
use serde_json::{Value, json};

fn object() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 2,
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "a"},
            "annotations": {LAST_APPLIED: "{\"a\": 1}", "repave.dev/run": "platform/all",
                "deployment.kubernetes.io/revision": "3"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "App", "name": "x", "uid": "y", "controller": true}],
            "managedFields": [{"manager": "helm", "operation": "Apply", "fieldsV1": {"f:spec": {}}}]},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "a"}}, "template": {
            "metadata": {"labels": {"app": "a"}},
            "spec": {"initContainers": [{"name": "i", "image": "r.test/i:1"}],
                "containers": [{"name": "c", "image": "r.test/c:1", "env": [{"name": "A", "value": "b"}]}]}}},
        "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]},
    })
}

#[test]
fn a_workload_is_the_same_whether_its_object_was_read_whole_or_pruned() {
    let whole: deployment::Deployment = serde_json::from_value(object()).unwrap();
    let Watched(pruned) = serde_json::from_value(object()).unwrap();
    assert!(Workload::from_deployment(&whole).is_some());
    assert_eq!(Workload::from_deployment(&pruned), Workload::from_deployment(&whole));
    let fields = pruned.metadata.managed_fields.unwrap();
    assert!(fields.iter().all(|field| field.fields_v1.is_none()), "{fields:?}");
}

fn with_volumes(count: usize) -> String {
    let volumes: Vec<String> = (0..count)
        .map(|at| format!(r#"{{"name":"v{at}","emptyDir":{{}}}}"#))
        .collect();
    let mut object = object();
    object["metadata"]["managedFields"] = json!([]);
    object.to_string().replace(
        r#""initContainers""#,
        &format!(r#""volumes":[{}],"initContainers""#, volumes.join(",")),
    )
}

/// A volume is 30 bytes of JSON and 3 KB as a type.
#[test]
fn nothing_is_built_of_a_deployment_but_what_decides() {
    let read = |text: &str| serde_json::from_str::<Watched>(text).unwrap();
    let (few, many) = (with_volumes(1), with_volumes(40_000));
    assert!(many.len() > 1_000_000);
    let (few, many) = (read(&few), read(&many));
    // The hash has some digits more or less.
    assert!(format!("{few:?}").len().abs_diff(format!("{many:?}").len()) < 20);
    let shape = |watched: &Watched| watched.0.spec.as_ref().unwrap().shape;
    assert_ne!(shape(&few), shape(&many), "they are part of the template all the same");
}

#[test]
fn a_deployment_of_which_more_would_be_kept_than_of_any_real_one_is_none() {
    let labels: serde_json::Map<_, _> = (0..4_000).map(|at| (format!("a{at}"), json!("v"))).collect();
    let values: Vec<String> = (0..3_000).map(|at| format!("{at:063}")).collect();
    for (what, path, value) in [
        ("labels", "/metadata/labels", json!(labels)),
        (
            "image",
            "/spec/template/spec/containers/0/image",
            json!("x".repeat(1 << 18)),
        ),
        (
            "selector",
            "/spec/selector",
            json!({"matchExpressions": [{"key": "app", "operator": "In", "values": values}]}),
        ),
        (
            "containers",
            "/spec/template/spec/containers",
            json!(vec![json!({"name": "c", "image": "i"}); 2_000]),
        ),
    ] {
        let mut object = object();
        *object.pointer_mut(path).unwrap() = value;
        let Watched(read) = serde_json::from_value(object).unwrap();
        assert_eq!(Workload::from_deployment(&read), None, "{what}");
        assert!(read.kept() < 1_000, "{what}: {}", read.kept());
    }
}

#[test]
fn every_counted_kind_gives_the_images_of_its_pods() {
    let pod = json!({"initContainers": [{"name": "i", "image": "r.test/i"}], "containers": [{"name": "c", "image": "r.test/c"}]});
    let template = json!({"spec": pod});
    for (kind, spec) in [
        ("StatefulSet", json!({"replicas": 1, "template": template})),
        (
            "CronJob",
            json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}),
        ),
        ("Pod", pod.clone()),
    ] {
        let object = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": spec});
        let consumer: Consumer = serde_json::from_value(object).unwrap();
        assert_eq!(consumer.images, ["r.test/i", "r.test/c"], "{kind}");
        assert!(!consumer.owned);
    }
    let empty: Consumer = serde_json::from_value(json!({"metadata": {}})).unwrap();
    assert!(empty.images.is_empty());
}

#[test]
fn a_pod_keeps_what_its_containers_run_and_how_they_do() {
    let LeanPod(pod) = serde_json::from_value(json!({
        "metadata": {"name": "a-1", "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "r.test/c", "env": [{"name": "A"}],
            "readinessProbe": {"tcpSocket": {"port": 1}}}], "nodeName": "n"},
        "status": {"phase": "Running", "containerStatuses": [{"name": "c", "image": "r.test/c", "imageID": "x",
            "ready": true, "restartCount": 1}]},
    }))
    .unwrap();
    let spec = pod.spec.unwrap();
    assert_eq!(spec.containers[0].image.as_deref(), Some("r.test/c"));
    assert_eq!(spec.containers[0].env, None);
    let probes = (&spec.containers[0].readiness_probe, &spec.containers[0].liveness_probe);
    assert!(matches!(probes, (Some(_), None)), "only that there is one: {probes:?}");
    assert_eq!(pod.status.unwrap().container_statuses.unwrap()[0].restart_count, 1);
}

/// What is only counted is kept, too: of Deployments no more than 128 KiB each.
#[test]
fn of_a_counted_object_no_more_is_kept_than_of_a_deployment() {
    let labels: serde_json::Map<_, _> = (0..8_000).map(|at| (format!("a{at}"), json!("v".repeat(60)))).collect();
    let many: Vec<Value> = (0..8_000)
        .map(|at| json!({"name": format!("c{at}"), "image": format!("r.test/{}:{at}", "x/".repeat(50) + "y")}))
        .collect();
    let mut kept = Vec::new();
    for (what, labels, containers) in [
        ("labels", json!(labels), json!([])),
        ("containers", json!({}), json!(many)),
    ] {
        let object = json!({"metadata": {"name": "a", "namespace": "n", "labels": labels},
            "spec": {"replicas": 0, "template": {"spec": {"containers": containers}}}});
        let text = object.to_string();
        assert!(text.len() < 1_500_000, "the API server takes it: {}", text.len());
        let consumer: Consumer = serde_json::from_str(&text).unwrap();
        let labels = consumer
            .metadata
            .labels
            .iter()
            .flatten()
            .map(|(a, b)| a.len() + b.len());
        let bytes = labels.sum::<usize>() + consumer.images.iter().map(String::len).sum::<usize>();
        kept.push((what, bytes));
    }
    assert!(
        kept.iter().all(|(_, bytes)| *bytes <= MAX_KEPT),
        "kept for ever: {kept:?}"
    );
}
