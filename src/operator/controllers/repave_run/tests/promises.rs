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
                if !self.second_leader {
                    self.check_waves(key);
                }
            }
            Action::RollBack { .. } => {
                assert_eq!(
                    image_of(after),
                    self.v.repository.at(&self.releases[0].digest).to_string()
                );
                assert_ne!(
                    sim.behaviour,
                    Behaviour::Healthy,
                    "{key} is healthy and was rolled back"
                );
                assert!(!sim.later, "{key}: a later roll-out of its team was rolled back");
                // One that was paused or held in its roll-out, or not there, was never healthy, whatever its wave did.
                let soaked = self.out(key) && sim.was_complete;
                assert!(!soaked, "{key} had soaked and was rolled back");
            }
        }
    }

    fn wave_of(&self, key: &WorkloadKey) -> usize {
        let labels = parse(&self.workloads[key].object).labels;
        wave::assign(&self.v.waves, key, &labels).unwrap()
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
            let sim = &self.workloads[key];
            if sim.forward > sim.back && !sim.later && !self.second_leader {
                assert!(sim.stayed || self.out(key), "{key} is done and has not stayed healthy");
            }
        }
    }

    fn in_flight(&self, key: &WorkloadKey, sim: &Sim) -> bool {
        let held = sim.hold.is_some_and(|until| until > self.now);
        // With Pause one that fails is left as it is: it has come to its end.
        let left =
            self.v.action == FailureAction::Pause && sim.behaviour != Behaviour::Healthy && observed(&sim.object);
        let left = left || sim.denied;
        let mine = sim.forward > 0 && !held && !sim.reverted && !sim.later && !left && !self.out(key);
        mine && match parse(&sim.object).rollout {
            Rollout::Paused => false,
            // It keeps its place until it has stayed healthy.
            Rollout::Settled
            | Rollout::Degraded {
                unavailable_since: None,
            } => sim.forward > sim.back && !sim.stayed,
            Rollout::Rolling { .. } | Rollout::Unhealthy { .. } | Rollout::Degraded { .. } => true,
        }
    }

    /// Not the code's own idea of "in flight", but what a person would count.
    pub fn check_limit(&self, moved: &WorkloadKey) {
        let at = self.wave_of(moved);
        let in_flight = self
            .workloads
            .iter()
            .filter(|(key, sim)| self.in_flight(key, sim))
            .count();
        let direct = |sim: &Sim| !matches!(sim.kind, Kind::Derived | Kind::Unrelated);
        let size = self
            .workloads
            .iter()
            .filter(|(key, sim)| direct(sim) && self.wave_of(key) == at)
            .count();
        let limit = self.v.waves[at].max_concurrent.as_limit(size);
        assert!(in_flight <= limit, "{in_flight} in flight, {limit} may be");
    }

    /// Whether anything of this wave is still to come to the target for the first time, or is in flight at all.
    fn active(&self, at: usize, arriving_only: bool) -> bool {
        let patient = SignedDuration::try_from(self.mono).unwrap() < self.v.rollout_deadline;
        self.workloads.iter().any(|(key, sim)| {
            let held = sim.hold.is_some_and(|until| until > self.now);
            let free = match parse(&sim.object).rollout {
                Rollout::Settled => true,
                Rollout::Rolling { .. } => patient,
                Rollout::Degraded { .. } | Rollout::Unhealthy { .. } | Rollout::Paused => false,
            };
            let waits = sim.kind.movable() && sim.forward == 0 && !held && free && !sim.denied && !sim.forgotten;
            // One that was healthy on the target holds its wave, but does not let the soak of the others begin anew.
            let arriving = sim.forward > sim.back && !sim.stayed;
            self.wave_of(key) == at && (waits || (self.in_flight(key, sim) && (arriving || !arriving_only)))
        })
    }

    /// After each status: when a wave was active last, and whether it may call itself soaked.
    pub fn check_soaks(&mut self) {
        for at in 0..self.v.waves.len() {
            let name = &self.v.waves[at].name;
            let recorded = self.status.waves.iter().find(|wave| wave.name == *name);
            if !self.passed[at] && recorded.is_some_and(|wave| wave.soaked_at.is_some()) {
                // Soaks, like limits, are promised by the lease: not over a second leader that writes what it saw long ago.
                if !self.second_leader {
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
        let moved = members().any(|sim| sim.forward > 0);
        let judged = members().any(|sim| healthy(sim) || failed(sim));
        assert!(!moved || judged, "wave {at} passed, and nobody has seen it do well");
    }

    fn check_wave_is_over(&self, at: usize) {
        assert!(!self.active(at, false), "wave {at} was overtaken");
        self.check_proof(at);
        if let Some(last) = self.active_at[at] {
            let since = SignedDuration::try_from(self.mono.saturating_sub(last)).unwrap();
            assert!(since >= self.v.waves[at].soak, "wave {at} soaked {since} only");
        }
    }
}
