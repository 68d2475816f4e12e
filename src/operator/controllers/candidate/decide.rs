//! Decides what happens with a candidate next, and says why it waits. Pure: no client, no clock, no environment.
//!
//! Order, verdict and refusal are all here and in `gate`; `observe` only reads, `apply` only writes, `status` only prints.

use super::{
    evaluation::{CHECK_MESSAGE, Evaluation, FINDING_LINE},
    gate::{Refusal, Verdict},
    jobs,
    observe::{
        JobRef, JobState, MAX_ATTEMPTS, Observed, Stage,
        self_tests::{SelfTest, SelfTestState},
    },
    validate::ValidatedCandidate,
};
use crate::{
    api::{ImageCandidate, image_candidate::Step, phase::Phase},
    controllers::{context::Settings, desired::wanted::Wanted, driver::Requeue},
    domain::{digest::Digest, proof::Proof, recall::Recalled, report::Severity, verdict},
    runner::frame::Delivery,
};
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use std::{collections::BTreeMap, time::Duration};

mod evaluations;
mod steps;

/// How soon a candidate looks again that waits for something which has a watch: only an event that got lost needs it.
const SAFETY_NET: Duration = Duration::from_secs(20);
/// The same where a person must act first.
const SLOW: Duration = Duration::from_secs(300);
/// Longest pause between two looks for upstream's signature: the default interval in which upstream is asked at all.
const SIGNATURE_PAUSE: Duration = Duration::from_secs(30 * 60);

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Copy the upstream image to the staging repository, by digest.
    CopyToStaging,
    /// Create a Job and the ConfigMap that it mounts; both are named by what they do, so twice is once.
    CreateJob {
        /// Its inputs.
        inputs: Box<ConfigMap>,
        /// The Job.
        job: Box<Job>,
    },
    /// Keep a report with the built image.
    StoreReport {
        /// The built image.
        image: Digest,
        /// The report and what goes with it.
        delivery: Box<Delivery>,
    },
    /// Write the page for people and attach it to the built image. It may fail without holding anything else up.
    PublishPage {
        /// The built image.
        image: Digest,
    },
    /// Delete a Job with its pods: its candidate is superseded.
    DeleteJob(JobRef),
    /// Copy to production, sign, attach the evidence, move the channel tag.
    Promote(Proof),
}

/// Why nothing more is done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingOn {
    /// The BaseImage: it does not want this candidate, or has not said so yet.
    BaseImage(Wanted),
    /// Upstream's signature, which is pushed after the image.
    Signature(String),
    /// A person: no way to verify upstream is configured.
    VerificationConfigured,
    /// The build.
    Build {
        /// Condition reason.
        reason: &'static str,
        /// What its Job or pod does.
        what: String,
    },
    /// Checks of one gate.
    Checks {
        /// `Validated` or `Scanned`.
        step: Step,
        /// The built image, short.
        image: String,
        /// Their names.
        open: Vec<String>,
    },
    /// The rules look at all results, and scans still run.
    Rules,
    /// A rescan of the release.
    Rescan {
        /// The check.
        check: String,
        /// What its Job does; nothing before it has one.
        what: Option<String>,
    },
}

/// A scan of a release, judged with the newest database.
#[derive(Debug, Clone, PartialEq)]
pub struct Rescanned {
    /// The check.
    pub check: String,
    /// Hash over the image, the check, the tool and the database.
    pub key: Digest,
    /// Its verdict.
    pub verdict: verdict::Verdict,
    /// One line for people.
    pub message: String,
    /// Findings that count, per severity.
    pub counts: BTreeMap<Severity, u32>,
    /// How many findings an update would repair.
    pub fixable: u32,
    /// The worst findings, at most 5.
    pub top: Vec<String>,
}

