//! Which decided candidates, finished runs and staged images are deleted. Pure: facts in, deletions out.
//!
//! Must never delete what is on its way, what is wanted, what is released, what may be gone back to, what a run is about,
//! or a release that the history does not know.

use super::{digest::Digest, image_ref::Repository};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Candidates that are deleted at one look; the rest at the next ones.
pub const CANDIDATES_AT_ONCE: usize = 5;
/// Runs that are deleted at one look.
pub const RUNS_AT_ONCE: usize = 20;
/// Candidates beyond the limits that are kept while their staged images cannot be deleted; above it they go alone.
pub const MAX_WAITING: usize = 20;

/// How many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Released candidates, and finished runs of each plan.
    pub releases: usize,
    /// Candidates that were not released.
    pub rejected: usize,
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is on its way, or waits.
    Undecided,
    /// It was promoted.
    Promoted,
    /// It was refused, could not be judged, or is not wanted any more.
    NotPromoted,
}

/// One candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its UID: only this very object is deleted.
    pub uid: String,
    /// Its place in the order.
    pub sequence: u64,
    /// When it was made; decides between equal places.
    pub created: Timestamp,
    /// What became of it.
    pub fate: Fate,
    /// Its staging repository.
    pub staging: Repository,
    /// The upstream digest; it was copied to staging.
    pub source_digest: Digest,
    /// The build in staging, and in production if it was promoted.
    pub built: Option<Digest>,
}

/// One run that is about this base image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its plan.
    pub plan: String,
    /// Its place in the order of releases.
    pub sequence: u64,
    /// When it was made; decides between equal places.
    pub created: Timestamp,
    /// The candidate that proves its target.
    pub candidate: String,
    /// Its target.
    pub digest: Digest,
    /// Whether every target came to its end.
    pub finished: bool,
}

/// Everything that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// How many are kept.
    pub limits: Limits,
    /// All candidates of the base image.
    pub candidates: Vec<Candidate>,
    /// All runs about the base image.
    pub runs: Vec<Run>,
    /// Candidates that are wanted, released, or the proof of what may be gone back to.
    pub needed: BTreeSet<String>,
    /// Digests that are released or may be gone back to, and upstream's current one.
    pub needed_digests: BTreeSet<Digest>,
    /// Every digest that the history knows.
    pub recorded: BTreeSet<Digest>,
    /// Repositories that another base image uses too: no image is deleted there.
    pub shared: BTreeSet<Repository>,
}

/// The staged images of one candidate that nothing else needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedImages {
    /// Where.
    pub repository: Repository,
    /// Which.
    pub digests: Vec<Digest>,
    /// Whether the candidate stays until they are deleted.
    pub first: bool,
}

/// One deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Deletes a finished run.
    DeleteRun {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Deletes staged images with all that is attached to them, then a candidate.
    DeleteCandidate {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// What it leaves in staging.
        images: Option<StagedImages>,
    },
}

/// The deletions, and whether more would follow at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruning {
    /// In order.
    pub actions: Vec<Action>,
    /// Whether the bound of one look was reached.
    pub more: bool,
}

/// Decides.
pub fn prune(facts: &Facts) -> Pruning {
    let runs = surplus_runs(facts);
    let gone: BTreeSet<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let kept_runs: Vec<&Run> = facts
        .runs
        .iter()
        .filter(|run| !gone.contains(run.name.as_str()))
        .collect();
    let candidates = surplus_candidates(facts, &kept_runs);
    let more = runs.len() > RUNS_AT_ONCE || candidates.len() > CANDIDATES_AT_ONCE;
    let first = candidates.len() <= MAX_WAITING;
    let surplus: BTreeSet<&str> = candidates.iter().map(|one| one.name.as_str()).collect();
    let mut actions = Vec::new();
    for run in runs.into_iter().take(RUNS_AT_ONCE) {
        actions.push(Action::DeleteRun {
            name: run.name.clone(),
            uid: run.uid.clone(),
        });
    }
    for candidate in candidates.into_iter().take(CANDIDATES_AT_ONCE) {
        actions.push(Action::DeleteCandidate {
            name: candidate.name.clone(),
            uid: candidate.uid.clone(),
            images: staged(facts, candidate, &surplus, first),
        });
    }
    Pruning { actions, more }
}

