//! What a run promises, asserted at each of its patches and statuses by what a person would see, not by the code's own words.

use super::{
    super::{plan::Action, state::State, target::Target},
    objects::{image_of, observed, parse, without_ours},
    world::{Behaviour, Kind, Sim, World},
};
use crate::{
    api::{RepaveRunStatus, repave_plan::FailureAction},
    controllers::repave_run::gate::Gate,
    domain::{
        wave,
        workload::{Rollout, WorkloadKey},
    },
};
use jiff::SignedDuration;
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

impl World {
    pub fn check_patch(&self, key: &WorkloadKey, action: &Action, before: &Value, after: &Value) {
        let sim = &self.workloads[key];
        assert!(sim.kind.movable(), "{key} ({:?}) must never be touched", sim.kind);
        let held = sim.hold.is_some_and(|until| until > self.now);
        assert!(!held, "{key} is held and was touched");
        assert_eq!(
            without_ours(before),
            without_ours(after),
            "{key}: another field was written"
        );
        match action {
            Action::Move { .. } => {
                assert!(!sim.reverted, "{key} was set back and is moved again");
                // A suspension that came after a second process had looked is seen by it the next time.
                assert!(
                    self.second_leader || self.gate.is_open(),
                    "{key} was started though the gate is shut"
                );
                let seen = parse(before);
                // A newer release repairs what a roll-out of ours left behind.
                let repair = matches!(seen.rollout, Rollout::Unhealthy { .. }) && seen.our_rollout().is_some();
                assert!(
                    repair || seen.rollout == Rollout::Settled,
                    "{key} was started though it is not settled"
                );
                assert_eq!(image_of(after), self.target());
                if self.sees_all() {
                    self.check_waves(key);
                }
            }
            Action::RollBack { .. } => {
                assert!(
                    sim.forward > 0,
                    "{key}: nobody has moved this object, and it was rolled back"
                );
                assert_eq!(image_of(after), sim.before);
                assert_ne!(
                    sim.behaviour,
                    Behaviour::Healthy,
                    "{key} is healthy and was rolled back"
                );
                assert!(!sim.later, "{key}: a later roll-out of its team was rolled back");
                // One that was paused or held in its roll-out, or not there, was never healthy, whatever its wave did. Nor was one
                // whose health nobody has seen yet.
                let soaked = self.out(key) && sim.was_complete && self.eyes.is_none();
                assert!(!soaked, "{key} had soaked and was rolled back");
            }
        }
    }

    /// Waves, soaks and what is done are promised to one process that holds the lease, on what it has seen: checked where it sees
    /// everything at once. Limits hold for a late watch too.
    fn sees_all(&self) -> bool {
        !self.second_leader && self.eyes.is_none()
    }

    pub fn wave_of(&self, key: &WorkloadKey) -> usize {
        let labels = &self.known(key).unwrap().object["metadata"]["labels"];
        let labels = labels.as_object().unwrap().iter();
        let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        let labels: BTreeMap<String, String> = labels.collect();
        wave::assign(&self.v.waves, key, &labels.into()).unwrap()
    }

    /// A workload, also one that was deleted.
    fn known(&self, key: &WorkloadKey) -> Option<&Sim> {
        self.workloads.get(key).or_else(|| self.graves.get(key))
    }

    /// The workloads as the process that writes has seen them. One that was deleted, and that it still sees, counts for nobody.
    fn seen(&self) -> Vec<(&WorkloadKey, &Value, &Sim)> {
        let all = self.workloads.iter();
        let seen = all.filter_map(|(key, sim)| match &self.eyes {
            None => Some((key, &sim.object, sim)),
            Some(eyes) => eyes.get(key).map(|object| (key, object, sim)),
        });
        seen.filter(|(_, object, sim)| object["metadata"]["uid"] == sim.object["metadata"]["uid"])
            .collect()
    }

    /// Whether its wave has soaked since it was moved, whatever any clock said.
    pub fn out(&self, key: &WorkloadKey) -> bool {
        let moved = self.workloads[key].moved_in;
        moved > 0 && moved < self.soaked_in[self.wave_of(key)]
    }

    /// Notes the waves that a status says have soaked now.
    pub fn note_soaks(&mut self, next: &RepaveRunStatus) {
        let soaked = |status: &RepaveRunStatus, name: &str| {
            let wave = status.waves.iter().find(|wave| wave.name == name);
            wave.and_then(|wave| wave.soaked_at.clone())
        };
        for (rule, soaked_in) in self.v.waves.iter().zip(&mut self.soaked_in) {
            let next = soaked(next, &rule.name);
            if next.is_some() && next != soaked(&self.status, &rule.name) {
                *soaked_in = self.reconciles;
            }
        }
    }

    pub fn check_status(status: &RepaveRunStatus) {
        let c = &status.counts;
        let all = c.pending + c.rolling + c.done + c.failed + c.held + c.skipped;
        assert_eq!(c.total, all, "exactly one state each");
        let length = serde_json::to_string(status).unwrap().len();
        assert!(length < 8192, "a status stays small");
    }

