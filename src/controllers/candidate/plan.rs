//! Decides the next actions for a candidate. Pure: no client, no clock, no environment.

use super::{
    jobs,
    observe::{CheckState, JobState, MAX_ATTEMPTS, Observed, Stage},
    validate::Wish,
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
    /// Copy to production, sign, attach the evidence, move the channel tag.
    Promote {
        /// The built image.
        image: Digest,
    },
}

/// The actions for the stage that is next.
pub fn plan(candidate: &ImageCandidate, wish: &Wish, observed: &Observed, settings: &Settings) -> Vec<Action> {
    match &observed.stage {
        Stage::Pull => vec![Action::CopyToStaging],
        // What was verified is only said in the status; nothing is done.
        Stage::Finished | Stage::Verify(_) => Vec::new(),
        Stage::Build(_) if !wish.violations.is_empty() => Vec::new(),
        Stage::Build(state) => next_attempt(state)
            .map(|attempt| {
                let (inputs, job) = jobs::build(candidate, wish, settings, attempt);
                Action::CreateJob {
                    inputs: Box::new(inputs),
                    job: Box::new(job),
                }
            })
            .into_iter()
            .collect(),
        Stage::Check { image, env, checks } => {
            let mut actions = Vec::new();
            for (check, state) in checks {
                match state {
                    CheckState::Judged => {}
                    CheckState::Job(JobState::Delivered(delivery)) => {
                        actions.push(Action::StoreReport {
                            image: image.clone(),
                            delivery: delivery.clone(),
                        });
                    }
                    CheckState::Job(state) => actions.extend(next_attempt(state).map(|attempt| {
                        let (inputs, job) = jobs::check(candidate, wish, settings, check, image, env, attempt, None);
                        Action::CreateJob {
                            inputs: Box::new(inputs),
                            job: Box::new(job),
                        }
                    })),
                }
            }
            actions
        }
        Stage::Promote(image) => vec![Action::Promote { image: image.clone() }],
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
