//! What goes, what stays, and that nothing that is needed ever goes.

use super::*;
use proptest::prelude::*;

fn staging() -> Repository {
    "r.test/base/debian-staging".parse().unwrap()
}

fn digest(content: u8) -> Digest {
    Digest::of(&[content])
}

fn candidate(sequence: u64, fate: Fate, source: u8, built: Option<u8>) -> Candidate {
    Candidate {
        name: format!("c{sequence}"),
        uid: format!("u{sequence}"),
        sequence,
        created: Timestamp::UNIX_EPOCH,
        fate,
        staging: staging(),
        source_digest: digest(source),
        built: built.map(digest),
        production: (fate == Fate::Promoted).then(|| Produced {
            repository: "r.test/base/debian".parse().unwrap(),
            tag: format!("12-{sequence}"),
        }),
    }
}

fn run(name: &str, sequence: u64, candidate: u64, built: u8, finished: bool) -> Run {
    Run {
        name: name.to_owned(),
        uid: format!("u-{name}"),
        plan: "everything".to_owned(),
        sequence,
        created: Timestamp::UNIX_EPOCH,
        candidate: format!("c{candidate}"),
        digest: digest(built),
        finished,
    }
}

fn facts(candidates: Vec<Candidate>, runs: Vec<Run>) -> Facts {
    let recorded = candidates.iter().filter_map(|one| one.built.clone()).collect();
    Facts {
        limits: Limits {
            releases: 2,
            rejected: 1,
            from_production: false,
        },
        candidates,
        runs,
        needed: BTreeSet::new(),
        needed_digests: BTreeSet::new(),
        recorded,
        shared: BTreeSet::new(),
        newest: BTreeSet::new(),
        in_use: None,
    }
}

fn deleted(facts: &Facts) -> Vec<String> {
    let name = |action: Action| match action {
        Action::DeleteRun { name, .. } | Action::DeleteCandidate { name, .. } => name,
    };
    prune(facts).actions.into_iter().map(name).collect()
}

/// Four releases with contents 101 to 104, of sources 1 to 4.
fn releases() -> Vec<Candidate> {
    (1..=4)
        .map(|at| candidate(at.into(), Fate::Promoted, at, Some(100 + at)))
        .collect()
}

#[test]
fn the_newest_of_each_fate_are_kept_and_the_oldest_go_first() {
    let mut all = releases();
    all.extend((5..=7).map(|at| candidate(at.into(), Fate::NotPromoted, at, None)));
    all.push(candidate(8, Fate::Undecided, 8, None));
    assert_eq!(deleted(&facts(all, vec![])), ["c1", "c2", "c5", "c6"]);
}

#[test]
fn what_is_needed_targeted_or_not_recorded_stays() {
    let mut facts = facts(releases(), vec![]);
    facts.needed.insert("c1".into());
    assert_eq!(deleted(&facts), ["c2"]);
    facts.runs = vec![run("r", 2, 9, 102, false)];
    assert_eq!(deleted(&facts), [""; 0], "a run targets its digest");
    facts.runs.clear();
    facts.recorded.clear();
    assert_eq!(deleted(&facts), [""; 0], "the history would forget it");
}

#[test]
fn finished_runs_go_beyond_the_newest_of_their_plan_and_no_other() {
    let runs = vec![
        run("one", 1, 9, 9, true),
        run("two", 2, 9, 9, true),
        run("three", 3, 9, 9, true),
        run("four", 4, 9, 9, true),
        run("stuck", 0, 9, 9, false),
        Run {
            plan: "other".into(),
            ..run("foreign", 0, 9, 9, true)
        },
    ];
    assert_eq!(deleted(&facts(vec![], runs)), ["one", "two"]);
}

