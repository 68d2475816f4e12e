//! `kubectl repave policy-check`: which released images and workloads a changed policy would refuse, from stored reports.
//!
//! Reads only: nothing is pulled, examined or changed. What the reports cannot tell is said, never counted as a pass.

mod evaluation;
mod workloads;

use super::{
    Output,
    credentials::Registries,
    exceptions::{Granted, MAX_WAIVERS},
    judge::{self, Holds},
    names, policy_file, render,
};
use anyhow::Context as _;
use evaluation::{Answer, Outcome, evaluate_policy};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use repave_api::{BaseImage, ImageCandidate, Waiver, base_image::Release, image_candidate::PolicySnapshot};
use repave_cluster::readable::{self, Guarded};
use repave_core::{digest::Digest, report::Report};
use repave_oci::{
    evidence,
    registry::{Auth, Client as RegistryClient},
};
use repave_policy::{PlannedCheck, checks_of};
use serde::Serialize;
use std::{collections::BTreeMap, path::PathBuf};
use workloads::Estate;

/// `kubectl repave policy-check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The changed policy; the ConfigMaps that it refers to and Waivers may be in the same file
    #[arg(long, short, required = true, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Namespace of the BaseImages; the client's own unless given
    #[arg(long, short, value_parser = names::namespace)]
    namespace: Option<String>,
    /// Every BaseImage of the namespace, also those that do not refer to the policy
    #[arg(long)]
    all: bool,
    /// How to print it
    #[arg(long, short, default_value = "table")]
    output: Output,
    #[command(flatten)]
    registries: Registries,
}

/// One released image under the changed policy.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Row {
    base: String,
    tag: String,
    digest: Digest,
    answer: Answer,
    checks: Vec<Outcome>,
    /// Workloads that run exactly this digest.
    workloads: Vec<String>,
}

/// Everything that is known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answers {
    images: Vec<Row>,
    /// Namespaces whose workloads could not be read.
    unread: Vec<String>,
}

/// Reads, judges and prints.
pub async fn run(client: &Client, args: &Args) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let mut policies = policy_file::read(&args.filename, "-f", now)?;
    let (registry, auth) = args.registries.open()?;
    let namespace = args
        .namespace
        .clone()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    complete(&mut policies, client, &namespace).await?;
    let waivers = merged(policies.waivers, in_force(client, &namespace).await?, &namespace);
    let bases = Api::<Guarded<BaseImage>>::namespaced(client.clone(), &namespace)
        .list(&ListParams::default())
        .await?;
    let bases = readable::told(bases);
    let estate = workloads::read(client).await?;
    let mut images = Vec::new();
    for base in bases {
        let named: Vec<PolicySnapshot> = policies
            .snapshots
            .iter()
            .filter(|policy| {
                args.all
                    || base
                        .spec
                        .policy_refs
                        .iter()
                        .any(|reference| reference.name == policy.name)
            })
            .cloned()
            .collect();
        let released = base.status.as_ref().and_then(|status| status.released.clone());
        if let (false, Some(released)) = (named.is_empty(), released) {
            let candidates = Api::<ImageCandidate>::namespaced(client.clone(), &namespace);
            let candidate = candidates.get_opt(&released.candidate).await?;
            let image = Asked {
                candidate: candidate.as_ref(),
                released: &released,
                base: &base.name_any(),
                waivers: &waivers,
                now,
            };
            let outcomes = outcomes(&image, &named, &registry, &auth).await?;
            images.push(row(&base, &released, outcomes, &estate));
        }
    }
    let answers = Answers {
        images,
        unread: estate.unread,
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&answers)?),
        Output::Table => println!("{}", text(&answers)),
    }
    Ok(())
}