    /// What is called done has stayed healthy for as long as it must.
    pub fn check_done(&self, targets: &[Target]) {
        for target in targets.iter().filter(|target| target.state == State::Done) {
            let key = &target.seen.workload.key;
            let Some(sim) = self.workloads.get(key) else { continue };
            if sim.forward > sim.back && !sim.later && self.sees_all() {
                assert!(sim.stayed || self.out(key), "{key} is done and has not stayed healthy");
            }
        }
    }

    /// What this run never wrote, under this UID, is nobody's failure, is not judged, and takes no place.
    pub fn check_others(&self, targets: &[Target]) {
        for target in targets.iter().filter(|_| !self.second_leader) {
            let workload = &target.seen.workload;
            let sim = self.workloads.get(&workload.key);
            let Some(sim) = sim.filter(|sim| sim.forward == 0 && sim.object["metadata"]["uid"] == *workload.uid) else {
                continue;
            };
            let (key, state) = (&workload.key, &target.state);
            // A forged record is believed of that workload.
            let record = sim.object["metadata"]["annotations"]["repave.dev/moved"].as_str();
            let uid = record.map(|text| serde_json::from_str::<Value>(text).unwrap()["uid"].clone());
            let forged = uid.is_some_and(|uid| uid.is_null() || uid == *workload.uid);
            if forged && sim.kind != Kind::MovedBefore {
                continue;
            }
            let judged = match state {
                State::Rolling | State::Failing { .. } | State::Failed { .. } => true,
                State::Held { rolled_back, .. } => *rolled_back,
                State::Pending { .. } | State::Done | State::Skipped(_) => false,
            };
            assert!(!judged, "{key} was never moved, and it is judged: {state:?}");
            assert!(!target.moved, "{key} was never moved, and it is this run's proof");
            let free = sim.kind == Kind::MovedBefore || !target.in_flight;
            assert!(free, "{key} was never moved, and it takes a place: {state:?}");
        }
    }

    /// Whether its pods are being replaced: by this run, or by the run of its plan before.
    pub fn in_flight(&self, key: &WorkloadKey, object: &Value, sim: &Sim) -> bool {
        let rollout = || parse(object).rollout;
        if sim.kind == Kind::MovedBefore && sim.forward == 0 {
            let patient = SignedDuration::try_from(self.mono).unwrap() < self.v.rollout_deadline;
            return patient && !sim.later && !sim.reverted && matches!(rollout(), Rollout::Rolling { .. });
        }
        let held = sim.hold.is_some_and(|until| until > self.now);
        // With Pause one that fails is left as it is: it has come to its end.
        let left = self.v.action == FailureAction::Pause && sim.behaviour != Behaviour::Healthy && observed(object);
        let left = left || sim.denied;
        let mine = sim.forward > 0 && !held && !sim.reverted && !sim.later && !left && !self.out(key);
        // That it is not healthy any more is known when it is seen.
        let late = self.eyes.is_some() && sim.complete_since.is_none();
        mine && match rollout() {
            Rollout::Paused => false,
            // It keeps its place until it has stayed healthy.
            Rollout::Settled
            | Rollout::Degraded {
                unavailable_since: None,
            } => sim.forward > sim.back && !sim.stayed && !late,
            Rollout::Rolling { .. } | Rollout::Unhealthy { .. } | Rollout::Degraded { .. } => true,
        }
    }

    /// Whether it is getting its old image back from us, whoever may hold it by now.
    pub fn is_rolling_back(&self, object: &Value, sim: &Sim) -> bool {
        let deadline = Duration::try_from(self.v.rollout_deadline).unwrap();
        let young = sim.back_at.is_some_and(|at| self.mono.saturating_sub(at) < deadline);
        let back = sim.back > 0 && sim.back == sim.forward && !sim.later && !sim.reverted;
        back && young && matches!(parse(object).rollout, Rollout::Rolling { .. })
    }

    /// How many of the wave of this workload may be replaced at the same time, of those that the process that writes has seen.
    fn limit_of(&self, key: &WorkloadKey) -> usize {
        let at = self.wave_of(key);
        let seen: Vec<&WorkloadKey> = match &self.eyes {
            None => self.workloads.keys().collect(),
            Some(eyes) => eyes.keys().collect(),
        };
        let direct = |key: &WorkloadKey| {
            let sim = self.known(key).unwrap();
            !matches!(sim.kind, Kind::Derived | Kind::Unrelated) && sim.object["spec"]["replicas"] != 0
        };
        let size = seen.into_iter().filter(|key| direct(key) && self.wave_of(key) == at);
        self.v.waves[at].max_concurrent.as_limit(size.count())
    }

    /// Not the code's own idea of "in flight", but what a person would count: in all waves, and of all runs of the plan.
    pub fn check_limit(&self, moved: &WorkloadKey) {
        let limit = self.limit_of(moved);
        let in_flight = self.seen().into_iter();
        let in_flight = in_flight.filter(|(key, object, sim)| self.in_flight(key, object, sim));
        let (in_flight, (kept, _)) = (in_flight.count(), self.kept_places());
        assert!(
            in_flight + kept <= limit,
            "{in_flight} in flight and {kept} places of what was deleted, {limit} may be"
        );
    }

