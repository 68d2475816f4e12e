//! A cluster for whole turns of a run: an API server in memory with a plan, its base image, its run and some Deployments.

use super::{
    super::{Images, Runs, memory::Memory},
    world::{REPOSITORY, release, run},
};
use crate::{
    api::{RepavePlan, RepaveRun, RepaveRunStatus},
    controllers::{
        access::{self, Account},
        conditions,
        context::Context,
        inventory::Inventory,
        reconciler,
        testing::{Api, Fault, Seen},
    },
    domain::{digest::Digest, lineage::Release},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Instant;

/// A namespace that the plans of these tests select.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"repave": "auto"}}})
}

/// A healthy Deployment that names its image by tag.
pub fn by_tag(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "generation": 1, "labels": {"app": name}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "app", "image": format!("{REPOSITORY}:12")}]}}},
        "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
    })
}

/// The account of a plan that may move what is in any namespace.
pub fn mover(ctx: &Context) -> Account {
    answer(ctx, "", true);
    account()
}

fn account() -> Account {
    Account {
        namespace: "platform".to_owned(),
        name: Some("mover".to_owned()),
    }
}

fn answer(ctx: &Context, place: &str, may: bool) {
    for verb in ["list", "patch"] {
        let question = (account(), place.to_owned(), verb, access::DEPLOYMENTS);
        ctx.access.keep(question, may, Instant::now());
    }
}

/// An inventory that has listed this API server once, and goes on to watch it.
pub async fn listed(ctx: &Context) -> Inventory {
    inventory(ctx, &[]).await
}

async fn inventory(ctx: &Context, only: &[String]) -> Inventory {
    let inventory = Inventory::new(only);
    tokio::spawn(inventory.clone().run(ctx.watches.clone(), ctx.metrics.clone()));
    inventory.ready().await.unwrap();
    inventory
}

pub fn image(version: &str) -> String {
    format!("{REPOSITORY}@{}", Digest::of(version.as_bytes()))
}

/// A healthy Deployment of the plan's own namespace.
pub fn deployment(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "platform", "uid": format!("uid-{name}"), "labels": {"app": name}, "annotations": {}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": image}]}}},
        "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
    })
}

/// What a run of this plan leaves on what it moved to this release, ten minutes ago.
pub fn moved_by(object: &mut Value, (plan, run): (&str, &str), to: &Release, before: &str) {
    let at = Timestamp::now() - SignedDuration::from_mins(10);
    let record = json!({"at": at.to_string(), "plan": plan, "digest": to.digest, "sequence": to.sequence, "generation": 0,
        "template": "0000000000000000", "uid": object["metadata"]["uid"]});
    object["metadata"]["annotations"] = json!({"repave.dev/run": run, "repave.dev/moved": record.to_string(),
        "repave.dev/previous-images": json!({"app": before}).to_string()});
}

/// Kubernetes has given it up.
pub fn timed_out(object: &mut Value) {
    object["status"] = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 0, "conditions": [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "has timed out progressing.",
            "lastUpdateTime": Timestamp::now().to_string()}]});
}

pub fn row(release: &Release, state: &str) -> Value {
    let mut row = json!({"sequence": release.sequence, "digest": release.digest, "sourceDigest": release.digest, "layers": 0,
        "repository": release.repository, "tag": release.tag, "candidate": release.candidate, "promotedAt": "2026-01-01T00:00:00Z",
        "state": state});
    if state == "Revoked" {
        row["revoked"] = json!({"at": "2026-01-02T00:00:00Z", "reason": "CVE-1"});
    }
    row
}

/// The history of a base image, newest first.
pub fn history(base_image: &str, rows: &[(Release, &str)]) -> Value {
    let last = rows.iter().map(|(release, _)| release.sequence).max();
    let rows: Vec<Value> = rows.iter().map(|(release, state)| row(release, state)).collect();
    json!({"apiVersion": "repave.dev/v1alpha1", "kind": "ReleaseHistory", "metadata": {"name": base_image, "namespace": "platform"},
        "spec": {"lastSequence": last, "lastCandidate": last, "count": rows.len(), "releases": rows}})
}

pub fn released(release: &Release) -> Value {
    json!({"digest": release.digest, "repository": release.repository, "tag": release.tag, "sourceDigest": release.digest,
        "candidate": release.candidate, "sequence": release.sequence, "promotedAt": "2026-01-01T00:00:00Z"})
}

pub fn revoked(release: &Release) -> Value {
    json!({"digest": release.digest, "repository": release.repository, "tag": release.tag, "at": "2026-01-02T00:00:00Z", "reason": "CVE-1"})
}

