//! The objects of the small cluster: Deployments as the API server stores them, and JSON patches as it applies them.

use super::world::{Behaviour, Kind, REPOSITORY, Sim, release};
use crate::domain::{digest::Digest, image_ref::Repository, workload::Workload};
use serde_json::{Value, json};

pub fn new_workload(name: &str, kind: Kind, behaviour: Behaviour, canary: bool) -> Sim {
    let repository: Repository = REPOSITORY.parse().unwrap();
    let v1 = repository.at(&release("v1", 1).digest).to_string();
    let image = match kind {
        Kind::OnTarget => repository.at(&release("v3", 3).digest).to_string(),
        Kind::Derived => format!("registry.test/shop/app@{}", Digest::of(b"derived")),
        Kind::Unrelated => format!("registry.test/other/app@{}", Digest::of(b"other")),
        Kind::Mirror => format!("mirror.test/base/debian@{}", release("v1", 1).digest),
        Kind::MovedBefore => repository.at(&release("v2", 2).digest).to_string(),
        Kind::Direct | Kind::TwoContainers | Kind::Flux | Kind::Paused | Kind::UnhealthyBefore | Kind::BusyBefore => v1,
    };
    let mut labels = json!({"app": name});
    if canary {
        labels["tier"] = json!("canary");
    }
    if kind == Kind::Flux {
        labels["kustomize.toolkit.fluxcd.io/name"] = json!("apps");
    }
    let mut containers = vec![json!({"name": "app", "image": image, "command": ["run"]})];
    if kind == Kind::TwoContainers {
        containers.push(json!({"name": "log", "image": format!("registry.test/log@{}", Digest::of(b"log"))}));
    }
    let mut object = json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": "1",
            "generation": 1, "labels": labels, "annotations": {"deployment.kubernetes.io/revision": "1"}},
        "spec": {"replicas": 2, "paused": kind == Kind::Paused, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers}}},
    });
    if kind == Kind::MovedBefore {
        mark_of_the_run_before(&mut object);
    }
    Sim {
        kind,
        behaviour,
        object,
        forward: 0,
        back: 0,
        before: repository.at(&release("v1", 1).digest).to_string(),
        back_at: None,
        place: None,
        hold: None,
        reverted: false,
        forgotten: false,
        settled_once: false,
        moved_in: 0,
        complete_since: None,
        up_since: None,
        was_complete: false,
        stayed: false,
        denied: false,
        touched: false,
        later: false,
        team: 0,
        sets: Vec::new(),
        stuck: None,
        unsettled: None,
        late: false,
    }
}

/// As the run of the same plan to the release before leaves it behind when it has moved it.
fn mark_of_the_run_before(object: &mut Value) {
    let (v1, v2) = (release("v1", 1), release("v2", 2));
    let workload = parse(object);
    let record = json!({"at": v1.promoted_at.to_string(), "plan": "platform/all", "runUid": "run-before", "digest": v2.digest,
        "sequence": v2.sequence, "generation": 0, "template": workload.template(), "revision": 0, "uid": workload.uid});
    let previous = json!({"app": format!("{REPOSITORY}@{}", v1.digest)});
    let annotations = &mut object["metadata"]["annotations"];
    annotations["repave.dev/run"] = json!("platform/all-v2");
    annotations["repave.dev/moved"] = json!(record.to_string());
    annotations["repave.dev/previous-images"] = json!(previous.to_string());
}

pub fn parse(object: &Value) -> Workload {
    Workload::from_deployment(&serde_json::from_value(object.clone()).unwrap()).unwrap()
}

pub fn image_of(object: &Value) -> String {
    object["spec"]["template"]["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap()
        .to_owned()
}

pub fn observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

pub fn bump(object: &mut Value, field: &str) {
    let old: u64 = object["metadata"][field].as_str().unwrap().parse().unwrap();
    object["metadata"][field] = json!((old + 1).to_string());
}

pub fn bump_generation(object: &mut Value) {
    object["metadata"]["generation"] = json!(object["metadata"]["generation"].as_i64().unwrap() + 1);
}

/// The object without the fields that a run may write.
pub fn without_ours(object: &Value) -> Value {
    let mut object = object.clone();
    object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(null);
    let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.retain(|key, _| !key.starts_with("repave.dev/"));
    object
}

/// A JSON patch as the API server applies it; `None` when a test fails.
pub fn patched(object: &Value, patch: &Value) -> Option<Value> {
    let mut object = object.clone();
    for op in patch.as_array().unwrap() {
        let (path, value) = (op["path"].as_str().unwrap(), &op["value"]);
        match op["op"].as_str().unwrap() {
            "test" => {
                if object.pointer(path) != Some(value) {
                    return None;
                }
            }
            "remove" => {
                let (parent, key) = path.rsplit_once('/').unwrap();
                let parent = object.pointer_mut(parent)?.as_object_mut()?;
                parent.remove(&key.replace("~1", "/").replace("~0", "~"))?;
            }
            "replace" => *object.pointer_mut(path)? = value.clone(),
            "add" => {
                let (parent, key) = path.rsplit_once('/').unwrap();
                let parent = object.pointer_mut(parent)?.as_object_mut()?;
                parent.insert(key.replace("~1", "/").replace("~0", "~"), value.clone());
            }
            other => panic!("no such operation: {other}"),
        }
    }
    Some(object)
}
