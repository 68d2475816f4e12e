//! The reconciler against an API server in memory: what a storm, a neighbour, a fault or a deletion can and cannot do.

use super::*;
use crate::{
    api::Waiver,
    controllers::{
        conditions,
        testing::{Api as Server, Fault},
    },
};
use serde_json::json;
use std::sync::Mutex;

/// What a turn of the kind under test does, by the name of the object.
#[derive(Clone)]
struct Turns {
    ctx: Context,
    begun: Arc<Mutex<Vec<(String, u128)>>>,
    begin: Instant,
}

impl Turns {
    fn of(&self, name: &str) -> Vec<u128> {
        let begun = self.begun.lock().unwrap();
        begun.iter().filter(|(who, _)| who == name).map(|(_, at)| *at).collect()
    }
}

impl Reconciler for Turns {
    type Resource = Waiver;
    type Validated = ();
    type Observed = ();
    type Decision = Vec<&'static str>;
    type Receipt = usize;
    const GAP: Duration = Duration::from_secs(1);
    const LIMIT: Duration = Duration::from_secs(60);

    fn ctx(&self) -> &Context {
        &self.ctx
    }

    fn validate(waiver: &Waiver) -> Result<(), Failure> {
        if waiver.name_any().starts_with("invalid") {
            return Err(Failure {
                reason: "Invalid",
                class: Class::Stalled,
                message: "expected another name".into(),
            });
        }
        Ok(())
    }

    async fn observe(&self, waiver: &Waiver, (): &()) -> Result<(), Failure> {
        let turn = (waiver.name_any(), self.begin.elapsed().as_millis());
        self.begun.lock().unwrap().push(turn);
        if waiver.name_any().starts_with("hangs") {
            std::future::pending::<()>().await;
        }
        assert!(!waiver.name_any().starts_with("poison"), "on purpose");
        Ok(())
    }

    fn decide(_: &Waiver, (): &(), (): (), _: Given<'_>) -> Vec<&'static str> {
        vec!["one", "two"]
    }

    async fn apply(&self, _: &Waiver, (): &(), actions: &mut Vec<&'static str>) -> Result<usize, Failure> {
        Ok(actions.len())
    }

    fn render(
        waiver: &Waiver,
        (): &(),
        _: &Vec<&'static str>,
        receipt: &usize,
        now: Timestamp,
    ) -> Outcome<crate::api::WaiverStatus> {
        let mut status = waiver.status.clone().unwrap_or_default();
        let mut conditions = Conditions::from(&status.conditions, waiver.metadata.generation.unwrap_or(0), now);
        conditions.ready("Done", format!("did {receipt}"));
        status.conditions = conditions.into_list();
        Outcome {
            status,
            next: Requeue::AwaitChange,
            events: Vec::new(),
        }
    }
}

fn waiver(namespace: &str, name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "Waiver", "metadata": {"name": name, "namespace": namespace},
        "spec": {"owner": "team", "reason": "nothing in the image calls it", "expiresAt": "2027-01-01T00:00:00Z",
                 "scope": {"findings": [{"id": "CVE-2026-0001"}]}},
    })
}

struct Running {
    server: Server,
    turns: Turns,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn start(server: &Server) -> Running {
    let turns = Turns {
        ctx: server.context(),
        begun: Arc::default(),
        begin: Instant::now(),
    };
    let (wakes, stop) = (Wakes::of(&turns.ctx), CancellationToken::new());
    Running {
        server: server.clone(),
        task: tokio::spawn(run(turns.clone(), wakes, stop.clone())),
        turns,
        stop,
    }
}

impl Running {
    fn reason(&self, object: &str) -> Option<String> {
        let object = self.server.get("waivers", object)?;
        let conditions = object["status"]["conditions"].as_array()?.clone();
        let ready = conditions.iter().find(|c| c["type"] == "Ready")?;
        Some(ready["reason"].as_str()?.to_owned())
    }