#[test]
fn a_staged_image_goes_only_with_the_last_candidate_that_names_it() {
    let mut all = releases();
    // The oldest one has the source of the newest, and the second one its own.
    all[0].source_digest = digest(4);
    let facts = facts(all, vec![]);
    let images = |facts: &Facts| -> Vec<Option<Vec<Digest>>> {
        let of = |action: Action| match action {
            Action::DeleteCandidate { images, .. } => images.map(|images| images.digests),
            Action::DeleteRun { .. } => None,
        };
        prune(facts).actions.into_iter().map(of).collect()
    };
    assert_eq!(
        images(&facts),
        [Some(vec![digest(101)]), Some(vec![digest(102), digest(2)])]
    );
    let mut needed = facts.clone();
    needed.needed_digests = [digest(101), digest(2)].into();
    assert_eq!(images(&needed), [None, Some(vec![digest(102)])]);
    let mut shared = facts;
    shared.shared.insert(staging());
    assert_eq!(images(&shared), [None, None]);
}

#[test]
fn one_look_deletes_a_bounded_number_and_says_that_there_is_more() {
    let refused = |at: u8| candidate(at.into(), Fate::NotPromoted, at, None);
    let many = facts((0..30).map(refused).collect(), vec![]);
    let pruning = prune(&many);
    assert_eq!((pruning.actions.len(), pruning.more), (CANDIDATES_AT_ONCE, true));
    let Some(Action::DeleteCandidate {
        images: Some(images), ..
    }) = pruning.actions.first()
    else {
        panic!("{pruning:?}")
    };
    assert!(
        !images.first,
        "so many are not kept for a registry that does not answer"
    );
    assert!(!prune(&facts((0..3).map(refused).collect(), vec![])).more);
}

/// What goes from production, by candidate; one that stays has no entry.
fn from_production(facts: &Facts) -> Vec<(String, Option<Digest>)> {
    let of = |action: Action| match action {
        Action::DeleteCandidate { name, production, .. } => Some((name, production.map(|one| one.digest))),
        Action::DeleteRun { .. } => None,
    };
    prune(facts).actions.into_iter().filter_map(of).collect()
}

#[test]
fn a_past_release_leaves_production_only_where_that_is_asked_for_and_nothing_uses_it() {
    let mut facts = facts(releases(), vec![]);
    let goes = |content: u8| (format!("c{}", content - 100), Some(digest(content)));
    let alone = |name: &str| (name.to_owned(), None);
    facts.in_use = Some(InUse::default());
    assert_eq!(from_production(&facts), [alone("c1"), alone("c2")], "not asked for");
    assert!(!asks_for_use(&facts));
    facts.limits.from_production = true;
    assert!(asks_for_use(&facts));
    assert_eq!(from_production(&facts), [goes(101), goes(102)]);

    let unknown = Facts {
        in_use: None,
        ..facts.clone()
    };
    assert!(asks_for_use(&unknown));
    assert_eq!(
        from_production(&unknown),
        [],
        "what is in use is not known: it is asked again"
    );

    for image in [
        "r.test/base/debian:12-1".to_owned(),
        format!("elsewhere.test/x@{}", digest(101)),
    ] {
        let mut used = facts.clone();
        let pod = serde_json::json!({"metadata": {}, "spec": {"containers": [{"name": "a", "image": image}]}});
        used.in_use.as_mut().unwrap().pod(&serde_json::from_value(pod).unwrap());
        assert_eq!(from_production(&used), [goes(102)], "{image}");
    }
    for protect in [
        (|facts: &mut Facts| facts.needed_digests = [digest(101)].into()) as fn(&mut Facts),
        |facts| facts.newest = [digest(101)].into(),
        |facts| facts.runs = vec![run("r", 1, 9, 101, false)],
    ] {
        let mut kept = facts.clone();
        protect(&mut kept);
        assert_eq!(from_production(&kept), [goes(102)]);
    }
    let mut shared = facts.clone();
    shared.shared.insert("r.test/base/debian".parse().unwrap());
    assert_eq!(
        from_production(&shared),
        [alone("c1"), alone("c2")],
        "somebody else's too"
    );
    assert!(!asks_for_use(&shared));
    let mut twice = facts.clone();
    twice.candidates[3].built = Some(digest(101));
    twice.recorded.insert(digest(101));
    assert_eq!(
        from_production(&twice),
        [alone("c1"), goes(102)],
        "the newest one is that image too"
    );
}