/// Finished runs beyond the newest ones of each plan, oldest first.
fn surplus_runs(facts: &Facts) -> Vec<&Run> {
    let mut plans: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in facts.runs.iter().filter(|run| run.finished) {
        plans.entry(&run.plan).or_default().push(run);
    }
    let newest_first = |a: &&Run, b: &&Run| (b.sequence, b.created, &b.name).cmp(&(a.sequence, a.created, &a.name));
    let mut surplus = Vec::new();
    for mut runs in plans.into_values() {
        runs.sort_by(newest_first);
        surplus.extend(runs.into_iter().skip(facts.limits.releases));
    }
    surplus.sort_by(|a, b| newest_first(b, a));
    surplus
}

/// Decided candidates beyond the limits that nothing needs, oldest first.
fn surplus_candidates<'a>(facts: &'a Facts, runs: &[&Run]) -> Vec<&'a Candidate> {
    let targeted = |one: &Candidate| {
        let same = |run: &&Run| run.candidate == one.name || one.built.as_ref() == Some(&run.digest);
        runs.iter().any(same)
    };
    let recorded = |one: &Candidate| one.built.as_ref().is_some_and(|digest| facts.recorded.contains(digest));
    let mut newest_first: Vec<&Candidate> = facts.candidates.iter().collect();
    newest_first.sort_by(|a, b| (b.sequence, b.created, &b.name).cmp(&(a.sequence, a.created, &a.name)));
    let beyond = |fate: Fate, limit: usize| newest_first.iter().filter(move |one| one.fate == fate).skip(limit);
    let promoted = beyond(Fate::Promoted, facts.limits.releases).filter(|one| recorded(one));
    let refused = beyond(Fate::NotPromoted, facts.limits.rejected);
    let mut surplus: Vec<&Candidate> = promoted
        .chain(refused)
        .copied()
        .filter(|one| !facts.needed.contains(&one.name) && !targeted(one))
        .collect();
    surplus.sort_by(|a, b| (a.sequence, a.created, &a.name).cmp(&(b.sequence, b.created, &b.name)));
    surplus
}

/// What a candidate leaves in staging and no candidate that stays names.
fn staged(facts: &Facts, candidate: &Candidate, surplus: &BTreeSet<&str>, first: bool) -> Option<StagedImages> {
    if facts.shared.contains(&candidate.staging) {
        return None;
    }
    let stays = |one: &&Candidate| one.staging == candidate.staging && !surplus.contains(one.name.as_str());
    let used: BTreeSet<&Digest> = facts
        .candidates
        .iter()
        .filter(stays)
        .flat_map(|one| [Some(&one.source_digest), one.built.as_ref()])
        .flatten()
        .chain(&facts.needed_digests)
        .collect();
    let own = [candidate.built.as_ref(), Some(&candidate.source_digest)];
    let mut digests: Vec<Digest> = own
        .into_iter()
        .flatten()
        .filter(|one| !used.contains(one))
        .cloned()
        .collect();
    digests.dedup();
    (!digests.is_empty()).then(|| StagedImages {
        repository: candidate.staging.clone(),
        digests,
        first,
    })
}

#[cfg(test)]
mod tests {
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
            },
            candidates,
            runs,
            needed: BTreeSet::new(),
            needed_digests: BTreeSet::new(),
            recorded,
            shared: BTreeSet::new(),
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
            let named = numbered
                .map(|(at, (sequence, of, built, finished))| run(&format!("r{at}"), sequence, of, built, finished));
            named.collect::<Vec<_>>()
        });
        let needed = proptest::collection::btree_set((0_usize..24).prop_map(|at| format!("c{at}")), 0..4);
        let digests = || proptest::collection::btree_set((0_u8..6).prop_map(digest), 0..4);
        (candidates, runs, needed, digests(), digests(), 1_usize..4, 0_usize..4).prop_map(
            |(candidates, runs, needed, needed_digests, recorded, releases, rejected)| Facts {
                limits: Limits { releases, rejected },
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
                    Action::DeleteCandidate { name, images, .. } => {
                        let one = facts.candidates.iter().find(|one| one.name == name).unwrap();
                        prop_assert!(one.fate != Fate::Undecided && !facts.needed.contains(&name));
                        let unfinished = facts.runs.iter().filter(|run| !run.finished);
                        prop_assert!(unfinished.clone().all(|run| run.candidate != name && Some(&run.digest) != one.built.as_ref()));
                        prop_assert!(one.fate != Fate::Promoted || one.built.as_ref().is_some_and(|built| facts.recorded.contains(built)));
                        let newer = facts.candidates.iter().filter(|other| other.fate == one.fate && other.sequence >= one.sequence && other.name != name);
                        let limit = if one.fate == Fate::Promoted { facts.limits.releases } else { facts.limits.rejected };
                        prop_assert!(newer.count() >= limit);
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
}
