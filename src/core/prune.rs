//! Which decided candidates, finished runs, staged images and, only where that is asked for, images of past releases are
//! deleted. Pure: facts in, deletions out.
//!
//! Must never delete what is on its way, what is wanted, what is released, what may be gone back to, what a run is about,
//! or a release that the history does not know; and nothing from production that is in use, or of which that is not known.

use super::{digest::Digest, image_ref::Repository, usage::InUse};
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
    /// Whether images of past releases are deleted from production.
    pub from_production: bool,
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
    /// Where it was promoted to.
    pub production: Option<Produced>,
}

/// Where a release is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Produced {
    /// The production repository.
    pub repository: Repository,
    /// Its immutable tag.
    pub tag: String,
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
    /// The newest releases of the history, as many as are kept.
    pub newest: BTreeSet<Digest>,
    /// What the workloads of the cluster use; `None` where that is not known.
    pub in_use: Option<InUse>,
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

/// A past release that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRelease {
    /// Where.
    pub repository: Repository,
    /// Which.
    pub digest: Digest,
    /// Whether the candidate stays until it is deleted.
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
    /// Deletes images with all that is attached to them, then a candidate.
    DeleteCandidate {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// What it leaves in staging.
        images: Option<StagedImages>,
        /// What it leaves in production.
        production: Option<PastRelease>,
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
    let candidates = surplus(facts, &runs);
    let first = candidates.len() <= MAX_WAITING;
    let surplus: BTreeSet<&str> = candidates.iter().map(|one| one.name.as_str()).collect();
    // What may not be deleted from production yet keeps its candidate, or nobody would know of it any more.
    let ready: Vec<(&Candidate, Option<PastRelease>)> = candidates
        .iter()
        .filter_map(|one| match past_release(facts, one, &surplus, first) {
            Past::Goes(release) => Some((*one, Some(release))),
            Past::NotNow if first => None,
            Past::NotNow | Past::Stays => Some((*one, None)),
        })
        .collect();
    let more = runs.len() > RUNS_AT_ONCE || ready.len() > CANDIDATES_AT_ONCE;
    let mut actions = Vec::new();
    for run in runs.into_iter().take(RUNS_AT_ONCE) {
        actions.push(Action::DeleteRun {
            name: run.name.clone(),
            uid: run.uid.clone(),
        });
    }
    for (candidate, production) in ready.into_iter().take(CANDIDATES_AT_ONCE) {
        actions.push(Action::DeleteCandidate {
            name: candidate.name.clone(),
            uid: candidate.uid.clone(),
            images: staged(facts, candidate, &surplus, first),
            production,
        });
    }
    Pruning { actions, more }
}

/// Whether a past release would be deleted if nothing uses it: only then it is worth to look at all workloads.
pub fn asks_for_use(facts: &Facts) -> bool {
    let runs = surplus_runs(facts);
    let candidates = surplus(facts, &runs);
    let names: BTreeSet<&str> = candidates.iter().map(|one| one.name.as_str()).collect();
    let unused = Facts {
        in_use: Some(InUse::default()),
        ..facts.clone()
    };
    let goes = |one: &&Candidate| matches!(past_release(&unused, one, &names, true), Past::Goes(_));
    candidates.iter().any(goes)
}

/// What becomes of the image of a past release.
enum Past {
    /// It stays in production for good, or another candidate answers for it.
    Stays,
    /// It may not be deleted now.
    NotNow,
    /// It is deleted.
    Goes(PastRelease),
}

fn past_release(facts: &Facts, candidate: &Candidate, surplus: &BTreeSet<&str>, first: bool) -> Past {
    let (true, Fate::Promoted, Some(digest), Some(at)) = (
        facts.limits.from_production,
        candidate.fate,
        &candidate.built,
        &candidate.production,
    ) else {
        return Past::Stays;
    };
    let same = |other: &&Candidate| other.built.as_ref() == Some(digest) && !surplus.contains(other.name.as_str());
    if facts.shared.contains(&at.repository) || facts.candidates.iter().any(|other| same(&other)) {
        return Past::Stays;
    }
    let tagged = format!("{}:{}", at.repository, at.tag);
    let unused = facts.in_use.as_ref().is_some_and(|in_use| !in_use.has(digest, &tagged));
    let needed = facts.needed_digests.contains(digest) || facts.newest.contains(digest);
    let targeted = facts.runs.iter().any(|run| run.digest == *digest && !run.finished);
    if !unused || needed || targeted {
        return Past::NotNow;
    }
    Past::Goes(PastRelease {
        repository: at.repository.clone(),
        digest: digest.clone(),
        first,
    })
}

fn surplus<'a>(facts: &'a Facts, surplus_runs: &[&Run]) -> Vec<&'a Candidate> {
    let gone: BTreeSet<&str> = surplus_runs.iter().map(|run| run.name.as_str()).collect();
    let kept_runs: Vec<&Run> = facts
        .runs
        .iter()
        .filter(|run| !gone.contains(run.name.as_str()))
        .collect();
    surplus_candidates(facts, &kept_runs)
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
mod tests;
