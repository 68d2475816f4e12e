//! Grype: known vulnerabilities of the packages that Syft listed.
//!
//! Must not filter by fix state (the policy decides that) and must not judge the database's age: its build time goes
//! into the report and the gate judges it. What Grype could not match (a package without a known distribution) is a
//! problem of the run.

use super::{
    Invocation, Parsed, ReadError,
    sbom::Inventory,
    scanner::{self, Files, Gathered, MAX_OUTPUT, Worst, call, joined},
};
use repave_core::{
    digest::Digest,
    purl::PackageUrl,
    report::{Finding, MAX_ALIASES, Severity},
};
use serde::Deserialize;
use std::{collections::BTreeSet, io::Read, path::Path};

const TOOL: &str = "Grype";

/// How Syft is called: on a layout, packages only (with the files an SBOM of a base image is four times as large), in
/// the newest version of CycloneDX that other tools read.
pub(super) fn list(layout: &Path, sbom: &Path, home: &Path) -> Invocation {
    let args = vec![
        "scan".into(),
        joined("oci-dir:", layout),
        "-o".into(),
        joined("cyclonedx-json@1.6=", sbom),
        "--select-catalogers".into(),
        "-file".into(),
        "--quiet".into(),
    ];
    call("syft", args, home, &[("SYFT_CHECK_FOR_APP_UPDATE", "false".into())])
}

/// How Grype is called: offline, on a list of packages.
pub(super) fn scan(files: &Files<'_>) -> Invocation {
    let args = vec![
        joined("sbom:", files.sbom),
        "-o".into(),
        joined("json=", files.json),
        "--quiet".into(),
    ];
    let own = [
        ("GRYPE_DB_CACHE_DIR", files.database.into()),
        ("GRYPE_DB_AUTO_UPDATE", "false".into()),
        ("GRYPE_CHECK_FOR_APP_UPDATE", "false".into()),
        // Its age is judged by the gate, against the policy.
        ("GRYPE_DB_VALIDATE_AGE", "false".into()),
    ];
    call("grype", args, files.home, &own)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(deserialize_with = "scanner::gathered")]
    matches: Matches,
    #[serde(default)]
    ignored_matches: Vec<serde::de::IgnoredAny>,
    #[serde(default)]
    alerts_by_package: Vec<PackageAlerts>,
    source: Source,
    #[serde(default)]
    distro: Distro,
    descriptor: Descriptor,
}

/// What is kept of the matches.
#[derive(Default)]
struct Matches {
    worst: Worst,
    /// Name, version and type.
    vulnerable: BTreeSet<(String, String, String)>,
}

impl Gathered for Matches {
    type Item = Match;

    fn take(&mut self, found: Match) {
        self.worst.add(finding(&found));
        let Package {
            name, version, kind, ..
        } = found.artifact;
        self.vulnerable.insert((name, version, kind));
    }
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
    #[serde(default)]
    epss: Vec<Epss>,
    #[serde(default)]
    advisories: Vec<Related>,
}

#[derive(Deserialize)]
struct Epss {
    epss: f64,
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
    #[serde(default)]
    purl: String,
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

fn untrusted(why: String) -> ReadError {
    ReadError::Untrusted { tool: TOOL, why }
}

/// Reads the result of one scan of `inventory`, which must be that of `image`.
pub(super) fn read(json: impl Read, inventory: &Inventory, image: &Digest) -> Result<Parsed, ReadError> {
    let document: Document = scanner::parse_stream(json, MAX_OUTPUT, TOOL, "JSON report")?;
    trusted(&document, image)?;
    let Distro { name, version } = &document.distro;
    if name.is_empty() {
        return Err(untrusted(format!(
            "expected the distribution of {} packages, found none: they were not matched",
            inventory.packages()
        )));
    }
    let mut parsed = Parsed {
        content: Some(format!(
            "{name} {version}, database {}",
            document.descriptor.db.status.schema_version
        )),
        version: Some(document.descriptor.version.clone()),
        database_built: Some(document.descriptor.db.status.built),
        evaluated: inventory.packages(),
        not_applicable: document.ignored_matches.len() as u64,
        ..Parsed::default()
    };
    alerts(&document, &mut parsed);
    let Matches { worst, vulnerable } = document.matches;
    parsed.findings.extend(worst.into_findings());
    parsed.passed = inventory.packages().saturating_sub(vulnerable.len() as u64);
    Ok(parsed)
}

/// The document must be Grype's, with a valid database, about the image that was asked for.
fn trusted(document: &Document, image: &Digest) -> Result<(), ReadError> {
    let found = &document.source.target.manifest_digest;
    if found != image.as_str() {
        return Err(untrusted(format!("expected a scan of {image}, found one of {found:?}")));
    }
    if document.descriptor.name != "grype" {
        return Err(untrusted(format!(
            "expected a document of grype, found one of {:?}",
            document.descriptor.name
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
    parsed
        .findings
        .extend(outlived.map(|message| scanner::end_of_life(name, version, &format!(": {message}"))));
}

fn finding(found: &Match) -> Finding {
    let Package {
        name,
        version,
        kind,
        purl,
    } = &found.artifact;
    let fixed = Some(&found.vulnerability.fix)
        .filter(|fix| fix.state == "fixed")
        .and_then(|fix| fix.versions.first());
    let state = match (fixed, found.vulnerability.fix.state.as_str()) {
        (Some(fixed), _) => format!("fixed in {fixed}"),
        (None, "wont-fix") => "the distribution will not fix it".to_owned(),
        (None, "not-fixed") => "not fixed yet".to_owned(),
        (None, _) => "no fix known".to_owned(),
    };
    let vulnerability = &found.vulnerability;
    let known_exploited = !vulnerability.known_exploited.is_empty();
    let exploited = if known_exploited { ", known to be exploited" } else { "" };
    let aliases = aliases(found);
    Finding {
        id: vulnerability.id.clone(),
        severity: severity(&vulnerability.severity),
        title: format!("{name} {version} ({kind}): {state}{exploited}"),
        subject: Some(format!("{name}@{version}")),
        remedy: fixed.map(|fixed| format!("update {name} to {fixed}")),
        reference: aliases.first().cloned(),
        fixed_version: fixed.cloned(),
        package: purl.parse().ok().map(|package: PackageUrl| package.to_string()),
        epss: vulnerability
            .epss
            .iter()
            .filter_map(|one| scanner::hundredths(one.epss))
            .max(),
        known_exploited,
        aliases,
    }
}

/// Other names of a vulnerability, the CVE of a GHSA first.
fn aliases(found: &Match) -> Vec<String> {
    let others = found
        .related_vulnerabilities
        .iter()
        .chain(&found.vulnerability.advisories)
        .map(|related| &related.id)
        .filter(|id| **id != found.vulnerability.id && !id.is_empty());
    let unique: BTreeSet<&String> = others.collect();
    unique.into_iter().take(MAX_ALIASES).cloned().collect()
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
