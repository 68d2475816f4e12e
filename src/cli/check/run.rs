//! Runs what can run here, with the words and options of the Jobs, and names what cannot.
//!
//! Must not turn "not run" into a pass, and must not judge: that is `cli::judge`.

use super::{
    image::Image,
    tools::{Found, Tools},
};
use crate::{
    exceptions::{Applied, Granted},
    judge::{self, Holds, RuleAnswer},
    policy_file::Policies,
};
use anyhow::Context as _;
use repave_checks::scanner::Scanner;
use repave_core::{
    report::{Outcome, Report, ToolName, bounded},
    tool::Laptop,
    verdict::{Judgement, Verdict},
};
use repave_policy::{ImageFacts, PlannedCheck, checks_of};
use repave_report::Exception;
use repave_runner as runner;
use std::{ffi::OsString, fs, path::Path};

/// One check or rule and what became of it.
#[derive(Debug)]
pub struct Judged {
    /// The check's name; `rule <name>` for a rule.
    pub check: String,
    /// Its tool; a rule has none.
    pub tool: Option<ToolName>,
    /// Whether the image is kept out when it does not pass.
    pub enforced: bool,
    /// What became of it.
    pub ran: CheckRun,
}

/// What became of a check.
#[derive(Debug)]
pub enum CheckRun {
    /// It ran, and this is the operator's judgement.
    Report {
        /// What was found.
        report: Box<Report>,
        /// What it comes to.
        judgement: Judgement,
        /// The findings that do not count, and why.
        exceptions: Vec<Exception>,
    },
    /// It is a rule over the results, and it was evaluated.
    Rule {
        /// Passed, Failed, or Error where it has no answer.
        verdict: Verdict,
        /// One line.
        message: String,
    },
    /// It was not run here.
    NotRun {
        /// Why, and what to do.
        why: String,
    },
}

impl CheckRun {
    /// Whether it was judged, and not as passed.
    pub fn failed(&self) -> bool {
        match self {
            Self::Report { judgement, .. } => judgement.verdict != Verdict::Passed,
            Self::Rule { verdict, .. } => *verdict != Verdict::Passed,
            Self::NotRun { .. } => false,
        }
    }
}

/// All checks of all policies, one after the other, in their order; then the rules over their results.
pub async fn all(
    policies: &Policies,
    image: &Image,
    tools: &Tools,
    granted: &Granted<'_>,
    scratch: &Path,
) -> anyhow::Result<Vec<Judged>> {
    let checks = checks_of(&policies.snapshots)?;
    let origins = policies
        .snapshots
        .iter()
        .flat_map(|policy| policy.spec.checks.iter().map(move |check| (policy, check)));
    let (mut judged, mut kept) = (Vec::new(), Vec::new());
    for (planned, (policy, check)) in checks.iter().zip(origins) {
        let missing = policies.missing.get(&(policy.name.clone(), check.name.clone()));
        let ran = match words(planned, missing, tools) {
            Err(why) => CheckRun::NotRun { why },
            Ok(words) => judge(planned, examine(planned, words, image, scratch).await?, granted),
        };
        if let CheckRun::Report { report, judgement, .. } = &ran {
            kept.push(judge::kept(planned, report, judgement));
        }
        judged.push(Judged {
            check: planned.name.clone(),
            tool: Some(planned.tool),
            enforced: planned.enforced,
            ran,
        });
    }
    let rules = judge::rules(&policies.snapshots, &checks, &kept, &image.digest, granted.now);
    judged.extend(rules.into_iter().map(rule));
    Ok(judged)
}

/// The operator's judgement of a report, with all exceptions. With VEX documents that cannot be read it is an error.
fn judge(check: &PlannedCheck, report: Report, granted: &Granted<'_>) -> CheckRun {
    let (report, applied) = match granted.to(check, &report) {
        Ok(applied) => (report, applied),
        Err(why) => {
            let mut report = report;
            report.outcome = Outcome::Error { message: bounded(&why) };
            (report, Applied::default())
        }
    };
    let judgement = judge::judge(&report, &check.gate, &applied.exceptions, granted.now);
    CheckRun::Report {
        report: Box::new(report),
        judgement,
        exceptions: applied.shown,
    }
}

fn rule(answer: RuleAnswer) -> Judged {
    let ran = match answer.holds {
        Holds::Yes => CheckRun::Rule {
            verdict: Verdict::Passed,
            message: "it holds".to_owned(),
        },
        Holds::No { message, error } => CheckRun::Rule {
            verdict: if error { Verdict::Error } else { Verdict::Failed },
            message,
        },
        Holds::NotKnown { why } => CheckRun::NotRun {
            why: format!("not run here: {why}"),
        },
    };
    Judged {
        check: answer.name,
        tool: None,
        enforced: answer.enforced,
        ran,
    }
}

/// What only this kind of check is told; otherwise why it does not run here.
fn words(check: &PlannedCheck, missing: Option<&String>, tools: &Tools) -> Result<Vec<OsString>, String> {
    let facts = check.tool.facts();
    let words = match (facts.laptop, facts.database) {
        (Laptop::NeedsCluster(why), _) => Err(why.to_owned()),
        (Laptop::Runs, None) => Ok(Vec::new()),
        (Laptop::Runs, Some(database)) => scan(Scanner::of(database), missing, tools),
    };
    words.map_err(|why| format!("not run here: {why}"))
}

fn scan(scanner: Scanner, missing: Option<&String>, tools: &Tools) -> Result<Vec<OsString>, String> {
    if let Some(missing) = missing {
        return Err(missing.clone());
    }
    let Found { programs, database } = tools.find(scanner)?;
    let mut words = ["--scanner", scanner.program(), "--programs"]
        .map(OsString::from)
        .to_vec();
    words.extend([programs, "--database".into(), database.into()]);
    Ok(words)
}

/// Runs a check as its Job does.
async fn examine(
    check: &PlannedCheck,
    mut words: Vec<OsString>,
    image: &Image,
    scratch: &Path,
) -> anyhow::Result<Report> {
    let options = check.options(&ImageFacts::default());
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
    let report = runner::examine(check.tool, words).await.map_err(anyhow::Error::msg)?;
    Ok(report.validate(&check.name, &image.digest, check.tool)?)
}
