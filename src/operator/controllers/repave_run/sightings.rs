//! How long this process has seen a workload in one state, by its monotonic clock: what the deadlines of a run count by.
//!
//! No clock of another machine and no time of day is compared, so a clock that jumps changes nothing. A restart forgets, and
//! every deadline begins anew: later than promised, never too early. Must not decide anything.

use crate::domain::template::TemplateHash;
use std::{collections::HashMap, time::Duration};

/// What is timed of one workload at this look. All false for one that needs no watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Its template: the times of our roll-out are about one template only.
    pub template: TemplateHash,
    /// It is in our roll-out, and its controller has seen that.
    pub rolling: bool,
    /// It was complete in our roll-out once, and has too few replicas now.
    pub unready: bool,
    /// It is not settled, and that is nothing of ours.
    pub busy: bool,
    /// It is complete in our roll-out and is still to stay so: how often its containers were started again.
    pub staying: Option<u32>,
}

impl Look {
    fn needs_watching(self) -> bool {
        self.rolling || self.unready || self.busy || self.staying.is_some()
    }
}

/// For how long, for one workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// In our roll-out since its controller saw it.
    pub rolling: Duration,
    /// With too few replicas.
    pub unready: Duration,
    /// Busy with something that is not ours.
    pub busy: Duration,
    /// Complete, without that a container was started again.
    pub steady: Duration,
    /// Since it was complete for the first time.
    pub staying: Duration,
    /// Whether it did not stay complete: a container was started again, or too few replicas were left.
    pub relapsed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Since {
    template: TemplateHash,
    rolling: Option<Duration>,
    unready: Option<Duration>,
    busy: Option<Duration>,
    steady: Option<Steady>,
}

#[derive(Debug, Clone, Copy)]
struct Steady {
    /// When it was complete for the first time.
    first: Duration,
    since: Duration,
    restarts: u32,
    relapsed: bool,
}

impl Steady {
    /// A number that has fallen says that pods went; only a greater one is a restart.
    fn next(before: Option<Self>, look: Look, now: Duration) -> Option<Self> {
        let fresh = |restarts, relapsed| Self {
            first: before.map_or(now, |before| before.first),
            since: now,
            restarts,
            relapsed,
        };
        match (look.staying, before) {
            (Some(restarts), Some(before)) if restarts <= before.restarts => Some(Self { restarts, ..before }),
            (Some(restarts), before) => Some(fresh(restarts, before.is_some())),
            (None, Some(before)) if look.unready => Some(fresh(before.restarts, true)),
            (None, Some(_) | None) => None,
        }
    }
}

/// The workloads of one run that need watching, by UID.
#[derive(Debug, Clone, Default)]
pub struct Sightings(HashMap<String, Since>);

/// How long each workload has been so; nothing for those that are seen for the first time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elapsed(HashMap<String, Times>);

impl Elapsed {
    /// The times of the workload with this UID.
    pub fn of(&self, uid: &str) -> Times {
        self.0.get(uid).copied().unwrap_or_default()
    }
}

