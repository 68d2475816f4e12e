//! When a run is made, and what a plan says.

use super::{
    observe::{Base, Observed, Released, released},
    plan::{Action, plan},
    run::{is_run_of, run, run_name},
    standing::Standing,
    status::summarize,
    validate::validate,
};
use crate::{
    api::{
        BaseImage, RepavePlan, RepaveRun,
        repave_plan::{LeftOut, NotRollable, PlanCounts},
    },
    controllers::{conditions, driver::Requeue, inventory::CountedKind},
    domain::{digest::Digest, lineage::Release},
};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

fn release(tag: &str) -> Release {
    Release {
        base_image: "debian".to_owned(),
        candidate: format!("debian-{tag}"),
        repository: "registry.test/base/debian".parse().unwrap(),
        digest: Digest::of(tag.as_bytes()),
        tag: tag.to_owned(),
        chain_id: Digest::of(b"chain"),
        layers: 1,
        sequence: 2,
        promoted_at: Timestamp::from_second(1).unwrap(),
        revoked: false,
    }
}

/// A base image that names this as its second release.
fn base(candidate: &str, digest: &Digest) -> BaseImage {
    serde_json::from_value(json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "metadata": {"name": "debian"},
        "spec": {"source": {"image": "r.test/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "p"}],
            "promote": {"repository": "registry.test/base/debian", "channelTag": "12", "signing": {"keyRef": {"name": "k"}}}},
        "status": {"released": {"digest": digest, "tag": "v2", "sourceDigest": digest, "candidate": candidate,
            "sequence": 2, "promotedAt": "2026-01-01T00:00:00Z"}},
    }))
    .unwrap()
}

