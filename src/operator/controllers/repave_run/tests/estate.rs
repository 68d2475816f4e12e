//! The estate over an API server in memory: who sees what, and what a look costs.

use super::{
    super::{
        Images,
        apply::Applied,
        estate::{Ask, Estate, Query, look, refresh},
        gate::Gate,
        observe::Observed,
        others,
        validate::{self, Scope},
    },
    world::{release, run},
};
use crate::{
    controllers::{
        access::{self, Account, Barred},
        context::Context,
        inventory::{CountedKind, Inventory, Unread},
        paging::PAGE,
        testing::Api,
    },
    domain::{
        lineage::ReleaseIndex,
        workload::{Workload, WorkloadKey},
    },
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const REPOSITORY: &str = super::world::REPOSITORY;

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"repave": "auto"}}})
}

fn deployment(namespace: &str, name: &str) -> Value {
    let image = format!("{REPOSITORY}@{}", release("v1", 1).digest);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "generation": 1, "labels": {"app": name}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": image}]}}},
        "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
    })
}

fn stateful_set(namespace: &str, name: &str) -> Value {
    let mut object = deployment(namespace, name);
    object["kind"] = json!("StatefulSet");
    object
}

/// A cluster with Deployments in the plan's own namespace and in two others, and an operator that has listed them.
async fn cluster(estate_namespaces: &[&str]) -> (Api, Context) {
    let api = Api::default();
    for name in ["platform", "shop", "bank"] {
        api.put(&namespace(name));
        for at in 0..20 {
            api.put(&deployment(name, &format!("app-{at:02}")));
        }
        api.put(&stateful_set(name, "db"));
    }
    let mut ctx = api.context();
    let names: Vec<String> = estate_namespaces.iter().map(|name| (*name).to_owned()).collect();
    ctx.inventory = Inventory::new(&names);
    tokio::spawn(ctx.inventory.clone().run(ctx.watches.clone(), ctx.metrics.clone()));
    ctx.inventory.ready().await.unwrap();
    while !ctx.inventory.uncounted().is_empty() {
        tokio::task::yield_now().await;
    }
    (api, ctx)
}

fn scope() -> Scope {
    let targets = json!({"namespaceSelector": {"matchLabels": {"repave": "auto"}}});
    validate::scope(&serde_json::from_value(targets).unwrap()).unwrap()
}

fn account(name: Option<&str>) -> Account {
    Account {
        namespace: "platform".to_owned(),
        name: name.map(str::to_owned),
    }
}

