//! `kubectl repave report`: what each check found in one candidate, from its status.
//!
//! The full reports are referrers of the built digest; this prints where.

use super::{Output, render};
use crate::api::ImageCandidate;
use anyhow::Context as _;
use kube::{Api, Client};

/// `kubectl repave report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the ImageCandidate
    candidate: String,
    /// Its namespace; the client's own unless given
    #[arg(long, short)]
    namespace: Option<String>,
    /// How to print it
    #[arg(long, short, default_value = "table")]
    output: Output,
}

/// Reads and prints.
pub async fn run(client: &Client, args: &Args) -> anyhow::Result<()> {
    let namespace = args
        .namespace
        .clone()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let api = Api::<ImageCandidate>::namespaced(client.clone(), &namespace);
    let candidate = api.get_opt(&args.candidate).await?.with_context(|| {
        format!(
            "no ImageCandidate {} in namespace {namespace}: list them with kubectl get imagecandidates -A",
            args.candidate
        )
    })?;
    let status = candidate.status.clone().unwrap_or_default();
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&status.checks)?),
        Output::Table => println!("{}", text(&candidate)),
    }
    Ok(())
}

fn text(candidate: &ImageCandidate) -> String {
    let status = candidate.status.clone().unwrap_or_default();
    let mut table = render::table(&["CHECK", "VERDICT", "EVALUATED", "SUMMARY"]);
    for check in &status.checks {
        table.add_row([
            &check.name,
            &check.verdict,
            &check.evaluated.to_string(),
            &check.message,
        ]);
    }
    let mut lines = vec![table.to_string()];
    for check in status.checks.iter().filter(|check| !check.top.is_empty()) {
        lines.push(format!("\n{}:", check.name));
        lines.extend(check.top.iter().map(|finding| format!("  - {finding}")));
    }
    for check in &status.checks {
        if let Some(report) = &check.report {
            lines.push(format!(
                "\nfull report of {}: {}",
                check.name,
                candidate.spec.staging.at(report)
            ));
        }
    }
    lines.join("\n")
}
