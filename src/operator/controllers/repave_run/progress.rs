//! How far the waves are. Pure.
//!
//! A wave is over when every target in it has come to an end, and its soak has passed since. It has passed for good when it
//! was over once in its turn: what becomes of its workloads later, and what comes late to it, holds no other wave back. In a soak one
//! that is not ready holds its wave; only a target that is still to arrive lets the soak begin anew. A wave of which something was
//! moved passes only by what is healthy on the target, or by failures that the budget allows: not by being empty, and not by
//! what was taken back, so it waits until something of it is healthy there, and soaks then. Nor does one pass of which nothing is
//! healthy on the target while another run of the plan, which is at work, has something of it: that one is moved first. One of
//! which something is healthy there does not wait, so that two runs never wait for each other. A soak is counted by what was
//! watched (`soaks.rs`), also while the run is suspended; but no wave passes then.

use super::{
    soaks::{self, Watched},
    state::State,
    target::Target,
    validate::Validated,
};
use crate::{api::repave_run::WaveStatus, domain::wave::WaveRule};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::{collections::BTreeSet, time::Duration};

/// One wave.
// What is known of it is independent of each other.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveProgress {
    /// Targets that percentages are of: they run a release themselves, and are not scaled to 0.
    pub size: usize,
    /// Whether something of it was moved by this run.
    pub begun: bool,
    /// Whether it passes at this look though nothing of it was seen to be moved, healthy or failed: then its ReplicaSets are asked first.
    pub unasked: bool,
    /// Whether nothing of it is seen while the estate is not seen whole: what is hidden may be of it, so it does not pass.
    pub hidden: bool,
    /// Whether something of it was moved, and nothing of it is healthy on the target or failed there: it does not pass.
    pub unproven: bool,
    /// Whether nothing of it has shown anything, and another run that is at work has something of it: it does not pass.
    pub waits: bool,
    /// When all its targets had come to an end; `None` while they have not.
    pub settled_at: Option<Timestamp>,
    /// How much of its soak was watched.
    pub watched: Duration,
    /// How much of its soak is left; `None` while it has not begun.
    pub left: Option<Duration>,
    /// Whether nothing in it goes on any more: everything has come to an end and has soaked, or there is nothing to soak.
    pub over: bool,
    /// When it was over last. What was moved before is judged no more.
    pub soaked_at: Option<Timestamp>,
    /// Whether it was over once, or is empty: the next one may begin.
    pub passed: bool,
}

/// All waves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// One entry a wave.
    pub waves: Vec<WaveProgress>,
    /// The first one that has not passed.
    pub current: Option<usize>,
}

impl Progress {
    /// Whether every wave is over, what came late included.
    pub fn over(&self) -> bool {
        self.waves.iter().all(|wave| wave.over)
    }

    /// The wave that waits because nothing of it is healthy on the target, though it was moved there.
    pub fn unproven(&self) -> Option<usize> {
        self.current.filter(|at| self.waves[*at].unproven)
    }

    /// The wave that waits because nothing of it is seen, and not all is.
    pub fn hidden(&self) -> Option<usize> {
        self.current.filter(|at| self.waves[*at].hidden)
    }

    /// The wave that waits for what another run of the plan has.
    pub fn waiting(&self) -> Option<usize> {
        self.current.filter(|at| self.waves[*at].waits)
    }

    /// How long until the next soak ends that has begun.
    pub fn next_end(&self) -> Option<Duration> {
        let soaking = self.waves.iter().filter(|wave| !wave.over);
        soaking.filter_map(|wave| wave.left).min()
    }
}

/// What is known of the waves from before this look.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// What the status says about them.
    pub recorded: &'a [WaveStatus],
    /// How much of their soaks was watched.
    pub watched: &'a Watched,
    /// Whether one may pass now: in a run that is suspended, or may not start anything, none does.
    pub may_pass: bool,
    /// Whether the estate is seen whole.
    pub whole: bool,
}

/// Measures the waves. `now` is the time that this look writes down.
pub fn progress(v: &Validated, targets: &[Target], before: Before<'_>, now: Timestamp) -> Progress {
    let mut waves: Vec<WaveProgress> = Vec::with_capacity(v.waves.len());
    for (at, rule) in v.waves.iter().enumerate() {
        let recorded = before.recorded.iter().find(|wave| wave.name == rule.name);
        let members = targets.iter().filter(|target| target.wave == Some(at));
        // One whose workloads are all held may be over before its turn; it passes in its turn only.
        let its_turn = waves.iter().all(|before| before.passed);
        let soak = (soak(rule), before.watched.of(&rule.name));
        let may = May {
            pass: before.may_pass && its_turn,
            whole: before.whole,
        };
        let mut wave = wave(members, recorded, soak, may, now);
        wave.passed &= its_turn;
        waves.push(wave);
    }
    let current = waves.iter().position(|wave| !wave.passed);
    Progress { waves, current }
}