/// What is not in the file is taken from the cluster, as the operator would; what is nowhere stays missing and is then a
/// difference that cannot be told.
async fn complete(policies: &mut policy_file::Policies, client: &Client, namespace: &str) -> anyhow::Result<()> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    for policy in &mut policies.snapshots {
        for check in &policy.spec.checks {
            for (name, at, default) in check.file_references() {
                let own = policy.files.entry(check.name.clone()).or_default();
                if own.contains_key(&name) {
                    continue;
                }
                let key = at.key.as_deref().unwrap_or(default);
                let map = names::object(&at.name);
                let map = map.map_err(|why| anyhow::anyhow!("check {}: a ConfigMap: {why}", check.name))?;
                let found = maps.get_opt(&map).await?.and_then(|map| map.data);
                if let Some(text) = found.and_then(|mut data| data.remove(key)) {
                    own.insert(name, text);
                }
            }
        }
    }
    Ok(())
}

/// The waivers of the namespace: as many as the operator reads.
async fn in_force(client: &Client, namespace: &str) -> anyhow::Result<Vec<Waiver>> {
    let limit = u32::try_from(MAX_WAIVERS).unwrap_or(u32::MAX);
    let list = Api::<Guarded<Waiver>>::namespaced(client.clone(), namespace)
        .list(&ListParams::default().limit(limit))
        .await
        .with_context(|| format!("cannot list the waivers of namespace {namespace}"))?;
    // One that cannot be read has no effect in the operator either.
    Ok(list.items.into_iter().filter_map(|guarded| guarded.0.ok()).collect())
}

/// The namespace's waivers once those of the file were applied to it: one of the same name is changed, and keeps its age.
fn merged(file: Vec<Waiver>, cluster: Vec<Waiver>, namespace: &str) -> Vec<Waiver> {
    let mut all: BTreeMap<String, Waiver> = cluster.into_iter().map(|waiver| (waiver.name_any(), waiver)).collect();
    let here = |waiver: &Waiver| waiver.namespace().is_none_or(|name| name == namespace);
    for mut waiver in file.into_iter().filter(here) {
        if let Some(there) = all.get(&waiver.name_any()) {
            waiver
                .metadata
                .creation_timestamp
                .clone_from(&there.metadata.creation_timestamp);
        }
        all.insert(waiver.name_any(), waiver);
    }
    all.into_values().collect()
}

/// A released image that is asked about.
struct Asked<'a> {
    candidate: Option<&'a ImageCandidate>,
    released: &'a Release,
    /// Name of its BaseImage.
    base: &'a str,
    waivers: &'a [Waiver],
    now: Timestamp,
}

async fn outcomes(
    image: &Asked<'_>,
    new: &[PolicySnapshot],
    registry: &RegistryClient,
    auth: &Auth,
) -> anyhow::Result<Vec<Outcome>> {
    let released = image.released;
    let new_checks = checks_of(new)?;
    let (old, reports) = match image.candidate {
        None => (Vec::new(), BTreeMap::new()),
        Some(candidate) => {
            let old = checks_of(&candidate.spec.policies)?;
            let reports = stored(candidate, &old, &released.digest, registry, auth).await?;
            (old, reports)
        }
    };
    let granted = Granted {
        waivers: image.waivers,
        base_image: image.base,
        digests: &[&released.digest, &released.source_digest],
        now: image.now,
    };
    let at = released.promoted_at.0;
    let (mut outcomes, mut kept) = (Vec::new(), Vec::new());
    for answered in evaluate_policy(&old, &new_checks, &reports, at, &granted) {
        outcomes.push(answered.outcome);
        kept.extend(answered.kept);
    }
    outcomes.extend(
        judge::rules(new, &new_checks, &kept, &released.digest, at)
            .into_iter()
            .map(|rule| {
                let (answer, message) = match rule.holds {
                    Holds::Yes => (Answer::Passes, "it holds".to_owned()),
                    Holds::No { message, .. } => (Answer::Fails, message),
                    Holds::NotKnown { why } => (Answer::Unknown, why),
                };
                Outcome {
                    check: rule.name,
                    answer,
                    enforced: rule.enforced,
                    message,
                    top: Vec::new(),
                }
            }),
    );
    Ok(outcomes)
}

