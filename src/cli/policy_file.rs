//! Policies from a file: ValidationPolicy manifests and the ConfigMaps that they refer to, as the cluster would take them.
//!
//! Must not guess: a kind, field or value that the cluster would refuse is refused here, by its name.

use super::policy_schema;
use crate::{
    api::{self, ValidationPolicy, ValidationPolicySpec, image_candidate::PolicySnapshot, validation_policy::Check},
    domain::report::bounded,
};
use kube::CustomResourceExt as _;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Largest policy file.
const MAX_FILE: u64 = 4 << 20;
/// As many as a BaseImage may name.
const MAX_POLICIES: usize = 4;

/// Why policies cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error("cannot read the policy file {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than any policy.
    #[error("{0}: expected a policy of at most {MAX_FILE} bytes")]
    TooLarge(PathBuf),
    /// It is not YAML.
    #[error("the policy is not YAML that can be read: {0}")]
    Yaml(String),
    /// A document is of another kind.
    #[error(
        "expected ValidationPolicy (repave.dev/v1alpha1) and ConfigMap documents, found {0}: take it out of the file"
    )]
    Kind(String),
    /// The cluster would refuse it.
    #[error("{name}: {}", .said.join("; "))]
    Refused {
        /// Kind and name.
        name: String,
        /// Everything that is wrong.
        said: Vec<String>,
    },
    /// There are none, or too many.
    #[error("expected 1 to {MAX_POLICIES} ValidationPolicy documents, found {0}")]
    Count(usize),
}

/// The policies of one or several files.
#[derive(Debug, Clone, PartialEq)]
pub struct Policies {
    /// Each one with the files that its checks refer to, as far as they are there.
    pub snapshots: Vec<PolicySnapshot>,
    /// ConfigMaps and keys that are referred to and not in the files: by policy and check.
    pub missing: BTreeMap<(String, String), String>,
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// The schema of a policy as it is installed.
pub fn schema() -> Value {
    let definition = serde_json::to_value(ValidationPolicy::crd()).unwrap_or_default();
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec");
    schema.cloned().unwrap_or_default()
}

/// Reads the files together: a ConfigMap may be in another one than its policy.
pub fn read(paths: &[PathBuf]) -> Result<Policies, Error> {
    let mut documents = Vec::new();
    for path in paths {
        documents.extend(documents_of(&text(path)?)?);
    }
    policies(&documents)
}

/// Reads one text, for tests of what uses policies.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn parse(text: &str) -> Result<Policies, Error> {
    policies(&documents_of(text)?)
}

fn text(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(Error::TooLarge(path.to_owned()));
    }
    Ok(text)
}

fn documents_of(text: &str) -> Result<Vec<Value>, Error> {
    serde_saphyr::from_multiple(text).map_err(|error| Error::Yaml(cut(&error.to_string())))
}

fn cut(text: &str) -> String {
    text.lines()
        .map(bounded)
        .collect::<Vec<_>>()
        .join("\n")
        .chars()
        .take(1000)
        .collect()
}

