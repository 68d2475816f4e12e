//! The whole controller: a Waiver that comes, changes or goes wakes exactly the candidates that it may open.

use super::*;
use crate::controllers::{
    candidate::run,
    testing::{Api as Server, Seen},
};
use tokio_util::sync::CancellationToken;

/// Namespace, BaseImage, number and what became of it; and whether a Waiver in `platform` may open it.
const CANDIDATES: [(&str, &str, u64, &str, bool); 7] = [
    // What its BaseImage wants now was refused.
    ("platform", "light", 1, "Rejected", false),
    ("platform", "light", 2, "Rejected", true),
    ("platform", "java", 1, "Rejected", true),
    // Something newer is wanted, or nothing was refused.
    ("platform", "web", 1, "Rejected", false),
    ("platform", "web", 2, "Superseded", false),
    ("platform", "edge", 1, "Waiting", false),
    ("tenant", "light", 2, "Rejected", false),
];

fn name_of((_, base, number, _, _): (&str, &str, u64, &str, bool)) -> String {
    format!("{base}-{number}")
}

/// How often each of them was looked at.
fn looks(server: &Server) -> [usize; 7] {
    let seen = server.seen();
    CANDIDATES.map(|one| {
        let object = format!("{}/{}", one.0, name_of(one));
        let look = |seen: &&Seen| seen.verb == "GET" && seen.resource == "imagecandidates" && seen.object == object;
        seen.iter().filter(look).count()
    })
}

fn waiver(reason: &str) -> serde_json::Value {
    json!({"apiVersion": "repave.dev/v1alpha1", "kind": "Waiver", "metadata": {"name": "cve", "namespace": "platform"},
        "spec": {"owner": "team", "reason": reason, "expiresAt": "2027-01-01T00:00:00Z",
            "scope": {"findings": [{"id": "CVE-2026-0001"}]}}})
}

#[tokio::test(start_paused = true)]
async fn a_waiver_wakes_at_once_exactly_the_candidates_that_it_may_open() {
    let server = Server::default();
    for one in CANDIDATES {
        let (namespace, base, number, result, _) = one;
        let mut candidate = candidate();
        candidate.metadata.namespace = Some(namespace.into());
        candidate.metadata.name = Some(name_of(one));
        candidate.metadata.uid = Some(format!("{namespace}-{}", name_of(one)));
        candidate.spec.base_image = base.into();
        candidate.spec.sequence = number;
        candidate.status = serde_json::from_value(json!({"result": result})).unwrap();
        server.put(&candidate);
    }
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(server.context(), stop.clone()));
    // Less than the time after which one that waits for its BaseImage looks by itself.
    let moment = || tokio::time::sleep(std::time::Duration::from_secs(1));
    moment().await;
    assert!(looks(&server).iter().all(|looks| *looks > 0), "control");

    let change: [(&str, &dyn Fn()); 3] = [
        ("it comes", &|| {
            server.put(&waiver("nothing in the image calls it"));
        }),
        ("it changes", &|| {
            server.put(&waiver("it is in no path that is used"));
        }),
        ("it goes", &|| server.remove("waivers", "platform/cve")),
    ];
    let expected = CANDIDATES.map(|(.., may_be_opened)| usize::from(may_be_opened));
    for (what, change) in change {
        let before = looks(&server);
        change();
        moment().await;
        let after = looks(&server);
        let woken = [0, 1, 2, 3, 4, 5, 6].map(|at| after[at] - before[at]);
        assert_eq!(woken, expected, "{what}");
    }
    stop.cancel();
    running.await.unwrap();
}
