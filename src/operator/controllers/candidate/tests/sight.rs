//! What a candidate's controller would read of the world of the walk. Must not change it.

use super::{
    gates::waiver,
    world::{Inputs, World, built},
    *,
};
use crate::{
    api::phase::Phase,
    controllers::{
        candidate::{
            evaluation_inputs::{EvaluationInputs, Previous},
            observe::{self, JobRef, reevaluation::Reevaluate},
        },
        desired::wanted::{self, Wanted},
    },
};

use kube::ResourceExt as _;

impl World {
    pub fn ask(&self, candidate: &ImageCandidate) -> Wanted {
        let base = self.object();
        let current = base.as_ref().and_then(|base| wanted::other(candidate, base));
        let current = current.and_then(|name| self.candidates.get(name)).map(|(one, _)| one);
        wanted::named(candidate, base.as_ref(), current)
    }

    /// How the newest attempt at a Job stands, as `observe::jobs` reads it.
    fn job<T>(&self, candidate: &ImageCandidate, name: &str, delivered: T) -> JobState<T> {
        let attempts = (1..=MAX_ATTEMPTS).map_while(|n| Some((n, self.jobs.get(&jobs::attempt_name(name, n))?)));
        match attempts.last() {
            None => JobState::Absent(1),
            Some((_, job)) if Some(&job.owner) != candidate.metadata.uid.as_ref() => JobState::Running("other".into()),
            Some((_, job)) if job.ended.is_none() => JobState::Running("pod".into()),
            Some((_, job)) if job.ended == Some(true) => JobState::Delivered(delivered),
            Some((attempt, _)) => JobState::Broken {
                attempt,
                message: "evicted".into(),
            },
        }
    }

    /// Whether another candidate of the BaseImage has kept this report, as `observe::reusable_reports` reads it.
    fn is_known(&self, candidate: &ImageCandidate, key: &Digest) -> bool {
        let others = self.candidates.values().filter(|(one, _)| one.uid() != candidate.uid());
        let checks = others
            .filter_map(|(one, _)| one.status.as_ref())
            .flat_map(|status| &status.checks);
        let mut keys = checks
            .filter(|check| check.report.is_some())
            .filter_map(|check| check.key.as_deref());
        keys.any(|known| known == key.hex())
    }

    fn findings(check: &validate::PlannedCheck, inputs: Inputs) -> Box<Report> {
        let bad = check.is_scan() && inputs.upstream.is_multiple_of(3);
        report(&check.name, check.tool, usize::from(bad))
    }

    fn evaluation_inputs(&self) -> EvaluationInputs {
        EvaluationInputs {
            waivers: if self.waived {
                vec![waiver(2_000_000_000)]
            } else {
                Vec::new()
            },
            in_force: format!("{}", self.waived),
            previous: Previous::None,
        }
    }

    /// Whether its gates must be judged again before it is promoted.
    pub fn is_due(&self, status: &ImageCandidateStatus) -> bool {
        observe::reevaluation::is_due(status, &self.evaluation_inputs().in_force, at(self.now))
    }

    /// What `observe` would read.
    pub fn observe(&self, candidate: &ImageCandidate, inputs: Inputs) -> Observed {
        let validated = validate::validate(candidate).unwrap();
        let status = candidate.status.clone().unwrap_or_default();
        let stage = match Phase::of(&status) {
            Phase::Released => Stage::Released,
            Phase::Rejected => self.reevaluation(candidate, inputs, &validated, &status),
            Phase::Error | Phase::Superseded => Stage::Finished,
            phase @ (Phase::Pull | Phase::Verify | Phase::Build | Phase::Check | Phase::Promote) => {
                match self.ask(candidate) {
                    Wanted::Yes => {
                        self.not_recalled(self.on_the_way(phase, candidate, inputs, &validated, &status), &status)
                    }
                    wanted => self.unwanted(candidate, wanted),
                }
            }
        };
        Observed { stage }
    }

