//! A batch of patches over an API server in memory: what stops it, and that nothing more is sent then.

use super::{
    super::{
        apply::{AT_ONCE, Applied, Halt, apply},
        orders::Orders,
        patch::Op,
        plan::Action,
        validate::{self, Validated},
    },
    cluster::namespace,
    world::{release, run},
};
use crate::{
    controllers::testing::{Api, Fault},
    domain::workload::WorkloadKey,
};
use serde_json::{Value, json};
use std::time::Duration;

/// More than are sent between two questions.
const MOVES: usize = AT_ONCE + 4;

fn put_what_orders(server: &Api, suspend: bool, released: u64) {
    server.put(&json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "RepavePlan", "metadata": {"name": "all", "namespace": "platform", "uid": "plan"},
        "spec": {"baseImageRefs": [{"name": "debian"}], "targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}},
            "suspend": suspend},
    }));
    let target = release("v3", 3);
    server.put(&json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": "debian", "namespace": "platform"},
        "spec": {"source": {"image": "up.test/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "p"}],
            "promote": {"repository": super::world::REPOSITORY, "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
        "status": {"released": {"digest": target.digest, "tag": "v3", "candidate": target.candidate, "sequence": released,
            "sourceDigest": target.digest, "promotedAt": "2026-01-01T00:00:00Z"}},
    }));
}

/// The orders as they are.
fn orders(server: &Api, v: &Validated) -> (Option<&'static str>, Orders) {
    let plan = server.get("repaveplans", "platform/all");
    let base = server.get("baseimages", "platform/debian");
    let plan = plan.map(|plan| serde_json::from_value(plan).unwrap());
    let base = base.map(|base| serde_json::from_value(base).unwrap());
    (Some("plan"), Orders::of(v, Some("plan"), (plan, base), Vec::new()).0)
}

