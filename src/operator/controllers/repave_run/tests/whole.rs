//! Whole turns of a run over an API server in memory: what happens between the look and the writes, and what is not seen in the look.

use super::{
    super::{Images, Runs, memory::Memory},
    world::{REPOSITORY, release, run},
};
use crate::{
    api::{RepaveRun, RepaveRunStatus},
    controllers::{
        context::Context,
        inventory::Inventory,
        reconciler,
        testing::{Api, Fault, Seen},
    },
    domain::{digest::Digest, lineage::Release},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

fn image(version: &str) -> String {
    format!("{REPOSITORY}@{}", Digest::of(version.as_bytes()))
}

/// A healthy Deployment of the plan's own namespace.
fn deployment(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "platform", "uid": format!("uid-{name}"), "labels": {"app": name}, "annotations": {}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": image}]}}},
        "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
    })
}

/// What a run of this plan leaves on what it moved to this release, ten minutes ago.
fn moved_by(object: &mut Value, (plan, run): (&str, &str), to: &Release, before: &str) {
    let at = Timestamp::now() - SignedDuration::from_mins(10);
    let record = json!({"at": at.to_string(), "plan": plan, "digest": to.digest, "sequence": to.sequence, "generation": 0,
        "template": "0000000000000000", "uid": object["metadata"]["uid"]});
    object["metadata"]["annotations"] = json!({"repave.dev/run": run, "repave.dev/moved": record.to_string(),
        "repave.dev/previous-images": json!({"app": before}).to_string()});
}

/// Kubernetes has given it up.
fn timed_out(object: &mut Value) {
    object["status"] = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 0, "conditions": [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "has timed out progressing.",
            "lastUpdateTime": Timestamp::now().to_string()}]});
}

fn row(release: &Release, state: &str) -> Value {
    let mut row = json!({"sequence": release.sequence, "digest": release.digest, "sourceDigest": release.digest, "layers": 0,
        "repository": release.repository, "tag": release.tag, "candidate": release.candidate, "promotedAt": "2026-01-01T00:00:00Z",
        "state": state});
    if state == "Revoked" {
        row["revoked"] = json!({"at": "2026-01-02T00:00:00Z", "reason": "CVE-1"});
    }
    row
}

/// The history of a base image, newest first.
fn history(base_image: &str, rows: &[(Release, &str)]) -> Value {
    let last = rows.iter().map(|(release, _)| release.sequence).max();
    let rows: Vec<Value> = rows.iter().map(|(release, state)| row(release, state)).collect();
    json!({"apiVersion": "repave.dev/v1alpha1", "kind": "ReleaseHistory", "metadata": {"name": base_image, "namespace": "platform"},
        "spec": {"lastSequence": last, "lastCandidate": last, "count": rows.len(), "releases": rows}})
}

fn released(release: &Release) -> Value {
    json!({"digest": release.digest, "repository": release.repository, "tag": release.tag, "sourceDigest": release.digest,
        "candidate": release.candidate, "sequence": release.sequence, "promotedAt": "2026-01-01T00:00:00Z"})
}

fn revoked(release: &Release) -> Value {
    json!({"digest": release.digest, "repository": release.repository, "tag": release.tag, "at": "2026-01-02T00:00:00Z", "reason": "CVE-1"})
}

