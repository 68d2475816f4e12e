//! How much of the soak of each wave was watched, by the monotonic clock of this process.
//!
//! A soak is time in which Repave saw that all was well, and no difference of two times of day, so a clock that jumps changes
//! nothing; and where nobody looked for long, because the API server did not answer, only a little of that counts. The status keeps how much was watched, in steps: a restart goes on from there, later than promised and never too
//! early. Must not decide anything.

use crate::{api::repave_run::WaveStatus, domain::duration::Span};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// How often the status is written for nothing but a soak: each twentieth of it, within these bounds.
const SHORTEST_STEP: Duration = Duration::from_secs(30);
const LONGEST_STEP: Duration = Duration::from_secs(300);
/// How much counts between two looks, however far they are apart: four times what lies between them as a rule.
const BETWEEN_LOOKS: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy)]
struct Soak {
    /// When the wave had settled, as the status has it: a wave that settles again soaks anew.
    settled_at: i64,
    /// What was watched until the last look.
    watched: Duration,
    /// When that was, by the monotonic clock.
    looked: Duration,
}

/// The soaks of one run, by the name of the wave.
#[derive(Debug, Clone, Default)]
pub struct Soaks(HashMap<String, Soak>);

/// How much of each soak was watched; nothing for waves that have not settled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched(BTreeMap<String, Duration>);

impl Watched {
    /// Of the wave with this name.
    pub fn of(&self, wave: &str) -> Duration {
        self.0.get(wave).copied().unwrap_or_default()
    }
}

impl Soaks {
    /// How much was watched until now, by the waves as the status has them.
    pub fn look(&mut self, recorded: &[WaveStatus], now: Duration) -> Watched {
        let mut watched = Watched::default();
        let mut next = HashMap::new();
        for wave in recorded {
            let Some(settled_at) = wave.settled_at.as_ref().map(|time| time.0.as_second()) else {
                continue;
            };
            let known = self.0.get(&wave.name).filter(|soak| soak.settled_at == settled_at);
            let before = known.copied().unwrap_or_else(|| Soak {
                settled_at,
                watched: wave.watched.map_or(Duration::ZERO, Span::get),
                looked: now,
            });
            let since = now.saturating_sub(before.looked).min(BETWEEN_LOOKS);
            let soak = Soak {
                watched: before.watched.saturating_add(since),
                looked: now,
                ..before
            };
            watched.0.insert(wave.name.clone(), soak.watched);
            next.insert(wave.name.clone(), soak);
        }
        self.0 = next;
        watched
    }

    /// Begins to watch the waves that have settled just now.
    pub fn note<'a>(&mut self, waves: impl Iterator<Item = (&'a str, Option<Timestamp>)>, now: Duration) {
        for (name, settled_at) in waves {
            let Some(settled_at) = settled_at.map(Timestamp::as_second) else {
                continue;
            };
            let known = self.0.get(name).filter(|soak| soak.settled_at == settled_at);
            if known.is_none() {
                let soak = Soak {
                    settled_at,
                    watched: Duration::ZERO,
                    looked: now,
                };
                self.0.insert(name.to_owned(), soak);
            }
        }
    }
}

/// What the status keeps of a soak.
pub fn kept(watched: Duration, soak: Duration) -> Span {
    let whole = watched.min(soak);
    let step = (soak / 20).clamp(SHORTEST_STEP, LONGEST_STEP).as_secs();
    let seconds = if whole == soak {
        soak.as_secs()
    } else {
        whole.as_secs() / step * step
    };
    Span::seconds(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn wave(settled_at: i64, watched: Option<u64>) -> WaveStatus {
        WaveStatus {
            name: "all".to_owned(),
            settled_at: Some(Time(Timestamp::from_second(settled_at).unwrap())),
            soaked_at: None,
            moved: watched.is_some(),
            watched: watched.map(Span::seconds),
        }
    }

    #[test]
    fn a_soak_counts_what_was_watched_and_a_restart_goes_on_from_what_is_kept() {
        let mut soaks = Soaks::default();
        let mut look = |wave: WaveStatus, at: u64| soaks.look(&[wave], seconds(at)).of("all").as_secs();
        assert_eq!(look(wave(5, Some(60)), 1000), 60);
        assert_eq!(look(wave(5, Some(60)), 1030), 90);
        assert_eq!(look(wave(9, None), 1040), 0, "it has settled anew");
        assert_eq!(look(wave(9, None), 1050), 10);
        let nothing = WaveStatus {
            settled_at: None,
            ..wave(9, None)
        };
        assert_eq!(look(nothing, 1060), 0);
    }

    #[test]
    fn the_status_keeps_a_soak_in_steps_and_its_end_exactly() {
        let kept = |watched: u64, soak: u64| super::kept(seconds(watched), seconds(soak)).to_string();
        assert_eq!(kept(29, 3600), "0s");
        assert_eq!(kept(400, 3600), "6m");
        assert_eq!(kept(3599, 86400), "55m");
        assert_eq!(kept(10, 10), "10s");
        assert_eq!(kept(99_999, 86400), "24h");
        assert_eq!(kept(5, 0), "0s");
    }
}
