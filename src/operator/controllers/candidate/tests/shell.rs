//! Whole reconciles of a candidate, with an API server and a registry: what is under way is no failure, and what was taken
//! back is not brought again.

use super::*;
use crate::{
    api::{ReleaseHistory, phase::Phase, release_history::ReleaseHistorySpec},
    controllers::{
        candidate::{Candidates, Transfers},
        reconciler::{self, Reconciler as _},
        testing::Api as Server,
        transfers::{Key, Parties, Pending, Progress},
    },
    domain::{
        history::{History, Shown},
        image_ref::Repository,
        promotion::{Promotion, Revocation, UnlistedRevocation},
    },
    registry::{
        Auth,
        testing::{TestRegistry, push_image},
    },
};
use futures::StreamExt as _;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt as _;

mod promotion;

/// A candidate that its BaseImage wants.
struct Shell {
    server: Server,
    candidates: Candidates,
    candidate: ImageCandidate,
}

impl Shell {
    fn new() -> Self {
        let server = Server::default();
        let mut candidate = candidate();
        candidate.spec.promote.push_secret_ref = None;
        let base = server.put(&json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
            "metadata": {"name": "debian-12", "namespace": "platform"},
            "spec": {"source": {"image": "up.local/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "hardened"}],
                "promote": {"repository": "r.local:5000/base", "channelTag": "12", "signing": {"keyRef": {"name": "key"}}}},
            "status": {"observedGeneration": 1, "candidate": {"name": candidate.name_any(), "step": "New"}},
        }));
        candidate.metadata.owner_references = Some(vec![
            serde_json::from_value(
                json!({"apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "name": "debian-12",
                "uid": base["metadata"]["uid"], "controller": true}),
            )
            .unwrap(),
        ]);
        let mut history = ReleaseHistory::new("debian-12", ReleaseHistorySpec::of(&History::default(), None));
        history.metadata.namespace = Some("platform".into());
        server.put(&history);
        let candidates = Candidates {
            ctx: server.context(),
            transfers: Transfers::default(),
        };
        Self {
            server,
            candidates,
            candidate,
        }
    }

    /// With a registry that has the upstream image.
    async fn at(registry: &TestRegistry) -> Self {
        let mut shell = Self::new();
        let client = registry.client();
        let upstream = registry.repository("up/debian");
        let pushed = push_image(&client, &upstream, "12", &[b"upstream"]).await;
        shell.candidate.spec.source = upstream;
        shell.candidate.spec.source_digest = pushed.digest;
        shell.candidate.spec.staging = registry.repository("staging");
        shell.candidates.ctx.registry = client;
        shell
    }

    /// One reconcile; its status is written.
    async fn reconcile(&mut self) -> crate::controllers::driver::Outcome<ImageCandidateStatus> {
        let outcome = reconciler::steps(&self.candidates, &self.candidate).await.unwrap();
        self.candidate.status = Some(outcome.status.clone());
        outcome
    }

    fn said(&self, condition: &str) -> (String, String, String) {
        let status = self.candidate.status.clone().unwrap();
        let found = conditions::find(&status.conditions, condition).unwrap();
        (found.status.clone(), found.reason.clone(), found.message.clone())
    }

    /// The BaseImage promoted `digest` from the same upstream before, by a candidate of that name, and it was taken back.
    fn revoke(&self, digest: &Digest, by_candidate: &str) {
        let promotion = Promotion {
            sequence: 1,
            digest: digest.clone(),
            source_digest: self.candidate.spec.source_digest.clone(),
            chain_id: Some(Digest::of(b"c")),
            layers: 1,
            repository: "r.local:5000/base".parse().unwrap(),
            tag: "12-20260101-bad".into(),
            candidate: by_candidate.into(),
            promoted_at: at(0),
        };
        let revocation = Revocation {
            at: at(0),
            by: Some("ann".into()),
            reason: "CVE-2026-1".into(),
        };
        let shown = Shown {
            revoked: vec![UnlistedRevocation {
                digest: digest.clone(),
                repository: None,
                tag: promotion.tag.clone(),
                revocation,
            }],
            ..Shown::default()
        };
        let (history, _) = History::begin(vec![promotion], [], shown);
        let mut stored = ReleaseHistory::new("debian-12", ReleaseHistorySpec::of(&history, None));
        stored.metadata.namespace = Some("platform".into());
        self.server.put(&stored);
    }
}

#[tokio::test]
async fn a_copy_to_staging_says_that_it_is_under_way_and_is_no_failure() {
    let registry = TestRegistry::docker().await;
    let mut shell = Shell::at(&registry).await;
    let mut ended = shell.candidates.transfers.ended();
    let begun = shell.reconcile().await;
    assert_eq!(begun.events, []);
    assert_eq!(begun.status.result, Some(CandidateResult::Running));
    let (truth, reason, message) = shell.said("Pulled");
    assert_eq!((truth.as_str(), reason.as_str()), ("Unknown", "Copying"));
    assert!(message.starts_with("copying to staging"), "{message}");
    assert_eq!(ended.next().await.unwrap().1, shell.candidate.name_any());
    let done = shell.reconcile().await;
    assert_eq!(Phase::of(&done.status), Phase::Verify);
    assert_eq!(shell.said("Pulled").1, "Copied");
    let staged = registry.repository("staging").at(&shell.candidate.spec.source_digest);
    let found = registry.client().head(&staged, &Auth::anonymous()).await.unwrap();
    assert!(found.is_some());
}

