//! Looks at where a candidate stands: the staging repository, upstream's signature, its Jobs and their reports. Reads only.
//!
//! Only what the next step needs is read: a step whose condition is true is never looked at again.

pub mod again;
mod known;
mod pod;
pub mod released;
pub mod self_tests;

use self_tests::{SelfTest, Trusted};

use super::{
    judging::{self, Judging},
    validate::{PlannedCheck, Wish},
    wanted::{self, Wanted},
};
use crate::{
    api::{
        BaseImage, ImageCandidate, ImageCandidateStatus,
        image_candidate::{CandidateResult, Step},
        refs::LABEL_CANDIDATE,
    },
    controllers::{
        conditions,
        context::Context,
        databases,
        error::{Class, Classified, WAIT},
        inputs, slots,
    },
    domain::{digest::Digest, report::ToolName},
    evidence::{cosign, signing::PublicKey},
    registry::{self, Auth, Platform},
    runner::frame::{self, Delivery, Termination},
};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};

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
        /// The Jobs of a superseded candidate that take up slots.
        unfinished: Vec<JobRef>,
    },
    /// It is released and up to date: it is looked at again when the database may have changed.
    Released,
    /// It is released, and its scans must be made again.
    Again {
        /// The built image.
        image: Digest,
        /// Whether the scanners are believed.
        self_tests: Vec<SelfTest>,
        /// What the reports that have come are judged with.
        judging: Box<Judging>,
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
        judging: Box<Judging>,
    },
    /// It was refused with other waivers than there are now: its stored reports are judged anew.
    Judge(Box<again::Again>),
    /// Everything passed: it must be promoted.
    Promote(Digest),
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
    Genuine(String),
    /// One does not, for good.
    Refused(String),
    /// No signature is there yet: upstreams push it after the image.
    NotSignedYet(String),
    /// No way is declared.
    NothingDeclared,
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