fn soak(rule: &WaveRule) -> Duration {
    // A negative one cannot be written.
    Duration::try_from(rule.soak).unwrap_or(Duration::ZERO)
}

/// What a wave may do at this look.
#[derive(Clone, Copy)]
struct May {
    pass: bool,
    whole: bool,
}

fn wave<'a>(
    members: impl Iterator<Item = &'a Target>,
    recorded: Option<&WaveStatus>,
    (soak, watched): (Duration, Duration),
    May { pass: may_pass, whole }: May,
    now: Timestamp,
) -> WaveProgress {
    let (mut size, mut empty, mut ended, mut arriving) = (0, true, true, false);
    let mut proof = Proof::of(recorded);
    for target in members {
        size += usize::from(target.is_of_percentages());
        empty = false;
        ended &= target.ended();
        arriving |= target.arriving;
        proof.take_in(target);
    }
    let time = |time: Option<&Time>| time.map(|time| time.0);
    let settled_before = time(recorded.and_then(|wave| wave.settled_at.as_ref()));
    let soaked_before = time(recorded.and_then(|wave| wave.soaked_at.as_ref()));
    let unproven = soaked_before.is_none() && proof.is_missing();
    let waits = soaked_before.is_none() && proof.is_elsewhere();
    let ended = ended && !waits;
    let settled_at = if arriving || empty || unproven || waits {
        None
    } else {
        settled_before.or_else(|| ended.then_some(now))
    };
    let watched = if settled_before.is_some() && settled_at.is_some() {
        watched
    } else {
        Duration::ZERO
    };
    let left = settled_at.map(|_| soak.saturating_sub(watched));
    let nothing = empty && (whole || soaked_before.is_some());
    let over = nothing || (!empty && ended && (unproven || left == Some(Duration::ZERO)));
    let soaked_at = match (over && may_pass, settled_at, soaked_before) {
        // Known already: a status changes only when something did.
        (true, Some(settled), Some(before)) if before >= settled => Some(before),
        (true, Some(_), Some(_) | None) => Some(now),
        // Empty in its turn: what comes late to it holds nothing back either.
        (true, None, None) if !unproven => Some(now),
        (true, None, before) | (false, Some(_) | None, before) => before,
    };
    let passed = (!unproven && (nothing || (over && may_pass))) || soaked_before.is_some();
    WaveProgress {
        size,
        begun: proof.begun,
        unasked: passed && soaked_before.is_none() && !empty && proof.shows_nothing(),
        hidden: empty && !whole && soaked_before.is_none(),
        unproven,
        waits,
        settled_at,
        watched,
        left,
        over,
        soaked_at,
        passed,
    }
}

/// What the targets of a wave say about the release.
// What they say is independent of each other.
#[allow(clippy::struct_excessive_bools)]
#[derive(Default)]
struct Proof {
    begun: bool,
    healthy: bool,
    /// Failed, which the budget judges, or still on its way.
    judged: bool,
    /// Was moved, and is neither.
    lost: bool,
    /// Another run that is at work has it.
    elsewhere: bool,
}

impl Proof {
    /// A version before recorded how much of a soak was watched of waves, too, of which nothing was moved.
    fn of(recorded: Option<&WaveStatus>) -> Self {
        Self {
            begun: recorded.is_some_and(|wave| wave.moved),
            ..Self::default()
        }
    }

    fn take_in(&mut self, target: &Target) {
        let healthy = target.state == State::Done;
        let judged = target.counts_as_failure() || !target.ended();
        self.begun |= target.moved;
        self.healthy |= healthy;
        self.judged |= judged;
        self.lost |= target.moved && !healthy && !judged;
        self.elsewhere |= target.waits_for().is_some();
    }

    fn shows_nothing(&self) -> bool {
        !self.begun && !self.healthy && !self.judged
    }

    fn is_elsewhere(&self) -> bool {
        self.elsewhere && !self.healthy && !self.judged
    }

    fn is_missing(&self) -> bool {
        !self.healthy && (self.lost || (self.begun && !self.judged))
    }
}

/// What is recorded of it: only waves that have begun, settled or passed. `targets` are those after what was just written.
pub fn record(v: &Validated, progress: &Progress, targets: &[Target]) -> Vec<WaveStatus> {
    let begun: BTreeSet<usize> = targets
        .iter()
        .filter(|target| target.moved)
        .filter_map(|target| target.wave)
        .collect();
    let waves = v.waves.iter().zip(&progress.waves).enumerate();
    waves
        .map(|(at, (rule, wave))| (rule, wave, wave.begun || begun.contains(&at)))
        .filter(|(_, wave, begun)| *begun || wave.settled_at.is_some() || wave.soaked_at.is_some())
        .map(|(rule, wave, begun)| WaveStatus {
            name: rule.name.clone(),
            settled_at: wave.settled_at.map(Time),
            soaked_at: wave.soaked_at.map(Time),
            moved: begun,
            watched: begun.then(|| soaks::kept(wave.watched, soak(rule))),
        })
        .collect()
}
