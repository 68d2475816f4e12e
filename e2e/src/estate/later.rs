//! Cases that can be moved only after the run has ended: a plan always knows what is outdated, without a new release.

use super::{
    act::{Act, When},
    case::{Case, case, deployment, without},
    expect::{Expect, moved, on_target},
    place::Group,
};
use serde_json::json;

const OLD: &str = "${OLD}";
const GROUP: Group = Group::Later;

/// The rows.
pub fn cases() -> Vec<Case> {
    let hold = |until: &str| json!(format!(r#"{{"reason":"freeze","by":"ann"{until}}}"#));
    let after = |name: &'static str, expect: Expect| case(name, GROUP, OLD, expect);
    vec![
        case("moved-with-the-run", GROUP, OLD, moved()),
        after("hold-released", moved().generation(3))
            .set("/metadata/annotations/repave.dev~1hold", hold(""))
            .then(When::RunEnded, Act::Kubectl("annotate deployment/hold-released repave.dev/hold-")),
        after("hold-runs-out", on_target().generation(3))
            .set("/metadata/annotations/repave.dev~1hold", hold(""))
            .then(When::RunEnded, Act::Patch(json!({"metadata": {"annotations": {"repave.dev/hold": hold(r#","until":"${IN_20_SECONDS}""#)}}}))),
        after("resumed", on_target().generation(4).held(false))
            .then(When::Before, Act::Patch(json!({"spec": {"paused": true}})))
            .then(When::RunEnded, Act::Patch(json!({"spec": {"paused": null}}))),
        after("recovered", on_target().generation(3).held(false))
            .set("/spec/progressDeadlineSeconds", json!(20))
            .set("/spec/template/spec/containers/0/readinessProbe", json!({"exec": {"command": ["/bin/false"]}, "periodSeconds": 2}))
            .then(
                When::RunEnded,
                Act::Patch(json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": OLD, "command": ["/bin/sh", "-c", super::case::IDLE]}]}}}})),
            ),
        Case {
            objects: Vec::new(),
            ..after("made-after-the-run", moved())
        }
        .then(When::RunEnded, Act::Apply(deployment("made-after-the-run", OLD, super::case::IDLE))),
        after("set-back-after-the-run", on_target()).then(When::RunEnded, Act::Kubectl("delete deployment/set-back-after-the-run --cascade=foreground"))
            .then(When::RunEnded, Act::Apply(deployment("set-back-after-the-run", OLD, super::case::IDLE))),
        case("opted-in-after-the-run", Group::OptedInLater, OLD, moved())
            .then(When::RunEnded, Act::Kubectl("label namespace ${NAMESPACE} repave-estate=${HOME}.later")),
        without("plan-counts-what-is-outdated", GROUP, super::expect::said(&["outdated"])),
    ]
}
