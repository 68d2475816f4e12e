//! Recalls: what may keep a BaseImage from carrying one out, and must not.

use super::*;

/// A release is taken back while its namespace has more candidates with its label than are kept: somebody else's, of an object of this
/// name before, or such as could not be pruned because the staging registry is away. A recall waits for nothing.
#[tokio::test]
async fn a_release_is_taken_back_however_many_candidates_have_the_label() {
    let mut found = Vec::new();
    for more in [0, 1_000] {
        let mut process = platform();
        process.reconcile("platform/debian").await;
        let first = process.candidates()[0].name_any();
        process.promote(&first, "b1");
        process.reconcile("platform/debian").await;
        process.upstream_is("v2");
        process.reconcile("platform/debian").await;
        let second = process
            .candidates()
            .iter()
            .map(kube::ResourceExt::name_any)
            .find(|name| *name != first)
            .unwrap();
        process.promote(&second, "b2");
        process.reconcile("platform/debian").await;
        assert_eq!(process.is_out(), (Digest::of(b"b2"), 2), "control");
        for at in 0..more {
            process.server.put(&json!({"apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
                "metadata": {"name": format!("old-{at}"), "namespace": "platform", "labels": {"repave.dev/base-image": "debian"}}, "spec": {}}));
        }
        process.order("b2", false);
        let mut said = String::new();
        for _ in 0..3 {
            let base = process.base("platform/debian");
            match reconciler::steps(&process.state, &base).await {
                Ok(outcome) => driver::finish(&process.state.ctx, &base, outcome).await.unwrap(),
                Err(failure) => {
                    said = failure.message;
                    continue;
                }
            };
        }
        if process.is_out().0 != Digest::of(b"b1") {
            found.push(format!("{more} more: b2 is still out: {said}"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

async fn with_two_releases() -> (Process, String) {
    let mut process = platform();
    process.reconcile("platform/debian").await;
    let first = process.candidates()[0].name_any();
    process.promote(&first, "b1");
    process.reconcile("platform/debian").await;
    process.upstream_is("v2");
    process.reconcile("platform/debian").await;
    let second = process
        .candidates()
        .iter()
        .map(kube::ResourceExt::name_any)
        .find(|name| *name != first)
        .unwrap();
    process.promote(&second, "b2");
    process.reconcile("platform/debian").await;
    assert_eq!(process.is_out(), (Digest::of(b"b2"), 2), "control");
    (process, second)
}

impl Process {
    /// A turn that may fail; what is said then.
    async fn tries(&mut self) -> Option<String> {
        let base = self.base("platform/debian");
        match reconciler::steps(&self.state, &base).await {
            Ok(outcome) => {
                driver::finish(&self.state.ctx, &base, outcome).await.unwrap();
                None
            }
            Err(failure) => Some(failure.message),
        }
    }
}

/// Whatever else is wrong with a BaseImage, its release is taken back. One whose own spec cannot be read is not: it says so, and waits.
#[tokio::test]
async fn a_release_is_taken_back_whatever_else_is_wrong() {
    type Wrong = fn(&Process);
    let mut found = Vec::new();
    let cases: [(&str, Wrong); 5] = [
        ("control", |_| {}),
        ("suspended", |process| {
            process.server.edit("baseimages", "platform/debian", |base| {
                base["spec"]["suspend"] = json!(true);
            });
        }),
        ("its policy is gone", |process| {
            process.server.remove("validationpolicies", "platform/hardened");
        }),
        ("its policy cannot be read", |process| {
            process
                .server
                .edit("validationpolicies", "platform/hardened", |policy| {
                    policy["spec"] = json!({"checks": 7});
                });
        }),
        ("its customisation cannot be read", |process| {
            process.server.edit("baseimages", "platform/debian", |base| {
                base["spec"]["customize"] = json!({"configMapRef": {"name": "gone"}});
            });
        }),
    ];
    for (what, wrong) in cases {
        let (mut process, _) = with_two_releases().await;
        wrong(&process);
        process.order("b2", false);
        let mut said = None;
        for _ in 0..4 {
            said = process.tries().await.or(said);
        }
        if process.is_out().0 != Digest::of(b"b1") {
            found.push(format!("{what}: b2 is still out: {said:?}"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// The only release is taken back: nothing says that it is released any more.
#[tokio::test]
async fn when_the_only_release_is_taken_back_nothing_is_out() {
    let mut process = platform();
    process.reconcile("platform/debian").await;
    let first = process.candidates()[0].name_any();
    process.promote(&first, "b1");
    process.reconcile("platform/debian").await;
    process.order("b1", false);
    for _ in 0..4 {
        process.tries().await;
    }
    let status = process.base("platform/debian").status.unwrap();
    assert!(status.released.is_none(), "{:?} {:?}", status.released, status.revoked);
}

/// The write of the status is refused after the history was written (a webhook, the store is full): the history says what is out.
#[tokio::test]
async fn a_recall_whose_status_was_not_written_is_carried_out_when_it_can_be() {
    let (mut process, _) = with_two_releases().await;
    process.order("b2", false);
    process.server.faults(|seen| {
        (seen.verb == "PATCH" && seen.resource == "baseimages/status").then_some(Fault::Refused(500, "InternalError"))
    });
    let base = process.base("platform/debian");
    if let Ok(outcome) = reconciler::steps(&process.state, &base).await {
        let _ = driver::finish(&process.state.ctx, &base, outcome).await;
    }
    process.server.heal();
    for _ in 0..4 {
        process.tries().await;
    }
    assert_eq!(process.is_out(), (Digest::of(b"b1"), 3));
}