fn candidate(release: &Release) -> Value {
    let digest = &release.digest;
    json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "ImageCandidate",
        "metadata": {"name": release.candidate, "namespace": "platform", "labels": {"repave.dev/base-image": "debian"}},
        "spec": {"baseImage": "debian", "sequence": release.sequence, "source": "up.test/debian", "sourceTag": "12",
            "sourceDigest": digest, "inputsHash": digest, "staging": format!("{REPOSITORY}-staging"), "build": {}, "policies": [],
            "promote": {"repository": REPOSITORY, "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
        "status": {"result": "Passed",
            "promoted": {"repository": REPOSITORY, "digest": digest, "tag": release.tag, "chainId": digest, "layers": 1,
                "at": "2026-01-01T00:00:00Z"},
            "conditions": [{"type": "Promoted", "status": "True", "reason": "Promoted", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    })
}

/// A cluster with a plan whose run is about v3.
struct Cluster {
    server: Api,
    ctx: Context,
    run: RepaveRun,
    /// What the process remembers.
    memory: Memory,
}

impl Cluster {
    /// With these Deployments, as many of them at once as there are, `spec` in the run and its plan alike.
    async fn new(deployments: Vec<Value>, spec: Value) -> Self {
        let server = Api::default();
        server.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "platform", "labels": {"repave": "auto"}}}));
        for object in &deployments {
            server.put(object);
        }
        let mut whole = json!({"targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}},
            "waves": [{"name": "all", "maxConcurrent": deployments.len()}], "onFailure": {"budget": 99}});
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let mut plan = json!({"apiVersion": "repave.dev/v1alpha1", "kind": "RepavePlan",
            "metadata": {"name": "all", "namespace": "platform", "uid": "plan"}, "spec": whole});
        plan["spec"]["baseImageRefs"] = json!([{"name": "debian"}]);
        server.put(&plan);
        server.put(&json!({"apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
            "metadata": {"name": "debian", "namespace": "platform", "uid": "debian"},
            "spec": {"source": {"image": "up.test/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "p"}],
                "promote": {"repository": REPOSITORY, "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
            "status": {"released": released(&release("v3", 3))}}));
        let mut run = serde_json::to_value(run(&whole)).unwrap();
        run["metadata"]["ownerReferences"] = json!([{"apiVersion": "repave.dev/v1alpha1", "kind": "RepavePlan", "name": "all",
            "uid": "plan", "controller": true}]);
        let mut ctx = server.context();
        ctx.inventory = Inventory::new(&[]);
        // No watch shows anything after its first list.
        server.faults(|seen| (seen.verb == "WATCH").then_some(Fault::Silent));
        tokio::spawn(ctx.inventory.clone().run(ctx.watches.clone(), ctx.metrics.clone()));
        ctx.inventory.ready().await.unwrap();
        while !ctx.inventory.uncounted().is_empty() {
            tokio::task::yield_now().await;
        }
        Self {
            server,
            ctx,
            run: serde_json::from_value(run).unwrap(),
            memory: Memory::default(),
        }
    }

    /// Before the request after the first one of these, this happens.
    fn after(&self, verb: &'static str, resource: &'static str, happens: impl FnOnce(&Api) + Send + 'static) {
        let (server, mut happens) = (self.server.clone(), Some(happens));
        self.server.faults(move |seen: &Seen| {
            if seen.verb == "WATCH" {
                return Some(Fault::Silent);
            }
            if seen.verb == verb
                && seen.resource == resource
                && let Some(happens) = happens.take()
            {
                let server = server.clone();
                tokio::spawn(async move { happens(&server) });
            }
            None
        });
    }

    /// One turn of the run; its status.
    async fn turn(&self) -> RepaveRunStatus {
        let runs = Runs {
            ctx: self.ctx.clone(),
            images: Images::default(),
            memory: self.memory.clone(),
        };
        reconciler::steps(&runs, &self.run).await.unwrap().status
    }

    fn patched(&self) -> usize {
        self.server.count("PATCH", "deployments")
    }

    /// How many Deployments run this.
    fn on(&self, image: &str) -> usize {
        let names = self.server.names("deployments");
        let objects = names.iter().filter_map(|name| self.server.get("deployments", name));
        let first = "/spec/template/spec/containers/0/image";
        objects.filter(|object| object.pointer(first).unwrap() == image).count()
    }
}

fn v(number: i64) -> Release {
    release(&format!("v{number}"), number)
}

/// As `controllers/base_image` takes v3 back: v2 is out again.
fn recall_v3(server: &Api) {
    let again = Release { sequence: 4, ..v(2) };
    server.put(&history(
        "debian",
        &[(again.clone(), "Released"), (v(3), "Revoked"), (v(1), "Superseded")],
    ));
    server.edit("baseimages", "platform/debian", |object| {
        object["status"] = json!({"released": released(&again), "revoked": [revoked(&v(3))]});
    });
}

fn outdated(count: usize) -> Vec<Value> {
    (0..count)
        .map(|at| deployment(&format!("app-{at:02}"), &image("v1")))
        .collect()
}

/// The release is taken back while what would be written is read live.
#[tokio::test]
async fn nothing_is_moved_to_a_release_that_was_taken_back_before_the_first_patch() {
    let cluster = Cluster::new(outdated(20), json!({})).await;
    cluster.server.put(&history(
        "debian",
        &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Superseded")],
    ));
    cluster.after("GET", "namespaces", recall_v3);
    cluster.turn().await;
    assert_eq!(
        cluster.on(&image("v3")),
        0,
        "moved to a digest that was recalled before"
    );
}

/// The same for the plan: it is suspended while what would be written is read live.
#[tokio::test]
async fn nothing_is_moved_for_a_plan_that_was_suspended_before_the_first_patch() {
    let cluster = Cluster::new(outdated(20), json!({})).await;
    cluster.server.put(&history(
        "debian",
        &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Superseded")],
    ));
    cluster.after("GET", "namespaces", |server| {
        server.edit("repaveplans", "platform/all", |plan| {
            plan["spec"]["suspend"] = json!(true);
        });
    });
    cluster.turn().await;
    assert_eq!(
        cluster.on(&image("v3")),
        0,
        "moved though the plan was suspended before"
    );
}

/// Twenty that fail on v3 and ran v1 before.
fn failing(count: usize) -> Vec<Value> {
    let objects = (0..count).map(|at| deployment(&format!("app-{at:02}"), &image("v3")));
    objects
        .map(|mut object| {
            moved_by(&mut object, ("platform/all", "platform/all-v3"), &v(3), &image("v1"));
            timed_out(&mut object);
            object
        })
        .collect()
}

/// What they ran before is taken back while the first of them get it again.
#[tokio::test]
async fn a_batch_of_rollbacks_stops_when_what_it_gives_back_was_taken_back() {
    let cluster = Cluster::new(failing(40), json!({})).await;
    cluster.server.put(&history(
        "debian",
        &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Superseded")],
    ));
    cluster.after("PATCH", "deployments", |server| {
        server.put(&history(
            "debian",
            &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Revoked")],
        ));
        server.edit("baseimages", "platform/debian", |object| {
            object["status"]["revoked"] = json!([revoked(&v(1))]);
        });
    });
    cluster.turn().await;
    let back = cluster.on(&image("v1"));
    assert!(
        back <= super::super::apply::AT_ONCE,
        "{back} of 40 got a recalled digest"
    );
}

/// The ReleaseHistory is lost. The BaseImage's status is the record until it is rebuilt, which waits for as long as the production
/// registry, or the Secret to look there with, is missing.
#[tokio::test]
async fn nothing_is_rolled_back_to_what_the_status_of_the_base_image_shows_as_taken_back() {
    for lost in [false, true] {
        let cluster = Cluster::new(failing(1), json!({})).await;
        for release in [v(1), v(3)] {
            cluster.server.put(&candidate(&release));
        }
        cluster.server.edit("baseimages", "platform/debian", |object| {
            object["status"]["revoked"] = json!([revoked(&v(1))]);
        });
        if !lost {
            cluster
                .server
                .put(&history("debian", &[(v(3), "Released"), (v(1), "Revoked")]));
        }
        let status = cluster.turn().await;
        assert_eq!(
            cluster.on(&image("v1")),
            0,
            "rolled back to a recalled digest (history lost: {lost})"
        );
        assert_eq!(status.counts.failed, 1, "{:?}", status.counts);
    }
}

/// Two containers of two base images, two plans. The run of the second plan has moved one of them and still watches it; the watch of
/// Deployments is late.
#[tokio::test]
async fn what_the_run_of_another_plan_has_by_now_is_left_to_it_also_where_only_the_live_read_tells() {
    let log = |version: &str, sequence: u64| Release {
        base_image: "log".to_owned(),
        repository: "registry.test/log".parse().unwrap(),
        digest: Digest::of(version.as_bytes()),
        sequence,
        ..v(1)
    };
    let log_image = |version: &str| format!("registry.test/log@{}", Digest::of(version.as_bytes()));
    let mut object = deployment("web", &image("v1"));
    let both =
        |version: &str| json!([{"name": "app", "image": image("v1")}, {"name": "log", "image": log_image(version)}]);
    object["spec"]["template"]["spec"]["containers"] = both("log-1");
    for late in [false, true] {
        let mut now = object.clone();
        now["spec"]["template"]["spec"]["containers"] = both("log-2");
        moved_by(
            &mut now,
            ("platform/second", "platform/second-log-2"),
            &log("log-2", 2),
            &log_image("log-1"),
        );
        let first = if late { &object } else { &now };
        let cluster = Cluster::new(vec![first.clone()], json!({})).await;
        cluster.server.put(&history(
            "debian",
            &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Superseded")],
        ));
        cluster.server.put(&history(
            "log",
            &[(log("log-2", 2), "Released"), (log("log-1", 1), "Superseded")],
        ));
        let mut other = serde_json::to_value(&cluster.run).unwrap();
        other["metadata"] = json!({"name": "second-log-2", "namespace": "platform"});
        other["spec"]["plan"] = json!("second");
        cluster.server.put(&other);
        if late {
            cluster.server.edit("deployments", "platform/web", |live| {
                live["spec"] = now["spec"].clone();
                live["metadata"]["annotations"] = now["metadata"]["annotations"].clone();
                // Its roll-out is over: one replica, or none.
                live["status"]["observedGeneration"] = json!(2);
            });
        }
        let status = cluster.turn().await;
        assert_eq!(
            cluster.patched(),
            0,
            "two plans move one workload (late: {late}): {:?}",
            status.counts
        );
    }
}

/// The plan selected `tier: a` when its run before moved one there, which is still on its way; since then it selects `tier: b`.
#[tokio::test]
async fn what_an_earlier_run_of_the_plan_has_in_flight_takes_its_place_also_where_the_plan_does_not_select_it_any_more()
{
    let tier = |name: &str, tier: &str, image: &str| {
        let mut object = deployment(name, image);
        object["metadata"]["labels"]["tier"] = json!(tier);
        object
    };
    let mut before = tier("old", "a", &image("v2"));
    moved_by(&mut before, ("platform/all", "platform/all-v2"), &v(2), &image("v1"));
    before["status"]["updatedReplicas"] = json!(0);
    for selector in [json!({}), json!({"matchLabels": {"tier": "b"}})] {
        let spec = json!({"targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}, "selector": selector},
            "waves": [{"name": "all", "maxConcurrent": 1}]});
        let cluster = Cluster::new(vec![before.clone(), tier("new", "b", &image("v1"))], spec).await;
        let mut earlier = serde_json::to_value(&cluster.run).unwrap();
        earlier["metadata"]["name"] = json!("all-v2");
        earlier["metadata"]["labels"] = json!({"repave.dev/plan": "all"});
        earlier["spec"]["targets"]["selector"] = json!({});
        cluster.server.put(&earlier);
        cluster.server.put(&history(
            "debian",
            &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Superseded")],
        ));
        let status = cluster.turn().await;
        assert_eq!(
            cluster.patched(),
            0,
            "one is on its way, and one may be ({selector}): {:?}",
            status.counts
        );
    }
}

/// The clock of this process is three days behind what the status of a finished run says: it has soaked, whatever the clock shows for
/// a moment. (The walks do not write the status of a run that rests; the operator does.)
#[tokio::test]
async fn a_look_with_a_clock_that_is_days_behind_does_not_write_over_when_a_finished_run_had_soaked() {
    let mut object = deployment("web", &image("v3"));
    moved_by(&mut object, ("platform/all", "platform/all-v3"), &v(3), &image("v1"));
    let mut cluster = Cluster::new(vec![object], json!({})).await;
    cluster
        .server
        .put(&history("debian", &[(v(3), "Released"), (v(1), "Superseded")]));
    let seconds = (Timestamp::now() + SignedDuration::from_hours(72)).as_second();
    let then = Timestamp::from_second(seconds).unwrap().to_string();
    let status = json!({"started": then, "finished": then, "steadyUntil": then, "counts": {"total": 1, "pending": 0, "rolling": 0, "done": 1, "failed": 0, "held": 0, "skipped": 0},
        "waves": [{"name": "all", "settledAt": then, "soakedAt": then, "moved": true}]});
    cluster.run.status = Some(serde_json::from_value(status).unwrap());
    let before = cluster.run.status.clone().unwrap();
    let after = cluster.turn().await;
    assert_eq!((after.waves, after.steady_until), (before.waves, before.steady_until));
}