/// What becomes of the candidate, once the actions are done.
#[derive(Debug, Clone, PartialEq)]
pub enum Course {
    /// It stays where it is; [`Decision::waiting_on`] says why.
    Stay,
    /// It is decided, and nothing is said any more about tools and databases of today.
    Settled,
    /// It is released, and the newest databases change nothing.
    Current,
    /// It is released, and these scans were made again.
    Rescanned {
        /// What they came to.
        scans: Vec<Rescanned>,
        /// Tools that are not believed, in words.
        distrusted: Vec<String>,
    },
    /// A step is done.
    Done {
        /// Which.
        step: Step,
        /// What is next.
        next: Phase,
        /// The image that it built.
        built: Option<Digest>,
        /// Condition reason.
        reason: &'static str,
        /// What is so now.
        message: String,
    },
    /// Reports were judged.
    Judged {
        /// What they came to, with what was judged before.
        evaluation: Box<Evaluation>,
        /// How the gates stand.
        verdict: Box<Verdict>,
        /// Tools that are not believed, in words.
        distrusted: Vec<String>,
    },
    /// A refusal was evaluated again with other waivers, or why it could not be.
    Reevaluated {
        /// Which waivers are in force.
        in_force: String,
        /// What it came to.
        result: Result<(Box<Evaluation>, Box<Verdict>), String>,
    },
    /// It is promoted.
    Promoted,
    /// It is out.
    Out(Refusal),
}

/// What is decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What is to be done, in this order.
    pub actions: Vec<Action>,
    /// What becomes of it then.
    pub course: Course,
    /// Why nothing more is done.
    pub waiting_on: Vec<WaitingOn>,
    /// When to look again, if nothing happens before.
    pub requeue: Requeue,
}

impl Decision {
    fn new(course: Course, requeue: Requeue) -> Self {
        Self {
            actions: Vec::new(),
            course,
            waiting_on: Vec::new(),
            requeue,
        }
    }

    /// A step that went on: its status wakes the next look.
    fn go_on(course: Course) -> Self {
        Self::new(course, Requeue::After(SAFETY_NET))
    }

    fn wait(waiting_on: WaitingOn, requeue: Requeue) -> Self {
        let mut decision = Self::new(Course::Stay, requeue);
        decision.waiting_on.push(waiting_on);
        decision
    }

    fn with(mut self, actions: impl IntoIterator<Item = Action>) -> Self {
        self.actions.extend(actions);
        self
    }
}

/// What all parts of a decision look at.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    candidate: &'a ImageCandidate,
    validated: &'a ValidatedCandidate,
    settings: &'a Settings,
    now: Timestamp,
}

/// Decides, from what was observed. Reports are moved into the actions, because they are large.
pub fn decide(
    candidate: &ImageCandidate,
    validated: &ValidatedCandidate,
    observed: Observed,
    settings: &Settings,
    now: Timestamp,
) -> Decision {
    let inputs = Inputs {
        candidate,
        validated,
        settings,
        now,
    };
    // What is evaluated again gets a page of its own when that is done; nobody reads one of what is not wanted.
    let without = matches!(
        observed.stage,
        Stage::Reevaluate(_) | Stage::Unwanted { .. } | Stage::Recalled(_)
    );
    let page = page_due(candidate, validated).filter(|_| !without);
    let mut decision = inputs.next_step(observed.stage);
    if let Some(image) = page {
        decision.actions.insert(0, Action::PublishPage { image });
    }
    decision
}

/// The built image, when all its checks are judged (whatever they came to) and it has no page yet.
fn page_due(candidate: &ImageCandidate, validated: &ValidatedCandidate) -> Option<Digest> {
    let status = candidate.status.as_ref()?;
    let all = !validated.checks.is_empty() && validated.checks.iter().all(|check| status.check(&check.name).is_some());
    status.built_digest.clone().filter(|_| all && status.page.is_none())
}

