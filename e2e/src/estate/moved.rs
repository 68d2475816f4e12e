//! Cases that are moved by exactly one write each, however they name the release.

use super::{
    act::{Act, When},
    case::{Case, IDLE, case},
    expect::{moved, on_target, said},
    place::Group,
};
use serde_json::{Value, json};

const OLD: &str = "${OLD}";
const GROUP: Group = Group::Moved;

fn container(name: &str, image: &str) -> Value {
    json!({"name": name, "image": image, "command": ["/bin/sh", "-c", IDLE]})
}

/// The rows.
pub fn cases() -> Vec<Case> {
    [
        how_it_is_named(),
        where_it_is(),
        what_is_around_it(),
        what_is_written_on_it(),
    ]
    .concat()
}

fn how_it_is_named() -> Vec<Case> {
    vec![
        case("by-digest", GROUP, OLD, moved()),
        case("by-tag-and-digest", GROUP, "${REPOSITORY}:12@${OLD_DIGEST}", moved()),
        case("by-channel-tag", GROUP, "${REPOSITORY}:12", moved()).set(
            "/spec/template/spec/containers/0/imagePullPolicy",
            json!("IfNotPresent"),
        ),
        case("by-immutable-tag", GROUP, "${REPOSITORY}:${OLD_TAG}", moved()),
        case(
            "no-replicas-by-digest",
            GROUP,
            OLD,
            moved().also("/spec/replicas", json!(0)),
        )
        .set("/spec/replicas", json!(0)),
        // What it would run is not known, because nothing of it runs: at least it is named.
        case(
            "no-replicas-by-tag",
            GROUP,
            "${REPOSITORY}:12",
            said(&["no-replicas-by-tag"]),
        )
        .set("/spec/replicas", json!(0))
        .limit("an image by tag of a workload without pods is a number without a name"),
    ]
}

fn where_it_is() -> Vec<Case> {
    const INIT: &str = "/spec/template/spec/initContainers";
    let containers = "/spec/template/spec/containers";
    vec![
        case(
            "init-only",
            GROUP,
            "${OTHER}",
            moved()
                .at("/spec/template/spec/initContainers/0/image")
                .also("/spec/template/spec/containers/0/image", json!("${OTHER}")),
        )
        .set(INIT, json!([{"name": "init", "image": OLD, "command": ["/bin/true"]}])),
        case(
            "native-sidecar",
            GROUP,
            "${OTHER}",
            moved().at("/spec/template/spec/initContainers/0/image"),
        )
        .set(
            INIT,
            json!([{"name": "side", "image": OLD, "restartPolicy": "Always", "command": ["/bin/sh", "-c", IDLE]}]),
        ),
        case(
            "sidecar-only",
            GROUP,
            "${OTHER}",
            moved()
                .at("/spec/template/spec/containers/1/image")
                .also("/spec/template/spec/containers/0/image", json!("${OTHER}")),
        )
        .set(
            containers,
            json!([container("app", "${OTHER}"), container("side", OLD)]),
        ),
        case(
            "both-containers",
            GROUP,
            OLD,
            moved().also("/spec/template/spec/containers/1/image", json!("${TARGET}")),
        )
        .set(containers, json!([container("app", OLD), container("side", OLD)])),
        case(
            "init-and-main",
            GROUP,
            OLD,
            moved().also("/spec/template/spec/initContainers/0/image", json!("${TARGET}")),
        )
        .set(INIT, json!([{"name": "init", "image": OLD, "command": ["/bin/true"]}])),
    ]
}

fn what_is_around_it() -> Vec<Case> {
    vec![
        case("with-hpa", GROUP, OLD, moved()).and(json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "with-hpa"},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "with-hpa"}, "minReplicas": 1, "maxReplicas": 3,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]},
        })),
        case("with-full-pdb", GROUP, OLD, moved()).and(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "with-full-pdb"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "with-full-pdb"}}},
        })),
        case("recreate", GROUP, OLD, moved()).set("/spec/strategy", json!({"type": "Recreate"})),
        case("none-unavailable", GROUP, OLD, moved())
            .set("/spec/strategy", json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}})),
        case("no-revision-history", GROUP, OLD, moved()).set("/spec/revisionHistoryLimit", json!(0)),
        case("two-replicas", GROUP, OLD, moved().also("/status/availableReplicas", json!(2))).set("/spec/replicas", json!(2)),
        case("a-name-of-sixty-three-characters-is-as-long-as-a-label-may-be-x", GROUP, OLD, moved()),
    ]
}

fn what_is_written_on_it() -> Vec<Case> {
    const HOLD: &str = "/metadata/annotations/repave.dev~1hold";
    vec![
        case("owned-without-controller", GROUP, OLD, moved()).set(
            "/metadata/ownerReferences",
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "kube-root-ca.crt", "uid": "${CONFIGMAP_UID}"}]),
        ),
        case("instance-label-alone", GROUP, OLD, moved()).set("/metadata/labels/app.kubernetes.io~1instance", json!("shop")),
        case("managed-by-somebody", GROUP, OLD, moved()).set("/metadata/labels/app.kubernetes.io~1managed-by", json!("somebody")),
        // It has no force any more; whether the annotation stays is not looked at.
        case("hold-expired", GROUP, OLD, on_target().generation(2))
            .set(HOLD, json!(r#"{"reason":"release week","by":"ann","until":"2020-01-01"}"#)),
        case("forged-previous", GROUP, OLD, moved()).set(
            "/metadata/annotations/repave.dev~1previous-images",
            json!(r#"{"app":"registry.example.com/evil@sha256:0000000000000000000000000000000000000000000000000000000000000000"}"#),
        ),
        case("mark-of-another-run", GROUP, OLD, moved()).set("/metadata/annotations/repave.dev~1run", json!("elsewhere/run")),
        case("label-by-a-stranger", GROUP, OLD, moved()).then(When::Moved, Act::Kubectl("label deployment/label-by-a-stranger note=hello")),
    ]
}