fn in_use(digests: &BTreeSet<Digest>) -> InUse {
    let mut in_use = InUse::default();
    for digest in digests {
        let containers = [serde_json::json!({"name": "a", "image": format!("r.test/x@{digest}")})];
        let pod = serde_json::json!({"metadata": {}, "spec": {"containers": containers}});
        in_use.pod(&serde_json::from_value(pod).unwrap());
    }
    in_use
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let fate = prop_oneof![Just(Fate::Undecided), Just(Fate::Promoted), Just(Fate::NotPromoted)];
    let one = (0_u64..12, fate, 0_u8..6, proptest::option::of(0_u8..6));
    let candidates = proptest::collection::vec(one, 0..24).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        let named = numbered.map(|(at, (sequence, fate, source, built))| Candidate {
            name: format!("c{at}"),
            ..candidate(sequence, fate, source, built)
        });
        named.collect::<Vec<_>>()
    });
    let one = (0_u64..8, 0_u64..24, 0_u8..6, any::<bool>());
    let runs = proptest::collection::vec(one, 0..12).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        let named =
            numbered.map(|(at, (sequence, of, built, finished))| run(&format!("r{at}"), sequence, of, built, finished));
        named.collect::<Vec<_>>()
    });
    let needed = proptest::collection::btree_set((0_usize..24).prop_map(|at| format!("c{at}")), 0..4);
    let digests = || proptest::collection::btree_set((0_u8..6).prop_map(digest), 0..4);
    let limits = (1_usize..4, 0_usize..4, any::<bool>());
    let used = proptest::option::of(digests());
    (candidates, runs, needed, digests(), digests(), digests(), used, limits).prop_map(
        |(candidates, runs, needed, needed_digests, recorded, newest, used, limits)| Facts {
            limits: Limits {
                releases: limits.0,
                rejected: limits.1,
                from_production: limits.2,
            },
            newest,
            in_use: used.map(|used| in_use(&used)),
            needed,
            needed_digests,
            recorded,
            ..facts(candidates, runs)
        },
    )
}

proptest! {
    #[test]
    fn nothing_that_is_needed_is_ever_deleted(facts in any_facts()) {
        let pruning = prune(&facts);
        let gone: BTreeSet<String> = deleted(&facts).into_iter().collect();
        for action in pruning.actions {
            match action {
                Action::DeleteRun { name, .. } => {
                    prop_assert!(facts.runs.iter().any(|run| run.name == name && run.finished));
                }
                Action::DeleteCandidate { name, images, production, .. } => {
                    let one = facts.candidates.iter().find(|one| one.name == name).unwrap();
                    prop_assert!(one.fate != Fate::Undecided && !facts.needed.contains(&name));
                    let unfinished = facts.runs.iter().filter(|run| !run.finished);
                    prop_assert!(unfinished.clone().all(|run| run.candidate != name && Some(&run.digest) != one.built.as_ref()));
                    prop_assert!(one.fate != Fate::Promoted || one.built.as_ref().is_some_and(|built| facts.recorded.contains(built)));
                    let newer = facts.candidates.iter().filter(|other| other.fate == one.fate && other.sequence >= one.sequence && other.name != name);
                    let limit = if one.fate == Fate::Promoted { facts.limits.releases } else { facts.limits.rejected };
                    prop_assert!(newer.count() >= limit);
                    if let Some(past) = production {
                        let digest = &past.digest;
                        prop_assert!(facts.limits.from_production && one.fate == Fate::Promoted);
                        prop_assert!(!facts.needed_digests.contains(digest) && !facts.newest.contains(digest));
                        prop_assert!(facts.in_use.as_ref().is_some_and(|in_use| !in_use.has(digest, "")));
                        prop_assert!(facts.runs.iter().all(|run| run.finished || run.digest != *digest));
                        let newest = facts.candidates.iter().filter(|other| other.built.as_ref() == Some(digest));
                        prop_assert!(newest.clone().all(|other| other.fate != Fate::Undecided && !facts.needed.contains(&other.name)));
                    }
                    for image in images.iter().flat_map(|images| &images.digests) {
                        prop_assert!(!facts.needed_digests.contains(image));
                        let undecided = facts.candidates.iter().filter(|other| other.fate == Fate::Undecided && !gone.contains(&other.name));
                        prop_assert!(undecided.clone().all(|other| other.source_digest != *image && other.built.as_ref() != Some(image)));
                    }
                }
            }
        }
    }
}