pub fn candidate(release: &Release) -> Value {
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
pub struct Cluster {
    /// Its API server.
    pub server: Api,
    /// What the process has.
    pub ctx: Context,
    /// The run as it is read.
    pub run: RepaveRun,
    /// What the process remembers.
    pub memory: Memory,
}

impl Cluster {
    /// With these Deployments, as many of them at once as there are, `spec` in the run and its plan alike.
    pub async fn new(deployments: Vec<Value>, spec: Value) -> Self {
        let server = Api::default();
        server.put(&namespace("platform"));
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
        server.put(&run);
        let mut ctx = server.context();
        // No watch shows anything after its first list.
        server.faults(|seen| (seen.verb == "WATCH").then_some(Fault::Silent));
        ctx.inventory = listed(&ctx).await;
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
    pub fn after(&self, verb: &'static str, resource: &'static str, happens: impl FnOnce(&Api) + Send + 'static) {
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
    pub async fn turn(&self) -> RepaveRunStatus {
        let runs = Runs {
            ctx: self.ctx.clone(),
            images: Images::default(),
            memory: self.memory.clone(),
        };
        reconciler::steps(&runs, &self.run).await.unwrap().status
    }

    pub fn patched(&self) -> usize {
        self.server.count("PATCH", "deployments")
    }

    /// How many Deployments run this.
    pub fn on(&self, image: &str) -> usize {
        let names = self.server.names("deployments");
        let objects = names.iter().filter_map(|name| self.server.get("deployments", name));
        let first = "/spec/template/spec/containers/0/image";
        objects.filter(|object| object.pointer(first).unwrap() == image).count()
    }

    /// The status of a turn is stored.
    pub async fn stored_turn(&mut self) -> RepaveRunStatus {
        let status = self.turn().await;
        self.run.status = Some(status.clone());
        status
    }

    /// The plan as it is stored.
    pub fn plan(&self) -> RepavePlan {
        serde_json::from_value(self.server.get("repaveplans", "platform/all").unwrap()).unwrap()
    }

    /// Which version a Deployment of the plan's own namespace has written.
    pub fn tag(&self, name: &str) -> String {
        let object = self.server.get("deployments", &format!("platform/{name}")).unwrap();
        let written = &object["spec"]["template"]["spec"]["containers"][0]["image"];
        let mut known = ["v1", "v2", "v3", "v4"].into_iter();
        known.find(|version| image(version) == *written).unwrap().to_owned()
    }

    /// A plan with an account that may do everything (`may`: where), over these namespaces as well.
    pub fn wide(&mut self, namespaces: &[&str], objects: Vec<Value>, may: &[&str]) {
        for name in namespaces {
            self.server.put(&namespace(name));
        }
        for object in objects {
            self.server.put(&object);
        }
        self.may(&["", "platform", "alpha"], false);
        self.may(may, true);
        let mut run = serde_json::to_value(&self.run).unwrap();
        run["spec"]["serviceAccountName"] = json!("mover");
        self.run = serde_json::from_value(run).unwrap();
        self.server.edit("repaveplans", "platform/all", |plan| {
            plan["spec"]["serviceAccountName"] = json!("mover");
        });
    }

    /// What the API server would answer when it is asked what the plan's account may do there.
    pub fn may(&self, places: &[&str], may: bool) {
        for place in places {
            answer(&self.ctx, place, may);
        }
    }

    /// The process has listed its estate anew: all of it, or these namespaces alone.
    pub async fn list_anew(&mut self, only: &[&str]) {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        self.ctx.inventory = inventory(&self.ctx, &only).await;
    }
}

pub fn v(number: i64) -> Release {
    release(&format!("v{number}"), number)
}

/// As `controllers/base_image` takes v3 back: v2 is out again.
pub fn recall_v3(server: &Api) {
    let again = Release { sequence: 4, ..v(2) };
    server.put(&history(
        "debian",
        &[(again.clone(), "Released"), (v(3), "Revoked"), (v(1), "Superseded")],
    ));
    server.edit("baseimages", "platform/debian", |object| {
        object["status"] = json!({"released": released(&again), "revoked": [revoked(&v(3))]});
    });
}

pub fn outdated(count: usize) -> Vec<Value> {
    (0..count)
        .map(|at| deployment(&format!("app-{at:02}"), &image("v1")))
        .collect()
}

/// Twenty that fail on v3 and ran v1 before.
pub fn failing(count: usize) -> Vec<Value> {
    let objects = (0..count).map(|at| deployment(&format!("app-{at:02}"), &image("v3")));
    objects
        .map(|mut object| {
            moved_by(&mut object, ("platform/all", "platform/all-v3"), &v(3), &image("v1"));
            timed_out(&mut object);
            object
        })
        .collect()
}

/// Three releases, of which v3 is out.
pub fn histories(cluster: &Cluster) {
    cluster.server.put(&history(
        "debian",
        &[(v(3), "Released"), (v(2), "Superseded"), (v(1), "Superseded")],
    ));
}

/// What people read first of a status.
pub fn says(status: &RepaveRunStatus) -> String {
    let ready = conditions::find(&status.conditions, "Ready").unwrap();
    format!("{} {}: {}", ready.status, ready.reason, ready.message)
}

/// A Deployment of a tier.
pub fn tier(name: &str, tier: &str, image: &str) -> Value {
    let mut object = deployment(name, image);
    object["metadata"]["labels"]["tier"] = json!(tier);
    object
}

/// Targets of one tier.
pub fn of_tier(tier: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"repave": "auto"}}, "selector": {"matchLabels": {"tier": tier}}})
}

/// A wave for the canary, and one for the rest.
pub fn canary_first() -> Value {
    json!({"waves": [{"name": "canary", "selector": {"matchLabels": {"tier": "canary"}}, "soak": "1h"}, {"name": "rest", "maxConcurrent": 5}]})
}

/// A canary in a namespace of another team.
pub fn canary(image: &str) -> Value {
    let mut object = tier("canary", "canary", image);
    object["metadata"]["namespace"] = json!("alpha");
    object
}

/// What the condition Succeeded says.
pub fn succeeded(status: &RepaveRunStatus) -> String {
    let found = conditions::find(&status.conditions, "Succeeded").unwrap();
    format!("{} {}: {}", found.status, found.reason, found.message)
}

/// The watch shows everything as it is, and every roll-out is over.
pub fn all_settle(cluster: &Cluster) {
    for name in cluster.server.names("deployments") {
        cluster.server.edit("deployments", &name, |object| {
            object["status"] = json!({"observedGeneration": object["metadata"]["generation"], "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        });
        let object = cluster.server.get("deployments", &name).unwrap();
        let workload =
            crate::domain::workload::Workload::from_deployment(&serde_json::from_value(object).unwrap()).unwrap();
        cluster.ctx.inventory.watch_shows(workload);
    }
}