impl Sightings {
    /// Takes a look at all of them. `now` is monotonic time. What is not among them, or needs no watching, is forgotten.
    pub fn look<'a>(&mut self, looks: impl Iterator<Item = (&'a str, Look)>, now: Duration) -> Elapsed {
        let mut next = HashMap::new();
        let mut elapsed = HashMap::new();
        for (uid, look) in looks.filter(|(_, look)| look.needs_watching()) {
            let before = self.0.get(uid);
            let same = before.filter(|since| since.template == look.template);
            let begun = |is: bool, since: Option<Duration>| is.then_some(since.unwrap_or(now));
            let since = Since {
                template: look.template,
                rolling: begun(look.rolling, same.and_then(|s| s.rolling)),
                unready: begun(look.unready, same.and_then(|s| s.unready)),
                busy: begun(look.busy, before.and_then(|s| s.busy)),
                steady: Steady::next(same.and_then(|s| s.steady), look, now),
            };
            let length = |since: Option<Duration>| since.map_or(Duration::ZERO, |at| now.saturating_sub(at));
            elapsed.insert(
                uid.to_owned(),
                Times {
                    rolling: length(since.rolling),
                    unready: length(since.unready),
                    busy: length(since.busy),
                    // One that has too few replicas just now is not steady.
                    steady: length(
                        since
                            .steady
                            .filter(|_| look.staying.is_some())
                            .map(|steady| steady.since),
                    ),
                    staying: length(since.steady.map(|steady| steady.first)),
                    relapsed: since.steady.is_some_and(|steady| steady.relapsed),
                },
            );
            next.insert(uid.to_owned(), since);
        }
        self.0 = next;
        Elapsed(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(n: u8) -> TemplateHash {
        format!("{n:016x}").parse().unwrap()
    }

    fn rolling(n: u8) -> Look {
        Look {
            template: template(n),
            rolling: true,
            unready: false,
            busy: false,
            staying: None,
        }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn busy(n: u8) -> Look {
        Look {
            rolling: false,
            busy: true,
            ..rolling(n)
        }
    }

    #[test]
    fn a_time_counts_from_the_first_look_and_anew_for_another_template() {
        let mut sightings = Sightings::default();
        let mut look = |look: Look, at: u64| sightings.look([("a", look)].into_iter(), seconds(at)).of("a");
        assert_eq!(look(rolling(1), 100).rolling, seconds(0));
        assert_eq!(look(rolling(1), 130).rolling, seconds(30));
        assert_eq!(look(rolling(2), 140).rolling, seconds(0));
        assert_eq!(look(busy(2), 150).busy, seconds(0));
        assert_eq!(
            look(busy(3), 160).busy,
            seconds(10),
            "one busy time, however many templates"
        );
        assert_eq!(look(rolling(3), 170).rolling, seconds(0));
        let still = Look {
            rolling: false,
            ..rolling(3)
        };
        look(still, 180);
        assert_eq!(look(rolling(3), 190).rolling, seconds(0), "forgotten in between");
    }

    #[test]
    fn it_is_steady_from_its_last_restart_on_and_a_pod_that_went_is_none() {
        let mut sightings = Sightings::default();
        let mut look = |restarts: u32, at: u64| {
            let staying = Some(restarts);
            let look = Look { staying, ..rolling(1) };
            let times = sightings.look([("a", look)].into_iter(), seconds(at)).of("a");
            (times.steady.as_secs(), times.relapsed)
        };
        assert_eq!(look(2, 100), (0, false));
        assert_eq!(look(2, 108), (8, false));
        assert_eq!(look(3, 109), (0, true));
        assert_eq!(look(3, 115), (6, true));
        assert_eq!(look(1, 117), (8, true), "scaled down");
        assert_eq!(look(2, 120), (0, true));
    }

    #[test]
    fn one_that_has_too_few_replicas_for_a_while_begins_anew_to_stay_and_its_deadline_goes_on() {
        let mut sightings = Sightings::default();
        let mut look = |staying: Option<u32>, at: u64| {
            let unready = staying.is_none();
            let look = Look {
                unready,
                staying,
                ..rolling(1)
            };
            let times = sightings.look([("a", look)].into_iter(), seconds(at)).of("a");
            (times.steady.as_secs(), times.relapsed, times.staying.as_secs())
        };
        assert_eq!(look(Some(0), 100), (0, false, 0));
        assert_eq!(look(Some(0), 105), (5, false, 5));
        assert_eq!(look(None, 107), (0, true, 7));
        assert_eq!(look(Some(1), 109), (0, true, 9));
        assert_eq!(look(Some(1), 112), (3, true, 12));
    }

    #[test]
    fn nothing_is_kept_of_a_workload_that_needs_no_watching() {
        let mut sightings = Sightings::default();
        sightings.look([("a", rolling(1)), ("b", busy(1))].into_iter(), seconds(0));
        sightings.look([("a", rolling(1))].into_iter(), seconds(1));
        assert_eq!(sightings.0.len(), 1);
    }
}
