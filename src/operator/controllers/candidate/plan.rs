//! Decides the next actions for a candidate. Pure: no client, no clock, no environment.

use super::{
    jobs,
    observe::{
        CheckState, JobRef, JobState, MAX_ATTEMPTS, Observed, Stage, released,
        self_tests::{SelfTest, Trusted},
    },
    validate::{PlannedCheck, Wish},
};
use crate::{api::ImageCandidate, controllers::context::Settings, domain::digest::Digest, runner::frame::Delivery};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};

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
    /// Delete a Job that has not ended, with its pods: its candidate is superseded.
    CancelJob(JobRef),
    /// Copy to production, sign, attach the evidence, move the channel tag.
    Promote {
        /// The built image.
        image: Digest,
    },
}

/// The page, where it is due, and the actions for the stage that is next.
pub fn plan(candidate: &ImageCandidate, wish: &Wish, observed: &Observed, settings: &Settings) -> Vec<Action> {
    // What is judged anew gets a page of its own when that is done; nobody reads one of what is not wanted.
    let without = matches!(observed.stage, Stage::Judge(_) | Stage::Unwanted { .. });
    let page = page_due(candidate, wish).filter(|_| !without);
    let page = page.map(|image| Action::PublishPage { image });
    page.into_iter()
        .chain(next_stage(candidate, wish, observed, settings))
        .collect()
}

/// The built image, when all its checks are judged (whatever they came to) and it has no page yet.
fn page_due(candidate: &ImageCandidate, wish: &Wish) -> Option<Digest> {
    let status = candidate.status.as_ref()?;
    let all = !wish.checks.is_empty() && wish.checks.iter().all(|check| status.check(&check.name).is_some());
    status.built_digest.clone().filter(|_| all && status.page.is_none())
}

fn next_stage(candidate: &ImageCandidate, wish: &Wish, observed: &Observed, settings: &Settings) -> Vec<Action> {
    match &observed.stage {
        Stage::Pull => vec![Action::CopyToStaging],
        // What was verified or judged anew is only said in the status; nothing is done.
        Stage::Finished | Stage::Released | Stage::Verify(_) | Stage::Judge(_) => Vec::new(),
        Stage::Unwanted { unfinished, .. } => unfinished.iter().cloned().map(Action::CancelJob).collect(),
        Stage::Build(_) if !wish.violations.is_empty() => Vec::new(),
        Stage::Build(state) => next_attempt(state)
            .map(|attempt| create(jobs::build(candidate, wish, settings, attempt)))
            .into_iter()
            .collect(),
        Stage::Again {
            image,
            self_tests,
            checks,
            ..
        } => {
            let mut actions = self_test_jobs(candidate, wish, settings, self_tests);
            actions.extend(scans_again(candidate, wish, settings, image, checks));
            actions
        }
        Stage::Check {
            image,
            env,
            self_tests,
            checks,
            ..
        } => {
            let mut actions = self_test_jobs(candidate, wish, settings, self_tests);
            for (check, state) in checks {
                let CheckState::Job(state) = state else { continue };
                actions.extend(next_of_check(image, state, |attempt| {
                    jobs::check(candidate, wish, settings, check, image, env, attempt)
                }));
            }
            actions
        }
        Stage::Promote(image) => vec![Action::Promote { image: image.clone() }],
    }
}

/// The self-tests that have to be started.
fn self_test_jobs(candidate: &ImageCandidate, wish: &Wish, settings: &Settings, tests: &[SelfTest]) -> Vec<Action> {
    let due = tests.iter().filter_map(|test| match &test.state {
        Trusted::Yes | Trusted::No(_) => None,
        Trusted::NotYet(state) => Some((test, next_attempt(state)?)),
    });
    due.map(|(test, attempt)| create(jobs::self_test(candidate, wish, settings, test, attempt)))
        .collect()
}

/// The scans of a released image that have to be made again, and the reports that have come.
fn scans_again(
    candidate: &ImageCandidate,
    wish: &Wish,
    settings: &Settings,
    image: &Digest,
    checks: &[(PlannedCheck, CheckState)],
) -> Vec<Action> {
    let status = candidate.status.clone().unwrap_or_default();
    let mut actions = Vec::new();
    for (check, state) in checks {
        let CheckState::Job(state) = state else { continue };
        let Some(artifact) = released::artifact(&status, &check.name) else {
            continue;
        };
        actions.extend(next_of_check(image, state, |attempt| {
            let name = jobs::rescan_name(&check.key(image, &settings.tools_image));
            let staged = wish.staging.at(image);
            let again = jobs::Rescan {
                image: &staged,
                digest: image,
                artifact,
            };
            let name = jobs::attempt_name(&name, attempt);
            jobs::rescan(candidate, wish, settings, check, again, &name)
        }));
    }
    actions
}

/// What a check's Job asks for: its report is kept, or its next attempt is made.
fn next_of_check(
    image: &Digest,
    state: &JobState<Box<Delivery>>,
    job: impl FnOnce(u32) -> (ConfigMap, Job),
) -> Option<Action> {
    if let JobState::Delivered(delivery) = state {
        return Some(Action::StoreReport {
            image: image.clone(),
            delivery: delivery.clone(),
        });
    }
    next_attempt(state).map(|attempt| create(job(attempt)))
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
        JobState::Broken { .. } | JobState::Running(_) | JobState::Delivered(_) => None,
    }
}
