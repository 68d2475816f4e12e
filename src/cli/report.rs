//! `kubectl repave report`: what the checks found, as a table, JSON, SARIF or a web page.
//!
//! A candidate is read from the cluster, its reports from the registry; an image reference needs no cluster. Reads only.

mod print;
mod source;
#[cfg(test)]
mod tests;

use super::{credentials, errors, names, open};
use anyhow::{Context as _, bail, ensure};
use kube::{Api, ResourceExt as _, api::ListParams};
use repave_api::{ImageCandidate, Waiver};
use repave_cluster::readable::{self, Guarded};
use repave_core::{digest::Digest, image_ref::Repository};
use repave_oci::registry::{Client, ClientOptions};
use repave_report::sarif;
use source::{Reader, Stored, Subject, Target};
use std::{
    collections::BTreeSet,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
};

/// Most waivers of a namespace that are read: as many as the operator reads.
const MAX_WAIVERS: u32 = 500;

/// `kubectl repave report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of an ImageCandidate, a digest of one, or an image reference (HOST/PATH:TAG or @sha256:DIGEST)
    target: Target,
    /// Namespace of the candidate; the client's own unless given (for a digest: all)
    #[arg(long, short, value_parser = names::namespace)]
    namespace: Option<String>,
    /// How to print it
    #[arg(long, short, default_value = "table")]
    output: Output,
    /// Only this check
    #[arg(long)]
    check: Option<String>,
    /// Opens the web page
    #[arg(long, conflicts_with_all = ["raw", "check"])]
    open: bool,
    /// Writes a file that is kept with the report, such as report.html, testresult.xml or sbom.cdx.json
    #[arg(long, value_name = "FILE")]
    raw: Option<String>,
    /// Where --raw writes: a new file, or - for stdout; FILE in this folder unless given
    #[arg(long, value_name = "PATH", requires = "raw")]
    to: Option<PathBuf>,
    /// Credentials for the registry (as docker writes them)
    #[arg(long, value_name = "FILE")]
    auth: Option<PathBuf>,
    /// Registry (HOST[:PORT]) that is spoken to without TLS; may be repeated
    #[arg(long = "insecure-host", value_name = "HOST[:PORT]")]
    insecure_hosts: Vec<String>,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A table for people.
    Table,
    /// The reports as they are kept.
    Json,
    /// SARIF 2.1.0.
    Sarif,
    /// The web page.
    Html,
}

/// Reads and prints.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let subject = match &args.target {
        Target::Image(image) => reader(args, &[image.repository.host()])?.resolve(image).await?,
        Target::Candidate(name) => {
            let candidate = by_name(name, args).await?;
            if args.output == Output::Table && args.check.is_none() && args.raw.is_none() && !args.open {
                return say(print::candidate(&candidate).as_bytes());
            }
            subject_of(candidate).await?
        }
        Target::Digest(digest) => subject_of(by_digest(digest, args).await?).await?,
    };
    let hosts: Vec<_> = subject.homes.iter().map(Repository::host).collect();
    let reader = reader(args, &hosts)?;
    if args.open {
        return say(open::open(&reader.page(&subject).await?)?.as_bytes());
    }
    if args.output == Output::Html && args.raw.is_none() {
        return say(&reader.page(&subject).await?);
    }
    let reports = reader.reports(&subject, args.check.as_deref()).await?;
    match &args.raw {
        Some(name) => extract(&reader, &reports, name, args).await,
        None => say(text(args, &subject, &reports)?.as_bytes()),
    }
}

/// A client for these registries only: where a registry is named by the person, it may stand in a local network.
fn reader(args: &Args, hosts: &[&str]) -> anyhow::Result<Reader> {
    let named: BTreeSet<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let options = ClientOptions {
        insecure_hosts: args.insecure_hosts.iter().cloned().collect(),
        allowed_hosts: named,
        ..ClientOptions::default()
    };
    Ok(Reader {
        client: Client::new(options)?,
        auth: credentials::find(args.auth.as_deref())?,
        tell: std::io::stderr().is_terminal(),
    })
}

