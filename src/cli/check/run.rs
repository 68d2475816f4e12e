//! Runs what can run here, with the words and options of the Jobs, and names what cannot.
//!
//! Must not turn "not run" into a pass, and must not judge: that is `cli::judge`.

use super::image::Image;
use crate::{
    api::validation_policy::{Enforcement, Scanner},
    cli::{judge::judge, policy_file::Policies},
    controllers::candidate::{PlannedCheck, checks_of, layout_options},
    domain::{
        report::{Report, ToolName},
        verdict::{Judgement, Verdict},
    },
    runner,
};
use anyhow::Context as _;
use jiff::Timestamp;
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// The tools that a person named.
#[derive(Debug, Default)]
pub struct Tools {
    /// The vulnerability scanner.
    pub scanner: Option<PathBuf>,
    /// Its database.
    pub database: Option<PathBuf>,
}

/// One check and what became of it.
#[derive(Debug)]
pub struct Judged {
    /// The check's name.
    pub check: String,
    /// Whether the image is kept out when it does not pass.
    pub enforced: bool,
    /// What became of it.
    pub ran: Ran,
}

/// What became of a check.
#[derive(Debug)]
pub enum Ran {
    /// It ran, and this is the operator's judgement.
    Report {
        /// What was found.
        report: Box<Report>,
        /// What it comes to.
        judgement: Judgement,
    },
    /// It was not run here.
    NotRun {
        /// Why, and what to do.
        why: String,
    },
}

impl Ran {
    /// Whether it was judged, and not as passed.
    pub fn failed(&self) -> bool {
        match self {
            Self::Report { judgement, .. } => judgement.verdict != Verdict::Passed,
            Self::NotRun { .. } => false,
        }
    }
}

/// All checks of all policies, one after the other, in their order; then the rules over their results.
pub async fn all(policies: &Policies, image: &Image, tools: &Tools, scratch: &Path) -> anyhow::Result<Vec<Judged>> {
    let checks = checks_of(&policies.snapshots)?;
    let origins = policies
        .snapshots
        .iter()
        .flat_map(|policy| policy.spec.checks.iter().map(move |check| (policy, check)));
    let mut judged = Vec::new();
    for (planned, (policy, check)) in checks.iter().zip(origins) {
        let missing = policies.missing.get(&(policy.name.clone(), check.name.clone()));
        judged.push(Judged {
            check: planned.name.clone(),
            enforced: policy.spec.enforcement == Enforcement::Enforce,
            ran: one(planned, missing, image, tools, scratch).await?,
        });
    }
    for policy in &policies.snapshots {
        judged.extend(policy.spec.rules.iter().map(|rule| Judged {
            check: format!("rule {}", rule.name),
            enforced: policy.spec.enforcement == Enforcement::Enforce,
            ran: not_run("rules over the results of all checks are evaluated in the cluster only"),
        }));
    }
    Ok(judged)
}

fn not_run(why: impl Into<String>) -> Ran {
    Ran::NotRun { why: why.into() }
}

async fn one(
    check: &PlannedCheck,
    missing: Option<&String>,
    image: &Image,
    tools: &Tools,
    scratch: &Path,
) -> anyhow::Result<Ran> {
    let special = match check.tool {
        ToolName::Native => Ok(vec![OsString::from("native")]),
        ToolName::Grype | ToolName::Trivy => scanner_words(check, missing, tools),
        ToolName::Goss => Err("not run here: Goss needs a container of the image, in the cluster".to_owned()),
        ToolName::Openscap => Err("not run here: OpenSCAP needs the image mounted, in the cluster".to_owned()),
        ToolName::Container => Err("not run here: a check of your own image needs the cluster".to_owned()),
    };
    let (mut words, options) = match (special, layout_options(check)) {
        (Ok(words), Some(options)) => (words, options),
        (Ok(_), None) => return Ok(not_run("not run here: it needs a pod of its own, in the cluster")),
        (Err(why), _) => return Ok(not_run(why)),
    };
    let file = scratch.join("options.json");
    fs::write(&file, options.to_string()).context("cannot write the check's options")?;
    words.extend(["--check", &check.name, "--image", image.digest.as_str(), "--timeout"].map(OsString::from));
    words.push(check.spec.timeout.get().as_secs().to_string().into());
    words.extend([
        "--options".into(),
        file.into(),
        "--work".into(),
        fs::canonicalize(scratch)?.into(),
        "--layout".into(),
        image.layout.clone().into(),
    ]);
    let report = runner::examine(words).await.map_err(anyhow::Error::msg)?;
    let report = report.validate(&check.name, &image.digest, check.tool)?;
    let judgement = judge(&report, &check.gate, Timestamp::now());
    Ok(Ran::Report {
        report: Box::new(report),
        judgement,
    })
}

