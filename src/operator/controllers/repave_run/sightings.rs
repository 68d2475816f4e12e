//! How long this process has seen a workload in one state, by its monotonic clock: what the deadlines of a run count by.
//!
//! No clock of another machine and no time of day is compared, so a clock that jumps changes nothing. A restart forgets, and
//! every deadline begins anew: later than promised, never too early. Must not decide anything.

use crate::domain::moved::TemplateHash;
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
}

#[derive(Debug, Clone, Copy)]
struct Since {
    template: TemplateHash,
    rolling: Option<Duration>,
    unready: Option<Duration>,
    busy: Option<Duration>,
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
        for (uid, look) in looks.filter(|(_, look)| look.rolling || look.unready || look.busy) {
            let before = self.0.get(uid);
            let same = before.filter(|since| since.template == look.template);
            let begun = |is: bool, since: Option<Duration>| is.then_some(since.unwrap_or(now));
            let since = Since {
                template: look.template,
                rolling: begun(look.rolling, same.and_then(|s| s.rolling)),
                unready: begun(look.unready, same.and_then(|s| s.unready)),
                busy: begun(look.busy, before.and_then(|s| s.busy)),
            };
            let length = |since: Option<Duration>| since.map_or(Duration::ZERO, |at| now.saturating_sub(at));
            elapsed.insert(
                uid.to_owned(),
                Times {
                    rolling: length(since.rolling),
                    unready: length(since.unready),
                    busy: length(since.busy),
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
    fn nothing_is_kept_of_a_workload_that_needs_no_watching() {
        let mut sightings = Sightings::default();
        sightings.look([("a", rolling(1)), ("b", busy(1))].into_iter(), seconds(0));
        sightings.look([("a", rolling(1))].into_iter(), seconds(1));
        assert_eq!(sightings.0.len(), 1);
    }
}
