//! Trivy: known vulnerabilities of the packages that it listed itself.
//!
//! Trivy says nothing when its database is years old, when it does not know the distribution, or when it found no
//! packages: all of that is asked for here. Must not let a settings or ignore file have an effect, and must not read
//! anything of the releases that were malicious.

use super::{
    Invocation, Parsed, ReadError,
    sbom::Inventory,
    scan::{self, Files, Gathered, MAX_OUTPUT, Worst, call},
};
use repave_core::{
    digest::Digest,
    purl::PackageUrl,
    report::{Finding, MAX_ALIASES, Severity},
};
use serde::Deserialize;
use std::{collections::BTreeSet, ffi::OsString, io::Read, path::Path};

const TOOL: &str = "Trivy";

/// The file that says how old the database is.
pub(super) const METADATA: &str = "db/metadata.json";

/// Schema of the result and of the database that are read.
const SCHEMA: u32 = 2;

/// GHSA-69fq-xp46-6x23: these releases carried malware.
const MALICIOUS: [&str; 3] = ["0.69.4", "0.69.5", "0.69.6"];

/// What both calls have: no network, no settings file (one in the current folder would be taken) and no other scan.
fn common(first: &[&str]) -> Vec<OsString> {
    let off = [
        "--config",
        "/dev/null",
        "--quiet",
        "--cache-backend",
        "memory",
        "--offline-scan",
        "--skip-db-update",
        "--skip-java-db-update",
        "--skip-version-check",
        "--disable-telemetry",
    ];
    first.iter().chain(&off).map(OsString::from).collect()
}

/// How the packages of a layout are listed.
pub(super) fn list(layout: &Path, sbom: &Path, home: &Path) -> Invocation {
    let mut args = common(&["image", "--format", "cyclonedx"]);
    args.extend(["--input".into(), layout.into(), "--output".into(), sbom.into()]);
    args.extend(["--cache-dir".into(), home.into()]);
    call("trivy", args, home, &[])
}

/// How a list is judged. Suppressed findings are shown, so that a suppression cannot go unnoticed.
pub(super) fn scan(files: &Files<'_>) -> Invocation {
    let mut args = common(&[
        "sbom",
        "--format",
        "json",
        "--list-all-pkgs",
        "--show-suppressed",
        "--ignorefile",
        "/dev/null",
        "--scanners",
        "vuln",
        "--exit-code",
        "0",
    ]);
    args.extend(["--cache-dir".into(), files.database.into()]);
    args.extend(["--output".into(), files.json.into(), files.sbom.into()]);
    call("trivy", args, files.home, &[])
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    schema_version: u32,
    trivy: Program,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    results: Vec<Scanned>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Program {
    version: String,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(rename = "OS")]
    os: Option<Os>,
    #[serde(rename = "ImageID")]
    image_id: Option<Digest>,
}

#[derive(Deserialize)]
struct Os {
    #[serde(rename = "Family", default)]
    family: String,
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "EOSL", default)]
    end_of_life: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Scanned {
    #[serde(default)]
    packages: Vec<serde::de::IgnoredAny>,
    #[serde(default, deserialize_with = "scan::gathered")]
    vulnerabilities: Vulnerabilities,
    #[serde(default)]
    experimental_modified_findings: Vec<serde::de::IgnoredAny>,
}

/// What is kept of the vulnerabilities.
#[derive(Default)]
struct Vulnerabilities {
    worst: Worst,
    /// Name and version.
    vulnerable: BTreeSet<(String, String)>,
}

impl Gathered for Vulnerabilities {
    type Item = Vulnerability;

    fn take(&mut self, found: Vulnerability) {
        self.worst.add(finding(&found));
        self.vulnerable.insert((found.pkg_name, found.installed_version));
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Vulnerability {
    #[serde(rename = "VulnerabilityID")]
    id: String,
    #[serde(rename = "VendorIDs", default)]
    vendor_ids: Vec<String>,
    pkg_name: String,
    #[serde(default)]
    pkg_identifier: Identifier,
    installed_version: String,
    #[serde(default)]
    fixed_version: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    title: String,
}

#[derive(Deserialize, Default)]
struct Identifier {
    #[serde(rename = "PURL", default)]
    purl: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Database {
    version: u32,
    updated_at: jiff::Timestamp,
}

fn untrusted(why: String) -> ReadError {
    ReadError::Untrusted { tool: TOOL, why }
}

/// Refuses the malicious releases.
fn reject_malicious_release(version: &str) -> Result<(), ReadError> {
    let number = version.trim_start_matches('v');
    let is = |bad: &str| {
        number
            .strip_prefix(bad)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '+']))
    };
    if MALICIOUS.iter().any(|bad| is(bad)) {
        return Err(untrusted(format!(
            "version {number} was malicious (GHSA-69fq-xp46-6x23): use another tools image and change every credential that this one could see"
        )));
    }
    Ok(())
}

