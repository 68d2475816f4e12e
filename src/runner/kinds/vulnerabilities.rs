//! `runner vulnerabilities`: lists the packages of an OCI layout (or takes a kept list) and scans the list, offline.
//!
//! The list goes with the report. Must not scan without a database that says how old it is, and must not report about
//! another image than the one it was asked about.

use super::{
    bench::{Bench, Failure, unwritten},
    fixtures,
};
use crate::{
    check::{Common, Examined, RunRecord, Scratch, open, read_file},
    frame::Attached,
};
use repave_checks::{
    Parsed, ReadError,
    sbom::{self, Inventory, MAX_SBOM, MEDIA_TYPE, NAME},
    scanner::{Files, Options, Scanner},
};
use repave_core::{digest::Digest, report::ToolName};
use serde::Deserialize;
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

const MAX_DOCUMENT: u64 = 4 * 1024 * 1024;

/// `repave runner vulnerabilities`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Which scanner judges.
    #[arg(long, value_enum, default_value = "grype")]
    scanner: Scanner,
    /// The OCI layout whose packages are listed.
    #[arg(long, required_unless_present = "sbom", conflicts_with = "sbom")]
    layout: Option<PathBuf>,
    /// A list of packages that was kept: the image itself is not needed.
    #[arg(long)]
    sbom: Option<PathBuf>,
    /// The folder with the vulnerability database; where the tools image may have one, unless named.
    #[arg(long)]
    database: Option<PathBuf>,
    /// What the report calls the database: the digest of its image.
    #[arg(long)]
    database_id: Option<Digest>,
    /// The folders with the programs, written as PATH is; the PATH of tools, unless named.
    #[arg(long)]
    programs: Option<OsString>,
}

/// Runs the check.
pub async fn run(args: &Args) -> Examined {
    let mut known = RunRecord::default();
    let read = examine(args, &mut known).await;
    args.common.examined(args.scanner.tool(), known, read)
}

async fn examine(args: &Args, known: &mut RunRecord) -> Result<Parsed, ReadError> {
    let tool = args.scanner.name();
    let options: Options = args.common.options(tool)?;
    let scratch = args.common.scratch(tool)?;
    let database = database(args)?;
    let sbom = match (&args.layout, &args.sbom) {
        (Some(layout), _) => list(args, layout, &scratch, known).await?,
        (None, Some(kept)) => kept.clone(),
        (None, None) => return Err(crashed(tool, "neither --layout nor --sbom was given".to_owned())),
    };
    let bytes = read_file(&sbom, MAX_SBOM, tool, "list of packages")?;
    let inventory = sbom::read(&bytes, tool)?;
    about(args, &inventory)?;
    let kept = Attached::pack(NAME, MEDIA_TYPE, &bytes);
    known
        .attached
        .push(kept.map_err(|error| crashed(tool, format!("its list of packages cannot be packed: {error}")))?);
    inventory.scannable(options.min_packages, tool)?;
    let json = scratch.path().join("report.json");
    let files = Files {
        sbom: &sbom,
        json: &json,
        home: scratch.path(),
        database: &database,
    };
    let mut invocation = args.scanner.scan(&files);
    invocation.program = program(args, args.scanner.program());
    let done = args.common.capture(tool, &invocation, 1024 * 1024, known).await?;
    if done.ended.exit_code() != Some(0) {
        return Err(done.crashed(tool));
    }
    let metadata = match args.scanner {
        Scanner::Grype => Vec::new(),
        Scanner::Trivy => read_file(
            &database.join(args.scanner.database_file()),
            MAX_DOCUMENT,
            tool,
            "database's metadata",
        )?,
    };
    let json = open(&json).map_err(|error| crashed(tool, format!("its JSON report cannot be read: {error}")))?;
    let mut parsed = args.scanner.read(json, &inventory, &args.common.image, &metadata)?;
    parsed.database = args.database_id.as_ref().map(Digest::to_string);
    Ok(parsed)
}

