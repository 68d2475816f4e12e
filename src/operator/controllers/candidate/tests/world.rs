//! A small world in which candidates of one BaseImage live: the API server's objects, Jobs, a registry, and faults.
//!
//! The decisions are the real ones (`validate`, `Phase::of`, `wanted`, `decide`, `gate::proof`, `render`, `failed`); only reading and writing are
//! played. The BaseImage's controller is a model of three lines: the wanted candidate is the newest with the wanted inputs,
//! the release is the promoted one with the greatest number, and the channel tag names it. The promises are asserted at
//! every write (`world/writes.rs`).

use super::*;
use crate::{
    api::{BaseImage, phase::Phase},
    controllers::{
        candidate::{decide::Course, observe},
        desired::wanted::Wanted,
        reconciler::Failure,
    },
    domain::{
        promotion::Revocation,
        proof::Proof,
        recall::{Recalled, Same},
    },
};
use kube::ResourceExt as _;
use std::collections::{BTreeMap, BTreeSet};

mod writes;

/// What goes wrong in one reconcile. Writes are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The first read is answered with 503.
    Read,
    /// This write is refused.
    Refused(usize),
    /// This write happens and its answer is lost.
    Lost(usize),
    /// The process ends right after this write.
    Crash(usize),
}

/// Ends a reconcile.
enum Stop {
    Crash,
    Error(Failure),
}

/// What decides which candidate is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inputs {
    /// Every third upstream image has a finding.
    pub upstream: u8,
    /// Whether scans are enforced.
    pub strict: bool,
    pub repository: u8,
}

#[derive(Debug, Clone)]
pub struct Base {
    pub uid: String,
    pub generation: i64,
    pub suspend: bool,
    pub inputs: Inputs,
    observed: Option<i64>,
    named: Option<String>,
    pub released: Option<(u64, Digest)>,
}

#[derive(Debug, Clone)]
pub struct SimJob {
    pub uid: String,
    pub owner: String,
    /// `true` when its report came.
    pub ended: Option<bool>,
}

#[derive(Debug, Clone)]
pub struct World {
    pub now: i64,
    pub base: Option<Base>,
    pub candidates: BTreeMap<String, (ImageCandidate, Inputs)>,
    pub jobs: BTreeMap<String, SimJob>,
    pub waived: bool,
    /// Built images that were taken back.
    pub revoked: BTreeSet<Digest>,
    /// Upstream has signed its images.
    pub signed: bool,
    pub channel: Option<Digest>,
    pub promoted: BTreeSet<String>,
    /// Of which images reports came, and of which checks.
    pub delivered: BTreeSet<(Digest, String)>,
    slots: usize,
    next: u64,
}

pub fn built(upstream: u8) -> Digest {
    Digest::of(&[b'b', upstream])
}

fn unavailable() -> kube::Error {
    let mut status = kube::core::Status::failure("the server is busy", "ServiceUnavailable");
    status.code = 503;
    kube::Error::Api(Box::new(status))
}

impl World {
    pub fn new(slots: usize) -> Self {
        let mut world = Self {
            now: 1_000_100,
            base: None,
            candidates: BTreeMap::new(),
            jobs: BTreeMap::new(),
            waived: false,
            revoked: BTreeSet::new(),
            signed: true,
            channel: None,
            promoted: BTreeSet::new(),
            delivered: BTreeSet::new(),
            slots,
            next: 0,
        };
        world.recreate();
        world
    }

