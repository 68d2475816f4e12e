//! From documents to what they take out of one report. Pure.
//!
//! Must not take out more than the statements say: where two findings share a name and a package and the statements
//! speak for one of them only, both count.

use super::{Document, suppression};
use crate::{
    report::{Finding, Report},
    waiver::{Kind, Pattern, Suppression},
};
use std::collections::BTreeSet;

/// What the documents take out of a report: one suppression per finding, by its id and its package. A finding without a
/// package always counts, because nothing says which statement is about it.
pub fn suppressions(documents: &[Document], report: &Report) -> Vec<Suppression> {
    let statements = || documents.iter().flat_map(|document| &document.statements);
    let named: BTreeSet<&str> = statements()
        .flat_map(|statement| std::iter::once(&statement.vulnerability.name).chain(&statement.vulnerability.aliases))
        .map(String::as_str)
        .collect();
    let mut taken = Vec::new();
    let mut counted: BTreeSet<(&str, &str)> = BTreeSet::new();
    for finding in report.findings.iter().filter(|f| ids(f).any(|id| named.contains(id))) {
        let Some(package) = finding.package.as_deref() else {
            continue;
        };
        match suppression(documents, finding, &report.image) {
            Some((document, _)) => taken.push((finding, package, document)),
            None => counted.extend(ids(finding).map(|id| (id, package))),
        }
    }
    taken
        .into_iter()
        .filter(|(finding, package, _)| !counted.contains(&(finding.id.as_str(), *package)))
        .map(|(finding, package, document)| Suppression {
            id: Pattern::exact(&finding.id),
            aliases: Vec::new(),
            package: Some(Pattern::exact(package)),
            subject: None,
            checks: vec![report.check.clone()],
            maximum_severity: None,
            kind: Kind::Vex {
                document: document.id().to_owned(),
            },
        })
        .collect()
}

fn ids(finding: &Finding) -> impl Iterator<Item = &str> {
    std::iter::once(finding.id.as_str()).chain(finding.aliases.iter().map(String::as_str))
}
