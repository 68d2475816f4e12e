//! The controller against an API server in memory and a real registry.

use super::{polls::Question, *};
use crate::{
    controllers::{
        desired::{ask::still_wanted, owner, wanted::Wanted},
        driver::{self, Requeue},
        testing::{Api as Server, Fault, Seen},
        wakes::Guarded,
    },
    domain::digest::Digest,
    registry::{
        Auth,
        testing::{TestRegistry, push_image},
    },
};
use kube::runtime::{
    reflector::{self, store::Writer},
    watcher,
};
use serde_json::{Value, json};
use std::time::Instant;

mod hostile;
mod recalls;
mod wakes;

const UPSTREAM: &str = "up.example.com/debian";

/// A process with its server. The store of BaseImages is as the tests fill it.
struct Process {
    server: Server,
    state: State,
    writer: Writer<Guarded<BaseImage>>,
}

impl Process {
    fn start(server: Server, ctx: Context) -> Self {
        let (store, mut writer) = reflector::store();
        writer.apply_watcher_event(&watcher::Event::Init);
        writer.apply_watcher_event(&watcher::Event::InitDone);
        ctx.base_images.fill(store);
        let state = State {
            ctx,
            polls: polls::Polls::default(),
            channel: channel::Looks::default(),
            noticed: Arc::default(),
            rebuilds: history::Failures::default(),
        };
        Self { server, state, writer }
    }

    fn new() -> Self {
        let server = Server::default();
        let ctx = server.context();
        Self::start(server, ctx)
    }

    fn upstream_is(&self, content: &str) {
        let image = format!("{UPSTREAM}:12").parse().unwrap();
        let digest = Digest::of(content.as_bytes());
        let question = Question::new(image, "platform", None);
        self.state.polls.done(&question, Ok(Some(digest)), Instant::now());
    }

    fn base(&self, at: &str) -> BaseImage {
        serde_json::from_value(self.server.get("baseimages", at).unwrap()).unwrap()
    }

    /// One turn; says whether the next one is due at once.
    async fn turn(&mut self, at: &str) -> bool {
        let base = self.base(at);
        let guarded = Guarded(Ok(base.clone()));
        self.writer.apply_watcher_event(&watcher::Event::Apply(guarded));
        let outcome = reconciler::steps(&self.state, &base).await.unwrap();
        let at_once = outcome.next == Requeue::Now;
        driver::finish(&self.state.ctx, &base, outcome).await.unwrap();
        at_once
    }

    /// Turns until none is due.
    async fn reconcile(&mut self, at: &str) {
        for _ in 0..10 {
            if !self.turn(at).await {
                return;
            }
        }
        panic!("{at} does not come to rest");
    }

    fn candidates(&self) -> Vec<ImageCandidate> {
        let names = self.server.names("imagecandidates");
        let read = |name: &String| serde_json::from_value(self.server.get("imagecandidates", name).unwrap());
        names.iter().filter_map(|name| read(name).ok()).collect()
    }

    fn condition(&self, at: &str, type_: &str) -> Option<(String, String)> {
        let status = self.base(at).status?;
        let found = super::super::conditions::find(&status.conditions, type_)?;
        Some((found.status.clone(), found.reason.clone()))
    }
}

fn policy(namespace: &str) -> Value {
    json!({"apiVersion": "repave.dev/v1alpha1", "kind": "ValidationPolicy",
        "metadata": {"name": "hardened", "namespace": namespace},
        "spec": {"checks": [{"name": "hardening", "native": {}}]}})
}

