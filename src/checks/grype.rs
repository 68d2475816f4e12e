//! Grype: known vulnerabilities of the packages in an OCI layout.
//!
//! Grype's own report has no package count, so the same run writes a CycloneDX inventory too: no packages, or an
//! unknown distribution, is not "no vulnerabilities". Must not filter by fix state (the policy decides that) and must
//! not trust the database's age: its build time goes into the report and the operator judges it.

use super::{Invocation, PATH, Parsed, ReadError};
use crate::domain::{
    digest::Digest,
    report::{Finding, Severity},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::Path,
};

/// Most of each output that is read.
pub const MAX_OUTPUT: u64 = 64 * 1024 * 1024;

/// Where the tool image has the database.
pub const DATABASE: &str = "/var/lib/grype/db";

const TOOL: &str = "Grype";

/// What the policy may set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Fewer packages than this are an error.
    pub min_packages: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { min_packages: 1 }
    }
}

/// The files of one scan.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The OCI layout.
    pub layout: &'a Path,
    /// Where the report goes.
    pub json: &'a Path,
    /// Where the inventory goes.
    pub cyclonedx: &'a Path,
    /// A folder that may be written to.
    pub home: &'a Path,
    /// The folder with the database.
    pub database: &'a Path,
}

/// How Grype is called: offline, on a layout, writing both documents to files.
pub fn invocation(files: &Files<'_>) -> Invocation {
    let joined = |prefix: &str, path: &Path| {
        let mut text = OsString::from(prefix);
        text.push(path);
        text
    };
    let home = files.home;
    let env = [
        ("PATH", PATH.into()),
        ("HOME", home.into()),
        ("TMPDIR", home.into()),
        ("XDG_CACHE_HOME", home.join(".cache").into()),
        ("GRYPE_DB_CACHE_DIR", files.database.into()),
        ("GRYPE_DB_AUTO_UPDATE", "false".into()),
        ("GRYPE_CHECK_FOR_APP_UPDATE", "false".into()),
        // Its age is judged by the operator, against the policy.
        ("GRYPE_DB_VALIDATE_AGE", "false".into()),
    ];
    Invocation {
        program: "grype".into(),
        args: vec![
            joined("oci-dir:", files.layout),
            "-o".into(),
            joined("json=", files.json),
            "-o".into(),
            joined("cyclonedx-json=", files.cyclonedx),
        ],
        env: env
            .map(|(name, value): (&str, OsString)| (name.to_owned(), value))
            .into(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    matches: Vec<Match>,
    #[serde(default)]
    ignored_matches: Vec<serde::de::IgnoredAny>,
    #[serde(default)]
    alerts_by_package: Vec<PackageAlerts>,
    source: Source,
    #[serde(default)]
    distro: Distro,
    descriptor: Descriptor,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Match {
    vulnerability: Vulnerability,
    #[serde(default)]
    related_vulnerabilities: Vec<Related>,
    artifact: Package,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vulnerability {
    id: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    fix: Fix,
    #[serde(default)]
    known_exploited: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Related {
    id: String,
}

#[derive(Deserialize, Default)]
struct Fix {
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    #[serde(rename = "type", default)]
    kind: String,
}

#[derive(Deserialize)]
struct PackageAlerts {
    package: Package,
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
struct Alert {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Source {
    target: Target,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    manifest_digest: String,
}

#[derive(Deserialize, Default)]
struct Distro {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
}

#[derive(Deserialize)]
struct Descriptor {
    name: String,
    version: String,
    db: Database,
}

#[derive(Deserialize)]
struct Database {
    status: DatabaseStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DatabaseStatus {
    schema_version: String,
    built: jiff::Timestamp,
    valid: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inventory {
    bom_format: String,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(rename = "type")]
    kind: String,
}

fn untrusted(why: String) -> ReadError {
    ReadError::Untrusted { tool: TOOL, why }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, ReadError> {
    if bytes.len() as u64 > MAX_OUTPUT {
        return Err(ReadError::TooLarge {
            tool: TOOL,
            what,
            limit: MAX_OUTPUT,
        });
    }
    serde_json::from_slice(bytes).map_err(|error| ReadError::Malformed {
        tool: TOOL,
        why: format!("expected its {what}, found: {error}"),
    })
}

/// Reads both documents of one run about `image`.
pub fn read(json: &[u8], cyclonedx: &[u8], image: &Digest, options: &Options) -> Result<Parsed, ReadError> {
    let document: Document = parse(json, "JSON report")?;
    let inventory: Inventory = parse(cyclonedx, "CycloneDX inventory")?;
    trusted(&document, &inventory, image)?;
    let packages = inventory.components.iter().filter(|c| c.kind == "library").count() as u64;
    if packages < options.min_packages.max(1) {
        return Err(untrusted(format!(
            "expected at least {} packages, found {packages}: an image without a readable package database cannot be \
             scanned",
            options.min_packages.max(1)
        )));
    }
    let Distro { name, version } = &document.distro;
    if name.is_empty() {
        return Err(ReadError::Unsupported {
            tool: TOOL,
            why: format!("it has {packages} packages but no known distribution: is /etc/os-release missing?"),
        });
    }
    let mut parsed = Parsed {
        content: Some(format!(
            "{name} {version}, database {}",
            document.descriptor.db.status.schema_version
        )),
        version: Some(document.descriptor.version.clone()),
        database_built: Some(document.descriptor.db.status.built),
        evaluated: packages,
        not_applicable: document.ignored_matches.len() as u64,
        ..Parsed::default()
    };
    alerts(&document, &mut parsed);
    let vulnerable = findings(&document.matches, &mut parsed);
    parsed.passed = packages.saturating_sub(vulnerable);
    Ok(parsed)
}

/// The documents must be Grype's, with a valid database, about the image that was asked for.
fn trusted(document: &Document, inventory: &Inventory, image: &Digest) -> Result<(), ReadError> {
    let found = &document.source.target.manifest_digest;
    if found != image.as_str() {
        return Err(untrusted(format!("expected a scan of {image}, found one of {found:?}")));
    }
    if document.descriptor.name != "grype" || inventory.bom_format != "CycloneDX" {
        return Err(untrusted(format!(
            "expected documents of grype in CycloneDX, found {:?} and {:?}",
            document.descriptor.name, inventory.bom_format
        )));
    }
    let status = &document.descriptor.db.status;
    if !status.valid || !status.schema_version.starts_with("v6.") {
        return Err(untrusted(format!(
            "expected a valid database of schema v6, found schema {:?}, valid={}: renew the database image",
            status.schema_version, status.valid
        )));
    }
    Ok(())
}

/// Packages that Grype could not judge are a problem of the run; an outlived distribution is one of the image.
fn alerts(document: &Document, parsed: &mut Parsed) {
    let mut outlived = None;
    for PackageAlerts { package, alerts } in &document.alerts_by_package {
        for alert in alerts {
            if alert.kind == "distro-eol" {
                outlived.get_or_insert(&alert.message);
            } else {
                let Package { name, version, .. } = package;
                let Alert { kind, message } = alert;
                parsed
                    .problems
                    .push(format!("{name} {version} was not judged ({kind}): {message}"));
            }
        }
    }
    let Distro { name, version } = &document.distro;
    parsed.findings.extend(outlived.map(|message| Finding {
        id: "distro-eol".into(),
        severity: Severity::High,
        title: format!("{name} {version} gets no security updates any more: {message}"),
        subject: Some(format!("{name} {version}")),
        remedy: Some("move to a supported release".into()),
        reference: None,
        ..Finding::default()
    }));
}

/// One finding per vulnerability and package, the worst severity of its matches; how many packages have one.
fn findings(matches: &[Match], parsed: &mut Parsed) -> u64 {
    let mut worst: BTreeMap<(String, String), Finding> = BTreeMap::new();
    let mut vulnerable = BTreeSet::new();
    for found in matches {
        let finding = finding(found);
        vulnerable.insert((&found.artifact.name, &found.artifact.version, &found.artifact.kind));
        let key = (finding.id.clone(), finding.subject.clone().unwrap_or_default());
        match worst.get(&key) {
            Some(known) if known.severity >= finding.severity => {}
            Some(_) | None => {
                worst.insert(key, finding);
            }
        }
    }
    parsed.findings.extend(worst.into_values());
    vulnerable.len() as u64
}

fn finding(found: &Match) -> Finding {
    let Package { name, version, kind } = &found.artifact;
    let fixed = Some(&found.vulnerability.fix)
        .filter(|fix| fix.state == "fixed")
        .and_then(|fix| fix.versions.first());
    let state = match (fixed, found.vulnerability.fix.state.as_str()) {
        (Some(fixed), _) => format!("fixed in {fixed}"),
        (None, "wont-fix") => "the distribution will not fix it".to_owned(),
        (None, "not-fixed") => "not fixed yet".to_owned(),
        (None, _) => "no fix known".to_owned(),
    };
    let exploited = if found.vulnerability.known_exploited.is_empty() {
        ""
    } else {
        ", known to be exploited"
    };
    let cve = found.related_vulnerabilities.iter().map(|related| &related.id);
    Finding {
        id: found.vulnerability.id.clone(),
        severity: severity(&found.vulnerability.severity),
        title: format!("{name} {version} ({kind}): {state}{exploited}"),
        subject: Some(format!("{name}@{version}")),
        remedy: fixed.map(|fixed| format!("update {name} to {fixed}")),
        reference: cve.filter(|id| **id != found.vulnerability.id).min().cloned(),
        fixed_version: fixed.cloned(),
        ..Finding::default()
    }
}

fn severity(word: &str) -> Severity {
    match word {
        "Critical" => Severity::Critical,
        "High" => Severity::High,
        "Medium" => Severity::Medium,
        "Low" | "Negligible" => Severity::Low,
        _ => Severity::Unknown,
    }
}

#[cfg(test)]
mod tests;
