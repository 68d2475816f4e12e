//! How far the waves are. Pure.
//!
//! A wave is over when every target in it has come to an end and has stayed so for the soak. Anything that gets into
//! motion again in it starts its soak anew, and holds back the waves behind it. While a target is left failed nothing
//! soaks: if it recovers, it has to stay healthy for the whole soak.

use super::{
    target::{State, Target, later},
    validate::Validated,
};
use crate::api::repave_run::WaveStatus;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveProgress {
    /// Targets that run a release themselves: what percentages are of.
    pub size: usize,
    /// When all its targets had come to an end; `None` while they have not.
    pub settled_at: Option<Timestamp>,
    /// When its soak ends.
    pub soaked_at: Option<Timestamp>,
    /// Whether the next one may begin.
    pub over: bool,
}

/// All waves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// One entry a wave.
    pub waves: Vec<WaveProgress>,
    /// The first one that is not over.
    pub current: Option<usize>,
}

/// Measures the waves. `recorded` is what the status says about when they settled.
pub fn progress(v: &Validated, targets: &[Target<'_>], recorded: &[WaveStatus], now: Timestamp) -> Progress {
    let waves: Vec<WaveProgress> = v
        .waves
        .iter()
        .enumerate()
        .map(|(at, rule)| {
            let mut members = targets.iter().filter(|target| target.wave == Some(at)).peekable();
            let empty = members.peek().is_none();
            let (mut size, mut ended) = (0, true);
            for target in members {
                size += usize::from(target.direct);
                ended &= target.ended() && !matches!(target.state, State::Failed { .. });
            }
            let since = recorded
                .iter()
                .find(|wave| wave.name == rule.name)
                .map_or(now, |wave| wave.settled_at.0);
            let settled_at = (ended && !empty).then_some(since);
            let soaked_at = settled_at.map(|at| later(at, rule.soak));
            WaveProgress {
                size,
                settled_at,
                soaked_at,
                over: empty || soaked_at.is_some_and(|end| end <= now),
            }
        })
        .collect();
    let current = waves.iter().position(|wave| !wave.over);
    Progress { waves, current }
}

/// What is recorded of it: only waves that have settled.
pub fn record(v: &Validated, progress: &Progress) -> Vec<WaveStatus> {
    let settled = v.waves.iter().zip(&progress.waves);
    settled
        .filter_map(|(rule, wave)| {
            wave.settled_at.map(|at| WaveStatus {
                name: rule.name.clone(),
                settled_at: Time(at),
            })
        })
        .collect()
}