    /// The same for those that get their old image back.
    pub fn check_limit_of_rollbacks(&self, rolled_back: &WorkloadKey) {
        let limit = self.limit_of(rolled_back);
        let back = self.seen().into_iter();
        let back = back.filter(|(_, object, sim)| self.is_rolling_back(object, sim));
        let (back, (_, kept)) = (back.count(), self.kept_places());
        assert!(
            back + kept <= limit,
            "{back} get their old image back and {kept} did when they were deleted, {limit} may"
        );
    }

    /// Whether anything of this wave is still to come to the target for the first time, or is in flight at all.
    fn active(&self, at: usize, arriving_only: bool) -> bool {
        let patient = SignedDuration::try_from(self.mono).unwrap() < self.v.rollout_deadline;
        let mut members = self.workloads.iter().filter(|(key, _)| self.wave_of(key) == at);
        members.any(|(key, sim)| {
            let held = sim.hold.is_some_and(|until| until > self.now);
            let free = match parse(&sim.object).rollout {
                Rollout::Settled => true,
                Rollout::Rolling { .. } => patient,
                Rollout::Degraded { .. } | Rollout::Unhealthy { .. } | Rollout::Paused => false,
            };
            let outdated = sim.kind.movable() && sim.forward == 0 && image_of(&sim.object) != self.target();
            // A copy of what we took back has our hold, too.
            let held =
                held || (sim.hold.is_none() && sim.object["metadata"]["annotations"]["repave.dev/hold"].is_string());
            let waits = outdated && !held && free && !sim.denied && !sim.forgotten && !sim.reverted;
            // One that was healthy on the target holds its wave, but does not let the soak of the others begin anew.
            let arriving = sim.forward > sim.back && !sim.stayed;
            let in_flight = || self.in_flight(key, &sim.object, sim);
            waits || ((arriving || !arriving_only) && in_flight())
        })
    }

    /// After each status: when a wave was active last, and whether it may call itself soaked.
    pub fn check_soaks(&mut self) {
        for at in 0..self.v.waves.len() {
            let name = &self.v.waves[at].name;
            let recorded = self.status.waves.iter().find(|wave| wave.name == *name);
            if !self.passed[at] && recorded.is_some_and(|wave| wave.soaked_at.is_some()) {
                // Promised by the lease: not over a second leader that writes what it saw long ago.
                if self.sees_all() {
                    let may = !matches!(self.gate, Gate::Suspended | Gate::Shut { .. });
                    assert!(may, "wave {at} passed in a run that is suspended");
                    // In one whose order is gone or that has a newer one, nothing follows a wave.
                    if self.gate.is_open() {
                        self.check_wave_is_over(at);
                    }
                }
                self.passed[at] = true;
            }
            if self.active(at, true) {
                self.active_at[at] = Some(self.mono);
            }
        }
    }

    fn check_waves(&self, moved: &WorkloadKey) {
        for at in (0..self.wave_of(moved)).filter(|at| !self.passed[*at]) {
            self.check_wave_is_over(at);
        }
    }

    /// What was moved in a wave has shown that it does well, or has failed, which the budget judges.
    fn check_proof(&self, at: usize) {
        let members = || {
            self.workloads
                .iter()
                .filter(|(key, _)| self.wave_of(key) == at)
                .map(|(_, sim)| sim)
        };
        let healthy = |sim: &Sim| {
            let complete = matches!(parse(&sim.object).rollout, Rollout::Settled | Rollout::Degraded { .. });
            complete && image_of(&sim.object) == self.target()
        };
        let left = |sim: &Sim| self.v.action == FailureAction::Pause && sim.behaviour != Behaviour::Healthy;
        let failed = |sim: &Sim| sim.back > 0 || left(sim) || sim.denied;
        // What a run of this name moved before it was made anew is no proof of its own.
        let by_this_run = |sim: &Sim| sim.forward > 0 && sim.moved_in > self.run_began;
        let moved = self.begun[at] || members().any(by_this_run);
        let judged = members().any(|sim| healthy(sim) || failed(sim));
        assert!(!moved || judged, "wave {at} passed, and nobody has seen it do well");
    }

    fn check_wave_is_over(&self, at: usize) {
        assert!(!self.active(at, false), "wave {at} was overtaken");
        self.check_proof(at);
        // Where everything was deleted before its turn there is nothing to soak.
        let member = |(key, sim): (&WorkloadKey, &Sim)| sim.kind != Kind::Unrelated && self.wave_of(key) == at;
        if let Some(last) = self.active_at[at].filter(|_| self.workloads.iter().any(member)) {
            let since = SignedDuration::try_from(self.mono.saturating_sub(last)).unwrap();
            assert!(since >= self.v.waves[at].soak, "wave {at} soaked {since} only");
        }
    }
}
