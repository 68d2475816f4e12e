//! Stored reports fetched and judged under a new policy; what the table says; whose waivers count.

use super::*;
use repave_oci::{
    evidence::{ReportArtifact, attach_report},
    registry::testing::{TestRegistry, push_image},
};
use serde_json::json;

/// A candidate with one released image and one stored report at a registry.
fn candidate(staging: &str, production: &str, report: &Digest) -> ImageCandidate {
    let digest = Digest::of(b"x");
    serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate", "metadata": {"name": "c", "namespace": "n"},
        "spec": {
            "baseImage": "b", "source": "r.io/b", "sourceTag": "1", "sourceDigest": digest, "inputsHash": digest,
            "staging": staging, "build": {},
            "policies": [{"name": "p", "spec": {"checks": [{"name": "a", "native": {}, "allow": {"high": 1}}]}}],
            "promote": {"repository": production, "channelTag": "1", "signing": {"keyRef": {"name": "k"}}},
        },
        "status": {"checks": [{"name": "a", "verdict": "Passed", "message": "", "evaluated": 3, "report": report,
            "toolMillis": 1}]},
    }))
    .unwrap()
}

fn report(check: &str, image: &Digest) -> Vec<u8> {
    json!({
        "schema": repave_core::report::SCHEMA, "check": check, "image": image,
        "tool": {"name": "native", "version": "1"}, "outcome": {"kind": "completed"},
        "evaluated": 3, "passed": 2, "notApplicable": 0, "toolMillis": 1,
        "findings": [{"id": "i", "severity": "high", "title": "t"}],
    })
    .to_string()
    .into_bytes()
}

#[tokio::test]
async fn a_stored_report_is_fetched_believed_and_judged_under_the_new_policy() {
    let registry = TestRegistry::docker().await;
    let (client, auth) = (registry.client(), Auth::anonymous());
    let repository = registry.repository("base/debian");
    let image = push_image(&client, &repository, "1", &[b"layer"]).await;
    let attach = async |check: &str, about: &Digest| {
        let artifact = ReportArtifact {
            kind: check.to_owned(),
            json: report(check, about).into(),
            attached: Vec::new(),
        };
        attach_report(&client, &repository, &image, &artifact, &auth)
            .await
            .unwrap()
    };
    let released = Release {
        digest: image.digest.clone(),
        tag: "1".into(),
        source_digest: image.digest.clone(),
        candidate: "c".into(),
        sequence: 1,
        repository: None,
        promoted_at: serde_json::from_value(json!("2026-11-20T00:00:00Z")).unwrap(),
    };
    let strict: PolicySnapshot = serde_json::from_value(json!({"name": "p", "spec": {
        "checks": [{"name": "a", "native": {}}],
        "rules": [{"name": "r", "expression": "checks.a.passed == 2", "message": "m"}],
    }}))
    .unwrap();
    let answer = async |candidate: Option<&ImageCandidate>| {
        let image = Asked {
            candidate,
            released: &released,
            base: "b",
            waivers: &[],
            now: Timestamp::UNIX_EPOCH,
        };
        outcomes(&image, std::slice::from_ref(&strict), &client, &auth).await
    };
    let good = attach("a", &image.digest).await;
    let place = repository.to_string();
    // The staging repository was cleaned up: the production repository has the report too.
    for staging in [place.clone(), registry.repository("cleaned/up").to_string()] {
        let said = answer(Some(&candidate(&staging, &place, &good))).await.unwrap();
        assert_eq!((said[0].answer, said[0].top.len()), (Answer::Fails, 1), "{said:?}");
        assert_eq!(
            (said[1].check.as_str(), said[1].answer),
            ("rule r", Answer::Passes),
            "{said:?}"
        );
    }
    let forged = attach("a", &Digest::of(b"another image")).await;
    let refused = answer(Some(&candidate(&place, &place, &forged)))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("is not believed"), "{refused}");
    let gone = answer(Some(&candidate(&place, &place, &Digest::of(b"gone"))))
        .await
        .unwrap();
    assert_eq!((gone[0].answer, gone[1].answer), (Answer::Unknown, Answer::Unknown));
    assert_eq!(answer(None).await.unwrap()[0].answer, Answer::Unknown);
}