/// The candidate with the waivers of its namespace. Without them everything is shown as it was found, and that is said.
async fn subject_of(candidate: ImageCandidate) -> anyhow::Result<Subject> {
    let namespace = candidate.namespace().unwrap_or_default();
    let mut subject = Subject::of(candidate)?;
    let client = repave_cluster::Clients::connect().await?.requests;
    let waivers = Api::<Guarded<Waiver>>::namespaced(client, &namespace);
    match waivers.list(&ListParams::default().limit(MAX_WAIVERS)).await {
        Ok(waivers) => subject.waivers = readable::told(waivers),
        Err(error) => {
            let why = errors::told(&error.into(), &errors::address().await);
            eprintln!("the waivers of {namespace} cannot be read, so waived findings are shown as open: {why}");
        }
    }
    Ok(subject)
}

async fn by_name(name: &str, args: &Args) -> anyhow::Result<ImageCandidate> {
    let client = repave_cluster::Clients::connect().await?.requests;
    let namespace = args
        .namespace
        .clone()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    match Api::<ImageCandidate>::namespaced(client, &namespace).get(name).await {
        Err(error) if errors::is_no_object(&error) => {
            bail!("no ImageCandidate {name} in namespace {namespace}: list them with kubectl get imagecandidates -A")
        }
        other => Ok(other?),
    }
}

async fn by_digest(digest: &Digest, args: &Args) -> anyhow::Result<ImageCandidate> {
    let client = repave_cluster::Clients::connect().await?.requests;
    let api = match &args.namespace {
        Some(namespace) => Api::<Guarded<ImageCandidate>>::namespaced(client, namespace),
        None => Api::<Guarded<ImageCandidate>>::all(client),
    };
    let mut found = readable::told(api.list(&ListParams::default()).await?);
    found.retain(|candidate| has(candidate, digest));
    let names: Vec<_> = found
        .iter()
        .map(|candidate| format!("{}/{}", candidate.namespace().unwrap_or_default(), candidate.name_any()))
        .collect();
    ensure!(
        found.len() < 2,
        "several candidates have this digest, name one of them: {}",
        names.join(", ")
    );
    found.pop().with_context(|| {
        format!("no ImageCandidate has the digest {digest}: name the image with its repository, HOST/PATH@{digest}")
    })
}

fn has(candidate: &ImageCandidate, digest: &Digest) -> bool {
    let built = candidate
        .status
        .as_ref()
        .and_then(|status| status.built_digest.as_ref());
    built == Some(digest) || candidate.spec.source_digest == *digest
}

fn text(args: &Args, subject: &Subject, reports: &[Stored]) -> anyhow::Result<String> {
    Ok(match args.output {
        Output::Json => {
            let reports: Vec<_> = reports.iter().map(|stored| &stored.report).collect();
            serde_json::to_string_pretty(&reports)?
        }
        Output::Sarif => {
            let home = subject.homes.last().context("no repository is known")?;
            let exceptions: Vec<_> = reports
                .iter()
                .map(|stored| subject.exceptions(&stored.report))
                .collect();
            let rows = reports.iter().map(|stored| &stored.report);
            let rows: Vec<_> = rows.zip(exceptions.iter().map(Vec::as_slice)).collect();
            serde_json::to_string_pretty(&sarif::export(&home.at(&subject.digest), &rows))?
        }
        Output::Table | Output::Html if args.check.is_some() => print::findings(reports),
        Output::Table | Output::Html => print::reports(&subject.image(), reports),
    })
}

/// Writes an attachment; never over a file that is there.
async fn extract(reader: &Reader, reports: &[Stored], name: &str, args: &Args) -> anyhow::Result<()> {
    let bytes = reader.attachment(reports, name).await?;
    // The name was that of an attachment, so it is a plain file name (`Attachment::is_sane`).
    let path = args.to.clone().unwrap_or_else(|| PathBuf::from(name));
    if path.as_os_str() == "-" {
        return say(&bytes);
    }
    let shown = path.display();
    let file = std::fs::File::options().write(true).create_new(true).open(&path);
    file.and_then(|mut file| file.write_all(&bytes))
        .with_context(|| format!("{shown} cannot be written: name another file with --to"))?;
    say(format!("{shown}: {} bytes, as the tool wrote it", bytes.len()).as_bytes())
}

/// A closed pipe (`| head`) is no error.
fn say(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let end: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\n" };
    match out
        .write_all(bytes)
        .and_then(|()| out.write_all(end))
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
