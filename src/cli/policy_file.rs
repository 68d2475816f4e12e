//! Policies from a file: ValidationPolicy manifests, the ConfigMaps that they refer to and Waivers, as the cluster would
//! take them.
//!
//! Must not guess: a kind, field or value that the cluster would refuse is refused here, by its name.

use super::policy_schema;
use crate::exceptions::MAX_WAIVERS;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResourceExt as _;
use repave_api::{
    ValidationPolicy, ValidationPolicySpec, Waiver, image_candidate::PolicySnapshot, validation_policy::Check,
};
use repave_core::report::bounded;
use repave_policy::{InvalidRule, read_rules_alone};
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
/// What to do where there is no policy.
const ADD: &str = "add a document with apiVersion: repave.dev/v1alpha1, kind: ValidationPolicy, metadata.name and \
                   spec.checks, such as config/samples/validationpolicy.yaml";

/// Why policies cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file. The cause is told in the sentence, and not once more as its source.
    #[error(
        "cannot read the policy file {path} ({why}): name a file with {option}; several with {option} a.yaml {option} b.yaml"
    )]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
        /// The option that named it.
        option: &'static str,
    },
    /// There is nothing in it.
    #[error("{0} is empty: {ADD}")]
    Empty(PathBuf),
    /// What is wrong with the whole of it.
    #[error("{files}: {why}")]
    In {
        /// Which.
        files: String,
        /// What.
        why: String,
    },
    /// It is larger than any policy.
    #[error("{0}: expected a policy of at most {MAX_FILE} bytes")]
    TooLarge(PathBuf),
    /// It is not YAML.
    #[error("the policy is not YAML that can be read: {0}")]
    Yaml(String),
    /// A document is of another kind.
    #[error(
        "expected ValidationPolicy and Waiver (repave.dev/v1alpha1) and ConfigMap documents, found {0}: take it out of the file"
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
    #[error("expected 1 to {MAX_POLICIES} ValidationPolicy documents, found {0}: {next}", next = if *.0 == 0 { ADD } else { "take some out" })]
    Count(usize),
    /// There are too many waivers.
    #[error("expected at most {MAX_WAIVERS} Waiver documents, as many as the operator reads; found {0}")]
    Waivers(usize),
}