/// Reads the result of one scan of `inventory` with the database that this metadata describes.
pub(super) fn read(json: impl Read, inventory: &Inventory, database: &[u8]) -> Result<Parsed, ReadError> {
    for (_, version) in inventory.tools.iter().filter(|(name, _)| name == "trivy") {
        reject_malicious_release(version)?;
    }
    let document: Document = scan::parse_stream(json, MAX_OUTPUT, TOOL, "JSON report")?;
    reject_malicious_release(&document.trivy.version)?;
    if document.schema_version != SCHEMA {
        return Err(untrusted(format!(
            "expected a report of schema {SCHEMA}, found {}",
            document.schema_version
        )));
    }
    if document.metadata.image_id != inventory.config {
        let said = |id: &Option<Digest>| id.as_ref().map_or_else(|| "none".to_owned(), Digest::to_string);
        let (expected, found) = (said(&inventory.config), said(&document.metadata.image_id));
        return Err(untrusted(format!(
            "expected a scan of image {expected}, found one of {found}"
        )));
    }
    let database: Database = scan::parse(database, MAX_OUTPUT, TOOL, "database's metadata.json")?;
    if database.version != SCHEMA {
        return Err(untrusted(format!(
            "expected a database of schema {SCHEMA}, found {}: renew the database image",
            database.version
        )));
    }
    parsed(document, &database)
}

fn parsed(document: Document, database: &Database) -> Result<Parsed, ReadError> {
    let packages: u64 = document.results.iter().map(|one| one.packages.len() as u64).sum();
    let os = document.metadata.os.filter(|os| !os.family.is_empty());
    let Some(os) = os else {
        return Err(untrusted(format!(
            "expected the operating system of {packages} packages, found none: they were not matched"
        )));
    };
    let mut parsed = Parsed {
        version: Some(document.trivy.version),
        content: Some(format!(
            "{} {}, database schema {}",
            os.family, os.name, database.version
        )),
        database_built: Some(database.updated_at),
        evaluated: packages,
        ..Parsed::default()
    };
    if os.end_of_life {
        parsed.findings.push(scan::end_of_life(&os.family, &os.name, ""));
    }
    let (mut worst, mut vulnerable) = (Worst::default(), BTreeSet::new());
    let mut suppressed = 0;
    for one in document.results {
        suppressed += one.experimental_modified_findings.len();
        vulnerable.extend(one.vulnerabilities.vulnerable);
        // Several results may name the same package.
        one.vulnerabilities
            .worst
            .into_findings()
            .for_each(|found| worst.add(found));
    }
    if suppressed > 0 {
        parsed.problems.push(format!(
            "{suppressed} findings were suppressed by a file that Trivy found: exceptions are declared in the policy or as a Waiver"
        ));
    }
    parsed.passed = packages.saturating_sub(vulnerable.len() as u64);
    parsed.findings.extend(worst.into_findings());
    Ok(parsed)
}

fn finding(found: &Vulnerability) -> Finding {
    let (name, version) = (&found.pkg_name, &found.installed_version);
    let fixed = Some(&found.fixed_version).filter(|fixed| !fixed.is_empty());
    let state = match (fixed, found.status.as_str()) {
        (Some(fixed), _) => format!("fixed in {fixed}"),
        (None, "will_not_fix") => "the distribution will not fix it".to_owned(),
        (None, "end_of_life") => "its release gets no fixes any more".to_owned(),
        (None, "fix_deferred" | "affected") => "not fixed yet".to_owned(),
        (None, _) => "no fix known".to_owned(),
    };
    let title = if found.title.is_empty() { "" } else { ": " };
    let aliases: BTreeSet<&String> = found.vendor_ids.iter().filter(|id| **id != found.id).collect();
    Finding {
        id: found.id.clone(),
        severity: severity(&found.severity),
        title: format!("{name} {version}: {state}{title}{}", found.title),
        subject: Some(format!("{name}@{version}")),
        remedy: fixed.map(|fixed| format!("update {name} to {fixed}")),
        reference: None,
        fixed_version: fixed.cloned(),
        package: found
            .pkg_identifier
            .purl
            .parse()
            .ok()
            .map(|package: PackageUrl| package.to_string()),
        aliases: aliases.into_iter().take(MAX_ALIASES).cloned().collect(),
        ..Finding::default()
    }
}

fn severity(word: &str) -> Severity {
    match word {
        "CRITICAL" => Severity::Critical,
        "HIGH" => Severity::High,
        "MEDIUM" => Severity::Medium,
        "LOW" => Severity::Low,
        _ => Severity::Unknown,
    }
}

#[cfg(test)]
mod tests;
