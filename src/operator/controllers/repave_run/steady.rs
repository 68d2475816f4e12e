//! Which workloads have stayed healthy in our roll-out: only those are done, and only the others are watched for it.
//!
//! Kept in memory, and as one time in the status, so that a restart does not watch a whole estate again: what was moved until
//! then has come to its end. What is on its way and not to be seen for a while has not: this process remembers it, and the time
//! in the status does not run past it. Pure.

use crate::domain::{
    moved::{LastWrite, Whose},
    template::TemplateHash,
    workload::Workload,
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::HashMap, mem};

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
    /// By UID: what this run moved and what has not come to its end.
    open: HashMap<String, Open>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    /// When it was moved.
    at: Timestamp,
    /// Whether it was not to be seen since, at least once.
    missing: bool,
}

impl Steady {
    /// Takes in what the status says.
    pub fn know(&mut self, until: Option<Timestamp>) {
        self.until = until;
    }

    /// Whether the workload has stayed healthy in the roll-out of our last write.
    pub fn has(&self, workload: &Workload) -> bool {
        let moved = workload.annotations.last_write.as_deref().map(LastWrite::at);
        let before = moved.zip(self.until).is_some_and(|(moved, until)| moved <= until);
        before || self.seen.get(&workload.uid) == Some(&workload.template())
    }

    /// Whether this process saw the workload on its way in the roll-out of our last write, and not at its end since.
    pub fn is_open(&self, workload: &Workload) -> bool {
        self.open_of(workload).is_some()
    }

    /// Whether it was on its way in that roll-out when it was not to be seen, and has not come to its end since.
    pub fn was_missing(&self, workload: &Workload) -> bool {
        self.open_of(workload).is_some_and(|open| open.missing)
    }

    fn open_of(&self, workload: &Workload) -> Option<&Open> {
        let at = workload.annotations.last_write.as_deref().map(LastWrite::at)?;
        self.open.get(&workload.uid).filter(|open| open.at == at)
    }

    /// Takes a look at what is there: what is not, is missing, and what is in another roll-out is not on its way any more.
    pub fn look<'a>(&mut self, workloads: impl Iterator<Item = &'a Workload>, run_ref: &str) {
        if self.open.is_empty() {
            return;
        }
        let there: HashMap<&str, Option<Timestamp>> = workloads
            .map(|workload| (workload.uid.as_str(), written(workload, run_ref)))
            .collect();
        self.open.retain(|uid, open| {
            let seen = there.get(uid.as_str());
            open.missing |= seen.is_none();
            seen.is_none_or(|at| *at == Some(open.at))
        });
    }

    /// This one was moved just now.
    pub fn moved(&mut self, workload: &Workload, at: Timestamp) {
        let missing = false;
        self.open.insert(workload.uid.clone(), Open { at, missing });
    }

    /// Remembers what is done and what is on its way, and forgets what the status tells and what is in another roll-out now. A
    /// time that is not believed (from `until` on) is not remembered: who wrote it is not known.
    pub fn note<'a>(
        &mut self,
        workloads: impl Iterator<Item = (&'a Workload, Course)>,
        run_ref: &str,
        until: Timestamp,
    ) {
        let mut seen = HashMap::new();
        let mut before = mem::take(&mut self.open);
        for (workload, course) in workloads {
            let open = before.remove(&workload.uid);
            if let (Course::Open, Some(at)) = (course, written(workload, run_ref)) {
                let known = open.filter(|open| open.at == at);
                let fresh = (at < until).then_some(Open { at, missing: false });
                self.open
                    .extend(known.or(fresh).map(|open| (workload.uid.clone(), open)));
            }
            let template = workload.template();
            let known = course == Course::Done || self.seen.get(&workload.uid) == Some(&template);
            let told = |at: Timestamp| self.until.is_some_and(|until| at <= until);
            if known && written(workload, run_ref).is_some_and(|at| !told(at)) {
                seen.insert(workload.uid.clone(), template);
            }
        }
        self.seen = seen;
        // What is missing, or no target for now.
        self.open.extend(before);
    }

    /// What a finished run must still know: what stayed healthy is never judged again, and what is missing is when it is back.
    #[must_use]
    pub fn of_finished(mut self) -> Self {
        self.open.retain(|_, open| open.missing);
        self
    }

    /// Whether there is anything to know that the status does not tell.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.open.is_empty()
    }

    /// Until when everything that was moved has come to its end, in whole seconds as a status keeps them. `now` is the time
    /// that this look writes down: what it moves has that time.
    pub fn until<'a>(
        &self,
        workloads: impl Iterator<Item = (&'a Workload, Course)>,
        run_ref: &str,
        old: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut open = self.open.values().map(|open| open.at).fold(now, Timestamp::min);
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
}

/// When the roll-out was written that this workload is in, if it is one of this run.
fn written(workload: &Workload, run_ref: &str) -> Option<Timestamp> {
    let ours = workload.is_of_run(run_ref) && workload.whose() == Some(Whose::Ours);
    let last = workload.annotations.last_write.as_deref().filter(|_| ours)?;
    Some(last.at())
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
            Steady::default()
                .until(all, MARK, old, at(now))
                .map(|until| until.to_string())
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
        let late = at("2026-01-01T01:00:00Z");
        let one = moved("a", "2026-01-01T00:00:10Z");
        assert!(!steady.has(&one));
        steady.note([(&one, Done)].into_iter(), MARK, late);
        assert!(steady.has(&one));
        steady.note([(&one, Open)].into_iter(), MARK, late);
        assert!(steady.has(&one), "it is not ready for a while");
        let again = moved("a", "2026-01-01T00:00:40Z");
        let mut other = again.clone();
        other.containers[0].image = "r.test/app:2".to_owned();
        assert!(!steady.has(&other), "another template");
        steady.know(Some(at("2026-01-01T00:00:10Z")));
        steady.note([(&one, Done)].into_iter(), MARK, late);
        assert!(steady.seen.is_empty() && steady.has(&one) && !steady.has(&again));
    }

    #[test]
    fn what_is_missing_on_its_way_is_remembered_and_the_status_does_not_run_past_it() {
        let (one, other) = (moved("a", "2026-01-01T00:00:10Z"), moved("b", "2026-01-01T00:00:10Z"));
        let late = at("2026-01-01T01:00:00Z");
        let mut steady = Steady::default();
        let until = |steady: &Steady| steady.until([(&other, Done)].into_iter(), MARK, None, late);
        steady.note([(&one, Open), (&other, Open)].into_iter(), MARK, late);
        assert!(steady.is_open(&one) && !steady.was_missing(&one));
        steady.look([&other].into_iter(), MARK);
        steady.note([(&other, Done)].into_iter(), MARK, late);
        assert!(steady.was_missing(&one) && !steady.is_open(&other));
        assert_eq!(until(&steady), None);
        steady.note([(&one, Open)].into_iter(), MARK, late);
        assert!(steady.was_missing(&one), "it is there again and has not stayed healthy");
        steady.note([(&one, Done)].into_iter(), MARK, late);
        assert!(!steady.is_open(&one));
        assert_eq!(until(&steady), Some(at("2026-01-01T00:00:10Z")));
        steady.note([(&one, Open)].into_iter(), MARK, at("2025-12-01T00:00:00Z"));
        assert!(!steady.is_open(&one), "the clock was ahead when it was moved");
    }
}
