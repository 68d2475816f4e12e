//! `runner self-test`: makes known-bad fixtures and lets a tool examine them exactly as it examines a candidate.
//!
//! Must not judge: it delivers what the tool found, and `domain::self_test` knows what that has to be. The fixtures are
//! made here and not shipped as images, so that nobody can exchange them.

mod fixtures;

use super::check::{Common, Examined};
use repave_core::{
    digest::Digest,
    report::{Finding, Outcome, Report, Severity, Tool, ToolName},
    self_test::WRONG_OS_REFUSED,
};
use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

/// `repave runner self-test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Which tool.
    #[arg(long, value_enum)]
    tool: Which,
    /// The folder with the vulnerability database.
    #[arg(long)]
    database: Option<PathBuf>,
    /// What the report calls the database.
    #[arg(long)]
    database_id: Option<Digest>,
    /// The folder with Goss, its loader and its libraries.
    #[arg(long, default_value = "/opt/goss")]
    goss: PathBuf,
}

/// The tools that have a self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    Native,
    Goss,
    Openscap,
    Grype,
    Trivy,
}

impl Which {
    fn name(self) -> ToolName {
        match self {
            Self::Native => ToolName::Native,
            Self::Goss => ToolName::Goss,
            Self::Openscap => ToolName::Openscap,
            Self::Grype => ToolName::Grype,
            Self::Trivy => ToolName::Trivy,
        }
    }
}

/// Runs the self-test.
pub async fn run(args: &Args) -> Examined {
    let scratch = match args.common.scratch("self-test") {
        Ok(scratch) => scratch,
        Err(error) => return failed(args, &error.to_string()),
    };
    let examined = match args.tool {
        Which::Native => native(args, scratch.path()).await,
        Which::Goss => goss(args, scratch.path()).await,
        Which::Openscap => openscap(args, scratch.path()).await,
        Which::Grype | Which::Trivy => scanner(args, scratch.path()).await,
    };
    let mut examined = examined.unwrap_or_else(|why| failed(args, &why));
    examined.report.image = args.common.image.clone();
    examined.attached.clear();
    examined.report.attachments.clear();
    examined
}

fn failed(args: &Args, why: &str) -> Examined {
    let tool = Tool::new(args.tool.name(), "");
    Examined {
        report: Report::error(&args.common.check, &args.common.image, tool, why),
        ended: None,
        attached: Vec::new(),
    }
}

/// Why a fixture could not be made or examined.
type Failure = String;

fn unwritten(error: &io::Error) -> Failure {
    format!("the fixture cannot be written: {error}")
}

async fn native(args: &Args, scratch: &Path) -> Result<Examined, Failure> {
    let layout = scratch.join("layout");
    let image = fixtures::layout(&layout).map_err(|error| unwritten(&error))?;
    let words = words(args, "native", &image, &[("--layout", &layout)]);
    Box::pin(super::examined(words)).await
}

async fn goss(args: &Args, scratch: &Path) -> Result<Examined, Failure> {
    let gossfile = scratch.join("goss.yaml");
    std::fs::write(&gossfile, fixtures::GOSSFILE).map_err(|error| unwritten(&error))?;
    let more = [("--goss", args.goss.as_path()), ("--gossfile", &gossfile)];
    Box::pin(super::examined(words(args, "goss", &args.common.image, &more))).await
}

/// Two roots: one with a defect that must be found, and one of another release that must be refused.
async fn openscap(args: &Args, scratch: &Path) -> Result<Examined, Failure> {
    let (bad, other) = (scratch.join("bad"), scratch.join("other"));
    fixtures::root(&bad, "12").map_err(|error| unwritten(&error))?;
    fixtures::root(&other, "13").map_err(|error| unwritten(&error))?;
    let stream = Path::new("ssg-debian12-ds.xml");
    let profile = Path::new("cis_level1_server");
    let over = |root: &Path| {
        let more = [("--root", root), ("--datastream", stream), ("--profile", profile)];
        words(args, "openscap", &args.common.image, &more)
    };
    let mut examined = Box::pin(super::examined(over(&bad))).await?;
    let wrong = Box::pin(super::examined(over(&other))).await?;
    match &wrong.report.outcome {
        Outcome::Completed => {}
        Outcome::Error { message } | Outcome::Unsupported { message } => examined.report.findings.push(Finding {
            id: WRONG_OS_REFUSED.to_owned(),
            severity: Severity::High,
            title: message.clone(),
            ..Finding::default()
        }),
    }
    Ok(examined)
}

async fn scanner(args: &Args, scratch: &Path) -> Result<Examined, Failure> {
    let sbom = scratch.join("sbom.cdx.json");
    let text = fixtures::packages(&args.common.image).to_string();
    std::fs::write(&sbom, text).map_err(|error| unwritten(&error))?;
    let scanner = if args.tool == Which::Trivy { "trivy" } else { "grype" };
    let mut words = words(args, "vulnerabilities", &args.common.image, &[("--sbom", &sbom)]);
    words.extend(["--scanner".into(), scanner.into()]);
    if let Some(database) = &args.database {
        words.extend(["--database".into(), database.into()]);
    }
    if let Some(id) = &args.database_id {
        words.extend(["--database-id".into(), id.as_str().into()]);
    }
    Box::pin(super::examined(words)).await
}

/// The words of a check's Job, about a fixture.
fn words(args: &Args, step: &str, image: &Digest, more: &[(&str, &Path)]) -> Vec<OsString> {
    let common = &args.common;
    let mut words: Vec<OsString> = [step, "--check", &common.check, "--image", image.as_str(), "--timeout"]
        .map(OsString::from)
        .into();
    words.push(common.timeout.to_string().into());
    words.extend(["--work".into(), common.work.clone().into()]);
    if let Some(options) = &common.options {
        words.extend(["--options".into(), options.into()]);
    }
    for (name, value) in more {
        words.extend([OsString::from(name), OsString::from(value)]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use repave_core::self_test;

    #[derive(Debug, Parser)]
    #[command(no_binary_name = true)]
    struct Words {
        #[command(flatten)]
        args: Args,
    }

    fn args(work: &Path, more: &[&str]) -> Args {
        let subject = self_test::subject();
        let work = work.to_str().unwrap();
        let words = ["--check", self_test::CHECK, "--image", subject.as_str(), "--work", work];
        Words::parse_from(words.iter().chain(more)).args
    }

    #[tokio::test]
    async fn our_own_rules_reject_the_known_bad_image() {
        let work = tempfile::tempdir().unwrap();
        let examined = run(&args(work.path(), &["--tool", "native"])).await;
        assert_eq!(self_test::judge(&examined.report), Ok(()), "{:?}", examined.report);
        assert_eq!(examined.report.image, self_test::subject());
    }

    #[tokio::test]
    async fn a_tool_that_is_missing_is_not_believed() {
        let work = tempfile::tempdir().unwrap();
        let nowhere = work.path().join("nowhere");
        let database = ["--tool", "grype", "--database", nowhere.to_str().unwrap()];
        for more in [&["--tool", "goss", "--goss", nowhere.to_str().unwrap()][..], &database] {
            let examined = run(&args(work.path(), more)).await;
            assert!(self_test::judge(&examined.report).is_err(), "{more:?}");
        }
    }
}
