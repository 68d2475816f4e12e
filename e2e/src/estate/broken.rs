//! Cases that the new release breaks: rolled back and held, and the reason is the one that the cluster knows.
//!
//! The release sets `BREAK`; whoever reacts to it is broken by it.

use super::{
    case::{Case, IDLE, case},
    expect::{rolled_back, untouched},
    place::Group,
};
use serde_json::json;

const OLD: &str = "${OLD}";
const GROUP: Group = Group::Broken;
const PROBE: &str = "/spec/template/spec/containers/0/readinessProbe";

/// The rows.
pub fn cases() -> Vec<Case> {
    [at_once(), later(), by_the_cluster()].concat()
}

fn at_once() -> Vec<Case> {
    vec![
        case("crash-at-start", GROUP, OLD, rolled_back().said(&["exits with 3"])).script(r#"[ -z "$BREAK" ] || exit 3"#),
        case("crash-in-init", GROUP, OLD, rolled_back().said(&["exits with 3"])).set(
            "/spec/template/spec/initContainers",
            json!([{"name": "init", "image": OLD, "command": ["/bin/sh", "-c", r#"[ -z "$BREAK" ] || exit 3"#]}]),
        ),
        case("crash-of-sidecar", GROUP, "${OTHER}", rolled_back().at("/spec/template/spec/containers/1/image")).set(
            "/spec/template/spec/containers",
            json!([
                {"name": "app", "image": "${OTHER}", "command": ["/bin/sh", "-c", IDLE]},
                {"name": "side", "image": OLD, "command": ["/bin/sh", "-c", format!(r#"[ -z "$BREAK" ] || exit 3; {IDLE}"#)]},
            ]),
        ),
        case("never-ready", GROUP, OLD, rolled_back().said(&["not healthy"]))
            .set(PROBE, json!({"exec": {"command": ["/bin/sh", "-c", r#"test -z "$BREAK""#]}, "periodSeconds": 2})),
        case("recreate-crashes", GROUP, OLD, rolled_back())
            .script(r#"[ -z "$BREAK" ] || exit 3"#)
            .set("/spec/strategy", json!({"type": "Recreate"})),
        case("liveness-kills", GROUP, OLD, rolled_back()).set(
            "/spec/template/spec/containers/0/livenessProbe",
            json!({"exec": {"command": ["/bin/sh", "-c", r#"test -z "$BREAK""#]}, "periodSeconds": 2, "failureThreshold": 2}),
        ),
    ]
}

/// Settled first, broken later, still in the soak.
fn later() -> Vec<Case> {
    vec![
        case("crash-after-12-seconds", GROUP, OLD, rolled_back()).script(r#"if [ -n "$BREAK" ]; then sleep 12; exit 3; fi"#),
        case("unready-in-the-soak", GROUP, OLD, rolled_back())
            .script(r#"[ -z "$BREAK" ] || (sleep 12; touch /tmp/late) & :"#)
            .set(PROBE, json!({"exec": {"command": ["/bin/sh", "-c", "! test -e /tmp/late"]}, "periodSeconds": 2, "failureThreshold": 1})),
        case("crash-again-and-again-without-probe", GROUP, OLD, rolled_back())
            .script(r#"if [ -n "$BREAK" ]; then sleep 6; exit 3; fi"#),
    ]
}

/// What the cluster does not allow.
fn by_the_cluster() -> Vec<Case> {
    let surge = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
    vec![
        case("no-room", GROUP, OLD, rolled_back().said(&["Insufficient cpu"]))
            .set(
                "/spec/template/spec/containers/0/resources",
                json!({"requests": {"cpu": "${MORE_THAN_HALF}"}}),
            )
            .set("/spec/strategy", surge.clone()),
        case("quota", Group::Quota, OLD, rolled_back().said(&["exceeded quota"])).set("/spec/strategy", surge),
        case(
            "refused-by-admission",
            Group::Frozen,
            OLD,
            untouched().held(false).said(&["change freeze: ask the release team"]),
        ),
    ]
}
