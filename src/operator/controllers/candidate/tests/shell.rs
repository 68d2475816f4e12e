//! Whole reconciles of a candidate, with an API server and a registry: what is under way is no failure, and what was taken
//! back is not brought again.

use super::*;
use crate::{
    api::{ReleaseHistory, phase::Phase, release_history::ReleaseHistorySpec},
    controllers::{
        candidate::{Candidates, Transfers},
        reconciler::Steps as _,
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
        let outcome = self.candidates.steps(&self.candidate).await.unwrap();
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
    let failure = shell.candidates.steps(&shell.candidate).await.unwrap_err();
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

#[tokio::test]
async fn an_image_that_is_revoked_while_it_is_promoted_does_not_come_out() {
    let registry = TestRegistry::docker().await;
    let mut shell = Shell::at(&registry).await;
    let production: Repository = registry.repository("base");
    let built = push_image(&registry.client(), &registry.repository("staging"), "b", &[b"built"]).await;
    shell.candidate.spec.promote.repository = production.to_string();
    shell.candidate.status = Some(ImageCandidateStatus {
        built_digest: Some(built.digest.clone()),
        ..before_promotion()
    });
    let pem = include_bytes!("../../../../oci/evidence/testdata/promotion-pkcs8.pem");
    let mut key = Secret::default();
    key.metadata.name = Some("key".into());
    key.metadata.namespace = Some("platform".into());
    key.data = Some([("cosign.key".to_owned(), ByteString(pem.to_vec()))].into());
    shell.server.put(&key);
    let mut ended = shell.candidates.transfers.ended();
    shell.reconcile().await;
    // The transfer has begun and not asked yet: it runs when this task waits.
    shell.revoke(&built.digest, "debian-12-another");
    ended.next().await;
    let found = registry
        .client()
        .head(&production.at(&built.digest), &Auth::anonymous())
        .await;
    assert_eq!(found.unwrap(), None);
    shell.reconcile().await;
    assert_eq!(shell.said("Promoted").1, "Revoked");
}

/// review: its scan passed by a waiver. The promotion takes its minutes (or waits in the queue of a slow registry), and meanwhile the
/// waiver is taken away: whoever looks at the candidate then refuses it, and what was begun goes on.
#[tokio::test]
async fn review_what_was_waived_does_not_come_out_when_the_waiver_is_taken_away_while_it_is_promoted() {
    use crate::{
        api::BaseImage,
        controllers::{
            candidate::{evaluation::Evaluation, evaluation_inputs, exceptions},
            desired::{self, spec::wanted_spec},
        },
    };
    let registry = TestRegistry::docker().await;
    let mut shell = Shell::at(&registry).await;
    let (source, digest) = (
        shell.candidate.spec.source.clone(),
        shell.candidate.spec.source_digest.clone(),
    );
    let production: Repository = registry.repository("base");
    let staging = registry.repository("staging");
    let built = push_image(&registry.client(), &staging, "b", &[b"built"]).await;
    shell
        .server
        .put(&json!({"apiVersion": "repave.dev/v1alpha1", "kind": "ValidationPolicy",
        "metadata": {"name": "hardened", "namespace": "platform"},
        "spec": {"checks": [{"name": "cves", "vulnerabilities": {}}]}}));
    shell.server.edit("baseimages", "platform/debian-12", |base| {
        base["spec"]["source"]["image"] = json!(source.to_string());
        base["spec"]["promote"]["repository"] = json!(production.to_string());
        base["spec"]["promote"]["stagingRepository"] = json!(staging.to_string());
    });
    shell.server.edit("baseimages", "platform/debian-12", |base| {
        base["status"]["observedGeneration"] = base["metadata"]["generation"].clone();
        base["status"]["source"] = json!(format!("{source}:12"));
        base["status"]["upstream"] = json!({"tag": "12", "digest": digest, "firstSeen": "2026-01-01T00:00:00Z"});
    });
    let (store, mut writer) = kube::runtime::reflector::store();
    writer.apply_watcher_event(&kube::runtime::watcher::Event::Init);
    writer.apply_watcher_event(&kube::runtime::watcher::Event::InitDone);
    shell.candidates.ctx.base_images.fill(store);
    let base: BaseImage =
        serde_json::from_value(shell.server.get("baseimages", "platform/debian-12").unwrap()).unwrap();
    let validated = desired::validate(&base).unwrap();
    let inputs = desired::inputs::read(&base, &validated, &shell.candidates.ctx)
        .await
        .unwrap();
    shell.candidate.spec = wanted_spec(&base, &validated, &inputs, &digest).unwrap();
    shell.candidate.spec.sequence = 1;
    let expires = shell.candidates.ctx.now() + jiff::SignedDuration::from_hours(240);
    shell
        .server
        .put(&json!({"apiVersion": "repave.dev/v1alpha1", "kind": "Waiver",
        "metadata": {"name": "accepted", "namespace": "platform", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"owner": "team-a", "reason": "not reachable", "expiresAt": expires.to_string(),
            "scope": {"images": {"baseImages": ["debian-12"]}, "findings": [{"id": "rule-0"}]}}}));
    let waivers = evaluation_inputs::waivers(&shell.candidates.ctx, "platform")
        .await
        .unwrap();
    let in_force = exceptions::in_force(&waivers, &shell.candidate, &built.digest, shell.candidates.ctx.now());
    let plan = validate::validate(&shell.candidate).unwrap();
    let mut evaluation = Evaluation::default();
    let evaluation_inputs = evaluation_inputs::EvaluationInputs {
        waivers: exceptions::of_waivers(&waivers, &shell.candidate, &built.digest),
        in_force: in_force.clone(),
        previous: evaluation_inputs::Previous::None,
    };
    let check = &plan.checks[0];
    let mut found = *report("cves", check.tool, 1);
    found.image = built.digest.clone();
    let now = shell.candidates.ctx.now();
    found.tool.database_built = Some(now);
    evaluation.add(
        check,
        &found,
        Some(&Digest::of(b"kept")),
        &Digest::of(b"key"),
        &evaluation_inputs,
        now,
    );
    let summary = &evaluation.checks[0];
    assert_eq!((summary.verdict.as_str(), summary.waived), ("Passed", 1), "{summary:?}");
    shell.candidate.status = Some(ImageCandidateStatus {
        built_digest: Some(built.digest.clone()),
        page: Some(Digest::of(b"page")),
        checks: evaluation.checks,
        waivers: evaluation.waivers,
        waivers_hash: Some(in_force),
        phase: Some(Phase::Promote),
        result: Some(CandidateResult::Running),
        ..ImageCandidateStatus::default()
    });
    let pem = include_bytes!("../../../../oci/evidence/testdata/promotion-pkcs8.pem");
    let mut key = Secret::default();
    key.metadata.name = Some("key".into());
    key.metadata.namespace = Some("platform".into());
    key.data = Some([("cosign.key".to_owned(), ByteString(pem.to_vec()))].into());
    shell.server.put(&key);
    let mut ended = shell.candidates.transfers.ended();
    shell.reconcile().await;
    assert_eq!(shell.said("Promoted").1, "Promoting");
    // The transfer has begun and not asked yet: it runs when this task waits.
    shell.server.remove("waivers", "platform/accepted");
    ended.next().await;
    let out = registry
        .client()
        .head(&production.at(&built.digest), &Auth::anonymous())
        .await
        .unwrap();
    let tags = registry
        .client()
        .list_tags(&production, &Auth::anonymous())
        .await
        .unwrap_or_default();
    shell.reconcile().await;
    let phase = Phase::of(shell.candidate.status.as_ref().unwrap());
    assert!(
        out.is_none() && tags.is_empty(),
        "it is {phase:?}, and production has it as {tags:?}"
    );
}
