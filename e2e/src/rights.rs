//! Compares the rights that the operator has with the requests that it makes: RBAC is what the code calls.
//!
//! The rights are read from the ClusterRoles as installed, the requests from the proxy. What the played story has no reason
//! to do is named in [`NOT_PLAYED`], each with where it is played instead. Must not give or take a right.

use crate::proxy::Record;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Api;
use std::collections::BTreeSet;

/// The roles that the operator's own service account holds in the whole cluster.
const ROLES: [&str; 2] = ["repave-controller", "repave-estate"];

/// Rights that the story has no occasion for: `verb resource`, and why they are there.
const NOT_PLAYED: &[(&str, &str)] = &[
    (
        "delete imagecandidates",
        "pruning: only what spec.history does not keep; pruning/tests.rs",
    ),
    (
        "delete repaveruns",
        "pruning: only what spec.history does not keep; pruning/tests.rs",
    ),
    (
        "delete jobs",
        "only of a candidate that is superseded; candidate/tests/wanted.rs",
    ),
    ("get waivers", "the story has no Waiver; waiver/tests.rs"),
    ("patch waivers/status", "the story has no Waiver; waiver/tests.rs"),
    (
        "create releasehistories",
        "an apply is sent as patch, and asks for both where there is none yet",
    ),
    (
        "create events",
        "sent once after a status write, and each of those is killed or loses its answer here; reconciler/tests.rs",
    ),
    ("patch events", "repeats of one event; as above"),
    (
        "update baseimages/finalizers",
        "asked by an admission plugin, never sent",
    ),
    (
        "update imagecandidates/finalizers",
        "asked by an admission plugin, never sent",
    ),
    (
        "update repaveplans/finalizers",
        "asked by an admission plugin, never sent",
    ),
];

/// Fails if the operator was refused a request, or has a right that it never used and that is not excused, or if one
/// that is excused was used after all.
pub async fn are_what_was_called(kube: &kube::Client, record: &Record) -> Result<()> {
    let roles = Api::<ClusterRole>::all(kube.clone());
    let mut given = BTreeSet::new();
    for name in ROLES {
        let role = roles.get(name).await.with_context(|| format!("ClusterRole {name}"))?;
        given.extend(role.rules.iter().flatten().flat_map(verbs));
    }
    // The right to ask whether one may is called create, though nothing is made.
    let called = record
        .requests
        .keys()
        .map(|kind| kind.to_string().replacen("review ", "create ", 1));
    let called: BTreeSet<String> = called.collect();
    ensure!(
        record.forbidden.is_empty(),
        "the API server forbade: {:?}",
        record.forbidden
    );
    let (unused, stale) = compare(&given, &called);
    ensure!(
        unused.is_empty(),
        "rights that the story did not use: {unused:?}; take them from the role, or say in e2e/src/rights.rs where they are used"
    );
    ensure!(
        stale.is_empty(),
        "excused in e2e/src/rights.rs, and used or not given: {stale:?}"
    );
    Ok(())
}

/// What is given and neither called nor excused; and what is excused though it was called or is not given.
fn compare(given: &BTreeSet<String>, called: &BTreeSet<String>) -> (Vec<String>, Vec<&'static str>) {
    let excused: BTreeSet<&str> = NOT_PLAYED.iter().map(|(right, _)| *right).collect();
    let unused = given
        .iter()
        .filter(|right| !called.contains(*right) && !excused.contains(right.as_str()));
    let stale = excused
        .iter()
        .filter(|right| called.contains(**right) || !given.contains(**right));
    (unused.cloned().collect(), stale.copied().collect())
}

/// `verb resource` of each combination; a group is not compared, because no resource here is in two.
fn verbs(rule: &PolicyRule) -> Vec<String> {
    let resources = rule.resources.iter().flatten();
    resources
        .flat_map(|resource| rule.verbs.iter().map(move |verb| format!("{verb} {resource}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_too_many_and_an_excuse_too_many_are_both_found() {
        let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
        let excused: Vec<&str> = NOT_PLAYED.iter().map(|(right, _)| *right).collect();
        let mut given = set(&excused);
        assert_eq!(compare(&given, &set(&[])), (vec![], vec![]));
        given.insert("list replicasets".to_owned());
        assert_eq!(compare(&given, &set(&[])).0, ["list replicasets"]);
        assert_eq!(compare(&given, &set(&["list replicasets"])), (vec![], vec![]));
        assert_eq!(
            compare(&given, &set(&["list replicasets", "delete jobs"])).1,
            ["delete jobs"]
        );
    }
}