#[tokio::test]
async fn a_copy_that_waits_for_its_turn_says_for_whom_at_each_look_in_the_same_words() {
    let mut shell = Shell::new();
    for number in 0..4 {
        let key = Key {
            uid: format!("other-{number}"),
            what: "the copy to staging",
        };
        let parties = Parties {
            namespace: "platform".into(),
            name: "other".into(),
            hosts: vec![format!("r{number}.local")],
        };
        let begun = shell.candidates.transfers.look(&key, &parties, std::future::pending);
        assert!(matches!(begun, Ok(Progress::Pending(_))));
    }
    let first = shell.reconcile().await;
    let (truth, reason, message) = shell.said("Pulled");
    assert_eq!((truth.as_str(), reason.as_str()), ("Unknown", "TransferQueued"));
    assert!(message.contains("namespace platform has as many"), "{message}");
    let second = shell.reconcile().await;
    assert_eq!(
        (second.status, first.events.len() + second.events.len()),
        (first.status, 0)
    );
}

#[tokio::test]
async fn what_failed_in_a_copy_is_still_a_failure_of_its_step() {
    let registry = TestRegistry::docker().await;
    let mut shell = Shell::at(&registry).await;
    shell.candidate.spec.source_digest = Digest::of(b"nowhere");
    let mut ended = shell.candidates.transfers.ended();
    shell.reconcile().await;
    ended.next().await;
    let failure = reconciler::steps(&shell.candidates, &shell.candidate)
        .await
        .unwrap_err();
    let outcome = Candidates::on_failure(&shell.candidate, &failure, at(0));
    assert_eq!((failure.reason, outcome.events.len()), ("ManifestNotFound", 1));
    assert_eq!(outcome.status.result, Some(CandidateResult::Waiting));
}

#[test]
fn the_page_is_published_once_however_long_the_promotion_takes() {
    let mut before = all_reported("");
    before.built_digest = Some(Digest::of(b"built"));
    for under_way in [
        Pending::Running,
        Pending::Queued {
            by: "registry r.local:5000".into(),
            wait: std::time::Duration::from_secs(5),
        },
    ] {
        let applied = Applied {
            page: Some(Ok(Digest::of(b"page"))),
            under_way: Some(under_way),
            ..Applied::default()
        };
        let promote = Observed { stage: Stage::Promote };
        let status = summarize(&promote, &applied, Some(before.clone()));
        assert_eq!(
            (status.page.as_ref(), Phase::of(&status)),
            (Some(&Digest::of(b"page")), Phase::Promote)
        );
        let next = planned_for(status, Stage::Promote);
        assert!(matches!(next.as_slice(), [Action::Promote(_)]), "{next:?}");
    }
}

#[tokio::test]
async fn what_was_revoked_is_not_built_again_from_the_same_inputs() {
    let mut shell = Shell::new();
    let name = format!("debian-12-{}", shell.candidate.spec.inputs_hash.short());
    shell.revoke(&Digest::of(b"bad"), &name);
    let outcome = shell.reconcile().await;
    assert_eq!(Phase::of(&outcome.status), Phase::Rejected);
    let (truth, reason, message) = shell.said("Pulled");
    assert_eq!((truth.as_str(), reason.as_str()), ("False", "Revoked"));
    for part in [
        "12-20260101-bad was revoked",
        "by ann",
        "1970-01-01T00:00:00Z",
        "CVE-2026-1",
        "--lift",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(shell.reconcile().await.status, outcome.status, "it is final");
}

/// Nothing but the promotion is missing.
fn before_promotion() -> ImageCandidateStatus {
    let mut status = all_reported("");
    status.built_digest = Some(Digest::of(b"built"));
    status.page = Some(Digest::of(b"page"));
    // There is no waiver, and its gates have just opened.
    status.timeline = Vec::new();
    status.waivers_hash = Some(Digest::of(b"").short().to_owned());
    status
}

#[tokio::test]
async fn an_image_that_was_revoked_is_not_promoted_again_and_another_one_of_the_same_upstream_may_be() {
    let mut shell = Shell::new();
    shell.candidate.status = Some(before_promotion());
    shell.revoke(&Digest::of(b"another image"), "debian-12-another");
    let outcome = shell.reconcile().await;
    assert_eq!(
        shell.said("Promoted").1,
        "Promoting",
        "another policy came to another image"
    );
    assert_eq!(outcome.status.result, Some(CandidateResult::Running));

    let mut shell = Shell::new();
    shell.candidate.status = Some(before_promotion());
    shell.revoke(&Digest::of(b"built"), "debian-12-another");
    let outcome = shell.reconcile().await;
    assert_eq!(
        (Phase::of(&outcome.status), shell.said("Promoted").1.as_str()),
        (Phase::Rejected, "Revoked")
    );
    assert_eq!(outcome.events.len(), 1);
}
