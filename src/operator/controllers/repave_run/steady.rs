//! Which workloads have stayed healthy in our roll-out: only those are done, and only the others are watched for it.
//!
//! Kept in memory, and as one time in the status, so that a restart does not watch a whole estate again: what was moved until
//! then has come to its end. Pure.

use crate::domain::{
    moved::{LastWrite, TemplateHash, Whose},
    workload::Workload,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;

/// How far a workload is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It has stayed healthy.
    Done,
    /// It came to another end, and is not on the target.
    Ended,
    /// It may still come to the target, or go on there, or failed there.
    Open,
}

/// What is known to have stayed healthy.
#[derive(Debug, Clone, Default)]
pub struct Steady {
    until: Option<Timestamp>,
    /// By UID: in which template.
    seen: HashMap<String, TemplateHash>,
}

impl Steady {
    /// Takes in what the status says.
    pub fn know(&mut self, until: Option<Timestamp>) {
        self.until = until;
    }

    /// Whether the workload has stayed healthy in the roll-out of our last write.
    pub fn has(&self, workload: &Workload) -> bool {
        let moved = workload.annotations.last_write.as_ref().map(LastWrite::at);
        let before = moved.zip(self.until).is_some_and(|(moved, until)| moved <= until);
        before || self.seen.get(&workload.uid) == Some(&workload.template())
    }

    /// Remembers what is done, and forgets what the status tells and what is in another roll-out now.
    pub fn note<'a>(&mut self, workloads: impl Iterator<Item = (&'a Workload, Course)>, run_ref: &str) {
        let mut seen = HashMap::new();
        for (workload, course) in workloads {
            let template = workload.template();
            let known = course == Course::Done || self.seen.get(&workload.uid) == Some(&template);
            let told = |at: Timestamp| self.until.is_some_and(|until| at <= until);
            if known && written(workload, run_ref).is_some_and(|at| !told(at)) {
                seen.insert(workload.uid.clone(), template);
            }
        }
        self.seen = seen;
    }
}

/// When the roll-out was written that this workload is in, if it is one of this run.
fn written(workload: &Workload, run_ref: &str) -> Option<Timestamp> {
    let ours = workload.is_of_run(run_ref) && workload.whose() == Some(Whose::Ours);
    let last = workload.annotations.last_write.as_ref().filter(|_| ours)?;
    Some(last.at())
}

/// Until when everything that was moved has come to its end, in whole seconds as a status keeps them. `now` is the time
/// that this look writes down: what it moves has that time.
pub fn until<'a>(
    workloads: impl Iterator<Item = (&'a Workload, Course)>,
    run_ref: &str,
    old: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let mut open = now;
    let mut done = Vec::new();
    for (workload, course) in workloads {
        let Some(at) = written(workload, run_ref) else {
            continue;
        };
        match course {
            Course::Done => done.push(at),
            Course::Ended => {}
            Course::Open => open = open.min(at),
        }
    }
    let before = done.into_iter().filter_map(whole_second).filter(|at| *at < open).max();
    before.max(old)
}

fn whole_second(at: Timestamp) -> Option<Timestamp> {
    let whole = Timestamp::from_second(at.as_second()).ok()?;
    if whole == at {
        return Some(at);
    }
    whole.checked_add(SignedDuration::from_secs(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::{
        Course::{Done, Ended, Open},
        *,
    };
    use serde_json::json;

    const MARK: &str = "p/all-v3";

    fn moved(name: &str, at: &str) -> Workload {
        let record = json!({"at": at, "plan": "p/all", "digest": format!("sha256:{}", "a".repeat(64)), "generation": 1,
            "template": "0000000000000000"});
        let object = json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": "1", "generation": 2,
                "annotations": {"repave.dev/run": MARK, "repave.dev/moved": record.to_string()}},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "app", "image": "r.test/app:1"}]}}},
        });
        Workload::from_deployment(&serde_json::from_value(object).unwrap()).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_status_tells_of_no_more_than_has_ended_before_everything_that_has_not() {
        let workloads = [
            moved("a", "2026-01-01T00:00:10.5Z"),
            moved("b", "2026-01-01T00:00:20Z"),
            moved("c", "2026-01-01T00:00:30Z"),
        ];
        let until = |courses: [Course; 3], old: Option<Timestamp>, now: &str| {
            let all = workloads.iter().zip(courses);
            until(all, MARK, old, at(now)).map(|until| until.to_string())
        };
        let late = "2026-01-01T01:00:00Z";
        let says = |text: &str| Some(format!("2026-01-01T00:00:{text}Z"));
        assert_eq!(until([Done, Done, Open], None, late), says("20"));
        assert_eq!(
            until([Done, Open, Done], None, late),
            says("11"),
            "a status keeps whole seconds"
        );
        assert_eq!(until([Open, Done, Done], None, late), None);
        assert_eq!(until([Ended, Done, Open], None, late), says("20"));
        assert_eq!(until([Done, Done, Done], None, late), says("30"));
        assert_eq!(
            until([Done, Done, Done], None, "2026-01-01T00:00:30Z"),
            says("20"),
            "this look may move more"
        );
        let old = Some(at("2026-01-01T00:00:25Z"));
        assert_eq!(until([Open, Done, Done], old, late), says("25"), "it never goes back");
    }

    #[test]
    fn what_is_done_is_known_until_it_is_in_another_rollout_or_the_status_tells_it() {
        let mut steady = Steady::default();
        let one = moved("a", "2026-01-01T00:00:10Z");
        assert!(!steady.has(&one));
        steady.note([(&one, Course::Done)].into_iter(), MARK);
        assert!(steady.has(&one));
        steady.note([(&one, Course::Open)].into_iter(), MARK);
        assert!(steady.has(&one), "it is not ready for a while");
        let again = moved("a", "2026-01-01T00:00:40Z");
        let mut other = again.clone();
        other.containers[0].image = "r.test/app:2".to_owned();
        assert!(!steady.has(&other), "another template");
        steady.know(Some(at("2026-01-01T00:00:10Z")));
        steady.note([(&one, Course::Done)].into_iter(), MARK);
        assert!(steady.seen.is_empty() && steady.has(&one) && !steady.has(&again));
    }
}