/// A list of packages with the vulnerability that every database has.
pub async fn self_test(tool: ToolName, bench: &Bench<'_>) -> Result<Examined, Failure> {
    let sbom = bench.scratch.join("sbom.cdx.json");
    let text = fixtures::packages(&bench.common.image).to_string();
    std::fs::write(&sbom, text).map_err(|error| unwritten(&error))?;
    let mut more = vec![("--sbom", sbom.as_path()), ("--scanner", Path::new(tool.facts().word))];
    more.extend(bench.database.map(|folder| ("--database", folder)));
    more.extend(bench.database_id.map(|id| ("--database-id", Path::new(id.as_str()))));
    bench.examined(tool, &bench.common.image, &more).await
}

fn crashed(tool: &'static str, why: String) -> ReadError {
    ReadError::Crashed { tool, why }
}

fn program(args: &Args, name: &str) -> PathBuf {
    let Some(folders) = &args.programs else {
        return PathBuf::from(name);
    };
    let files = || env::split_paths(folders).map(|folder| folder.join(name));
    // Where none has it, the first one is named in the error.
    let found = files().find(|file| file.is_file()).or_else(|| files().next());
    found.unwrap_or_else(|| PathBuf::from(name))
}

fn database(args: &Args) -> Result<PathBuf, ReadError> {
    let folder = args
        .database
        .clone()
        .unwrap_or_else(|| PathBuf::from(args.scanner.own_database()));
    if folder.join(args.scanner.database_file()).is_file() {
        return Ok(folder);
    }
    Err(crashed(
        args.scanner.name(),
        format!(
            "expected a vulnerability database at {}, found none: set vulnerabilityDatabase.{}.image in the operator's configuration",
            folder.display(),
            args.scanner.program()
        ),
    ))
}

/// Lists the packages of the layout into a file.
async fn list(args: &Args, layout: &Path, scratch: &Scratch, known: &mut RunRecord) -> Result<PathBuf, ReadError> {
    let tool = args.scanner.name();
    let sbom = scratch.path().join(NAME);
    let mut invocation = args.scanner.list(layout, &sbom, scratch.path());
    invocation.program = program(args, args.scanner.lister());
    let done = args.common.capture(tool, &invocation, 1024 * 1024, known).await?;
    if done.ended.exit_code() == Some(0) {
        return Ok(sbom);
    }
    let lister = match args.scanner {
        Scanner::Grype => "Syft",
        Scanner::Trivy => "Trivy (list of packages)",
    };
    Err(done.crashed(lister))
}

/// The list must be one of the image that was asked for. Syft names its manifest; Trivy its configuration, which the
/// layout leads to. A kept list of Trivy's is believed because `fetch-sbom` took it from a report about the image.
fn about(args: &Args, inventory: &Inventory) -> Result<(), ReadError> {
    let tool = args.scanner.name();
    let image = &args.common.image;
    let (expected, found) = match (args.scanner, &args.layout) {
        (Scanner::Grype, _) => (Some(image.clone()), &inventory.manifest),
        (Scanner::Trivy, Some(layout)) => (Some(config_of(layout, image, tool)?), &inventory.config),
        (Scanner::Trivy, None) => (inventory.config.clone(), &inventory.config),
    };
    if found.is_some() && expected == *found {
        return Ok(());
    }
    let words = |digest: Option<&Digest>| digest.map_or_else(|| "no image".to_owned(), Digest::to_string);
    Err(ReadError::Untrusted {
        tool,
        why: format!(
            "expected a list of the packages of {}, found one of {}",
            words(expected.as_ref()),
            words(found.as_ref())
        ),
    })
}

#[derive(Deserialize)]
struct Manifest {
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    digest: Digest,
}

/// The configuration of the layout's image.
fn config_of(layout: &Path, image: &Digest, tool: &'static str) -> Result<Digest, ReadError> {
    let path = layout.join("blobs/sha256").join(image.hex());
    let bytes = read_file(&path, MAX_DOCUMENT, tool, "image manifest")?;
    if Digest::of(&bytes) != *image {
        return Err(crashed(tool, format!("the layout's manifest is not {image}")));
    }
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| crashed(tool, format!("the layout's manifest cannot be read: {error}")))?;
    Ok(manifest.config.digest)
}

#[cfg(test)]
mod tests;
