//! What a reconcile of a candidate writes to the world, and the promises that every write must keep.

use super::*;

impl World {
    pub(super) fn apply(
        &mut self,
        actions: Vec<Action>,
        candidate: &ImageCandidate,
        inputs: Inputs,
        fault: Fault,
        writes: &mut usize,
    ) -> Result<Applied, Stop> {
        let mut applied = Applied::default();
        for action in actions {
            match action {
                Action::CreateJob { job, .. } => {
                    let name = job.name_any();
                    if self.unfinished() >= self.slots && !self.jobs.contains_key(&name) {
                        applied.queued.push(name);
                        continue;
                    }
                    let owner = candidate.uid().unwrap();
                    self.write(fault, writes, |world| {
                        let uid = format!("job-{}", world.unique());
                        let new = SimJob {
                            uid,
                            owner,
                            ended: None,
                        };
                        world.jobs.entry(name).or_insert(new);
                    })?;
                    assert!(self.unfinished() <= self.slots, "more Jobs than slots");
                }
                Action::DeleteJob(gone) => self.write(fault, writes, |world| {
                    world.jobs.retain(|name, job| *name != gone.name || job.uid != gone.uid);
                })?,
                Action::StoreReport { image, delivery } => {
                    let check = delivery.report.check.clone();
                    self.write(fault, writes, |world| {
                        world.delivered.insert((image, check.clone()));
                    })?;
                    applied.reports.push((check.clone(), Digest::of(check.as_bytes())));
                }
                Action::CopyToStaging => self.write(fault, writes, |_| ())?,
                Action::PublishPage { .. } => applied.page = Some(Ok(Digest::of(b"page"))),
                Action::Promote(proof) => {
                    applied.promoted = Some(self.promote(&proof, candidate, inputs, fault, writes)?);
                }
            }
        }
        Ok(applied)
    }

    fn write(&mut self, fault: Fault, writes: &mut usize, what: impl FnOnce(&mut Self)) -> Result<(), Stop> {
        let n = *writes;
        *writes += 1;
        let error = || Err(Stop::Error(apply::Error::Api(unavailable()).into()));
        if fault == Fault::Refused(n) {
            return error();
        }
        what(self);
        match fault {
            Fault::Crash(at) if at == n => Err(Stop::Crash),
            Fault::Lost(at) if at == n => error(),
            Fault::None | Fault::Read | Fault::Refused(_) | Fault::Lost(_) | Fault::Crash(_) => Ok(()),
        }
    }

    /// As `apply::promote`: asked of the live BaseImage before the copy and after it.
    fn promote(
        &mut self,
        proof: &Proof,
        candidate: &ImageCandidate,
        inputs: Inputs,
        fault: Fault,
        writes: &mut usize,
    ) -> Result<crate::api::image_candidate::Promoted, Stop> {
        for _ in ["copy", "sign"] {
            if self.ask(candidate) != Wanted::Yes {
                return Err(Stop::Error(apply::Error::NotWantedNow.into()));
            }
            if let Some(recalled) = self.recalled(Some(proof.image())) {
                return Err(Stop::Error(apply::Error::Recalled(recalled).into()));
            }
            if candidate.status.as_ref().is_none_or(|status| self.is_due(status)) {
                return Err(Stop::Error(apply::Error::JudgedAgain.into()));
            }
            self.write(fault, writes, |_| ())?;
        }
        self.assert_promotable(proof, candidate, inputs);
        self.promoted.insert(candidate.uid().unwrap());
        let promoted = json!({
            "repository": candidate.spec.promote.repository, "digest": proof.image(), "tag": "t", "chainId": Digest::of(b"c"),
            "layers": 1, "at": at(self.now).to_string(),
        });
        Ok(serde_json::from_value(promoted).unwrap())
    }

    /// The promises about what gets to production.
    fn assert_promotable(&self, proof: &Proof, candidate: &ImageCandidate, inputs: Inputs) {
        let base = self.base.as_ref().expect("promoted without a BaseImage");
        assert!(!base.suspend, "promoted while suspended");
        assert!(
            !self.revoked.contains(proof.image()),
            "promoted although it was taken back"
        );
        assert_eq!(
            inputs.repository, base.inputs.repository,
            "promoted to a repository that was put right"
        );
        assert!(
            candidate.owner_references().iter().any(|owner| owner.uid == base.uid),
            "of a BaseImage that is gone"
        );
        assert_eq!(
            (proof.candidate(), proof.image()),
            (candidate.uid().unwrap().as_str(), &built(inputs.upstream))
        );
        let bad = inputs.strict && inputs.upstream.is_multiple_of(3);
        assert!(!bad || self.waived, "an unproven image was promoted");
        let named = base.named.as_ref();
        assert_eq!(
            named,
            Some(&candidate.name_any()),
            "promoted although another is wanted"
        );
        let steps = candidate.status.iter().flat_map(|status| &status.timeline);
        let gates = steps.filter(|entry| matches!(entry.step, Step::Validated | Step::Scanned));
        let judged = gates.filter_map(|entry| Some(entry.finished.as_ref()?.0.as_second()));
        let age = judged.max().map(|judged| self.now - judged);
        assert!(
            age.is_some_and(|age| age <= 24 * 3600),
            "promoted on a judgement of {age:?} s ago"
        );
        let checks = validate::validate(candidate).unwrap().checks;
        assert_eq!(proof.reports().count(), checks.len());
        for check in checks {
            let known = (proof.image().clone(), check.name.clone());
            assert!(self.delivered.contains(&known), "no report of {} ever came", check.name);
        }
    }

    /// Written onto the object that was read, or not at all. A decided status changes only by an evaluation.
    pub(super) fn write_status(
        &mut self,
        seen: &ImageCandidate,
        status: ImageCandidateStatus,
        course: Option<&Course>,
    ) {
        let version = self.unique().to_string();
        let numbers = self.candidates.values().map(|(one, _)| one.spec.sequence);
        let last = numbers.max();
        let Some((live, _)) = self.candidates.get_mut(&seen.name_any()) else {
            return;
        };
        let same = |one: &ImageCandidate| (one.uid(), one.resource_version());
        if same(live) != same(seen) || live.status.as_ref() == Some(&status) {
            return;
        }
        let old = live.status.clone().unwrap_or_default();
        let (before, after) = (Phase::of(&old), Phase::of(&status));
        if before.is_final() {
            let evaluated = before == Phase::Rejected && matches!(course, Some(Course::Reevaluated { .. }));
            assert!(
                before == after || evaluated,
                "{before:?} became {after:?} by {course:?}"
            );
            assert!(course.is_some(), "an error changed a decided status");
        }
        assert!(
            after != Phase::Superseded || last > Some(live.spec.sequence),
            "superseded by nothing that is newer"
        );
        assert!(
            old.promoted.is_none() || old.promoted == status.promoted,
            "what was promoted changed"
        );
        assert!(serde_json::to_vec(&status).unwrap().len() < 8 * 1024);
        live.status = Some(status);
        live.metadata.resource_version = Some(version);
    }
}