/// The policies of one or several files.
#[derive(Debug, Clone, PartialEq)]
pub struct Policies {
    /// Each one with the files that its checks refer to, as far as they are there.
    pub snapshots: Vec<PolicySnapshot>,
    /// ConfigMaps and keys that are referred to and not in the files: by policy and check.
    pub missing: BTreeMap<(String, String), String>,
    /// The waivers, as if they were created now, unless they say earlier.
    pub waivers: Vec<Waiver>,
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

/// The definition of a waiver as it is installed.
pub fn waiver_definition() -> Value {
    let definition = serde_json::to_value(Waiver::crd()).unwrap_or_default();
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema");
    schema.cloned().unwrap_or_default()
}

/// Reads the files together: a ConfigMap may be in another one than its policy. `option` is what named them.
pub fn read(paths: &[PathBuf], option: &'static str, now: Timestamp) -> Result<Policies, Error> {
    let mut documents = Vec::new();
    for path in paths {
        let more = documents_of(&text(path, option)?).map_err(|error| within(std::slice::from_ref(path), error))?;
        if more.iter().all(Value::is_null) {
            return Err(Error::Empty(path.clone()));
        }
        documents.extend(more);
    }
    policies(&documents, now).map_err(|error| within(paths, error))
}

/// Names the files where the error itself says not what it is about.
fn within(paths: &[PathBuf], error: Error) -> Error {
    let is_named = match &error {
        Error::Yaml(_) | Error::Kind(_) | Error::Count(_) | Error::Waivers(_) => false,
        Error::File { .. } | Error::Empty(_) | Error::In { .. } | Error::TooLarge(_) | Error::Refused { .. } => true,
    };
    if is_named {
        return error;
    }
    let files: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    Error::In {
        files: files.join(", "),
        why: error.to_string(),
    }
}

/// Reads one text as of the same moment always.
#[cfg(feature = "fuzzing")]
pub fn parse(text: &str) -> Result<Policies, Error> {
    policies(&documents_of(text)?, Timestamp::UNIX_EPOCH)
}

fn text(path: &Path, option: &'static str) -> Result<String, Error> {
    let failed = |why: std::io::Error| Error::File {
        path: path.to_owned(),
        why: why.to_string(),
        option,
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

fn policies(documents: &[Value], now: Timestamp) -> Result<Policies, Error> {
    let (mut specs, mut maps, mut waivers) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
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
            (version, "ValidationPolicy") if version == format!("{}/v1alpha1", repave_api::GROUP) => {
                specs.push((policy(document, &name)?, name));
            }
            (version, "Waiver") if version == format!("{}/v1alpha1", repave_api::GROUP) => {
                let read = waiver(document, &name, now)?;
                if waivers.insert(name.clone(), read).is_some() {
                    return Err(refused("Waiver", &name, &"it is there twice: take one out"));
                }
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
    if waivers.len() > MAX_WAIVERS {
        return Err(Error::Waivers(waivers.len()));
    }
    let mut missing = BTreeMap::new();
    let snapshots: Vec<PolicySnapshot> = specs
        .into_iter()
        .map(|(spec, name)| snapshot(name, spec, &maps, &mut missing))
        .collect();
    for policy in &snapshots {
        // The operator stops the BaseImage with the same words.
        read_rules_alone(policy).map_err(|InvalidRule { rule, why, .. }| {
            refused("ValidationPolicy", &policy.name, &format!("spec.rules {rule:?}: {why}"))
        })?;
    }
    Ok(Policies {
        snapshots,
        missing,
        waivers: waivers.into_values().collect(),
    })
}

fn refused(kind: &str, name: &str, why: &dyn std::fmt::Display) -> Error {
    Error::Refused {
        name: cut(&format!("{kind} {name:?}")),
        said: vec![cut(&why.to_string())],
    }
}

/// What is wrong with a manifest around its spec, and with its spec by this schema.
fn violations(document: &Value, name: &str, known: &[&str], schema: &Value) -> Vec<String> {
    let mut said = Vec::new();
    if name.is_empty() {
        said.push("metadata.name: required, found nothing".to_owned());
    }
    let keys = document.as_object().into_iter().flat_map(|map| map.keys());
    said.extend(
        keys.filter(|key| !known.contains(&key.as_str()))
            .map(|key| format!("{}: unknown field", bounded(key))),
    );
    let spec = document.get("spec").unwrap_or(&Value::Null);
    said.extend(policy_schema::violations(spec, schema, "spec"));
    said
}

fn policy(document: &Value, name: &str) -> Result<ValidationPolicySpec, Error> {
    let said = violations(document, name, &["apiVersion", "kind", "metadata", "spec"], &schema());
    if !said.is_empty() {
        return Err(Error::Refused {
            name: cut(&format!("ValidationPolicy {name:?}")),
            said,
        });
    }
    let spec = document.get("spec").cloned().unwrap_or_default();
    serde_json::from_value(spec).map_err(|error| refused("ValidationPolicy", name, &error))
}

/// A waiver; one that was exported from a cluster keeps its time of creation, on which its longest life depends.
fn waiver(document: &Value, name: &str, now: Timestamp) -> Result<Waiver, Error> {
    let definition = waiver_definition();
    let schema = definition.pointer("/properties/spec").cloned().unwrap_or_default();
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let mut said = violations(document, name, &known, &schema);
    said.extend(policy_schema::broken_rules(document, &definition, "Waiver"));
    if !said.is_empty() {
        return Err(Error::Refused {
            name: cut(&format!("Waiver {name:?}")),
            said,
        });
    }
    let mut document = document.clone();
    // How it stood in a cluster is of no interest.
    document.as_object_mut().map(|fields| fields.remove("status"));
    let mut waiver: Waiver = serde_json::from_value(document).map_err(|error| refused("Waiver", name, &error))?;
    let created = waiver.metadata.creation_timestamp.take();
    waiver.metadata.creation_timestamp = Some(Time(created.map_or(now, |time| time.0.min(now))));
    Ok(waiver)
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
        let (own, missing_results) = files_of(check, maps);
        if let Some(missing_results) = missing_results {
            missing.insert((name.clone(), check.name.clone()), missing_results);
        }
        if !own.is_empty() {
            files.insert(check.name.clone(), own);
        }
    }
    PolicySnapshot { name, spec, files }
}

fn files_of(check: &Check, maps: &Maps) -> (BTreeMap<String, String>, Option<String>) {
    let (mut own, mut missing_results) = (check.inline_files(), None);
    for (name, at, default) in check.file_references() {
        let key = at.key.as_deref().unwrap_or(default);
        match maps.get(&at.name).and_then(|map| map.get(key)) {
            Some(text) => drop(own.insert(name, text.clone())),
            None => {
                missing_results = Some(format!(
                    "ConfigMap {:?} with key {key:?} is not in the policy file: add it as another document",
                    at.name
                ));
            }
        }
    }
    (own, missing_results)
}

#[cfg(test)]
mod tests;