fn policies(documents: &[Value]) -> Result<Policies, Error> {
    let (mut specs, mut maps) = (Vec::new(), BTreeMap::new());
    for document in documents {
        let word = |at: &str| {
            document
                .pointer(at)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let name = word("/metadata/name");
        match (word("/apiVersion").as_str(), word("/kind").as_str()) {
            (version, "ValidationPolicy") if version == format!("{}/v1alpha1", api::GROUP) => {
                specs.push((policy(document, &name)?, name));
            }
            ("v1", "ConfigMap") => {
                let map: ConfigMap =
                    serde_json::from_value(document.clone()).map_err(|error| refused("ConfigMap", &name, &error))?;
                maps.insert(name, map.data);
            }
            (version, kind) => return Err(Error::Kind(cut(&format!("{kind:?} of {version:?}")))),
        }
    }
    if specs.is_empty() || specs.len() > MAX_POLICIES {
        return Err(Error::Count(specs.len()));
    }
    let mut missing = BTreeMap::new();
    let snapshots = specs
        .into_iter()
        .map(|(spec, name)| snapshot(name, spec, &maps, &mut missing))
        .collect();
    Ok(Policies { snapshots, missing })
}

fn refused(kind: &str, name: &str, why: &dyn std::fmt::Display) -> Error {
    Error::Refused {
        name: cut(&format!("{kind} {name:?}")),
        said: vec![cut(&why.to_string())],
    }
}

fn policy(document: &Value, name: &str) -> Result<ValidationPolicySpec, Error> {
    let mut said = Vec::new();
    if name.is_empty() {
        said.push("metadata.name: required, found nothing".to_owned());
    }
    let known = ["apiVersion", "kind", "metadata", "spec"];
    let keys = document.as_object().into_iter().flat_map(|map| map.keys());
    said.extend(
        keys.filter(|key| !known.contains(&key.as_str()))
            .map(|key| format!("{}: unknown field", bounded(key))),
    );
    let nothing = Value::Null;
    let spec = document.get("spec").unwrap_or(&nothing);
    said.extend(policy_schema::violations(spec, &schema(), "spec"));
    if !said.is_empty() {
        return Err(Error::Refused {
            name: cut(&format!("ValidationPolicy {name:?}")),
            said,
        });
    }
    serde_json::from_value(spec.clone()).map_err(|error| refused("ValidationPolicy", name, &error))
}

type Maps = BTreeMap<String, BTreeMap<String, String>>;

fn snapshot(
    name: String,
    spec: ValidationPolicySpec,
    maps: &Maps,
    missing: &mut BTreeMap<(String, String), String>,
) -> PolicySnapshot {
    let mut files = BTreeMap::new();
    for check in &spec.checks {
        let (own, lacking) = files_of(check, maps);
        if let Some(lacking) = lacking {
            missing.insert((name.clone(), check.name.clone()), lacking);
        }
        if !own.is_empty() {
            files.insert(check.name.clone(), own);
        }
    }
    PolicySnapshot { name, spec, files }
}

fn files_of(check: &Check, maps: &Maps) -> (BTreeMap<String, String>, Option<String>) {
    let (mut own, mut lacking) = (check.inline_files(), None);
    for (name, at, default) in check.file_references() {
        let key = at.key.as_deref().unwrap_or(default);
        match maps.get(&at.name).and_then(|map| map.get(key)) {
            Some(text) => drop(own.insert(name, text.clone())),
            None => {
                lacking = Some(format!(
                    "ConfigMap {:?} with key {key:?} is not in the policy file: add it as another document",
                    at.name
                ));
            }
        }
    }
    (own, lacking)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(spec: &str) -> String {
        format!("apiVersion: repave.dev/v1alpha1\nkind: ValidationPolicy\nmetadata: {{name: p}}\nspec: {spec}\n")
    }

    fn refusal(spec: &str) -> String {
        parse(&manifest(spec)).unwrap_err().to_string()
    }

    #[test]
    fn a_policy_with_its_config_map_is_read_as_the_operator_would_keep_it() {
        let policy =
            manifest("{checks: [{name: works, goss: {gossfileRef: {name: tests}}}, {name: hard, native: {}}]}");
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tests}\ndata: {goss.yaml: 'file: {}'}\n";
        let whole = parse(&format!("{policy}---\n{map}---\n")).unwrap();
        assert_eq!(whole.snapshots[0].files["works"]["goss.yaml"], "file: {}");
        assert!(whole.missing.is_empty());
        let alone = parse(&policy).unwrap();
        let missing = &alone.missing[&("p".to_owned(), "works".to_owned())];
        assert!(missing.contains("\"tests\" with key \"goss.yaml\""), "{missing}");
    }

    #[test]
    fn what_the_cluster_refuses_is_refused_here_with_the_same_sentence() {
        for (spec, says) in [
            (
                "{checks: []}",
                "checks is empty: a policy without checks would let everything through",
            ),
            ("{checks: [{name: a}]}", "each check names exactly one of native, goss"),
            (
                "{checks: [{name: a, native: {}, goss: {gossfile: x}}]}",
                "each check names exactly one of",
            ),
            ("{checks: [{name: a, goss: {}}]}", "goss names exactly one of gossfile"),
            (
                "{checks: [{name: a, goss: {gossfile: x, vars: y, varsRef: {name: z}}}]}",
                "at most one of vars",
            ),
            (
                "{checks: [{name: a, native: {}, timeout: 2h}]}",
                "timeout is between 1s and 1h",
            ),
            (
                "{checks: [{name: a, container: {image: x, command: [y]}}]}",
                "must name a digest",
            ),
            (
                "{checks: [{name: a, native: {suidAlowed: [/x]}}]}",
                "spec.checks[0].native.suidAlowed: unknown field",
            ),
            (
                "{checks: [{name: a, native: {}, allow: {severe: 1}}]}",
                "spec.checks[0].allow.severe: unknown field",
            ),
            (
                "{checks: [{name: a, native: {}, allow: {high: -1}}]}",
                "expected at least 0, found -1",
            ),
            (
                "{checks: [{name: a, native: {}, allow: {high: \"1\"}}]}",
                "expected integer, found \"1\"",
            ),
            (
                "{checks: [{name: A, native: {}}]}",
                "spec.checks[0].name: expected text like",
            ),
            ("{checks: [{native: {}}]}", "spec.checks[0].name: required"),
            (
                "{checks: [{name: a, native: {}}, {name: a, native: {}}]}",
                "another entry has the same name",
            ),
            ("{checks: [{name: a, native: }]}", "found null; leave the field out"),
            (
                "{checks: [{name: a, native: {}}], enforcement: Never}",
                "expected one of \"Enforce\", \"Audit\"",
            ),
        ] {
            assert!(refusal(spec).contains(says), "{spec}: {}", refusal(spec));
        }
    }

    #[test]
    fn other_kinds_and_no_policy_at_all_are_refused_by_name() {
        let other = parse("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n")
            .unwrap_err()
            .to_string();
        assert!(other.contains("\"Secret\" of \"v1\""), "{other}");
        assert!(parse("").unwrap_err().to_string().contains("found 0"));
        assert!(matches!(parse("a: [").unwrap_err(), Error::Yaml(_)));
        let twice = manifest("{checks: [{name: a, name: b, native: {}}]}");
        assert!(matches!(parse(&twice).unwrap_err(), Error::Yaml(_)));
    }
}
