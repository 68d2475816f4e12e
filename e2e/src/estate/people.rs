//! Cases in which somebody does something while the release rolls. What they do is theirs: nothing of it is undone, and
//! nothing of it is a failure of the run. A change of annotations counts in a Deployment's generation too.

use super::{
    act::{Act, When},
    case::{Case, case, deployment},
    expect::{gone, on_old, on_target},
    place::Group,
};
use serde_json::json;

const OLD: &str = "${OLD}";
const GROUP: Group = Group::People;

/// The rows.
pub fn cases() -> Vec<Case> {
    [their_own_roll_outs(), going_back(), taking_away()].concat()
}

/// After it was moved and settled, the team rolls something of its own.
fn their_own_roll_outs() -> Vec<Case> {
    let template = |change: serde_json::Value| Act::Patch(json!({"spec": {"template": change}}));
    vec![
        case("team-restarts", GROUP, OLD, on_target().generation(3).held(false))
            .then(When::Settled(2), template(json!({"metadata": {"annotations": {"restarted": "now"}}}))),
        case("team-breaks-its-own", GROUP, OLD, on_target().generation(3).held(false))
            .then(
                When::Settled(2),
                template(json!({"spec": {"containers": [{"name": "app", "image": "${TARGET}", "command": ["/bin/sh", "-c", "exit 4"]}]}})),
            ),
        case("team-breaks-after-the-run", GROUP, OLD, on_target().generation(3).held(false)).then(
            When::RunEnded,
            template(json!({"spec": {"containers": [{"name": "app", "image": "${TARGET}", "command": ["/bin/sh", "-c", "exit 4"]}]}})),
        ),
        case("team-scales-up", GROUP, OLD, on_target().generation(3).held(false).also("/spec/replicas", json!(2)))
            .then(When::Moved, Act::Patch(json!({"spec": {"replicas": 2}}))),
        case("team-scales-to-none", GROUP, OLD, on_target().generation(3).held(false).also("/spec/replicas", json!(0)))
            .then(When::Settled(2), Act::Patch(json!({"spec": {"replicas": 0}}))),
        case("team-pauses", GROUP, OLD, on_target().generation(3).held(false))
            .then(When::Settled(1), Act::Patch(json!({"spec": {"paused": true}}))),
        case("team-annotates-all-day", GROUP, OLD, on_target().generation(4).held(false))
            .then(When::Moved, Act::Kubectl("annotate deployment/team-annotates-all-day note=1"))
            .then(When::Settled(1), Act::Kubectl("annotate --overwrite deployment/team-annotates-all-day note=2")),
        case("team-strips-our-marks", GROUP, OLD, on_target().generation(3).held(false)).then(
            When::Settled(1),
            Act::Kubectl("annotate deployment/team-strips-our-marks repave.dev/run- repave.dev/moved- repave.dev/previous-images-"),
        ),
        case("marks-stripped-and-scaled", GROUP, OLD, on_target().generation(4).held(false))
            .then(When::Settled(1), Act::Kubectl("annotate deployment/marks-stripped-and-scaled repave.dev/moved-"))
            .then(When::Settled(2), Act::Patch(json!({"spec": {"replicas": 2}}))),
    ]
}

/// Somebody does not want it.
fn going_back() -> Vec<Case> {
    vec![
        case("rollout-undo", GROUP, OLD, on_old().generation(3))
            .then(When::Settled(1), Act::Kubectl("rollout undo deployment/rollout-undo")),
        case("image-set-back", GROUP, OLD, on_old().generation(3)).then(
            When::Settled(1),
            Act::Kubectl("set image deployment/image-set-back app=${OLD}"),
        ),
        case("set-back-and-stripped", GROUP, OLD, on_old().generation(4))
            .then(
                When::Settled(1),
                Act::Kubectl("annotate deployment/set-back-and-stripped repave.dev/run- repave.dev/moved-"),
            )
            .then(
                When::Settled(2),
                Act::Kubectl("set image deployment/set-back-and-stripped app=${OLD}"),
            ),
        case(
            "set-to-another-image",
            GROUP,
            OLD,
            super::expect::said(&[])
                .at("/spec/template/spec/containers/0/image")
                .also("/spec/template/spec/containers/0/image", json!("${OTHER}"))
                .generation(3)
                .held(false),
        )
        .then(
            When::Moved,
            Act::Kubectl("set image deployment/set-to-another-image app=${OTHER}"),
        ),
        case("held-in-the-middle", GROUP, OLD, on_target().generation(3).held(true)).then(
            When::Moved,
            Act::Patch(json!({"metadata": {"annotations": {"repave.dev/hold": r#"{"reason":"wait","by":"ann"}"#}}})),
        ),
    ]
}

fn taking_away() -> Vec<Case> {
    vec![
        case("deleted", GROUP, OLD, gone()).then(When::Moved, Act::Kubectl("delete deployment/deleted --wait=false")),
        case(
            "deleted-and-made-again",
            GROUP,
            OLD,
            on_target().generation(2).held(false),
        )
        .then(
            When::Moved,
            Act::Kubectl("delete deployment/deleted-and-made-again --cascade=foreground"),
        )
        .then(
            When::RunEnded,
            Act::Apply(deployment("deleted-and-made-again", OLD, super::case::IDLE)),
        ),
    ]
}