#[test]
fn what_is_only_reported_refuses_nothing_and_is_said() {
    let audit = |name: &str, answer| Outcome {
        enforced: false,
        ..check(name, answer, "m")
    };
    assert_eq!(overall(&[]), Answer::Unknown);
    let tried = vec![audit("tried", Answer::Fails)];
    assert_eq!(overall(&tried), Answer::Passes);
    let both = [audit("tried", Answer::Fails), check("a", Answer::Unknown, "m")];
    assert_eq!(overall(&both), Answer::Unknown);
    let row = Row {
        base: "n/b".into(),
        tag: "1".into(),
        digest: Digest::of(b"i"),
        answer: overall(&tried),
        checks: tried,
        workloads: Vec::new(),
    };
    let text = text(&Answers {
        images: vec![row],
        unread: Vec::new(),
    });
    assert!(text.contains("tried fails (audit only): m"), "{text}");
}

#[test]
fn the_files_waivers_change_those_of_the_namespace_and_keep_their_age() {
    let waiver = |name: &str, namespace: Option<&str>, owner: &str, created: &str| -> Waiver {
        serde_json::from_value(json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "Waiver",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
            "spec": {"owner": owner, "reason": "it is accepted", "expiresAt": "2026-12-01T00:00:00Z",
                "scope": {"findings": [{"id": "CVE-1"}]}},
        }))
        .unwrap()
    };
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-11-01T00:00:00Z");
    let cluster = vec![
        waiver("a", Some("n"), "cluster", old),
        waiver("b", Some("n"), "cluster", old),
    ];
    let file = vec![
        waiver("a", None, "file", new),
        waiver("c", Some("n"), "file", new),
        waiver("d", Some("elsewhere"), "file", new),
    ];
    let all = merged(file, cluster, "n");
    let told: Vec<_> = all
        .iter()
        .map(|waiver| {
            let created = waiver.metadata.creation_timestamp.as_ref().unwrap().0.to_string();
            (waiver.name_any(), waiver.spec.owner.clone(), created)
        })
        .collect();
    let row = |name: &str, owner: &str, created: &str| (name.to_owned(), owner.to_owned(), created.to_owned());
    assert_eq!(
        told,
        [row("a", "file", old), row("b", "cluster", old), row("c", "file", new)]
    );
}

fn check(name: &str, answer: Answer, message: &str) -> Outcome {
    Outcome {
        check: name.into(),
        answer,
        enforced: true,
        message: message.into(),
        top: if answer == Answer::Fails {
            vec!["/x is writable by everybody (native.world-writable, high)".into()]
        } else {
            Vec::new()
        },
    }
}

#[test]
fn the_table_names_what_would_fail_who_runs_it_and_what_cannot_be_told() {
    let row = |base: &str, answer, checks, workloads: &[&str]| Row {
        base: base.into(),
        tag: "12-20261120-4f2a91c07b1e".into(),
        digest: Digest::of(base.as_bytes()),
        answer,
        checks,
        workloads: workloads.iter().map(|name| (*name).to_owned()).collect(),
    };
    let fails = vec![
        check("hardening", Answer::Fails, "1 failed (high 1)"),
        check(
            "cis",
            Answer::Unknown,
            "it differs in profile: that needs a new examination",
        ),
    ];
    let passes = vec![check("hardening", Answer::Passes, "passed, 30 evaluated")];
    insta::assert_snapshot!(text(&Answers {
        images: vec![
            row("platform/debian-12", Answer::Fails, fails, &["shop/cart", "shop/front"]),
            row("platform/debian-13", Answer::Passes, passes, &[]),
        ],
        unread: vec!["secret".into()],
    }));
}
