//! Which BaseImage may write to a repository: exactly one, in whatever namespace it is. Pure.
//!
//! Two BaseImages that promote to one repository would take each other's channel tag and workloads, so a tenant could release
//! into another team's estate. Must not tell one tenant who the other one is: only the repository is named.

use crate::{
    api::BaseImage,
    controllers::conditions::{self, ConditionStatus},
    domain::image_ref::Repository,
};
use kube::ResourceExt as _;
use std::borrow::Borrow;

/// Condition: whether the repository that it promotes to is its own. Read by the gate of a run and by a plan.
pub const REPOSITORY_OWNED: &str = "RepositoryOwned";
/// Reason of [`REPOSITORY_OWNED`] when it is another's.
pub const REPOSITORY_TAKEN: &str = "RepositoryTaken";

/// Why releases of this BaseImage must not be used, if so: its repository is another's.
pub fn not_owned(base: &BaseImage) -> Option<&str> {
    let conditions = base.status.as_ref().map(|status| status.conditions.as_slice())?;
    conditions::find(conditions, REPOSITORY_OWNED)
        .filter(|found| found.status == ConditionStatus::False.as_str())
        .map(|found| found.message.as_str())
}

/// A repository that a BaseImage names and that belongs to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The field that names it.
    pub field: &'static str,
    /// The repository.
    pub repository: Repository,
}

impl Taken {
    /// What is so and what to do, for a condition.
    pub fn message(&self) -> String {
        format!(
            "{} {} belongs to another BaseImage: nothing of this one is built, promoted or rolled out. Name another repository, or ask the owner of that one to give it up",
            self.field, self.repository
        )
    }
}

/// What a BaseImage claims, and by which right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    uid: Option<String>,
    age: (i64, String, String),
    production: Option<Repository>,
    staging: Option<Repository>,
    /// Where its release is.
    released_to: Option<Repository>,
    /// Where it released what was taken back.
    recalled_from: Vec<Repository>,
    /// It has or had a release, and an older version did not keep where. The next status does.
    somewhere: bool,
}

/// By which right a repository is claimed; the least one comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    /// Its release is there.
    Released,
    /// What it released there was taken back, or this is the staging repository of one that has a release, whatever its name: who has a
    /// release there now comes first, and who only names it does not.
    Once,
    /// It has or had a release, nobody knows where.
    Somewhere,
    /// It only says so.
    Named,
}

impl Claim {
    /// The claim of this BaseImage. What of it cannot be parsed claims nothing, but what was released stays its own: an edit
    /// that is broken must not lose a repository.
    pub fn of(base: &BaseImage) -> Self {
        let promote = &base.spec.promote;
        let status = base.status.as_ref();
        let released = status.and_then(|status| status.released.as_ref());
        let released_to = released.and_then(|release| release.repository.clone());
        let revoked = status.into_iter().flat_map(|status| &status.revoked);
        let nowhere_known = (released.is_some() && released_to.is_none())
            || revoked.clone().any(|release| release.repository.is_none());
        let mut recalled_from: Vec<Repository> = revoked.filter_map(|release| release.repository.clone()).collect();
        recalled_from.sort_unstable();
        recalled_from.dedup();
        let production: Option<Repository> = promote.repository.parse().ok();
        let production = production
            .or_else(|| released_to.clone())
            .or_else(|| recalled_from.first().cloned());
        let staging = match &promote.staging_repository {
            Some(staging) => staging.parse().ok(),
            None => production.as_ref().and_then(default_staging),
        };
        // An object without a creation time is one that no API server has seen: it comes last.
        let created = base.creation_timestamp().map_or(i64::MAX, |time| time.0.as_second());
        Self {
            uid: base.uid(),
            age: (created, base.namespace().unwrap_or_default(), base.name_any()),
            production,
            staging,
            somewhere: nowhere_known,
            released_to,
            recalled_from,
        }
    }

    fn right(&self, repository: &Repository) -> Right {
        let is_it = |own: &Repository| is_one(own, repository);
        let goes_with_it = |own: &Repository| default_staging(own).is_some_and(|own| is_one(&own, repository));
        let stages_there = self.released_to.is_some() && self.staging.as_ref().is_some_and(is_it);
        let mut once = self.recalled_from.iter().chain(&self.released_to);
        if self.released_to.as_ref().is_some_and(is_it) {
            Right::Released
        } else if stages_there || once.any(|own| is_it(own) || goes_with_it(own)) {
            Right::Once
        } else if self.somewhere {
            Right::Somewhere
        } else {
            Right::Named
        }
    }

    /// What has released there comes first: who is older could otherwise take over a repository by an edit. Then the older one.
    fn is_before(&self, other: &Self, repository: &Repository) -> bool {
        let rank = |claim: &Self| (claim.right(repository), claim.age.clone());
        rank(self) < rank(other)
    }
}

/// Where unproven images go if nothing else is said.
fn default_staging(production: &Repository) -> Option<Repository> {
    format!("{production}-staging").parse().ok()
}

/// Whether two names are of one repository: the port that is meant without one, and a dot at the end of a host, make no other one.
fn is_one(a: &Repository, b: &Repository) -> bool {
    fn host(repository: &Repository) -> &str {
        let host = repository.host();
        let host = host.strip_suffix(":443").unwrap_or(host);
        host.strip_suffix('.').unwrap_or(host)
    }
    host(a) == host(b) && a.path() == b.path()
}

/// The first repository of `base` that another one owns, if any. Two may share a staging repository; nobody may promote, or
/// put what is unproven, where another one promotes to.
pub fn taken<C: Borrow<Claim>>(base: &Claim, all: impl IntoIterator<Item = C>) -> Option<Taken> {
    all.into_iter()
        .filter_map(|other| {
            let other = other.borrow();
            if other.uid == base.uid {
                return None;
            }
            let named = |theirs: &Option<Repository>, own: &Repository| {
                theirs.as_ref().is_some_and(|theirs| is_one(theirs, own))
            };
            let production = base
                .production
                .as_ref()
                .filter(|own| named(&other.production, own) || named(&other.staging, own))
                .map(|own| ("promote.repository", own));
            let staging = base
                .staging
                .as_ref()
                .filter(|own| named(&other.production, own))
                .map(|own| ("promote.stagingRepository", own));
            [production, staging]
                .into_iter()
                .flatten()
                .find(|(_, repository)| other.is_before(base, repository))
                .map(|(field, repository)| Taken {
                    field,
                    repository: repository.clone(),
                })
        })
        .min_by_key(|found| found.field)
}

#[cfg(test)]
mod tests;