/// What the API server would have answered.
fn answers(ctx: &Context, account: &Account, namespace: &str, verbs: [(&'static str, bool); 2]) {
    for (verb, allowed) in verbs {
        let question = (account.clone(), namespace.to_owned(), verb, access::DEPLOYMENTS);
        ctx.access.keep(question, allowed, std::time::Instant::now());
    }
    for kind in CountedKind::ALL {
        let question = (account.clone(), namespace.to_owned(), "list", kind.resource());
        ctx.access.keep(question, false, std::time::Instant::now());
    }
}

struct Plan {
    scope: Scope,
    today: Scope,
    releases: ReleaseIndex,
    account: Account,
}

impl Plan {
    fn of(account: Account) -> Self {
        Self {
            scope: scope(),
            today: scope(),
            releases: ReleaseIndex::new("debian", [release("v1", 1), release("v3", 3)]),
            account,
        }
    }

    fn ask(&self) -> Ask<'_> {
        Ask {
            query: Query {
                scope: &self.scope,
                releases: &self.releases,
                supervised: None,
            },
            today: Some(&self.today),
            account: &self.account,
            namespace: "platform",
            plan: "all",
            base_image: None,
            max_targets: 1_000,
        }
    }
}

fn namespaces(estate: &Estate) -> BTreeSet<&str> {
    estate
        .workloads
        .iter()
        .map(|seen| seen.workload.key.namespace.as_str())
        .collect()
}

#[tokio::test]
async fn a_plan_without_an_account_sees_its_own_namespace_and_of_others_a_number() {
    let (_, ctx) = cluster(&[]).await;
    let plan = Plan::of(account(None));
    let estate = look(&ctx, &Images::default(), plan.ask()).await.unwrap();
    assert_eq!(namespaces(&estate), ["platform"].into());
    assert_eq!((estate.workloads.len(), estate.hidden), (20, 2));
    assert!(estate.workloads.iter().all(|seen| seen.barred.is_none()));
    let others: Vec<(CountedKind, &str)> = estate
        .others
        .iter()
        .map(|other| (other.kind, other.name.as_str()))
        .collect();
    assert_eq!(
        others,
        [(CountedKind::StatefulSet, "platform/db")],
        "counted, and only where it may be seen"
    );
}

#[tokio::test]
async fn what_an_account_may_list_and_not_patch_is_shown_and_barred() {
    let (_, ctx) = cluster(&[]).await;
    let plan = Plan::of(account(Some("mover")));
    answers(&ctx, &plan.account, "", [("list", false), ("patch", false)]);
    answers(&ctx, &plan.account, "platform", [("list", true), ("patch", true)]);
    answers(&ctx, &plan.account, "shop", [("list", true), ("patch", false)]);
    answers(&ctx, &plan.account, "bank", [("list", false), ("patch", true)]);
    let estate = look(&ctx, &Images::default(), plan.ask()).await.unwrap();
    assert_eq!(namespaces(&estate), ["platform", "shop"].into());
    assert_eq!(estate.hidden, 1);
    for seen in &estate.workloads {
        let expected = (seen.workload.key.namespace == "shop").then(|| Barred::NotAllowed {
            account: plan.account.clone(),
            namespace: "shop".to_owned(),
        });
        assert_eq!(seen.barred, expected, "{}", seen.workload.key);
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_no_permission() {
    let (api, ctx) = cluster(&[]).await;
    let plan = Plan::of(account(Some("mover")));
    api.faults(|seen| (seen.verb == "POST").then_some(crate::controllers::testing::Fault::Refused(503, "Unavailable")));
    assert!(look(&ctx, &Images::default(), plan.ask()).await.is_err());
}

#[tokio::test]
async fn a_namespace_that_is_not_in_the_estate_is_left_out_with_the_reason() {
    let (_, ctx) = cluster(&["platform"]).await;
    let plan = Plan::of(account(None));
    let estate = look(&ctx, &Images::default(), plan.ask()).await.unwrap();
    assert_eq!(namespaces(&estate), ["platform"].into());
    assert_eq!(estate.unread.get(&Unread::NotInEstate), Some(&2));
    assert_eq!(estate.hidden, 0);
}

#[tokio::test]
async fn a_look_at_an_estate_where_nothing_happens_asks_nothing() {
    let (api, ctx) = cluster(&[]).await;
    let plan = Plan::of(account(None));
    let before = api.seen().len();
    for _ in 0..3 {
        look(&ctx, &Images::default(), plan.ask()).await.unwrap();
    }
    assert_eq!(api.seen().len(), before);
}

#[tokio::test]
async fn what_is_in_question_is_read_live_in_one_list_where_it_is_much_and_one_by_one_where_it_is_little() {
    let (api, ctx) = cluster(&[]).await;
    let (plan, images) = (Plan::of(account(None)), Images::default());
    let key = |at: usize| WorkloadKey::deployment("platform", format!("app-{at:02}"));
    let pages = 20_usize.div_ceil(PAGE as usize);
    for (number, gets, lists) in [(3, 3, 0), (20, 0, pages)] {
        let (got, listed) = (api.count("GET", "deployments"), api.count("LIST", "deployments"));
        let estate = look(&ctx, &images, plan.ask()).await.unwrap();
        let keys: BTreeSet<WorkloadKey> = (0..number).map(key).collect();
        let estate = refresh(&ctx, &images, plan.ask(), estate, &keys).await.unwrap();
        assert_eq!((estate.workloads.len(), &estate.live), (20, &keys));
        let now = (
            api.count("GET", "deployments") - got,
            api.count("LIST", "deployments") - listed,
        );
        assert_eq!(now, (gets, lists), "{number}");
    }
}

#[tokio::test]
async fn a_live_read_sees_what_the_inventory_does_not_know_yet() {
    let (api, ctx) = cluster(&[]).await;
    let (plan, images) = (Plan::of(account(None)), Images::default());
    let estate = look(&ctx, &images, plan.ask()).await.unwrap();
    api.edit("deployments", "platform/app-00", |object| {
        object["metadata"]["labels"]["app"] = json!("changed");
    });
    api.remove("deployments", "platform/app-01");
    let key = |name: &str| WorkloadKey::deployment("platform", name);
    let keys = BTreeSet::from([key("app-00"), key("app-01")]);
    let estate = refresh(&ctx, &images, plan.ask(), estate, &keys).await.unwrap();
    let found = |name: &str| estate.workloads.iter().find(|seen| seen.workload.key.name == name);
    let changed = BTreeMap::from([("app".to_owned(), "changed".to_owned())]);
    assert_eq!(found("app-00").unwrap().workload.labels, changed.into());
    assert!(found("app-01").is_none());
    assert_eq!(estate.live, [key("app-00")].into(), "only what is there can be written");
}

#[tokio::test]
async fn a_namespace_that_lost_its_label_is_not_written_even_if_the_watch_is_behind() {
    let (api, ctx) = cluster(&[]).await;
    let (plan, images) = (Plan::of(account(None)), Images::default());
    let estate = look(&ctx, &images, plan.ask()).await.unwrap();
    api.edit("namespaces", "platform", |object| {
        object["metadata"]["labels"] = json!({});
    });
    let keys: BTreeSet<WorkloadKey> = estate.workloads.iter().map(|seen| seen.workload.key.clone()).collect();
    let estate = refresh(&ctx, &images, plan.ask(), estate, &keys).await.unwrap();
    assert_eq!((estate.workloads.len(), estate.live.len()), (0, 0));
}

#[tokio::test]
async fn a_plan_that_selects_less_today_begins_nothing_in_the_rest() {
    let (_, ctx) = cluster(&[]).await;
    let mut plan = Plan::of(account(None));
    let targets = json!({"namespaceSelector": {"matchLabels": {"repave": "auto"}}, "selector": {"matchLabels": {"app": "app-07"}}});
    plan.today = validate::scope(&serde_json::from_value(targets).unwrap()).unwrap();
    let estate = look(&ctx, &Images::default(), plan.ask()).await.unwrap();
    let free: Vec<&str> = estate
        .workloads
        .iter()
        .filter(|seen| seen.barred.is_none())
        .map(|seen| seen.workload.key.name.as_str())
        .collect();
    assert_eq!(free, ["app-07"]);
    let barred = estate
        .workloads
        .iter()
        .filter(|seen| seen.barred == Some(Barred::NotInPlan));
    assert_eq!(barred.count(), 19);
}

#[tokio::test]
async fn more_workloads_than_the_plan_allows_itself_stop_it() {
    let (_, ctx) = cluster(&[]).await;
    let plan = Plan::of(account(None));
    let ask = Ask {
        max_targets: 19,
        ..plan.ask()
    };
    let error = look(&ctx, &Images::default(), ask).await.unwrap_err().to_string();
    assert!(error.contains("more than 19 workloads (targets.maxTargets)"), "{error}");
}

#[tokio::test]
async fn our_own_write_is_known_before_the_watch_shows_it() {
    let (_, ctx) = cluster(&[]).await;
    let key = WorkloadKey::deployment("platform", "app-00");
    let known = ctx.inventory.get(&key).unwrap().workload;
    ctx.inventory.doubt(&key);
    assert_eq!(ctx.inventory.doubted([&key].into_iter()), [key.clone()].into());
    let written = Workload {
        resource_version: "999999".to_owned(),
        has_annotations: true,
        ..(*known).clone()
    };
    ctx.inventory.learn(written.clone());
    assert_eq!(*ctx.inventory.get(&key).unwrap().workload, written);
    assert!(ctx.inventory.doubted([&key].into_iter()).is_empty());
}

/// The documented role `repave-mover` has get, list and patch of Deployments and nothing else.
#[tokio::test]
async fn who_may_list_deployments_only_is_not_told_the_names_of_other_kinds() {
    let (_, ctx) = cluster(&[]).await;
    let plan = Plan::of(account(Some("mover")));
    answers(&ctx, &plan.account, "", [("list", false), ("patch", false)]);
    answers(&ctx, &plan.account, "platform", [("list", true), ("patch", true)]);
    answers(&ctx, &plan.account, "shop", [("list", true), ("patch", true)]);
    answers(&ctx, &plan.account, "bank", [("list", false), ("patch", false)]);
    let estate = look(&ctx, &Images::default(), plan.ask()).await.unwrap();
    let names: Vec<&str> = estate.others.iter().map(|other| other.name.as_str()).collect();
    assert!(
        !names.contains(&"shop/db"),
        "{names:?}: nobody asked whether it may list StatefulSets"
    );
    let question = (
        plan.account.clone(),
        "shop".to_owned(),
        "list",
        ("apps", "statefulsets"),
    );
    ctx.access.keep(question, true, std::time::Instant::now());
    let estate = look(&ctx, &Images::default(), plan.ask()).await.unwrap();
    let names: Vec<&str> = estate.others.iter().map(|other| other.name.as_str()).collect();
    assert_eq!(names, ["shop/db"]);
}

/// A tenant writes 64 names of runs that do not exist on his own Deployments.
#[tokio::test]
async fn names_of_runs_that_a_tenant_makes_up_keep_nobody_elses_workload_back() {
    let api = Api::default();
    let marked = |namespace: &str, name: &str, plan: &str, run: &str| {
        let mut object = deployment(namespace, name);
        let record = json!({"at": "2026-01-01T00:00:00Z", "plan": plan, "digest": release("v1", 1).digest,
            "generation": 0, "template": "0000000000000000"});
        object["metadata"]["annotations"] = json!({"repave.dev/run": run, "repave.dev/moved": record.to_string()});
        object
    };
    for name in ["platform", "shop", "tenant"] {
        api.put(&namespace(name));
    }
    for at in 0..64 {
        let (plan, run) = ("aaa/x".to_owned(), format!("aaa/x-{at:02}"));
        api.put(&marked("tenant", &format!("x-{at:02}"), &plan, &run));
    }
    // Moved long ago by a plan that has another name now; that run does not exist any more.
    api.put(&marked("shop", "web", "platform/before", "platform/before-v1"));
    let mut ctx = api.context();
    ctx.inventory = Inventory::new(&[]);
    tokio::spawn(ctx.inventory.clone().run(ctx.watches.clone(), ctx.metrics.clone()));
    ctx.inventory.ready().await.unwrap();
    let plan = Plan::of(account(Some("mover")));
    answers(&ctx, &plan.account, "", [("list", true), ("patch", true)]);
    let estate = look(&ctx, &Images::default(), plan.ask()).await.unwrap();
    assert_eq!(estate.workloads.len(), 65);
    let v = validate::validate(&run(&json!({}))).unwrap();
    let observed = Observed {
        gate: Gate::open(),
        releases: plan.releases,
        target: Some(release("v3", 3)),
        estate,
    };
    let active = others::active_runs(&ctx, &v, &observed, Duration::ZERO).await.unwrap();
    assert!(!active.contains("platform/before-v1"), "{active:?}");
}

/// The pod template's `creationTimestamp` is the team's to write, and kept.
#[tokio::test(start_paused = true)]
async fn one_deployment_with_a_time_that_nobody_can_read_does_not_blind_the_operator() {
    for (time, what) in [
        ("2026-12-31T23:59:59Z", "control"),
        (
            "9999-12-31T23:59:59Z",
            "an hour later nothing of the whole cluster is known",
        ),
    ] {
        let api = Api::default();
        api.put(&namespace("shop"));
        api.put(&deployment("shop", "web"));
        let mut poison = deployment("shop", "poison");
        poison["spec"]["template"]["metadata"]["creationTimestamp"] = json!(time);
        api.put(&poison);
        let mut ctx = api.context();
        ctx.inventory = Inventory::new(&[]);
        tokio::spawn(ctx.inventory.clone().run(ctx.watches.clone(), ctx.metrics.clone()));
        let ready = tokio::time::timeout(std::time::Duration::from_secs(3600), ctx.inventory.ready()).await;
        assert!(ready.is_ok_and(|ready| ready.is_ok()), "{what}");
    }
}

mod long_selectors;
mod replica_sets;