fn base_image(namespace: &str, second: u32, repository: &str) -> Value {
    json!({"apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
        "metadata": {"name": "debian", "namespace": namespace, "generation": 1,
            "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
        "spec": {"source": {"image": UPSTREAM, "track": {"tag": "12"}}, "policyRefs": [{"name": "hardened"}],
            "promote": {"repository": repository, "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}}})
}

fn platform() -> Process {
    let process = Process::new();
    process.server.put(&policy("platform"));
    process.server.put(&base_image("platform", 1, "r.test/base/debian"));
    process.upstream_is("v1");
    process
}

// It is compared with what is perhaps not there.
#[allow(clippy::unnecessary_wraps)]
fn is(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

#[tokio::test]
async fn a_candidate_is_made_once_and_the_list_is_consistent_only_before_that() {
    let mut process = platform();
    process.reconcile("platform/debian").await;
    let made = process.candidates();
    assert_eq!(made.len(), 1);
    let status = process.base("platform/debian").status.unwrap();
    let summary = status.candidate.unwrap();
    assert_eq!((summary.name, summary.sequence), (made[0].name_any(), 1));
    assert_eq!(process.server.count("LIST", "imagecandidates"), 2);
    process.reconcile("platform/debian").await;
    assert_eq!(process.candidates(), made);
    assert_eq!(process.server.count("LIST", "imagecandidates"), 3);
    assert_eq!(process.server.count("POST", "imagecandidates"), 1);
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_ends_in_one_candidate() {
    let mut process = platform();
    process
        .server
        .faults(|seen| (seen.verb == "POST" && seen.resource == "imagecandidates").then_some(Fault::Lost));
    process.reconcile("platform/debian").await;
    process.server.heal();
    process.reconcile("platform/debian").await;
    assert_eq!(process.candidates().len(), 1);
    assert_eq!(
        process.condition("platform/debian", "Ready"),
        is("False", "CandidateRunning")
    );
}

#[tokio::test]
async fn the_second_base_image_of_a_repository_makes_nothing_until_the_first_gives_it_up() {
    let mut process = platform();
    process.server.put(&policy("tenant"));
    process.server.put(&base_image("tenant", 2, "r.test/base/debian"));
    process.reconcile("platform/debian").await;
    process.reconcile("tenant/debian").await;
    assert_eq!(
        process.condition("tenant/debian", "Stalled"),
        is("True", "RepositoryTaken")
    );
    assert!(owner::not_owned(&process.base("tenant/debian")).is_some());
    assert!(
        process
            .candidates()
            .iter()
            .all(|one| one.namespace().as_deref() == Some("platform"))
    );
    let message = owner::not_owned(&process.base("tenant/debian")).unwrap().to_owned();
    assert!(!message.contains("platform"), "{message}");
    let gone = Guarded(Ok(process.base("platform/debian")));
    process.writer.apply_watcher_event(&watcher::Event::Delete(gone));
    process.reconcile("tenant/debian").await;
    assert_eq!(
        process.condition("tenant/debian", "RepositoryOwned"),
        is("True", "Owner")
    );
    assert_eq!(process.candidates().len(), 2);
}

#[tokio::test]
async fn a_rule_that_names_no_check_of_its_policies_stops_everything_until_it_is_corrected() {
    let mut process = platform();
    let with_rule = |expression: &str| {
        let mut policy = policy("platform");
        policy["spec"]["rules"] = json!([{"name": "enough", "expression": expression, "message": "too few"}]);
        policy
    };
    process.server.put(&with_rule("checks.hardning.passed > 0"));
    process.reconcile("platform/debian").await;
    assert_eq!(
        process.condition("platform/debian", "Ready"),
        is("False", "InvalidRule")
    );
    let status = process.base("platform/debian").status.unwrap();
    let ready = super::super::conditions::find(&status.conditions, "Ready").unwrap();
    let says = "rule \"enough\": expected one of the checks hardening, found \"hardning\"";
    assert!(ready.message.contains(says), "{}", ready.message);
    assert!(process.candidates().is_empty());
    process.server.put(&with_rule("checks.hardening.passed > 0"));
    process.reconcile("platform/debian").await;
    assert_eq!(process.candidates().len(), 1);
    let mut base = base_image("platform", 1, "r.test/base/debian");
    base["spec"]["policyRefs"] = json!([{"name": "hardened"}, {"name": "more"}]);
    let mut more = policy("platform");
    more["metadata"]["name"] = json!("more");
    process.server.put(&more);
    process.server.put(&with_rule("checks['more.hardening'].passed > 0"));
    process.server.put(&base);
    process.reconcile("platform/debian").await;
    assert_eq!(process.candidates().len(), 2, "of another policy that it names too");
}

#[tokio::test]
async fn one_candidate_that_cannot_be_read_stops_nothing() {
    let mut process = platform();
    process
        .server
        .put(&json!({"apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
        "metadata": {"name": "broken", "namespace": "platform", "labels": {"repave.dev/base-image": "debian"}},
        "spec": {"sourceDigest": "x"}}));
    process.reconcile("platform/debian").await;
    assert_eq!(process.candidates().len(), 1);
}

#[tokio::test]
async fn a_candidate_of_a_base_image_that_had_the_name_before_is_neither_used_nor_taken_for_ours() {
    let mut process = platform();
    process.reconcile("platform/debian").await;
    let name = process.candidates()[0].name_any();
    process
        .server
        .edit("imagecandidates", &format!("platform/{name}"), |object| {
            object["metadata"]["ownerReferences"][0]["uid"] = json!("before");
        });
    process.reconcile("platform/debian").await;
    assert_eq!(process.condition("platform/debian", "Ready"), is("False", "NameTaken"));
    let candidate = &process.candidates()[0];
    let found = still_wanted(candidate, &process.state.ctx).await.unwrap();
    assert!(matches!(found, Wanted::BaseImageGone { .. }), "{found:?}");
}

#[tokio::test]
async fn what_is_wanted_is_told_from_live_reads() {
    let mut process = platform();
    process.reconcile("platform/debian").await;
    let candidate = process.candidates().remove(0);
    let before = process.server.count("GET", "baseimages");
    assert_eq!(still_wanted(&candidate, &process.state.ctx).await.unwrap(), Wanted::Yes);
    assert_eq!(process.server.count("GET", "baseimages") - before, 1);
    process
        .server
        .edit("validationpolicies", "platform/hardened", |object| {
            object["spec"]["checks"][0]["allow"] = json!({"high": 1});
        });
    let found = still_wanted(&candidate, &process.state.ctx).await.unwrap();
    assert!(matches!(found, Wanted::No { .. }), "{found:?}");
    process.server.remove("baseimages", "platform/debian");
    let found = still_wanted(&candidate, &process.state.ctx).await.unwrap();
    assert!(matches!(found, Wanted::BaseImageGone { .. }), "{found:?}");
}

#[tokio::test]
async fn what_is_released_is_announced_before_upstream_or_a_policy_is_looked_at() {
    let mut process = platform();
    process.reconcile("platform/debian").await;
    let name = process.candidates()[0].name_any();
    let at = format!("platform/{name}");
    process.server.edit("imagecandidates", &at, |object| {
        object["status"] = json!({"result": "Passed",
            "promoted": {"repository": "r.test/base/debian", "digest": Digest::of(b"built"), "tag": "12-b1", "chainId": Digest::of(b"c"),
                "layers": 1, "at": "2026-01-01T00:00:00Z"},
            "conditions": [{"type": "Promoted", "status": "True", "reason": "Promoted", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    });
    process.server.remove("validationpolicies", "platform/hardened");
    let asked = process.server.count("GET", "validationpolicies");
    assert!(process.turn("platform/debian").await, "the rest follows at once");
    let status = process.base("platform/debian").status.unwrap();
    assert_eq!(status.released.unwrap().digest, Digest::of(b"built"));
    assert_eq!(
        process.server.count("GET", "validationpolicies"),
        asked,
        "nobody else was asked"
    );
    process.reconcile("platform/debian").await;
    assert_eq!(
        process.condition("platform/debian", "Ready").unwrap().1,
        "PolicyMissing"
    );
    let status = process.base("platform/debian").status.unwrap();
    assert_eq!(status.released.unwrap().digest, Digest::of(b"built"), "it stays out");
}

#[tokio::test]
async fn the_status_announces_the_release_and_then_the_tag_follows_and_is_put_right() {
    let registry = TestRegistry::docker().await;
    let repository = registry.repository("base/debian");
    let client = registry.client();
    let built = push_image(&client, &repository, "12-b1", &[b"built"]).await;
    let foreign = push_image(&client, &repository, "foreign", &[b"foreign"]).await;
    let server = Server::default();
    let mut ctx = server.context();
    ctx.registry = client.clone();
    let mut process = Process::start(server, ctx);
    process.server.put(&policy("platform"));
    let mut base = base_image("platform", 1, &repository.to_string());
    base["spec"]["source"]["interval"] = json!("5s");
    process.server.put(&base);
    process.upstream_is("v1");
    process.reconcile("platform/debian").await;
    let name = process.candidates()[0].name_any();
    process
        .server
        .edit("imagecandidates", &format!("platform/{name}"), |object| {
            object["status"] = json!({"result": "Passed",
            "promoted": {"repository": repository, "digest": built.digest, "tag": "12-b1", "chainId": built.digest,
                "layers": 1, "at": "2026-01-01T00:00:00Z"},
            "conditions": [{"type": "Promoted", "status": "True", "reason": "Promoted", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        });
    let tag = repository.tagged("12").unwrap();
    let auth = Auth::anonymous();
    assert!(process.turn("platform/debian").await);
    let announced = process.base("platform/debian").status.unwrap().released.unwrap();
    assert_eq!(announced.digest, built.digest);
    assert_eq!(client.head(&tag, &auth).await.unwrap(), None, "the status goes first");
    process.reconcile("platform/debian").await;
    assert_eq!(client.head(&tag, &auth).await.unwrap().unwrap().digest, built.digest);
    assert_eq!(
        process.condition("platform/debian", "ChannelTag"),
        is("True", "PointsToRelease")
    );
    client.tag(&repository, &foreign.digest, "12", &auth).await.unwrap();
    let order = channel::order(
        Some(&announced),
        Some(&announced),
        &desired::validate(&process.base("platform/debian")).unwrap(),
    );
    let later = channel::Looks::default();
    let pace = polls::Pace {
        interval: Duration::from_secs(5),
        seed: 0,
    };
    let base = process.base("platform/debian");
    let (outcome, _) = channel::assert(&process.state.ctx, &later, &base, order, pace).await;
    assert!(
        matches!(&outcome, channel::Outcome::Right { found: channel::Found::Foreign { digest: Some(found) }, .. } if *found == foreign.digest),
        "{outcome:?}"
    );
    assert_eq!(client.head(&tag, &auth).await.unwrap().unwrap().digest, built.digest);
}

impl Process {
    /// The candidate of this name passes and is promoted with this content.
    fn promote(&self, name: &str, content: &str) {
        let digest = Digest::of(content.as_bytes());
        self.server
            .edit("imagecandidates", &format!("platform/{name}"), |object| {
                object["status"] = json!({"result": "Passed",
                    "promoted": {"repository": "r.test/base/debian", "digest": digest, "tag": format!("12-{content}"), "chainId": digest,
                        "layers": 1, "at": "2026-01-01T00:00:00Z"},
                    "conditions": [{"type": "Promoted", "status": "True", "reason": "Promoted", "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
            });
    }

    /// An order about a release, as `kubectl repave revoke` writes it.
    fn order(&self, content: &str, lift: bool) {
        let orders = json!([{"release": Digest::of(content.as_bytes()), "reason": "CVE-1", "lift": lift}]);
        self.server.edit("baseimages", "platform/debian", |object| {
            object["metadata"]["annotations"] = json!({"repave.dev/revoke": orders.to_string()});
        });
    }

    fn is_out(&self) -> (Digest, u64) {
        let released = self.base("platform/debian").status.unwrap().released.unwrap();
        (released.digest, released.sequence)
    }
}

/// b1 was taken back, b2 is out. Somebody deletes the ImageCandidate of b2, and ends the revocation of b1.
#[tokio::test]
async fn the_lift_of_an_old_revocation_brings_out_no_older_digest_when_the_candidate_of_the_release_is_not_seen() {
    for deleted in [false, true] {
        let mut process = platform();
        process.reconcile("platform/debian").await;
        let first = process.candidates()[0].name_any();
        process.promote(&first, "b1");
        process.reconcile("platform/debian").await;
        process.upstream_is("v2");
        process.reconcile("platform/debian").await;
        let all = process.candidates();
        let second = all
            .iter()
            .map(kube::ResourceExt::name_any)
            .find(|name| *name != first)
            .unwrap();
        process.promote(&second, "b2");
        process.reconcile("platform/debian").await;
        process.order("b1", false);
        process.reconcile("platform/debian").await;
        assert_eq!(process.is_out(), (Digest::of(b"b2"), 2));
        if deleted {
            process.server.remove("imagecandidates", &format!("platform/{second}"));
        }
        process.order("b1", true);
        process.turn("platform/debian").await;
        assert_eq!(
            process.is_out(),
            (Digest::of(b"b2"), 2),
            "the older digest is out again, and the estate goes back to it (deleted: {deleted})"
        );
    }
}

/// The other one is gone. Whose a repository is does not hang on upstream or on a policy, and its runs wait for this condition.
#[tokio::test]
async fn one_that_owns_its_repository_again_says_so_while_a_policy_is_missing_too() {
    let mut process = platform();
    process.server.put(&policy("tenant"));
    process.server.put(&base_image("tenant", 2, "r.test/base/debian"));
    process.reconcile("platform/debian").await;
    process.reconcile("tenant/debian").await;
    assert!(owner::not_owned(&process.base("tenant/debian")).is_some());
    let gone = Guarded(Ok(process.base("platform/debian")));
    process.writer.apply_watcher_event(&watcher::Event::Delete(gone));
    process.server.remove("validationpolicies", "tenant/hardened");
    process.reconcile("tenant/debian").await;
    assert_eq!(
        process.condition("tenant/debian", "Ready"),
        is("False", "PolicyMissing")
    );
    assert_eq!(
        owner::not_owned(&process.base("tenant/debian")),
        None,
        "nobody else has it any more, and what it has released is rolled out nowhere"
    );
}
