//! Who asked the API server for what, from its audit log.

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

/// Requests by verb and resource; watches apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// `patch deployments`, with how often.
    pub by_kind: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    verb: String,
    user: User,
    object_ref: Option<Object>,
    stage_timestamp: Timestamp,
    response_status: Option<Answer>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Object {
    resource: Option<String>,
    subresource: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    code: Option<u16>,
}

/// Requests of the operator between two moments.
pub fn of_operator(log: &Path, from: Timestamp, to: Timestamp) -> Result<Requests> {
    let file = File::open(log).with_context(|| format!("{} cannot be read", log.display()))?;
    let mut requests = Requests::default();
    for line in BufReader::new(file).lines() {
        let line = line?;
        if !line.contains("\"username\":\"repave\"") {
            continue;
        }
        // The last line may still be on its way.
        let Ok(entry) = serde_json::from_str::<Entry>(&line) else {
            continue;
        };
        if entry.user.username == "repave" && (from..=to).contains(&entry.stage_timestamp) {
            requests.count(&entry);
        }
    }
    Ok(requests)
}

impl Requests {
    fn count(&mut self, entry: &Entry) {
        let object = entry.object_ref.as_ref();
        let resource = object.and_then(|object| object.resource.as_deref()).unwrap_or("other");
        let mut kind = format!("{} {resource}", entry.verb);
        if let Some(subresource) = object.and_then(|object| object.subresource.as_deref()) {
            kind = format!("{kind}/{subresource}");
        }
        let code = entry
            .response_status
            .as_ref()
            .and_then(|answer| answer.code)
            .unwrap_or(0);
        if code >= 400 {
            kind = format!("{kind} -> {code}");
        }
        *self.by_kind.entry(kind).or_default() += 1;
    }

    fn sum(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let all = self.by_kind.iter().filter(|(kind, _)| wanted(kind));
        all.map(|(_, count)| count).sum()
    }

    /// All but watches and the leader's lease.
    pub fn all(&self) -> u64 {
        self.sum(|kind| !kind.starts_with("watch ") && !kind.contains(" leases"))
    }

    /// Those that change something, but for the leader's lease.
    pub fn writes(&self) -> u64 {
        let verbs = ["create ", "update ", "patch ", "delete "];
        let review = |kind: &str| kind.contains("accessreviews");
        self.sum(|kind| verbs.iter().any(|verb| kind.starts_with(verb)) && !kind.contains(" leases") && !review(kind))
    }

    /// `patch deployments 1.00, list pods 0.03`, the most first; per workload.
    pub fn per(&self, workloads: usize) -> String {
        let mut kinds: Vec<_> = self
            .by_kind
            .iter()
            .filter(|(kind, _)| !kind.starts_with("watch ") && !kind.contains(" leases"))
            .collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let per = |count: u64| float(count) / float(u64::try_from(workloads.max(1)).unwrap_or(u64::MAX));
        let parts: Vec<String> = kinds
            .into_iter()
            .take(8)
            .map(|(kind, count)| format!("{kind} {:.3}", per(*count)))
            .collect();
        parts.join(", ")
    }
}

/// A count as a number with a point.
pub fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_leases_and_reviews_are_no_writes() {
        let log = tempfile();
        let entry = |verb: &str, resource: &str, user: &str, second: u8| {
            format!(
                r#"{{"verb":"{verb}","user":{{"username":"{user}"}},"objectRef":{{"resource":"{resource}"}},"stageTimestamp":"2026-01-01T00:00:{second:02}.5Z","responseStatus":{{"code":200}}}}"#
            )
        };
        let lines = [
            entry("patch", "deployments", "repave", 1),
            entry("patch", "leases", "repave", 1),
            entry("watch", "deployments", "repave", 1),
            entry("create", "subjectaccessreviews", "repave", 1),
            entry("list", "pods", "bench", 1),
            entry("list", "pods", "repave", 9),
            r#"{"verb":"pa"#.to_owned(),
        ];
        std::fs::write(&log, lines.join("\n")).unwrap();
        let second = |n: i64| Timestamp::from_second(1_767_225_600 + n).unwrap();
        let requests = of_operator(&log, second(0), second(5)).unwrap();
        std::fs::remove_file(&log).unwrap();
        assert_eq!((requests.all(), requests.writes()), (2, 1), "{requests:?}");
        assert_eq!(
            requests.per(2),
            "create subjectaccessreviews 0.500, patch deployments 0.500"
        );
    }

    fn tempfile() -> std::path::PathBuf {
        std::env::temp_dir().join(format!("repave-audit-{}", std::process::id()))
    }
}
