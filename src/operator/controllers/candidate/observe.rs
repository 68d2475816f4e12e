//! Looks at what the phase of a candidate needs: its BaseImage, upstream's signature, its Jobs and their reports. Reads only,
//! and decides nothing.

mod error;
mod jobs;
mod pod;
pub mod recall;
pub mod reevaluation;
pub mod rescan;
mod reusable_reports;
pub mod self_tests;
mod verification;

pub use error::Error;

use jobs::{job, self_test_job};
use self_tests::{SelfTest, SelfTestState};

pub use reusable_reports::MAX_SIBLINGS;
use reusable_reports::ReusableReports;

use super::{
    evaluation_inputs::{self, EvaluationInputs},
    validate::{PlannedCheck, ValidatedCandidate},
};
use crate::{
    api::{ImageCandidate, ImageCandidateStatus, phase::Phase},
    controllers::{
        context::Context,
        desired::{ask, wanted::Wanted},
        inputs,
    },
    domain::{digest::Digest, recall::Recalled, report::ToolName},
    registry::{Auth, Platform},
    runner::frame::{self, Delivery, Termination},
};
use k8s_openapi::api::batch::v1::Job;

/// Most attempts at one Job: the first and two more after failures that are not the candidate's fault.
pub const MAX_ATTEMPTS: u32 = 3;

/// Where a candidate stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The stage that is next.
    pub stage: Stage,
}

/// The stage that is next, with what is known about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Nothing is left to do, for good or for bad.
    Finished,
    /// Its BaseImage does not want it, or does not want anything now.
    Unwanted {
        /// What it said; never `Yes`.
        wanted: Wanted,
        /// All Jobs of a superseded candidate: those that run take up slots, and those that ended have names that the candidates
        /// after it need.
        jobs: Vec<JobRef>,
    },
    /// It would bring a release again that was taken back.
    Recalled(Recalled),
    /// It is released and up to date: it is looked at again when the database may have changed.
    Released,
    /// It is released, and its scans must be made again.
    Rescan {
        /// The built image.
        image: Digest,
        /// Whether the scanners are believed.
        self_tests: Vec<SelfTest>,
        /// What the reports that have come are judged with.
        evaluation_inputs: Box<EvaluationInputs>,
        /// The scans.
        checks: Vec<(PlannedCheck, CheckState)>,
    },
    /// The upstream image must be copied.
    Pull,
    /// Upstream must be verified.
    Verify(Verification),
    /// The customised image must be built.
    Build(JobState<Digest>),
    /// The checks must run.
    Check {
        /// The built image.
        image: Digest,
        /// Its environment, which some checks judge; read only where a Job is to be created, else empty.
        env: Vec<String>,
        /// Whether the tools are believed.
        self_tests: Vec<SelfTest>,
        /// Each check, in the order of the policy.
        checks: Vec<(PlannedCheck, CheckState)>,
        /// What the reports that have come are judged with.
        evaluation_inputs: Box<EvaluationInputs>,
    },
    /// It was refused with other waivers than there are now: its stored reports are evaluated again.
    Reevaluate(Box<reevaluation::Reevaluate>),
    /// Everything passed: it must be promoted.
    Promote,
}

/// A Job, and not a later one of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRef {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Whether upstream is genuine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verification {
    /// Every declared way agrees.
    Succeeded(String),
    /// One does not, for good.
    Refused(String),
    /// No signature is there yet: upstreams push it after the image.
    SignaturePending(String),
    /// No way is declared.
    NotConfigured,
}

/// How a Job stands.
#[derive(Debug, Clone, PartialEq)]
pub enum JobState<T> {
    /// It must be created as this attempt.
    Absent(u32),
    /// It runs; the text says what its pod does.
    Running(String),
    /// It delivered.
    Delivered(T),
    /// Something that is not ours has its name: it is not believed, and nothing is done beside it.
    Foreign(String),
    /// It ended without delivering.
    Broken {
        /// Which attempt.
        attempt: u32,
        /// Why.
        message: String,
    },
}

/// How a check stands.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckState {
    /// Its verdict is in the status already.
    Judged,
    /// Its Job.
    Job(JobState<Box<Delivery>>),
}