    async fn after(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_changes_all_the_time_is_worked_on_all_the_time_and_not_more_often_than_its_pace() {
    let server = Server::default();
    server.put(&waiver("team", "busy"));
    let running = start(&server);
    for change in 0..100 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.edit("waivers", "team/busy", |object| {
            object["metadata"]["annotations"] = json!({"tool": change.to_string()});
        });
    }
    let turns = running.turns.of("busy");
    assert!((18..=22).contains(&turns.len()), "{turns:?}");
    let gaps: Vec<u128> = turns.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (1000..1250).contains(gap)), "{gaps:?}");
    assert_eq!(
        server.count("PATCH", "waivers/status"),
        1,
        "nothing changed: nothing is written"
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_whose_turns_hang_does_not_stop_the_others_and_its_own_end_at_the_limit() {
    let server = Server::default();
    for number in 0..30 {
        server.put(&waiver("bad", &format!("hangs-{number}")));
    }
    let running = start(&server);
    running.after(5).await;
    server.put(&waiver("good", "fine"));
    running.after(1).await;
    assert_eq!(running.reason("good/fine").as_deref(), Some("Done"));
    running.after(5000).await;
    let hung: Vec<String> = (0..30)
        .filter_map(|number| running.reason(&format!("bad/hangs-{number}")))
        .collect();
    assert_eq!(hung.len(), 30, "each one had its turn");
    assert!(hung.iter().all(|reason| reason == "TimedOut"));
    let metrics = running.turns.ctx.metrics.encode().unwrap();
    assert!(
        metrics.contains("repave_reconcile_total{kind=\"Waiver\",result=\"transient\"}"),
        "{metrics}"
    );
    assert!(
        metrics.contains("repave_reconcile_total{kind=\"Waiver\",result=\"done\"} 1"),
        "{metrics}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_on_which_our_own_code_panics_is_told_so_and_stops_nobody_else() {
    let server = Server::default();
    server.put(&waiver("bad", "poison"));
    let running = start(&server);
    running.after(60).await;
    server.put(&waiver("good", "fine"));
    running.after(60).await;
    assert_eq!(running.reason("bad/poison").as_deref(), Some("InternalError"));
    assert_eq!(running.reason("good/fine").as_deref(), Some("Done"));
    assert!(
        (2..30).contains(&running.turns.of("poison").len()),
        "it is tried again, more and more rarely"
    );
}

#[tokio::test(start_paused = true)]
async fn faults_of_the_api_server_delay_a_status_and_change_nothing_else() {
    for (verb, fault) in [
        ("GET", Fault::Refused(429, "TooManyRequests")),
        ("GET", Fault::Silent),
        ("PATCH", Fault::Refused(409, "Conflict")),
        ("PATCH", Fault::Refused(500, "InternalError")),
        ("PATCH", Fault::Lost),
        ("WATCH", Fault::Refused(410, "Expired")),
        ("LIST", Fault::Refused(403, "Forbidden")),
    ] {
        let server = Server::default();
        let mut faults = 3;
        server.faults(move |seen| {
            let hit = seen.verb == verb && faults > 0;
            faults -= i32::from(hit);
            hit.then_some(fault)
        });
        server.put(&waiver("team", "a"));
        let running = start(&server);
        running.after(900).await;
        assert_eq!(running.reason("team/a").as_deref(), Some("Done"), "{verb} {fault:?}");
        server.put(&waiver("team", "b"));
        running.after(120).await;
        assert_eq!(running.reason("team/b").as_deref(), Some("Done"), "{verb} {fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_or_made_anew_in_mid_turn_gets_no_status_of_the_old_one() {
    let server = Server::default();
    server.put(&waiver("team", "hangs"));
    let running = start(&server);
    running.after(10).await;
    server.remove("waivers", "team/hangs");
    server.put(&waiver("team", "hangs"));
    running.after(51).await;
    assert_eq!(
        running.reason("team/hangs"),
        None,
        "the first turn timed out for an object that is gone"
    );
    running.after(61).await;
    assert_eq!(
        running.reason("team/hangs").as_deref(),
        Some("TimedOut"),
        "the second one is its own"
    );
    server.remove("waivers", "team/hangs");
    running.after(600).await;
    assert!(running.server.names("waivers").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_leaves_everything_but_the_conditions_and_an_invalid_object_is_looked_at_rarely() {
    let server = Server::default();
    let mut object = waiver("team", "invalid");
    object["status"] = json!({"usedBy": 7, "lastUsed": ["c"]});
    server.put(&object);
    let running = start(&server);
    running.after(3500).await;
    let status = server.get("waivers", "team/invalid").unwrap()["status"].clone();
    assert_eq!((&status["usedBy"], &status["lastUsed"][0]), (&json!(7), &json!("c")));
    assert_eq!(running.reason("team/invalid").as_deref(), Some("Invalid"));
    assert_eq!(
        server.count("GET", "waivers"),
        12,
        "once in five minutes, for what it refers to may be corrected"
    );
    assert_eq!(
        (server.count("PATCH", "waivers/status"), server.count("POST", "events")),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn at_the_end_turns_are_finished_and_nothing_new_begins() {
    let server = Server::default();
    server.put(&waiver("team", "hangs"));
    let running = start(&server);
    running.after(5).await;
    running.stop.cancel();
    server.put(&waiver("team", "late"));
    running.after(30).await;
    assert!(!running.task.is_finished());
    running.after(60).await;
    assert!(running.task.is_finished());
    assert_eq!(running.reason("team/late"), None);
}

#[test]
fn a_failure_is_told_once_and_not_again_for_another_text() {
    let resource: Waiver = serde_json::from_value(waiver("team", "a")).unwrap();
    let failure = |message: &str| Failure {
        reason: "RegistryUnavailable",
        class: Class::Transient,
        message: message.into(),
    };
    let first = conditions_only(&resource, &failure("in 5 s"), Timestamp::UNIX_EPOCH);
    assert_eq!((first.events.len(), first.next), (1, Requeue::Backoff));
    let again = Waiver {
        status: Some(first.status),
        ..resource
    };
    let second = conditions_only(&again, &failure("in 4 s"), Timestamp::UNIX_EPOCH);
    assert!(second.events.is_empty());
    assert!(conditions::is_true(&second.status.conditions, "Reconciling"));
}

/// A tenant has more than one namespace, and what hangs may be a registry of his own. A turn may take 60 seconds here, and 120 to
/// 600 in the real controllers.
#[tokio::test(start_paused = true)]
async fn however_many_namespaces_have_turns_that_hang_the_others_have_theirs() {
    for (hostile, first) in [(1, 1), (2, 1), (20, 240)] {
        let server = Server::default();
        for number in 0..20 {
            for namespace in 0..hostile {
                server.put(&waiver(&format!("bad-{namespace}"), &format!("hangs-{number}")));
            }
        }
        let running = start(&server);
        running.after(5).await;
        // Once each of them is known, a namespace that did nothing to anybody does not wait for them.
        for (good, limit, pause) in [("good", first, 600), ("new", 15, 600), ("late", 15, 0)] {
            server.put(&waiver(good, "fine"));
            let (object, mut waited) = (format!("{good}/fine"), 1);
            running.after(1).await;
            while running.reason(&object).is_none() && waited < 86_400 {
                running.after(1).await;
                waited += 1;
            }
            assert!(
                waited <= limit,
                "{hostile} namespaces: {good} had to wait for {waited} s"
            );
            running.after(pause).await;
        }
    }
}
