//! What a tenant with `edit` in one namespace of a shared plan does to the run, and so to the workloads of everybody else.

use super::{
    super::{
        Images, Runs,
        estate::{Ask, Query},
        found::Found,
        gate::Gate,
        limit::Limited,
        memory::Memory,
        seen::{Over, Supervised},
        steady::Steady,
        validate,
    },
    cluster::{by_tag, history, listed, mover, namespace, v},
    objects::bump,
    world::{Behaviour, Kind, World, release, run},
};
use crate::{
    api::RepaveRunStatus,
    controllers::{access::Account, inventory::Entry, reconciler, testing::Api},
    domain::{
        lineage::ReleaseIndex,
        workload::{Workload, WorkloadKey},
    },
};
use serde_json::{Value, json};

const GOOD: (Kind, Behaviour, bool) = (Kind::Direct, Behaviour::Healthy, false);

fn edit(world: &mut World, key: &WorkloadKey, change: impl FnOnce(&mut Value)) {
    let sim = world.workloads.get_mut(key).unwrap();
    change(&mut sim.object);
    bump(&mut sim.object, "resourceVersion");
}

/// Another time in the record that the run wrote on the workload; nothing else of it is touched.
fn moved_at(world: &mut World, key: &WorkloadKey, at: &str) {
    edit(world, key, |object| {
        let annotation = &mut object["metadata"]["annotations"]["repave.dev/moved"];
        let mut record: Value = serde_json::from_str(annotation.as_str().unwrap()).unwrap();
        record["at"] = json!(at);
        *annotation = json!(record.to_string());
    });
}

/// Kubernetes writes and reads times of four digits of a year; a record takes any that jiff reads.
#[test]
fn a_time_that_a_tenant_writes_on_his_workload_leaves_the_status_of_the_run_one_that_can_be_written() {
    let mut world = World::new(
        &json!({"waves": [{"name": "all", "maxConcurrent": 9, "soak": "10s"}]}),
        &[GOOD, GOOD, GOOD, GOOD],
    );
    let (done, paused) = (world.key(0), world.key(1));
    assert_eq!(world.step().len(), 4);
    // His own are through at once, and one of them is paused: it is on its way for as long as he likes.
    moved_at(&mut world, &done, "-005000-01-01T00:00:00Z");
    moved_at(&mut world, &paused, "-004999-01-01T00:00:00Z");
    edit(&mut world, &paused, |object| object["spec"]["paused"] = json!(true));
    world.tick(&done);
    for _ in 0..12 {
        world.wait(5);
        world.step();
        world.tick(&world.key(2));
        world.tick(&world.key(3));
        let text = serde_json::to_string(&world.status).unwrap();
        let read = serde_json::from_str::<RepaveRunStatus>(&text);
        assert!(
            read.is_ok(),
            "a status that the API server refuses, and nobody could read: {:?} in {text}",
            read.unwrap_err().to_string()
        );
    }
}

/// Moved by this run from v1, and given up by Kubernetes.
fn failing(at: &str) -> Value {
    let mut object = by_tag("shop", "web");
    let target = release("v3", 3);
    let record = json!({"at": at, "plan": "platform/all", "runUid": "run", "digest": target.digest, "sequence": 3, "generation": 0,
        "template": "0000000000000000", "revision": 1});
    let previous = json!({"app": format!("{}@{}", super::world::REPOSITORY, release("v1", 1).digest)});
    object["metadata"]["annotations"] = json!({"repave.dev/run": "platform/all-v3", "repave.dev/moved": record.to_string(),
        "repave.dev/previous-images": previous.to_string(), "deployment.kubernetes.io/revision": "2"});
    object["spec"]["template"]["spec"]["containers"][0]["image"] =
        json!(format!("{}@{}", super::world::REPOSITORY, target.digest));
    object["status"] = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1, "conditions": [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "lastUpdateTime": "2099-01-01T00:00:00Z"}]});
    object
}