fn moves(server: &Api) -> Vec<Action> {
    server.put(&run(&json!({})));
    server.put(&namespace("shop"));
    let names = (0..MOVES).map(|at| format!("app-{at:02}"));
    names
        .map(|name| {
            let object = server.put(&json!({"apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}}, "spec": {}}));
            assert_ne!(object["metadata"]["uid"], Value::Null);
            Action::Move {
                workload: WorkloadKey::deployment("shop", &name),
                patch: vec![Op::Replace {
                    path: "/metadata/labels/app".to_owned(),
                    value: json!("moved"),
                }],
            }
        })
        .collect()
}

/// The work on a run took too long, or there was a panic: what was sent may have been carried out.
#[tokio::test(start_paused = true)]
async fn what_was_under_way_when_a_batch_was_dropped_is_read_live_before_anything_is_counted_on_it() {
    let v = validate::validate(&run(&json!({}))).unwrap();
    let server = Api::default();
    let actions = moves(&server);
    let ctx = server.context();
    let (plan_uid, orders) = orders(&server, &v);
    server.faults(|seen| (seen.verb == "PATCH").then_some(Fault::Silent));
    let run = run(&json!({}));
    let batch = apply(&ctx, &v, (&run, plan_uid, &orders), &actions);
    let dropped = tokio::time::timeout(Duration::from_secs(1), batch).await;
    assert!(dropped.is_err());
    let sent = actions.iter().take(AT_ONCE).map(|action| action.workload().clone());
    let doubted = ctx.inventory.doubted(actions.iter().map(Action::workload));
    assert_eq!(doubted, sent.collect());
}

/// What it is called, whether the plan is suspended, the number of the release, what patches are answered with, the end.
type Case = (&'static str, bool, u64, Option<u16>, fn(Option<&Halt>) -> bool);

#[tokio::test(start_paused = true)]
async fn a_batch_stops_after_the_few_that_are_under_way_when_it_is_not_wanted_or_the_server_asks_for_quiet() {
    let v = validate::validate(&run(&json!({}))).unwrap();
    let sequence = v.sequence;
    let cases: [Case; 5] = [
        ("wanted", false, sequence, None, |halt| halt.is_none()),
        ("suspended", true, sequence, None, |halt| halt == Some(&Halt::NotWanted)),
        ("a newer release", false, sequence + 1, None, |halt| {
            halt == Some(&Halt::NotWanted)
        }),
        (
            "429",
            false,
            sequence,
            Some(429),
            |halt| matches!(halt, Some(Halt::Unavailable { quiet, .. }) if *quiet >= Duration::from_secs(5)),
        ),
        ("503", false, sequence, Some(503), |halt| {
            matches!(halt, Some(Halt::Unavailable { .. }))
        }),
    ];
    for (what, suspend, released, refused, expected) in cases {
        let server = Api::default();
        let actions = moves(&server);
        put_what_orders(&server, false, sequence);
        let (plan_uid, orders) = orders(&server, &v);
        put_what_orders(&server, suspend, released);
        let ctx = server.context();
        if let Some(code) = refused {
            server.faults(move |seen| (seen.verb == "PATCH").then_some(Fault::Refused(code, "TooManyRequests")));
        }
        let results = apply(&ctx, &v, (&run(&json!({})), plan_uid, &orders), &actions).await;
        assert!(expected(results.halt.as_ref()), "{what}: {:?}", results.halt);
        let sent = server.count("PATCH", "deployments");
        let all = results.halt.is_none();
        assert_eq!(sent, if all { MOVES } else { AT_ONCE }, "{what}");
        assert_eq!(results.applied.len(), MOVES, "{what}: each has an outcome");
        let unknown = results
            .applied
            .iter()
            .filter(|(_, applied)| *applied == Applied::Unknown);
        let unsent = MOVES - sent;
        assert_eq!(
            unknown.count(),
            if refused.is_some() { MOVES } else { unsent },
            "{what}"
        );
    }
}

/// The plan is edited while the first few are sent. What makes less happen binds at once.
#[tokio::test(start_paused = true)]
async fn a_batch_stops_after_the_few_that_are_under_way_when_its_plan_allows_less_by_now() {
    let all = json!([{"name": "all", "maxConcurrent": 100}]);
    let v = validate::validate(&run(&json!({"waves": all.clone()}))).unwrap();
    let mut found = Vec::new();
    for (what, path, value, expected) in [
        ("control: nothing was changed", "/spec/waves", all, MOVES),
        (
            "one at a time",
            "/spec/waves",
            json!([{"name": "all", "maxConcurrent": 1}]),
            AT_ONCE,
        ),
        (
            "the wave was removed",
            "/spec/waves",
            json!([{"name": "other", "maxConcurrent": 100}]),
            AT_ONCE,
        ),
        (
            "another namespace",
            "/spec/targets/namespaceSelector/matchLabels/repave",
            json!("other"),
            AT_ONCE,
        ),
    ] {
        let server = Api::default();
        let actions = moves(&server);
        put_what_orders(&server, false, v.sequence);
        server.edit("repaveplans", "platform/all", |plan| {
            plan["spec"]["waves"] = json!([{"name": "all", "maxConcurrent": 100}]);
        });
        let (plan_uid, orders) = orders(&server, &v);
        server.edit("repaveplans", "platform/all", |plan| {
            *plan.pointer_mut(path).unwrap() = value;
        });
        let ctx = server.context();
        apply(&ctx, &v, (&run(&json!({})), plan_uid, &orders), &actions).await;
        let sent = server.count("PATCH", "deployments");
        if sent != expected {
            found.push(format!("{what}: {sent} were sent, {expected} may be"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Somebody older promotes to its repository by now: nothing of it is used.
#[tokio::test(start_paused = true)]
async fn a_batch_stops_after_the_few_that_are_under_way_when_the_repository_is_anothers_by_now() {
    let v = validate::validate(&run(&json!({}))).unwrap();
    let server = Api::default();
    let actions = moves(&server);
    put_what_orders(&server, false, v.sequence);
    let (plan_uid, orders) = orders(&server, &v);
    server.edit("baseimages", "platform/debian", |base| {
        base["status"]["conditions"] = json!([{"type": "RepositoryOwned", "status": "False", "reason": "RepositoryTaken", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    });
    let results = apply(&server.context(), &v, (&run(&json!({})), plan_uid, &orders), &actions).await;
    assert_eq!(results.halt, Some(Halt::NotWanted));
    assert_eq!(server.count("PATCH", "deployments"), AT_ONCE);
}

/// The run of another plan reads the workload live while our patch is on its way and has not arrived yet; then our work is dropped.
#[tokio::test(start_paused = true)]
async fn what_another_run_reads_while_a_write_is_on_its_way_takes_no_doubt_away_when_that_work_is_dropped() {
    let v = validate::validate(&run(&json!({}))).unwrap();
    let server = Api::default();
    let mut actions = moves(&server);
    actions.truncate(1);
    let key = actions[0].workload().clone();
    let mut object = server.get("deployments", "shop/app-00").unwrap();
    object["spec"] = json!({"selector": {}, "template": {"spec": {"containers": []}}});
    let before = super::objects::parse(&object);
    let ctx = server.context();
    ctx.inventory.watch_shows(before.clone());
    server.faults(|seen| (seen.verb == "PATCH").then_some(Fault::Silent));
    let inventory = ctx.inventory.clone();
    let (plan_uid, orders) = orders(&server, &v);
    let other_run = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        // As `estate::refresh` does it.
        inventory.learn(before);
        std::future::pending::<()>().await;
    };
    let both = async {
        let run = run(&json!({}));
        tokio::select! {
            results = apply(&ctx, &v, (&run, plan_uid, &orders), &actions) => panic!("{results:?}"),
            () = other_run => {}
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(1), both).await.is_err());
    assert_eq!(
        ctx.inventory.doubted([&key].into_iter()),
        [key.clone()].into(),
        "the patch may have arrived after that read"
    );
}
