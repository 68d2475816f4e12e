//! Cases that are never written, and what is said of them.

use super::{
    act::{Act, When},
    case::{Case, IDLE, case, pod_template, without},
    expect::{said, untouched},
    place::Group,
};
use serde_json::{Value, json};

const OLD: &str = "${OLD}";
const GROUP: Group = Group::Left;

/// The rows.
pub fn cases() -> Vec<Case> {
    [owned(), held(), other_images(), not_healthy(), other_kinds()].concat()
}

fn owned() -> Vec<Case> {
    // The digest that is to be set at the owner's place.
    let by = |owner: &'static str| untouched().said(&[owner, "${TARGET_DIGEST}"]);
    vec![
        case("helm-annotation", GROUP, OLD, by("Helm")).set("/metadata/annotations/meta.helm.sh~1release-name", json!("shop")),
        case("helm-label", GROUP, OLD, by("Helm")).set("/metadata/labels/app.kubernetes.io~1managed-by", json!("Helm")),
        case("argo-tracking-id", GROUP, OLD, by("Argo CD"))
            .set("/metadata/annotations/argocd.argoproj.io~1tracking-id", json!("shop:apps/Deployment:shop/argo")),
        case("argo-instance", GROUP, OLD, by("Argo CD")).set("/metadata/labels/argocd.argoproj.io~1instance", json!("shop")),
        case("flux", GROUP, OLD, by("Flux")).set("/metadata/labels/kustomize.toolkit.fluxcd.io~1name", json!("shop")),
        case("owned-by-controller", GROUP, OLD, by("ConfigMap")).set(
            "/metadata/ownerReferences",
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "kube-root-ca.crt", "uid": "${CONFIGMAP_UID}", "controller": true}]),
        ),
    ]
}

fn held() -> Vec<Case> {
    let hold = |name, text: &str, words: &[&'static str]| {
        case(name, GROUP, OLD, untouched().held(true).said(words))
            .set("/metadata/annotations/repave.dev~1hold", json!(text))
    };
    vec![
        hold(
            "hold-for-ever",
            r#"{"reason":"audit until we say so","by":"ann"}"#,
            &["audit until we say so"],
        ),
        hold(
            "hold-until-later",
            r#"{"reason":"freeze","by":"ann","until":"2999-01-01T00:00:00Z"}"#,
            &["freeze"],
        ),
        hold("hold-malformed", "please do not touch", &["cannot be read"]),
        hold(
            "hold-bad-date",
            r#"{"reason":"freeze","until":"next tuesday"}"#,
            &["cannot be read"],
        ),
    ]
}

fn other_images() -> Vec<Case> {
    vec![
        case(
            "other-repository",
            GROUP,
            "${COPY}",
            untouched().said(&["${COPY_REPOSITORY}"]),
        ),
        case("unrelated", GROUP, "${OTHER}", untouched().nowhere("left/unrelated")),
        case("derived", GROUP, "${DERIVED}", untouched().said(&["rebuild"]))
            .set("/spec/template/spec/containers/0/command", Value::Null),
    ]
}

fn not_healthy() -> Vec<Case> {
    vec![
        // One that is born paused never has pods.
        case("paused", GROUP, OLD, untouched().generation(2).said(&["paused"]))
            .then(When::Before, Act::Patch(json!({"spec": {"paused": true}}))),
        // It must not look healthy between two restarts, however slow the machine is.
        case("crashes-before", GROUP, OLD, untouched().said(&["not healthy"]))
            .script("exit 3")
            .set("/spec/minReadySeconds", json!(15))
            .set("/spec/progressDeadlineSeconds", json!(20)),
        case("never-ready-before", GROUP, OLD, untouched().said(&["not healthy"]))
            .set(
                "/spec/template/spec/containers/0/readinessProbe",
                json!({"exec": {"command": ["/bin/false"]}, "periodSeconds": 2}),
            )
            .set("/spec/progressDeadlineSeconds", json!(20)),
        case(
            "not-opted-in",
            Group::Outside,
            OLD,
            untouched().nowhere("outside/not-opted-in"),
        ),
    ]
}

/// Kinds that cannot be rolled yet: counted and named.
fn other_kinds() -> Vec<Case> {
    let kind = |name: &'static str, object: Value| without(name, Group::Kinds, said(&[name])).and(object);
    let meta = |name: &str| json!({"name": name, "labels": {"app": name}});
    let selector = |name: &str| json!({"matchLabels": {"app": name}});
    let once = |name: &str| {
        let mut template = pod_template(name, OLD, IDLE);
        template["spec"]["restartPolicy"] = json!("Never");
        template
    };
    vec![
        kind(
            "a-statefulset",
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta("a-statefulset"),
            "spec": {"serviceName": "x", "replicas": 1, "selector": selector("a-statefulset"), "template": pod_template("a-statefulset", OLD, IDLE)}}),
        ),
        kind(
            "a-daemonset",
            json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta("a-daemonset"),
            "spec": {"selector": selector("a-daemonset"), "template": pod_template("a-daemonset", OLD, IDLE)}}),
        ),
        kind(
            "a-replicaset",
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta("a-replicaset"),
            "spec": {"replicas": 1, "selector": selector("a-replicaset"), "template": pod_template("a-replicaset", OLD, IDLE)}}),
        ),
        kind(
            "a-cronjob",
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta("a-cronjob"),
            "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": once("a-cronjob")}}}}),
        ),
        kind(
            "a-job",
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta("a-job"), "spec": {"template": once("a-job")}}),
        )
        .limit("a Job runs to its end and cannot be rolled: it is in no count"),
        kind(
            "a-bare-pod",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta("a-bare-pod"), "spec": once("a-bare-pod")["spec"]}),
        ),
    ]
}