    fn unique(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Deletes the BaseImage and makes one of the same name; what the old one made is collected later, or not at all.
    pub fn recreate(&mut self) {
        let inputs = self.base.as_ref().map_or(
            Inputs {
                upstream: 1,
                strict: true,
                repository: 0,
            },
            |base| base.inputs,
        );
        let uid = format!("base-{}", self.unique());
        self.base = Some(Base {
            uid,
            generation: 1,
            suspend: false,
            inputs,
            observed: None,
            named: None,
            released: None,
        });
    }

    pub fn waive(&mut self, on: bool) {
        self.waived = on;
    }

    /// The image of that upstream digest is taken back, or that is lifted.
    pub fn revoke(&mut self, upstream: u8, on: bool) {
        if on {
            self.revoked.insert(built(upstream));
        } else {
            self.revoked.remove(&built(upstream));
        }
    }

    pub fn recalled(&self, built: Option<&Digest>) -> Option<Recalled> {
        built.filter(|built| self.revoked.contains(built)).map(|_| Recalled {
            tag: "12-1".into(),
            revocation: Revocation {
                at: at(0),
                by: None,
                reason: "bad".into(),
            },
            same: Same::Image,
        })
    }

    pub fn edit(&mut self, change: impl FnOnce(&mut Base)) {
        if let Some(base) = &mut self.base {
            let before = (base.suspend, base.inputs.repository);
            change(base);
            // Upstream and policies are other objects: they change without a new generation.
            if before != (base.suspend, base.inputs.repository) {
                base.generation += 1;
            }
        }
    }

    pub fn object(&self) -> Option<BaseImage> {
        let base = self.base.as_ref()?;
        let named = base.named.as_ref().map(|name| json!({"name": name, "step": "New"}));
        let object = json!({
            "apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage",
            "metadata": {"name": "debian-12", "namespace": "platform", "uid": base.uid, "generation": base.generation},
            "spec": {"suspend": base.suspend,
                "source": {"image": "up.local/debian", "track": {"tag": "12"}}, "policyRefs": [{"name": "hardened"}],
                "promote": {"repository": "r.local:5000/base", "channelTag": "12", "signing": {"keyRef": {"name": "key"}}}},
            "status": {"observedGeneration": base.observed, "candidate": named}
        });
        Some(serde_json::from_value(object).unwrap())
    }

    fn of_base(&self, uid: &str) -> impl Iterator<Item = &(ImageCandidate, Inputs)> {
        self.candidates
            .values()
            .filter(move |(candidate, _)| candidate.owner_references().iter().any(|owner| owner.uid == uid))
    }

    /// The model of the BaseImage's controller; with a fault it ends between its writes.
    pub fn reconcile_base(&mut self, fault: Fault) {
        let Some(base) = self.base.clone() else { return };
        if fault == Fault::Read {
            return;
        }
        let newest = self
            .of_base(&base.uid)
            .max_by_key(|(candidate, _)| candidate.spec.sequence);
        let last = newest.map_or(0, |(candidate, _)| candidate.spec.sequence);
        let mut named = newest
            .filter(|(_, inputs)| *inputs == base.inputs)
            .map(|(candidate, _)| candidate.name_any());
        if named.is_none() && !base.suspend {
            if fault == Fault::Refused(0) {
                return;
            }
            named = Some(self.make(&base, last + 1));
            if matches!(fault, Fault::Crash(0) | Fault::Lost(0)) {
                return;
            }
        }
        let promoted = self.of_base(&base.uid).filter_map(|(candidate, _)| {
            let promoted = candidate.status.as_ref()?.promoted.as_ref()?;
            Some((candidate.spec.sequence, promoted.digest.clone()))
        });
        let released = promoted
            .chain(base.released.clone())
            .max_by_key(|(sequence, _)| *sequence);
        if fault == Fault::Refused(1) {
            return;
        }
        if let Some(live) = &mut self.base {
            let (new, old) = (released.as_ref(), live.released.as_ref());
            assert!(
                new.map(|one| one.0) >= old.map(|one| one.0),
                "the order of releases went back"
            );
            live.observed = Some(base.generation);
            live.named = named.or(base.named);
            live.released.clone_from(&released);
        }
        if matches!(fault, Fault::Crash(1) | Fault::Lost(1) | Fault::Refused(2)) {
            return;
        }
        if let Some((_, digest)) = released {
            self.channel = Some(digest);
        }
    }

    fn make(&mut self, base: &Base, sequence: u64) -> String {
        let mut made = candidate();
        let name = format!("debian-12-{}-{sequence}", base.uid);
        made.metadata.name = Some(name.clone());
        made.metadata.uid = Some(format!("candidate-{}", self.unique()));
        made.metadata.resource_version = Some(self.unique().to_string());
        made.metadata.owner_references = Some(vec![
            serde_json::from_value(
                json!({"apiVersion": "repave.dev/v1alpha1", "kind": "BaseImage", "name": "debian-12",
                "uid": base.uid, "controller": true}),
            )
            .unwrap(),
        ]);
        made.spec.sequence = sequence;
        made.spec.source_digest = Digest::of(&[base.inputs.upstream]);
        made.spec.promote.repository = format!("r.local:5000/base-{}", base.inputs.repository);
        let policy = &mut made.spec.policies[0].spec;
        policy.checks.retain(|check| match check.kind.name() {
            "vulnerabilities" => base.inputs.strict,
            name => name == "native",
        });
        self.candidates.insert(name.clone(), (made, base.inputs));
        name
    }

    /// The n-th Job that runs ends, with its report or without.
    pub fn end_job(&mut self, n: usize, delivers: bool) {
        let mut running = self.jobs.values_mut().filter(|job| job.ended.is_none());
        if let Some(job) = running.nth(n) {
            job.ended = Some(delivers);
        }
    }

    /// The n-th Job is collected, ended or not.
    pub fn lose_job(&mut self, n: usize) {
        if let Some(name) = self.jobs.keys().nth(n).cloned() {
            self.jobs.remove(&name);
        }
    }

    /// Jobs that have ended are collected after a day.
    pub fn next_day(&mut self) {
        self.jobs.retain(|_, job| job.ended.is_none());
    }

    /// What a BaseImage that is gone has made goes too.
    pub fn collect(&mut self) {
        let uid = self.base.as_ref().map(|base| base.uid.clone()).unwrap_or_default();
        self.candidates
            .retain(|_, (candidate, _)| candidate.owner_references().iter().any(|owner| owner.uid == uid));
        let alive: BTreeSet<String> = self.candidates.values().filter_map(|(one, _)| one.uid()).collect();
        self.jobs.retain(|_, job| alive.contains(&job.owner));
    }

    pub fn unfinished(&self) -> usize {
        self.jobs.values().filter(|job| job.ended.is_none()).count()
    }

    /// One reconcile of a candidate that sees the world as `eyes` does, and writes to this one.
    pub fn reconcile(&mut self, name: &str, eyes: &Self, fault: Fault) {
        let Some((seen, inputs)) = eyes.candidates.get(name).cloned() else {
            return;
        };
        let validated = validate::validate(&seen).unwrap();
        let now = at(self.now);
        if fault == Fault::Read {
            let error = observe::Error::Api(unavailable()).into();
            return self.write_status(&seen, status::failed(&seen, &error, now).0, None);
        }
        let mut decision = decide::decide(&seen, &validated, eyes.observe(&seen, inputs), &settings(), now);
        let actions = std::mem::take(&mut decision.actions);
        let mut writes = 0;
        match self.apply(actions, &seen, inputs, fault, &mut writes) {
            Ok(applied) => {
                if fault == Fault::Refused(writes) {
                    return;
                }
                let status = status::render(&seen, &validated, &decision, &applied, now).0;
                self.write_status(&seen, status, Some(&decision.course));
            }
            Err(Stop::Crash) => {}
            Err(Stop::Error(error)) => self.write_status(&seen, status::failed(&seen, &error, now).0, None),
        }
    }

    pub fn phase(&self, name: &str) -> Option<Phase> {
        let (candidate, _) = self.candidates.get(name)?;
        Some(Phase::of(&candidate.status.clone().unwrap_or_default()))
    }

    /// The candidate that the BaseImage names, if it was made by it.
    pub fn named(&self) -> Option<&(ImageCandidate, Inputs)> {
        self.candidates.get(self.base.as_ref()?.named.as_ref()?)
    }
}
