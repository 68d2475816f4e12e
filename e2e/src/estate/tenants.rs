//! Cases about who may have what moved: rights of the plan's service account, one owner per repository, two plans.

use super::{
    case::{Case, IDLE, case, deployment, without},
    expect::{moved, said, untouched},
    place::Group,
};
use serde_json::json;

const OLD: &str = "${OLD}";

/// The rows.
pub fn cases() -> Vec<Case> {
    vec![
        case("not-allowed", Group::Foreign, OLD, untouched().said(&["NotAllowed", "kubectl create rolebinding"])),
        case("not-even-readable", Group::Secret, OLD, untouched().nowhere("not-even-readable")),
        without("second-owner-of-the-repository", Group::Deputy, said(&["RepositoryTaken"]))
            .and(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "promotion-key"}, "stringData": {"cosign.key": "${PROMOTION_KEY}"}}))
            .and(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "upstream-key"}, "stringData": {"cosign.pub": "${UPSTREAM_KEY}"}}))
            .and(json!({
                "apiVersion": "repave.dev/v1alpha1", "kind": "ValidationPolicy", "metadata": {"name": "easy"},
                "spec": {"checks": [{"name": "light", "native": {}, "allow": {"critical": 100, "high": 100, "medium": 1000, "low": 1000, "unknown": 1000}}]},
            }))
            .and(json!({
                "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": "mine"},
                "spec": {
                    "source": {"image": "${UPSTREAM}", "track": {"tag": "12"}, "interval": "5s"},
                    "verify": [{"cosign": {"keyRef": {"name": "upstream-key"}}}],
                    "customize": {"containerfile": "ENV OWNED=yes"},
                    "policyRefs": [{"name": "easy"}],
                    "promote": {"repository": "${REPOSITORY}", "channelTag": "tenant", "signing": {"keyRef": {"name": "promotion-key"}}},
                },
            })),
        case("two-plans", Group::Shared, OLD, moved()),
        case("two-plans-held", Group::Shared, OLD, untouched().held(true).said(&["by two plans"]))
            .set("/metadata/annotations/repave.dev~1hold", json!(r#"{"reason":"seen by two plans","by":"ann"}"#)),
        // Five that crash, a budget of one, one at a time: two at most are touched.
        ["budget-1", "budget-2", "budget-3", "budget-4", "budget-5"]
            .into_iter()
            .fold(without("budget-stops-the-run", Group::Budget, said(&["BudgetExceeded"]).touched(2)), |case, name| {
                case.and(deployment(name, OLD, &format!("{CRASH}; {IDLE}")))
            }),
    ]
}

/// Between its restarts it looks healthy.
const CRASH: &str = r#"if [ -n "$BREAK" ]; then sleep 6; exit 3; fi"#;