/// Reads what the phase needs.
pub async fn observe(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
) -> Result<Observed, Error> {
    let status = candidate.status.clone().unwrap_or_default();
    let phase = Phase::of(&status);
    let stage = match phase {
        Phase::Released => rescan::observe(candidate, validated, &status, ctx).await?,
        Phase::Rejected => reevaluation::observe(candidate, validated, &status, ctx)
            .await?
            .map_or(Stage::Finished, |again| Stage::Reevaluate(Box::new(again))),
        Phase::Error | Phase::Superseded => Stage::Finished,
        Phase::Pull | Phase::Verify | Phase::Build | Phase::Check | Phase::Promote => {
            match ask::wanted(candidate, ctx).await? {
                Wanted::Yes => on_the_way(phase, candidate, validated, &status, ctx).await?,
                wanted => unwanted(wanted, validated, ctx).await?,
            }
        }
    };
    Ok(Observed { stage })
}

async fn on_the_way(
    phase: Phase,
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    status: &ImageCandidateStatus,
    ctx: &Context,
) -> Result<Stage, Error> {
    let stage = match (phase, &status.built_digest) {
        (Phase::Pull, _) => Stage::Pull,
        (Phase::Verify, _) => Stage::Verify(verification::verification(candidate, validated, ctx).await?),
        (Phase::Check, Some(image)) => checks(candidate, validated, status, image.clone(), ctx).await?,
        (Phase::Promote, Some(image)) => reevaluation::before_promotion(candidate, validated, status, image, ctx)
            .await?
            .map_or(Stage::Promote, |again| Stage::Reevaluate(Box::new(again))),
        // What lost its built image is built again: the same inputs give the same Job, whose digest is read.
        (Phase::Build | Phase::Check | Phase::Promote, _) => Stage::Build(build(candidate, validated, ctx).await?),
        (Phase::Released | Phase::Rejected | Phase::Error | Phase::Superseded, _) => Stage::Finished,
    };
    // Asked where something new is known, or people come to rely on it: the upstream digest, the built one, the promotion.
    let built = match &stage {
        Stage::Pull => None,
        Stage::Build(JobState::Delivered(built)) => Some(built),
        Stage::Promote => status.built_digest.as_ref(),
        Stage::Finished
        | Stage::Unwanted { .. }
        | Stage::Recalled(_)
        | Stage::Released
        | Stage::Rescan { .. }
        | Stage::Verify(_)
        | Stage::Build(_)
        | Stage::Check { .. }
        | Stage::Reevaluate(_) => return Ok(stage),
    };
    let recalled = recall::recalled(candidate, validated, built, ctx).await?;
    Ok(recalled.map_or(stage, Stage::Recalled))
}

async fn unwanted(wanted: Wanted, validated: &ValidatedCandidate, ctx: &Context) -> Result<Stage, Error> {
    let jobs = match &wanted {
        Wanted::No { .. } => jobs::own(validated, ctx).await?,
        Wanted::Yes | Wanted::NotYetKnown { .. } | Wanted::Suspended | Wanted::BaseImageGone { .. } => Vec::new(),
    };
    Ok(Stage::Unwanted { wanted, jobs })
}

async fn build(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    ctx: &Context,
) -> Result<JobState<Digest>, Error> {
    let name = super::jobs::build_name(&validated.name);
    let asked = |attempt| super::jobs::build(candidate, validated, &ctx.settings, attempt).1;
    job(
        ctx,
        validated,
        (&name, "push"),
        asked,
        |_, termination| match termination {
            Termination::Pushed { digest, .. } => Ok(digest),
            other => Err(format!("expected the digest of the pushed image, found {other:?}")),
        },
    )
    .await
}

async fn checks(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    status: &ImageCandidateStatus,
    image: Digest,
    ctx: &Context,
) -> Result<Stage, Error> {
    let mut states = Vec::new();
    let reusable = ReusableReports::of(candidate, validated, &image, ctx).await?;
    // A report may be megabytes: one at a time is in memory, and the next is read when this one is kept.
    let mut one_is_there = false;
    for check in &validated.checks {
        let judged = status.check(&check.name).is_some();
        let mut check = check.clone();
        if !judged {
            check.database = ctx.databases.current(&ctx.registry, &ctx.settings, check.tool).await?;
            check.day = reusable_reports::day(&check, status, candidate);
        }
        let state = if judged {
            CheckState::Judged
        } else if one_is_there {
            CheckState::Job(JobState::Running("another report is kept first".to_owned()))
        } else {
            let key = check.key(&image, &ctx.settings.tools_image);
            let state = match reusable.report(&check, &key, &image, candidate, validated, ctx).await? {
                Some(delivery) => JobState::Delivered(delivery),
                None => check_job(candidate, ctx, validated, &check, &image).await?,
            };
            one_is_there = matches!(state, JobState::Delivered(_));
            CheckState::Job(state)
        };
        states.push((check, state));
    }
    let open: Vec<&PlannedCheck> = states
        .iter()
        .filter(|(_, state)| !matches!(state, CheckState::Judged))
        .map(|(check, _)| check)
        .collect();
    let self_tests = self_tests::observe(&open, ctx).await?;
    for (check, state) in &mut states {
        withhold(check, state, &self_tests);
    }
    // Only a Job that is still to be created needs it: what runs or is judged must not cost registry requests.
    let starts = |state: &CheckState| matches!(state, CheckState::Job(JobState::Absent(_) | JobState::Broken { .. }));
    let env = if states.iter().any(|(_, state)| starts(state)) {
        environment(candidate, validated, &image, ctx).await?
    } else {
        Vec::new()
    };
    let evaluation_inputs =
        Box::new(evaluation_inputs::evaluation_inputs(ctx, candidate, validated, &image, &delivered(&states)).await?);
    Ok(Stage::Check {
        evaluation_inputs,
        image,
        env,
        self_tests,
        checks: states,
    })
}