/// Something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Secret or its key.
    #[error(transparent)]
    Input(#[from] inputs::Error),
    /// The registry.
    #[error("registry: {0}")]
    Registry(#[from] registry::Error),
    /// A signature could not be looked at.
    #[error("upstream's signature: {0}")]
    Signature(#[from] cosign::VerifyError),
    /// The vulnerability database.
    #[error(transparent)]
    Database(#[from] databases::Error),
    /// The Kubernetes API.
    #[error("Kubernetes API: {0}")]
    Api(#[from] kube::Error),
}

impl Classified for Error {
    fn reason(&self) -> &'static str {
        match self {
            Self::Input(error) => error.reason(),
            Self::Registry(error) | Self::Database(databases::Error::Registry(error)) => error.reason(),
            Self::Signature(error) => error.reason(),
            Self::Database(databases::Error::Missing(_)) => "DatabaseMissing",
            Self::Api(_) => "ApiError",
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Input(error) => error.class(),
            Self::Registry(error) => error.retry_after().map_or(Class::Transient, Class::Waiting),
            Self::Signature(error) => error.retry_after().map_or(Class::Transient, Class::Waiting),
            Self::Database(databases::Error::Registry(error)) => {
                error.retry_after().map_or(Class::Transient, Class::Waiting)
            }
            Self::Database(databases::Error::Missing(_)) => Class::Waiting(WAIT),
            Self::Api(_) => Class::Transient,
        }
    }
}

/// Reads what the next step needs.
pub async fn observe(candidate: &ImageCandidate, wish: &Wish, ctx: &Context) -> Result<Observed, Error> {
    let status = candidate.status.clone().unwrap_or_default();
    let stage = match status.result {
        Some(CandidateResult::Passed) => released::observe(candidate, wish, &status, ctx).await?,
        Some(CandidateResult::Rejected) => again::observe(candidate, wish, &status, ctx)
            .await?
            .map_or(Stage::Finished, |again| Stage::Judge(Box::new(again))),
        Some(CandidateResult::Error | CandidateResult::Superseded) => Stage::Finished,
        Some(CandidateResult::Running | CandidateResult::Waiting) | None => match ask(candidate, ctx).await? {
            Wanted::Yes => next_step(candidate, wish, &status, ctx).await?,
            wanted => unwanted(wanted, wish, ctx).await?,
        },
    };
    Ok(Observed { stage })
}

async fn next_step(
    candidate: &ImageCandidate,
    wish: &Wish,
    status: &ImageCandidateStatus,
    ctx: &Context,
) -> Result<Stage, Error> {
    let done = |step: Step| conditions::is_true(&status.conditions, step.as_str());
    if !done(Step::Pulled) {
        return Ok(Stage::Pull);
    }
    if !done(Step::Verified) {
        return Ok(Stage::Verify(verification(candidate, wish, ctx).await?));
    }
    Ok(match status.built_digest.clone().filter(|_| done(Step::Built)) {
        None => Stage::Build(build(wish, ctx).await?),
        Some(image) if done(Step::Validated) && done(Step::Scanned) => Stage::Promote(image),
        Some(image) => checks(candidate, wish, status, image, ctx).await?,
    })
}

/// Asks the live BaseImage whether it wants this candidate.
pub async fn ask(candidate: &ImageCandidate, ctx: &Context) -> Result<Wanted, kube::Error> {
    let namespace = candidate.namespace().unwrap_or_default();
    let bases = Api::<BaseImage>::namespaced(ctx.client.clone(), &namespace);
    let base = bases.get_opt(&candidate.spec.base_image).await?;
    let named = match base.as_ref().and_then(|base| wanted::other(candidate, base)) {
        Some(name) => {
            let candidates = Api::<ImageCandidate>::namespaced(ctx.client.clone(), &namespace);
            candidates.get_opt(name).await?
        }
        None => None,
    };
    Ok(wanted::wanted(candidate, base.as_ref(), named.as_ref()))
}

async fn unwanted(wanted: Wanted, wish: &Wish, ctx: &Context) -> Result<Stage, Error> {
    let unfinished = match &wanted {
        Wanted::No { .. } => unfinished_jobs(wish, ctx).await?,
        Wanted::Yes | Wanted::NotYetKnown { .. } | Wanted::Suspended | Wanted::BaseImageGone { .. } => Vec::new(),
    };
    Ok(Stage::Unwanted { wanted, unfinished })
}

/// Most Jobs of one candidate that are looked at: its checks, its build and their attempts are far fewer.
const MAX_JOBS: u32 = 500;

async fn unfinished_jobs(wish: &Wish, ctx: &Context) -> Result<Vec<JobRef>, Error> {
    let params = ListParams::default()
        .labels(&format!("{LABEL_CANDIDATE}={}", wish.name))
        .limit(MAX_JOBS);
    let jobs = Api::<Job>::namespaced(ctx.client.clone(), &wish.namespace)
        .list(&params)
        .await?;
    let mine = jobs
        .into_iter()
        .filter(|job| is_owned(job, wish) && !slots::is_finished(job));
    Ok(mine
        .filter_map(|job| {
            let (name, uid) = (job.metadata.name?, job.metadata.uid?);
            Some(JobRef { name, uid })
        })
        .collect())
}

async fn verification(candidate: &ImageCandidate, wish: &Wish, ctx: &Context) -> Result<Verification, Error> {
    let mut proofs = Vec::new();
    for (n, way) in candidate.spec.verify.iter().enumerate() {
        if let Some(digests) = &way.digests {
            let digest = candidate.spec.source_digest.as_str();
            if !digests.iter().any(|allowed| allowed == digest) {
                let message = format!(
                    "{digest} is not in spec.verify[{n}].digests: look at what upstream published, and add it there if it is genuine"
                );
                return Ok(Verification::Refused(message));
            }
            proofs.push("its digest is on the allow list".to_owned());
        }
        if let Some(cosign) = &way.cosign {
            let pem = inputs::secret_key(ctx, &wish.namespace, &cosign.key_ref, "cosign.pub").await?;
            match signature(candidate, wish, ctx, &pem).await? {
                Verification::Genuine(proof) => proofs.push(proof),
                other => return Ok(other),
            }
        }
    }
    if proofs.is_empty() {
        Ok(Verification::NothingDeclared)
    } else {
        Ok(Verification::Genuine(proofs.join("; ")))
    }
}

async fn signature(candidate: &ImageCandidate, wish: &Wish, ctx: &Context, pem: &str) -> Result<Verification, Error> {
    let key = match PublicKey::from_pem(pem) {
        Ok(key) => key,
        Err(error) => return Ok(Verification::Refused(format!("the public key cannot be used: {error}"))),
    };
    let auth = inputs::registry_auth(ctx, &wish.namespace, candidate.spec.pull_secret_ref.as_ref()).await?;
    match cosign::verify(
        &ctx.registry,
        &candidate.spec.source,
        &candidate.spec.source_digest,
        &key,
        &auth,
    )
    .await
    {
        Ok(verified) => Ok(Verification::Genuine(format!(
            "cosign signature ({:?}) by the declared key",
            verified.form
        ))),
        Err(error @ cosign::VerifyError::NoSignature { .. }) => Ok(Verification::NotSignedYet(error.to_string())),
        Err(error @ (cosign::VerifyError::NotByThisKey { .. } | cosign::VerifyError::SignedOther { .. })) => {
            Ok(Verification::Refused(error.to_string()))
        }
        Err(error @ cosign::VerifyError::Registry(_)) => Err(error.into()),
    }
}

async fn build(wish: &Wish, ctx: &Context) -> Result<JobState<Digest>, Error> {
    let name = super::jobs::build_name(&wish.name);
    job(ctx, wish, &name, "push", |_, termination| match termination {
        Termination::Pushed { digest, .. } => Ok(digest),
        other => Err(format!("expected the digest of the pushed image, found {other:?}")),
    })
    .await
}

async fn checks(
    candidate: &ImageCandidate,
    wish: &Wish,
    status: &ImageCandidateStatus,
    image: Digest,
    ctx: &Context,
) -> Result<Stage, Error> {
    let mut states = Vec::new();
    let known = known::Known::of(candidate, wish, &image, ctx).await?;
    for check in &wish.checks {
        let judged = status.check(&check.name).is_some();
        let mut check = check.clone();
        if !judged {
            check.database = ctx.databases.current(ctx, check.tool).await?;
            check.day = known::day(&check, status, candidate);
        }
        let state = if judged {
            CheckState::Judged
        } else {
            let key = check.key(&image, &ctx.settings.tools_image);
            match known.report(&check, &key, &image, candidate, wish, ctx).await? {
                Some(delivery) => CheckState::Job(JobState::Delivered(delivery)),
                None => CheckState::Job(check_job(ctx, wish, &check, &image).await?),
            }
        };
        states.push((check, state));
    }
    let open: Vec<&PlannedCheck> = states
        .iter()
        .filter(|(_, state)| !matches!(state, CheckState::Judged))
        .map(|(check, _)| check)
        .collect();
    let self_tests = self_tests::observe(&open, wish, ctx).await?;
    for (check, state) in &mut states {
        withhold(check, state, &self_tests);
    }
    // Only a Job that is still to be created needs it: what runs or is judged must not cost registry requests.
    let starts = |state: &CheckState| matches!(state, CheckState::Job(JobState::Absent(_) | JobState::Broken { .. }));
    let env = if states.iter().any(|(_, state)| starts(state)) {
        environment(candidate, wish, &image, ctx).await?
    } else {
        Vec::new()
    };
    let judging = Box::new(judging::judging(ctx, candidate, wish, &image, &states).await?);
    Ok(Stage::Check {
        judging,
        image,
        env,
        self_tests,
        checks: states,
    })
}

/// A report does not count before its tool is believed: until then it reads as not delivered.
fn withhold(check: &PlannedCheck, state: &mut CheckState, self_tests: &[SelfTest]) {
    let CheckState::Job(JobState::Delivered(_)) = state else {
        return;
    };
    let test = self_tests.iter().find(|test| test.covers(check));
    let waits = match test.map(|test| &test.state) {
        None | Some(Trusted::Yes) => return,
        Some(Trusted::No(why)) => format!("its report does not count: {why}"),
        Some(Trusted::NotYet(_)) => "its report counts when the self-test of the tool has passed".to_owned(),
    };
    *state = CheckState::Job(JobState::Running(waits));
}

/// The environment in the built image's config.
async fn environment(
    candidate: &ImageCandidate,
    wish: &Wish,
    image: &Digest,
    ctx: &Context,
) -> Result<Vec<String>, Error> {
    let secret = candidate.spec.promote.push_secret_ref.as_ref();
    let auth: Auth = inputs::registry_auth(ctx, &wish.namespace, secret).await?;
    let staged = wish.staging.at(image);
    Ok(ctx
        .registry
        .image_config(&staged, &Platform::linux_amd64(), &auth)
        .await?
        .env)
}

async fn check_job(
    ctx: &Context,
    wish: &Wish,
    check: &PlannedCheck,
    image: &Digest,
) -> Result<JobState<Box<Delivery>>, Error> {
    let name = super::jobs::check_name(&check.key(image, &ctx.settings.tools_image));
    report_of(ctx, wish, &name, check, image).await
}

/// Follows the Job of this name, which delivers a report of the check.
async fn report_of(
    ctx: &Context,
    wish: &Wish,
    name: &str,
    check: &PlannedCheck,
    image: &Digest,
) -> Result<JobState<Box<Delivery>>, Error> {
    let (name_of_check, tool) = (check.name.clone(), check.tool);
    job(ctx, wish, name, "check", move |log, termination| {
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
    let Delivery { report, attached } = frame::decode(log, &reported.sha256).map_err(|error| error.to_string())?;
    let report = report.validate(check, image, tool).map_err(|error| error.to_string())?;
    Ok(Box::new(Delivery { report, attached }))
}

/// Follows the attempts at one Job of this candidate to the newest and reads what its main container delivered.
async fn job<T>(
    ctx: &Context,
    wish: &Wish,
    name: &str,
    container: &str,
    read: impl Fn(&[u8], Termination) -> Result<T, String>,
) -> Result<JobState<T>, Error> {
    let foreign = |job: &Job| !is_owned(job, wish);
    follow(ctx, wish, name, container, foreign, read).await
}

/// The same for a Job that several candidates share.
async fn any_job<T>(
    ctx: &Context,
    wish: &Wish,
    name: &str,
    container: &str,
    read: impl Fn(&[u8], Termination) -> Result<T, String>,
) -> Result<JobState<T>, Error> {
    follow(ctx, wish, name, container, |_| false, read).await
}

async fn follow<T>(
    ctx: &Context,
    wish: &Wish,
    name: &str,
    container: &str,
    foreign: impl Fn(&Job) -> bool,
    read: impl Fn(&[u8], Termination) -> Result<T, String>,
) -> Result<JobState<T>, Error> {
    let jobs = Api::<Job>::namespaced(ctx.client.clone(), &wish.namespace);
    let mut newest = None;
    for attempt in 1..=MAX_ATTEMPTS {
        match jobs.get_opt(&super::jobs::attempt_name(name, attempt)).await? {
            Some(job) => newest = Some((attempt, job)),
            None => break,
        }
    }
    let Some((attempt, job)) = newest else {
        return Ok(JobState::Absent(1));
    };
    if foreign(&job) {
        // Either a candidate of the same name was deleted: its Jobs say nothing about this one and are collected soon. Or
        // another candidate examines the same image: its report is taken over when it is judged.
        return Ok(JobState::Running(
            "another candidate's Job does the same: its report is taken over, or this one starts when that is gone"
                .into(),
        ));
    }
    let pod = pod_of(ctx, wish, &super::jobs::attempt_name(name, attempt)).await?;
    if !slots::is_finished(&job) {
        return Ok(JobState::Running(
            pod.as_ref().map_or_else(|| "waiting for its pod".into(), pod::describe),
        ));
    }
    match delivered(ctx, wish, pod.as_ref(), container, read).await? {
        Ok(delivery) => Ok(JobState::Delivered(delivery)),
        // The next attempt is created by the plan; here it is only said that this one is over.
        Err(message) => Ok(JobState::Broken { attempt, message }),
    }
}

fn is_owned(job: &Job, wish: &Wish) -> bool {
    job.metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.uid == wish.uid)
}

async fn pod_of(ctx: &Context, wish: &Wish, job: &str) -> Result<Option<Pod>, Error> {
    let params = ListParams::default()
        .labels(&format!("batch.kubernetes.io/job-name={job}"))
        .limit(5);
    Ok(Api::<Pod>::namespaced(ctx.client.clone(), &wish.namespace)
        .list(&params)
        .await?
        .items
        .into_iter()
        .next())
}

async fn delivered<T>(
    ctx: &Context,
    wish: &Wish,
    pod: Option<&Pod>,
    container: &str,
    read: impl Fn(&[u8], Termination) -> Result<T, String>,
) -> Result<Result<T, String>, Error> {
    let termination = match pod::ended(pod, container) {
        Ok(termination) => termination,
        Err(message) => return Ok(Err(message)),
    };
    let log = match &termination {
        Termination::Reported(_) => match pod {
            Some(pod) => log_of(ctx, wish, pod, container).await?,
            None => Vec::new(),
        },
        Termination::Pulled { .. }
        | Termination::Pushed { .. }
        | Termination::Built { .. }
        | Termination::Installed { .. }
        | Termination::Copied { .. }
        | Termination::Failed(_) => Vec::new(),
    };
    Ok(read(&log, termination))
}

async fn log_of(ctx: &Context, wish: &Wish, pod: &Pod, container: &str) -> Result<Vec<u8>, Error> {
    let limit = i64::try_from(frame::MAX_LOG).unwrap_or(i64::MAX);
    let params = LogParams {
        container: Some(container.to_owned()),
        limit_bytes: Some(limit),
        ..LogParams::default()
    };
    let name = pod.metadata.name.clone().unwrap_or_default();
    let api = Api::<Pod>::namespaced(ctx.client.clone(), &wish.namespace);
    match api.logs(&name, &params).await {
        Ok(log) => Ok(log.into_bytes()),
        // A log that was collected with its pod reads as empty: the report is then torn, never passed.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