    fn not_recalled(&self, stage: Stage, status: &ImageCandidateStatus) -> Stage {
        let promoted = status.built_digest.as_ref().filter(|_| stage == Stage::Promote);
        let built = if let Stage::Build(JobState::Delivered(built)) = &stage {
            Some(built)
        } else {
            promoted
        };
        self.recalled(built).map_or(stage, Stage::Recalled)
    }

    fn unwanted(&self, candidate: &ImageCandidate, wanted: Wanted) -> Stage {
        let mine = self.jobs.iter().filter(|(_, job)| {
            Some(&job.owner) == candidate.metadata.uid.as_ref() && matches!(wanted, Wanted::No { .. })
        });
        let jobs = mine.map(|(name, job)| JobRef {
            name: name.clone(),
            uid: job.uid.clone(),
        });
        Stage::Unwanted {
            jobs: jobs.collect(),
            wanted,
        }
    }

    fn reevaluation(
        &self,
        candidate: &ImageCandidate,
        inputs: Inputs,
        validated: &validate::ValidatedCandidate,
        status: &ImageCandidateStatus,
    ) -> Stage {
        let image = observe::reevaluation::refused_for_findings(status, &validated.checks);
        let evaluation_inputs = self.evaluation_inputs();
        let known = status.waivers_hash.as_ref() == Some(&evaluation_inputs.in_force);
        let Some(image) = image.filter(|_| !known && self.ask(candidate) == Wanted::Yes) else {
            return Stage::Finished;
        };
        Self::stored(inputs, validated, image, evaluation_inputs)
    }

    fn stored(
        inputs: Inputs,
        validated: &validate::ValidatedCandidate,
        image: &Digest,
        evaluation_inputs: EvaluationInputs,
    ) -> Stage {
        let reports = validated.checks.iter();
        let reports = reports.map(|check| (Self::findings(check, inputs), Digest::of(check.name.as_bytes())));
        Stage::Reevaluate(Box::new(Reevaluate {
            image: image.clone(),
            reports: Ok(reports.collect()),
            evaluation_inputs,
        }))
    }

    fn on_the_way(
        &self,
        phase: Phase,
        candidate: &ImageCandidate,
        inputs: Inputs,
        validated: &validate::ValidatedCandidate,
        status: &ImageCandidateStatus,
    ) -> Stage {
        match (phase, &status.built_digest) {
            (Phase::Pull, _) => Stage::Pull,
            (Phase::Verify, _) if self.signed => Stage::Verify(Verification::Succeeded("key".into())),
            (Phase::Verify, _) => Stage::Verify(Verification::SignaturePending("no signature".into())),
            (Phase::Check, Some(image)) => {
                let mut one_is_there = false;
                let checks = validated.checks.iter().map(|check| {
                    let name = jobs::check_name(&check.key(image, &settings().tools_image));
                    let state = if status.check(&check.name).is_some() {
                        CheckState::Judged
                    } else if one_is_there {
                        CheckState::Job(JobState::Running("another report is kept first".into()))
                    } else {
                        let key = check.key(image, &settings().tools_image);
                        let delivered = delivery(Self::findings(check, inputs));
                        let state = if self.is_known(candidate, &key) {
                            JobState::Delivered(delivered)
                        } else {
                            self.job(candidate, &name, delivered)
                        };
                        one_is_there = matches!(state, JobState::Delivered(_));
                        CheckState::Job(state)
                    };
                    (check.clone(), state)
                });
                Stage::Check {
                    checks: checks.collect(),
                    image: image.clone(),
                    env: Vec::new(),
                    self_tests: Vec::new(),
                    evaluation_inputs: Box::new(self.evaluation_inputs()),
                }
            }
            (Phase::Promote, Some(image)) => {
                if self.is_due(status) {
                    Self::stored(inputs, validated, image, self.evaluation_inputs())
                } else {
                    Stage::Promote
                }
            }
            (Phase::Build | Phase::Check | Phase::Promote, _) => {
                Stage::Build(self.job(candidate, &jobs::build_name(&validated.name), built(inputs.upstream)))
            }
            (Phase::Released | Phase::Rejected | Phase::Error | Phase::Superseded, _) => Stage::Finished,
        }
    }
}