/// The checks whose report has come.
fn delivered(checks: &[(PlannedCheck, CheckState)]) -> Vec<&PlannedCheck> {
    let has = |state: &CheckState| matches!(state, CheckState::Job(JobState::Delivered(_)));
    checks
        .iter()
        .filter(|(_, state)| has(state))
        .map(|(check, _)| check)
        .collect()
}

/// A report does not count before its tool is believed: until then it reads as not delivered.
fn withhold(check: &PlannedCheck, state: &mut CheckState, self_tests: &[SelfTest]) {
    let CheckState::Job(JobState::Delivered(_)) = state else {
        return;
    };
    let test = self_tests.iter().find(|test| test.covers(check));
    let waits = match test.map(|test| &test.state) {
        None | Some(SelfTestState::Yes) => return,
        Some(SelfTestState::No(why)) => format!("its report does not count: {why}"),
        Some(SelfTestState::NotYet(_)) => "its report counts when the self-test of the tool has passed".to_owned(),
    };
    *state = CheckState::Job(JobState::Running(waits));
}

/// The environment in the built image's config.
async fn environment(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    image: &Digest,
    ctx: &Context,
) -> Result<Vec<String>, Error> {
    let secret = candidate.spec.promote.push_secret_ref.as_ref();
    let auth: Auth = inputs::registry_auth(ctx, &validated.namespace, secret).await?;
    let staged = validated.staging.at(image);
    Ok(ctx
        .registry
        .image_config(&staged, &Platform::linux_amd64(), &auth)
        .await?
        .env)
}

async fn check_job(
    candidate: &ImageCandidate,
    ctx: &Context,
    validated: &ValidatedCandidate,
    check: &PlannedCheck,
    image: &Digest,
) -> Result<JobState<Box<Delivery>>, Error> {
    let name = super::jobs::check_name(&check.key(image, &ctx.settings.tools_image));
    // The environment of the image is in its inputs and not in its pod.
    let asked = |attempt| super::jobs::check(candidate, validated, &ctx.settings, check, image, &[], attempt).1;
    report_of(ctx, validated, &name, asked, (check, image)).await
}

/// Follows the Job of this name, which delivers a report of the check.
async fn report_of(
    ctx: &Context,
    validated: &ValidatedCandidate,
    name: &str,
    asked: impl Fn(u32) -> Job,
    (check, image): (&PlannedCheck, &Digest),
) -> Result<JobState<Box<Delivery>>, Error> {
    let (name_of_check, tool) = (check.name.clone(), check.tool);
    job(ctx, validated, (name, "check"), asked, move |log, termination| {
        read_report(&name_of_check, tool, image, log, termination)
    })
    .await
}

/// From the log and the termination message to a report that is believed, or why not.
fn read_report(
    check: &str,
    tool: ToolName,
    image: &Digest,
    log: &[u8],
    termination: Termination,
) -> Result<Box<Delivery>, String> {
    let Termination::Reported(reported) = termination else {
        return Err(format!("expected a report, found {termination:?}"));
    };
    // The API server cuts a log at what was asked for: behind that may be anything.
    if log.len() >= frame::MAX_LOG {
        return Err(format!(
            "expected a log of less than {} bytes, found one that was cut there: the report is torn",
            frame::MAX_LOG
        ));
    }
    let Delivery { report, attached } = frame::decode(log, &reported.sha256).map_err(|error| error.to_string())?;
    let report = report.validate(check, image, tool).map_err(|error| error.to_string())?;
    Ok(Box::new(Delivery { report, attached }))
}