/// The stored reports of a candidate, each believed only if it is about this check, image and tool.
async fn stored(
    candidate: &ImageCandidate,
    checks: &[PlannedCheck],
    released: &Digest,
    registry: &RegistryClient,
    auth: &Auth,
) -> anyhow::Result<BTreeMap<String, Report>> {
    let status = candidate.status.clone().unwrap_or_default();
    let production = candidate.spec.promote.repository.parse()?;
    let mut reports = BTreeMap::new();
    for summary in &status.checks {
        let check = checks.iter().find(|check| check.name == summary.name);
        let (Some(check), Some(digest)) = (check, &summary.report) else {
            continue;
        };
        let staging = evidence::fetch_report(registry, &candidate.spec.staging, digest, auth).await;
        let bytes = match staging {
            Err(error) if error.is_not_found() => evidence::fetch_report(registry, &production, digest, auth).await,
            other => other,
        };
        let bytes = match bytes {
            Err(error) if error.is_not_found() => continue,
            other => other.with_context(|| format!("cannot fetch the report of {}", check.name))?,
        };
        let report: Report =
            serde_json::from_slice(&bytes).with_context(|| format!("the stored report of {}", check.name))?;
        let report = report.validate(&check.name, released, check.tool)?;
        reports.insert(check.name.clone(), report);
    }
    Ok(reports)
}

fn row(base: &BaseImage, released: &Release, checks: Vec<Outcome>, estate: &Estate) -> Row {
    Row {
        base: format!("{}/{}", base.namespace().unwrap_or_default(), base.name_any()),
        tag: released.tag.clone(),
        digest: released.digest.clone(),
        answer: overall(&checks),
        checks,
        workloads: estate.running(&released.digest),
    }
}

/// The worst of all checks that keep an image out. Nothing judged is nothing known; what is only reported refuses nothing.
fn overall(checks: &[Outcome]) -> Answer {
    let enforced = checks.iter().filter(|check| check.enforced).map(|check| check.answer);
    let nothing = if checks.is_empty() {
        Answer::Unknown
    } else {
        Answer::Passes
    };
    enforced.max().unwrap_or(nothing)
}

fn text(answers: &Answers) -> String {
    if answers.images.is_empty() {
        return "No released image refers to this policy. Look at all of the namespace with --all, or at another one with \
                -n."
            .to_owned();
    }
    let mut table = render::table(&["BASE", "RELEASED", "WOULD", "WORKLOADS", "BECAUSE OF"]);
    for row in &answers.images {
        let because: Vec<&str> = row
            .checks
            .iter()
            .filter(|check| check.answer != Answer::Passes)
            .map(|check| check.check.as_str())
            .collect();
        let because = if because.is_empty() {
            "-".to_owned()
        } else {
            because.join(", ")
        };
        let workloads = row.workloads.len().to_string();
        table.add_row([&row.base, &row.tag, row.answer.as_str(), &workloads, &because]);
    }
    let mut lines = vec![table.to_string()];
    let said = |row: &&Row| row.checks.iter().any(|check| check.answer != Answer::Passes);
    for row in answers.images.iter().filter(said) {
        lines.push(format!("\n{} {}:", row.base, row.tag));
        for check in row.checks.iter().filter(|check| check.answer != Answer::Passes) {
            let audit = if check.enforced { "" } else { " (audit only)" };
            let answer = check.answer.as_str();
            lines.push(format!("  {} {answer}{audit}: {}", check.check, check.message));
            lines.extend(check.top.iter().map(|finding| format!("    - {finding}")));
        }
        if row.answer == Answer::Fails && !row.workloads.is_empty() {
            lines.push(format!("  workloads: {}", row.workloads.join(", ")));
        }
    }
    if !answers.unread.is_empty() {
        lines.push(format!(
            "\nworkloads not counted, no right to list them: {}",
            answers.unread.join(", ")
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