fn a_plan(spec: &Value) -> RepavePlan {
    let mut object = json!({
        "apiVersion": "repave.dev/v1alpha1", "kind": "RepavePlan",
        "metadata": {"name": "all", "namespace": "platform", "uid": "plan-uid", "generation": 1},
        "spec": {"baseImageRefs": [{"name": "debian"}], "targets": {"namespaceSelector": {"matchLabels": {"repave": "auto"}}}},
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn observed(release: Released, outdated: Option<usize>, runs: Vec<RepaveRun>) -> Observed {
    let movable = outdated.unwrap_or(0);
    let number = u32::try_from(movable).unwrap();
    Observed {
        bases: vec![Base {
            name: "debian".to_owned(),
            release,
            outdated,
            incomplete: false,
            standing: Standing {
                counts: PlanCounts {
                    outdated: number,
                    movable: number,
                    ..PlanCounts::default()
                },
                movable_by_run: movable,
                ..Standing::default()
            },
        }],
        runs,
    }
}

/// The same with a change of how the workloads stand.
fn standing(mut observed: Observed, change: impl FnOnce(&mut Base)) -> Observed {
    change(&mut observed.bases[0]);
    observed
}

/// A run that has come to its end.
fn finished(mut run: RepaveRun) -> RepaveRun {
    run.status = serde_json::from_value(json!({"finished": "2026-01-01T00:00:00Z", "conditions": [
        {"type": "Ready", "status": "True", "reason": "Finished", "message": "done", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
    .unwrap();
    run
}

fn made(plan_: &RepavePlan, observed: &Observed) -> Vec<RepaveRun> {
    plan(plan_, observed)
        .into_iter()
        .filter_map(|action| match action {
            Action::CreateRun(run) => Some(*run),
            Action::Reopen { .. } => None,
        })
        .collect()
}

#[test]
fn a_proven_release_that_something_waits_for_gets_one_run_with_a_name_of_its_digest() {
    let plan = a_plan(&json!({}));
    let runs = made(&plan, &observed(Released::Proven(release("v2")), Some(3), vec![]));
    let [run] = runs.as_slice() else { panic!("{runs:?}") };
    let which = Digest::of(b"debian/2");
    let name = format!("all-{}-{}", Digest::of(b"v2").short(), &which.hex()[..8]);
    assert_eq!(run.name_any(), name);
    assert_eq!(run.spec.sequence, 2);
    let owner = &run.owner_references()[0];
    assert_eq!(
        (owner.uid.as_str(), owner.controller, owner.block_owner_deletion),
        ("plan-uid", Some(true), Some(true))
    );
    assert_eq!(
        (run.spec.candidate.as_str(), &run.spec.digest),
        ("debian-v2", &Digest::of(b"v2"))
    );
    assert_eq!(run.spec.waves, plan.spec.waves);
    assert_eq!(
        made(&plan, &observed(Released::Proven(release("v2")), Some(3), vec![])),
        runs,
        "the same name every time"
    );
}

#[test]
fn the_same_digest_gets_a_run_for_each_release_and_for_each_base_image() {
    let plan = a_plan(&json!({}));
    let first = release("v2");
    let again = Release {
        sequence: 4,
        ..first.clone()
    };
    let elsewhere = Release {
        base_image: "bookworm".to_owned(),
        ..first.clone()
    };
    let names: std::collections::BTreeSet<_> = [&first, &again, &elsewhere].map(|r| run_name(&plan, r)).into();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| name.len() <= 62), "{names:?}");
    let first_run = run(&plan, &first).unwrap();
    assert!(is_run_of(&first_run, &first));
    assert!(!is_run_of(&first_run, &again) && !is_run_of(&first_run, &elsewhere));
    let current = observed(Released::Proven(again), Some(1), vec![first_run]);
    assert_eq!(
        made(&plan, &current).len(),
        1,
        "the run of the release before is not its run"
    );
}

#[test]
fn a_release_that_a_later_candidate_proves_again_keeps_its_place() {
    let v2 = release("v2");
    let again = Release {
        candidate: "debian-again".to_owned(),
        sequence: 7,
        ..v2.clone()
    };
    let base = base("debian-again", &v2.digest);
    let Released::Proven(found) = released(Some(&base), &[v2, again]) else {
        panic!("not proven")
    };
    assert_eq!((found.candidate.as_str(), found.sequence), ("debian-again", 2));
}

#[test]
fn no_run_is_made_without_proof_without_need_or_while_suspended() {
    let (plan, suspended) = (a_plan(&json!({})), a_plan(&json!({"suspend": true})));
    let proven = || Released::Proven(release("v2"));
    let unproven = Released::Unproven {
        candidate: "debian-v2".to_owned(),
        promoted_at: Timestamp::UNIX_EPOCH,
    };
    for (name, plan, observed) in [
        ("nothing outdated", &plan, observed(proven(), Some(0), vec![])),
        ("unproven", &plan, observed(unproven, Some(1), vec![])),
        ("missing", &plan, observed(Released::Missing, None, vec![])),
        ("nothing released", &plan, observed(Released::Nothing, None, vec![])),
        ("suspended", &suspended, observed(proven(), Some(1), vec![])),
    ] {
        assert_eq!(made(plan, &observed), [], "{name}");
    }
}

#[test]
fn a_release_is_proven_by_its_own_candidate_with_its_own_digest_only() {
    let v2 = release("v2");
    let foreign = Release {
        base_image: "alpine".to_owned(),
        ..v2.clone()
    };
    let known = [v2.clone(), release("v1")];
    assert_eq!(
        released(Some(&base("debian-v2", &v2.digest)), &known),
        Released::Proven(v2.clone())
    );
    for (candidate, digest, known) in [
        ("debian-v1", &v2.digest, known.as_slice()),
        ("debian-v2", &release("v1").digest, known.as_slice()),
        ("debian-v2", &v2.digest, &[foreign]),
        ("debian-v2", &v2.digest, &[]),
    ] {
        let unproven = Released::Unproven {
            candidate: candidate.to_owned(),
            promoted_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        };
        assert_eq!(released(Some(&base(candidate, digest)), known), unproven);
    }
    assert_eq!(released(None, &known), Released::Missing);
    let mut taken = base("debian-v2", &v2.digest);
    let condition = json!([{"type": "RepositoryOwned", "status": "False", "reason": "RepositoryTaken", "message": "another's",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    taken.status.as_mut().unwrap().conditions = serde_json::from_value(condition).unwrap();
    assert!(matches!(released(Some(&taken), &known), Released::NotOwned { .. }));
}

#[test]
fn a_plan_says_how_its_run_stands_and_an_unchanged_world_changes_nothing() {
    let now = Timestamp::from_second(9).unwrap();
    let mut plan = a_plan(&json!({}));
    let before = observed(Released::Proven(release("v2")), Some(3), vec![]);
    let runs = made(&plan, &before);
    let first = summarize(&plan, &before, &runs, now);
    assert_eq!(first.status.run.as_deref(), Some(runs[0].name_any().as_str()));
    assert_eq!(first.events.len(), 1);
    plan.status = Some(first.status.clone());
    let after = observed(Released::Proven(release("v2")), Some(3), runs.clone());
    let second = summarize(&plan, &after, &runs, now + jiff::SignedDuration::from_secs(60));
    assert_eq!((&second.status, second.events.len()), (&first.status, 0));
    let ready = conditions::find(&second.status.conditions, "Ready").unwrap();
    assert_eq!(ready.reason, "RunActive");
}

#[test]
fn a_plan_that_would_make_a_bad_run_makes_none() {
    let wave = |field: Value| json!({"waves": [{"name": "a", "maxConcurrent": 1}, field]});
    for spec in [
        json!({"targets": {"namespaceSelector": {}}}),
        json!({"targets": {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}}),
        json!({"onFailure": {"budget": "many"}}),
        wave(json!({"name": "b", "percent": 0})),
        wave(json!({"name": "b", "maxConcurrent": "x%"})),
        wave(json!({"name": "b", "selector": {"matchExpressions": [{"key": "a", "operator": ""}]}})),
    ] {
        let error = validate(&a_plan(&spec)).unwrap_err().to_string();
        assert!(error.contains(": ") || error.contains("must be"), "{error}");
    }
    assert_eq!(validate(&a_plan(&json!({}))).unwrap().base_images, ["debian"]);
}

fn says(plan: &RepavePlan, observed: &Observed) -> (String, String, String) {
    let outcome = summarize(plan, observed, &observed.runs, Timestamp::from_second(9).unwrap());
    let ready = conditions::find(&outcome.status.conditions, "Ready").unwrap();
    (ready.status.clone(), ready.reason.clone(), ready.message.clone())
}

#[test]
fn a_finished_run_goes_on_when_something_can_be_moved_again_and_the_plan_is_not_ready_before() {
    let plan_ = a_plan(&json!({}));
    let proven = || Released::Proven(release("v2"));
    let run = made(&plan_, &observed(proven(), Some(1), vec![])).remove(0);
    let work = observed(proven(), Some(1), vec![finished(run.clone())]);
    let reopen = Action::Reopen {
        namespace: "platform".to_owned(),
        name: run.name_any(),
    };
    assert_eq!(plan(&plan_, &work), [reopen]);
    let (ready, reason, _) = says(&plan_, &work);
    assert_eq!((ready.as_str(), reason.as_str()), ("False", "Reopening"));
    for (name, idle) in [
        ("the run is at work", observed(proven(), Some(1), vec![run.clone()])),
        (
            "nothing can be moved",
            standing(observed(proven(), Some(1), vec![finished(run.clone())]), |base| {
                base.standing.movable_by_run = 0;
            }),
        ),
    ] {
        assert_eq!(plan(&plan_, &idle), [], "{name}");
    }
    let suspended = a_plan(&json!({"suspend": true}));
    assert_eq!(plan(&suspended, &work), []);
    assert_eq!(says(&suspended, &work).1, "Suspended");
}

#[test]
fn a_plan_says_up_to_date_only_when_that_is_true() {
    let plan = a_plan(&json!({}));
    let proven = || Released::Proven(release("v2"));
    let run = || finished(made(&plan, &observed(proven(), Some(1), vec![])).remove(0));
    let now = |change: fn(&mut Base)| standing(observed(proven(), Some(0), vec![run()]), change);
    let (_, reason, message) = says(&plan, &now(|_| {}));
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("UpToDate", "no workload runs an older release than v2 of debian")
    );
    for (name, observed, expected, text) in [
        (
            "held",
            now(|base| {
                base.outdated = Some(2);
                base.standing.counts = PlanCounts {
                    outdated: 2,
                    held: 1,
                    reported: 1,
                    ..PlanCounts::default()
                };
            }),
            "NothingToMove",
            "2 workloads are on an older release than v2 of debian and are not moved: 1 held, 1 only reported",
        ),
        (
            "busy",
            now(|base| {
                base.outdated = Some(3);
                base.standing.counts = PlanCounts {
                    outdated: 3,
                    movable: 2,
                    held: 1,
                    ..PlanCounts::default()
                };
            }),
            "NothingToMove",
            "1 held, 0 only reported (see the run), 2 busy with a roll-out of their own, or selected since the run was made",
        ),
        (
            "another kind",
            now(|base| {
                let row = NotRollable {
                    kind: "StatefulSet".into(),
                    count: 3,
                    example: "shop/db".into(),
                };
                base.standing.not_rollable.insert(CountedKind::StatefulSet, row);
            }),
            "NothingToMove",
            "3 StatefulSet may be, and cannot be rolled yet, for example shop/db",
        ),
        (
            "not allowed",
            now(|base| {
                base.standing.left_out = LeftOut {
                    not_allowed: 2,
                    ..LeftOut::default()
                }
            }),
            "NothingToMove",
            "2 selected namespaces are left out: name a ServiceAccount of this namespace in spec.serviceAccountName",
        ),
        (
            "not looked up",
            now(|base| base.incomplete = true),
            "Inspecting",
            "still being looked up",
        ),
    ] {
        let (_, reason, message) = says(&plan, &observed);
        assert_eq!(reason, expected, "{name}");
        assert!(message.contains(text), "{name}: {message}");
    }
}

#[test]
fn a_plan_looks_again_when_a_hold_ends_and_otherwise_waits_to_be_woken() {
    let plan = a_plan(&json!({}));
    let now = Timestamp::from_second(1_000).unwrap();
    let next = |change: &dyn Fn(&mut Base)| {
        let observed = standing(observed(Released::Proven(release("v2")), Some(0), vec![]), |base| {
            change(base);
        });
        match summarize(&plan, &observed, &[], now).next {
            Requeue::After(wait) => wait.as_secs(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(next(&|_| {}), 600);
    assert_eq!(
        next(&|base| base.standing.hold_ends = Timestamp::from_second(1_120).ok()),
        121
    );
    assert_eq!(next(&|base| base.standing.barred = true), 60);
    assert_eq!(
        next(&|base| base.standing.counts.movable = 1),
        60,
        "busy, and nothing tells its end"
    );
    assert_eq!(next(&|base| base.standing.movable_by_run = 1), 15);
    assert_eq!(next(&|base| base.incomplete = true), 15);
    let unproven = |base: &mut Base, second| {
        base.release = Released::Unproven {
            candidate: "c".to_owned(),
            promoted_at: Timestamp::from_second(second).unwrap(),
        };
    };
    assert_eq!(next(&|base| unproven(base, 990)), 15, "its proof comes in a moment");
    assert_eq!(next(&|base| unproven(base, 0)), 60, "its proof does not come");
}

#[test]
fn a_status_stays_small_whatever_the_estate_is() {
    let plan = a_plan(&json!({}));
    let observed = standing(
        observed(Released::Proven(release("v2")), Some(4_000_000), vec![]),
        |base| {
            for kind in CountedKind::ALL {
                let row = NotRollable {
                    kind: kind.as_str().to_owned(),
                    count: u32::MAX / 2,
                    example: format!("{}/{}", "n".repeat(63), "a".repeat(253)),
                };
                base.standing.not_rollable.insert(kind, row);
            }
            base.standing.left_out = LeftOut {
                not_allowed: 99_999,
                not_in_estate: 99_999,
                forbidden: 99_999,
                without_pods: 99_999,
            };
        },
    );
    let outcome = summarize(&plan, &observed, &[], Timestamp::from_second(9).unwrap());
    let size = serde_json::to_string(&outcome.status).unwrap().len();
    assert!(size < 8_192, "{size}");
}

#[test]
fn edits_that_wait_for_the_next_run_are_named() {
    let before = a_plan(&json!({"waves": [{"name": "canary", "maxConcurrent": 1}, {"name": "rest"}]}));
    let run = made(&before, &observed(Released::Proven(release("v2")), Some(1), vec![])).remove(0);
    let follows = |spec: &Value| {
        let plan = a_plan(spec);
        let observed = observed(Released::Proven(release("v2")), Some(1), vec![run.clone()]);
        let outcome = summarize(&plan, &observed, &observed.runs, Timestamp::from_second(9).unwrap());
        let condition = conditions::find(&outcome.status.conditions, "RunFollowsPlan").unwrap();
        (condition.status.clone(), condition.message.clone())
    };
    let same = json!({"waves": [{"name": "canary", "maxConcurrent": 1}, {"name": "rest"}]});
    assert_eq!(follows(&same).0, "True");
    for (spec, text) in [
        (
            json!({"waves": [{"name": "canary", "maxConcurrent": 5}, {"name": "rest"}]}),
            "waves[canary].maxConcurrent (in force as far as it is lower)",
        ),
        (
            json!({"waves": [{"name": "canary", "maxConcurrent": 1, "soak": "1h"}, {"name": "rest"}]}),
            "waves[canary]",
        ),
        (
            json!({"waves": same["waves"], "health": {"rolloutDeadline": "1h"}}),
            "health",
        ),
        (
            json!({"waves": same["waves"], "onFailure": {"action": "Pause"}}),
            "onFailure.action",
        ),
        (
            json!({"waves": [{"name": "rest"}, {"name": "canary", "maxConcurrent": 1}]}),
            "the order of waves",
        ),
    ] {
        let (status, message) = follows(&spec);
        assert_eq!(status, "False", "{spec}");
        assert!(message.contains(text), "{message}");
    }
}
