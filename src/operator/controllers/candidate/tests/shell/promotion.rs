//! A promotion that is under way while what it rests on changes: nothing of it gets to production.

use super::*;
use crate::{
    api::BaseImage,
    controllers::{
        candidate::{evaluation::Evaluation, evaluation_inputs, exceptions},
        desired::{self, spec::wanted_spec},
    },
};

fn signing_key() -> Secret {
    let pem = include_bytes!("../../../../../oci/evidence/testdata/promotion-pkcs8.pem");
    let mut key = Secret::default();
    key.metadata.name = Some("key".into());
    key.metadata.namespace = Some("platform".into());
    key.data = Some([("cosign.key".to_owned(), ByteString(pem.to_vec()))].into());
    key
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
    shell.server.put(&signing_key());
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

/// The BaseImage asks for exactly this candidate, with one scan.
async fn wanted_today(shell: &mut Shell, production: &Repository) {
    let (source, digest) = (
        shell.candidate.spec.source.clone(),
        shell.candidate.spec.source_digest.clone(),
    );
    let staging = shell.candidate.spec.staging.clone();
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
}

/// Its scan passed by a waiver. The promotion takes its minutes (or waits in the queue of a slow registry), and meanwhile the
/// waiver is taken away: whoever looks at the candidate then refuses it, and what was begun goes on.
#[tokio::test]
async fn what_was_waived_does_not_come_out_when_the_waiver_is_taken_away_while_it_is_promoted() {
    let registry = TestRegistry::docker().await;
    let mut shell = Shell::at(&registry).await;
    let production: Repository = registry.repository("base");
    let built = push_image(&registry.client(), &registry.repository("staging"), "b", &[b"built"]).await;
    wanted_today(&mut shell, &production).await;
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
    shell.server.put(&signing_key());
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

/// Whoever looks at it then ends what was begun, before anything is said about it.
#[tokio::test]
async fn a_promotion_ends_when_its_candidate_is_not_at_that_step_any_more() {
    let mut shell = Shell::new();
    shell.candidate.status = Some(before_promotion());
    let key = Key {
        uid: shell.candidate.uid().unwrap_or_default(),
        what: "the promotion",
    };
    let parties = Parties {
        namespace: "platform".into(),
        name: shell.candidate.name_any(),
        hosts: vec!["r.local:5000".into()],
    };
    let (held, ended) = tokio::sync::oneshot::channel::<()>();
    let slow = || async move {
        let _held = held;
        std::future::pending::<()>().await;
        unreachable!("it never ends")
    };
    let begun = shell.candidates.transfers.look(&key, &parties, slow);
    assert!(matches!(begun, Ok(Progress::Pending(Pending::Running))));
    shell.reconcile().await;
    assert_eq!(shell.said("Promoted").1, "Promoting", "it goes on while it is wanted");
    tokio::task::yield_now().await;
    shell.server.edit("baseimages", "platform/debian-12", |base| {
        base["spec"]["suspend"] = json!(true);
    });
    shell.reconcile().await;
    assert!(ended.await.is_err(), "it was dropped");
}