/// The adapter to the scanners of the runner: its subcommand and what only a scan is told.
fn scanner_words(check: &PlannedCheck, missing: Option<&String>, tools: &Tools) -> Result<Vec<OsString>, String> {
    let Some(scan) = &check.spec.vulnerabilities else {
        return Err("not run here: the policy names no scanner".to_owned());
    };
    if let Some(missing) = missing {
        return Err(format!("not run here: {missing}"));
    }
    if !scan.vex_refs.is_empty() {
        return Err("not run here: VEX documents are applied in the cluster only".to_owned());
    }
    match scan.scanner {
        Scanner::Trivy => Err("not run here: Trivy runs in the cluster only".to_owned()),
        Scanner::Grype => {
            let program = absolute(tools.scanner.clone().or_else(|| in_path("grype")));
            let program = program.ok_or("not run here: grype is not in PATH; name it with --scanner-path")?;
            let database = absolute(tools.database.clone().or_else(grype_cache));
            let database = database.filter(|folder| has_grype_database(folder)).ok_or(
                "not run here: there is no vulnerability database; run `grype db update`, or name its folder with \
                 --database",
            )?;
            let programs = program.parent().unwrap_or(&program).to_owned();
            Ok(vec![
                "vulnerabilities".into(),
                "--scanner".into(),
                "grype".into(),
                "--programs".into(),
                programs.into(),
                "--database".into(),
                database.into(),
            ])
        }
    }
}

/// Tools run in another folder.
fn absolute(path: Option<PathBuf>) -> Option<PathBuf> {
    fs::canonicalize(path?).ok()
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Where Grype keeps its database unless told otherwise.
fn grype_cache() -> Option<PathBuf> {
    if let Some(folder) = env::var_os("GRYPE_DB_CACHE_DIR") {
        return Some(folder.into());
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")));
    Some(cache?.join("grype/db"))
}

/// A folder below it is named by the version of the database's schema.
fn has_grype_database(folder: &Path) -> bool {
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    below
        .map(|entry| entry.path())
        .any(|path| path.join("vulnerability.db").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scan(more: &serde_json::Value) -> PlannedCheck {
        let spec = json!({"checks": [{"name": "c", "vulnerabilities": more}]});
        let snapshot = serde_json::from_value(json!({"name": "p", "spec": spec})).unwrap();
        checks_of(&[snapshot]).unwrap().remove(0)
    }

    #[test]
    fn a_scan_runs_only_with_a_scanner_and_a_database_and_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let (scanner, database) = (folder.path().join("grype"), folder.path().join("db"));
        let tools = Tools {
            scanner: Some(scanner.clone()),
            database: Some(database.clone()),
        };
        let refused = |more: serde_json::Value, missing| scanner_words(&scan(&more), missing, &tools).unwrap_err();
        assert!(refused(json!({}), None).contains("--scanner-path"));
        fs::write(&scanner, "").unwrap();
        assert!(refused(json!({}), None).contains("grype db update"));
        fs::create_dir_all(database.join("6")).unwrap();
        assert!(refused(json!({}), None).contains("grype db update"));
        fs::write(database.join("6/vulnerability.db"), "").unwrap();
        assert!(refused(json!({"scanner": "Trivy"}), None).contains("Trivy"));
        assert!(refused(json!({"vexRefs": [{"name": "v"}]}), None).contains("VEX"));
        assert!(refused(json!({}), Some(&"ConfigMap x is missing".to_owned())).contains("ConfigMap x"));
        let words = scanner_words(&scan(&json!({})), None, &tools).unwrap();
        assert_eq!(words[0], "vulnerabilities");
        assert!(words.iter().any(|word| word.to_string_lossy().ends_with("/db")));
    }
}