impl Inputs<'_> {
    fn next_step(self, stage: Stage) -> Decision {
        match stage {
            Stage::Finished => Decision::new(Course::Settled, Requeue::AwaitChange),
            Stage::Unwanted { wanted, jobs } => self.unwanted(wanted, jobs),
            Stage::Recalled(recalled) => out(Phase::Rejected, self.step(), "Revoked", self.recalled(&recalled)),
            Stage::Released => Decision::new(Course::Current, Requeue::After(self.settings.database_interval)),
            Stage::Rescan {
                image,
                self_tests,
                evaluation_inputs,
                checks,
            } => self.rescan(&image, &self_tests, &evaluation_inputs, checks),
            Stage::Pull => self.pull(),
            Stage::Verify(verification) => self.verify(verification),
            Stage::Build(state) => self.build(&state),
            Stage::Check {
                image,
                env,
                self_tests,
                checks,
                evaluation_inputs,
            } => self.check(&image, &env, &self_tests, checks, &evaluation_inputs),
            Stage::Reevaluate(reevaluate) => self.reevaluate(&reevaluate),
            Stage::Promote => self.promote(),
        }
    }

    fn unwanted(self, wanted: Wanted, jobs: Vec<JobRef>) -> Decision {
        let requeue = match &wanted {
            Wanted::Yes | Wanted::NotYetKnown { .. } => Requeue::After(SAFETY_NET),
            Wanted::Suspended => Requeue::After(SLOW),
            Wanted::BaseImageGone { .. } => Requeue::AwaitChange,
            Wanted::No { instead } => {
                let base = &self.validated.base_image;
                return Decision::new(
                    Course::Out(Refusal {
                        phase: Phase::Superseded,
                        step: self.step(),
                        reason: "Superseded",
                        message: format!(
                            "superseded: BaseImage {base} wants {instead} now. This candidate is not promoted"
                        ),
                    }),
                    Requeue::AwaitChange,
                )
                .with(jobs.into_iter().map(Action::DeleteJob));
            }
        };
        Decision::wait(WaitingOn::BaseImage(wanted), requeue)
    }

    fn recalled(self, recalled: &Recalled) -> String {
        let (base, namespace, name) = (
            &self.validated.base_image,
            &self.validated.namespace,
            &self.validated.name,
        );
        let tag = &recalled.tag;
        format!(
            "{recalled}. Nothing is promoted. If it is good after all: kubectl repave revoke {tag} --base {base} -n {namespace} --reason <why> --lift, then delete imagecandidate {name}: its BaseImage makes it again"
        )
    }

    /// The step that it is at; the last one when all are done.
    fn step(self) -> Step {
        let status = self.candidate.status.clone().unwrap_or_default();
        Phase::of(&status).step().unwrap_or(Step::Promoted)
    }

    /// The self-tests that have to be started.
    fn self_test_jobs(self, tests: &[SelfTest]) -> Vec<Action> {
        let due = tests.iter().filter_map(|test| match &test.state {
            SelfTestState::Yes | SelfTestState::No(_) => None,
            SelfTestState::NotYet(state) => Some((test, next_attempt(state)?)),
        });
        due.map(|(test, attempt)| {
            let tested = (test.tool, test.database.as_ref());
            create(jobs::self_test(
                self.candidate,
                self.validated,
                self.settings,
                tested,
                attempt,
            ))
        })
        .collect()
    }
}

fn out(phase: Phase, step: Step, reason: &'static str, message: String) -> Decision {
    let refusal = Refusal {
        phase,
        step,
        reason,
        message,
    };
    Decision::new(Course::Out(refusal), Requeue::AwaitChange)
}

/// Which tools are not believed. Their reports are withheld, so no gate can open on them.
fn distrusted(self_tests: &[SelfTest]) -> Vec<String> {
    let refused = self_tests.iter().filter_map(|test| match &test.state {
        SelfTestState::No(why) => Some(why.clone()),
        SelfTestState::Yes | SelfTestState::NotYet(_) => None,
    });
    refused.collect()
}

/// What a check's Job asks for: its report is kept, or its next attempt is made.
fn next_of_check(
    image: &Digest,
    state: JobState<Box<Delivery>>,
    job: impl FnOnce(u32) -> (ConfigMap, Job),
) -> Option<Action> {
    let attempt = next_attempt(&state);
    match state {
        JobState::Delivered(delivery) => Some(Action::StoreReport {
            image: image.clone(),
            delivery,
        }),
        JobState::Absent(_) | JobState::Running(_) | JobState::Foreign(_) | JobState::Broken { .. } => {
            attempt.map(|attempt| create(job(attempt)))
        }
    }
}

fn create((inputs, job): (ConfigMap, Job)) -> Action {
    Action::CreateJob {
        inputs: Box::new(inputs),
        job: Box::new(job),
    }
}

/// Which attempt must be made now, if any: never more than [`MAX_ATTEMPTS`].
fn next_attempt<T>(state: &JobState<T>) -> Option<u32> {
    match state {
        JobState::Absent(attempt) => Some(*attempt),
        JobState::Broken { attempt, .. } if *attempt < MAX_ATTEMPTS => Some(attempt + 1),
        JobState::Broken { .. } | JobState::Running(_) | JobState::Foreign(_) | JobState::Delivered(_) => None,
    }
}