/// The other teams' workloads that are on their way must be judged to their end, whoever makes the estate too large meanwhile.
#[tokio::test]
async fn a_tenant_who_makes_more_workloads_than_the_plan_allows_keeps_nobody_elses_from_being_rolled_back() {
    for (tenants, what) in [(3, "control"), (20, "the tenant has more than maxTargets")] {
        let api = Api::default();
        for name in ["platform", "shop", "tenant"] {
            api.put(&namespace(name));
        }
        api.put(&failing(&jiff::Timestamp::now().to_string()));
        for at in 0..tenants {
            let mut idle = by_tag("tenant", &format!("x-{at:02}"));
            idle["spec"]["template"]["spec"]["containers"][0]["image"] = json!("r.test/pause:1");
            idle["spec"]["replicas"] = json!(0);
            api.put(&idle);
        }
        api.put(&history("debian", &[(v(3), "Released"), (v(1), "Superseded")]));
        let mut ctx = api.context();
        ctx.inventory = listed(&ctx).await;
        mover(&ctx);
        let runs = Runs {
            ctx,
            images: Images::default(),
            memory: Memory::default(),
        };
        let targets = json!({"namespaceSelector": {"matchLabels": {"repave": "auto"}}, "maxTargets": 10});
        let run = run(&json!({"targets": targets, "serviceAccountName": "mover"}));
        let outcome = reconciler::steps(&runs, &run).await;
        let said = outcome
            .map(|outcome| outcome.status.attention)
            .map_err(|failure| failure.message);
        assert_eq!(api.count("PATCH", "deployments"), 1, "{what}: {said:?}");
    }
}

/// An estate of this many marked and unmarked workloads a namespace, as it is kept within a limit.
fn kept(namespaces: &[(&str, usize, usize)], max: usize) -> (std::collections::BTreeMap<String, usize>, Option<Over>) {
    let v = validate::validate(&run(&json!({}))).unwrap();
    let releases = ReleaseIndex::new("debian", []);
    let account = Account {
        namespace: "platform".to_owned(),
        name: None,
    };
    let image = v.repository.at(&v.digest);
    let steady = Steady::default();
    let ask = Ask {
        query: Query {
            scope: &v.scope,
            releases: &releases,
            supervised: Some(Supervised {
                run_ref: &v.run_ref,
                image: &image,
                steady: &steady,
            }),
        },
        today: None,
        account: &account,
        namespace: "platform",
        plan: "all",
        base_image: None,
        max_targets: max,
    };
    let mut limited = Limited::new(ask);
    for (namespace, marked, others) in namespaces {
        let all: Vec<Found> = (0..marked + others)
            .map(|at| {
                let mut object = failing("2026-01-01T00:00:00Z");
                object["metadata"]["namespace"] = json!(namespace);
                object["metadata"]["uid"] = json!(format!("{namespace}-{at}"));
                object["metadata"]["resourceVersion"] = json!("1");
                object["metadata"]["name"] = json!(format!("x-{at:02}"));
                if at >= *marked {
                    object["metadata"]["annotations"] = json!({});
                }
                let workload = Workload::from_deployment(&serde_json::from_value(object).unwrap()).unwrap();
                let workload = std::sync::Arc::new(workload);
                Found::new(Entry { workload, pods: None }, None)
            })
            .collect();
        limited.extend(all.into_iter());
    }
    let (found, over) = limited.end();
    let mut counts = std::collections::BTreeMap::new();
    for found in found {
        *counts.entry(found.workload.key.namespace.clone()).or_insert(0) += 1;
    }
    (counts, over)
}

#[test]
fn beyond_the_limit_only_what_was_moved_is_kept_and_made_up_marks_take_no_place_of_others() {
    let of = |counts: &[(&str, usize)]| counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    assert_eq!(kept(&[("a", 2, 2), ("b", 1, 5)], 10), (of(&[("a", 4), ("b", 6)]), None));
    let over = |selected| Some(Over { selected, max: 10 });
    assert_eq!(
        kept(&[("a", 2, 2), ("b", 1, 6)], 10),
        (of(&[("a", 2), ("b", 1)]), over(11))
    );
    let forged = [("a", 3, 0), ("b", 4, 1), ("tenant", 40, 0)];
    assert_eq!(kept(&forged, 10), (of(&[("a", 3), ("b", 3), ("tenant", 4)]), over(48)));
    let shut = Gate::open().shut_over(over(48).unwrap());
    let Gate::Shut { message, .. } = shut else {
        panic!("{shut:?}")
    };
    assert!(
        message.contains("48 workloads, more than 10 (targets.maxTargets)"),
        "{message}"
    );
    assert_eq!(Gate::Suspended.shut_over(over(48).unwrap()), Gate::Suspended);
}
