//! The status of a candidate after its stored reports were judged again: a refused one with other waivers, or one that waited
//! long for its promotion. Pure.
//!
//! Whatever could not be judged any more (a report that is gone, a vulnerability database that is too old by now) changed no
//! verdict: the refusal stands, and a condition says what to do.

use super::{ConditionStatus, Conditions, Draft, Evaluation, EventRecord, Step, Verdict};

/// Condition: waivers changed after the refusal, and whether the stored reports could be judged with them.
const JUDGED_AGAIN: &str = "Reevaluated";

impl Draft<'_> {
    pub(super) fn reevaluated(&mut self, in_force: &str, result: &Result<(Box<Evaluation>, Box<Verdict>), String>) {
        match result {
            Ok((evaluation, verdict)) => {
                let same = self.status.waivers_hash.as_deref() == Some(in_force);
                self.reopen();
                self.judged(evaluation, verdict);
                let (reason, message) = if same {
                    (
                        "GatesOpenedLongAgo",
                        "its gates opened more than a day before the promotion: the stored reports were judged again, and nothing ran again",
                    )
                } else {
                    (
                        "WaiversChanged",
                        "the waivers of this namespace changed: the stored reports were judged with them, and nothing ran again",
                    )
                };
                self.conditions
                    .set(JUDGED_AGAIN, ConditionStatus::True, reason, message);
            }
            Err(why) => {
                let message = format!(
                    "the waivers of this namespace changed, and the stored reports cannot be judged with them: {why}. The refusal stands. Delete this ImageCandidate: its BaseImage makes it again, and its checks run"
                );
                self.status.waivers_hash = Some(in_force.to_owned());
                self.conditions.set(
                    JUDGED_AGAIN,
                    ConditionStatus::False,
                    "ReportsNotUsable",
                    message.clone(),
                );
                self.events.push(EventRecord {
                    warning: true,
                    reason: "ReportsNotUsable",
                    message,
                });
            }
        }
    }

    /// Takes back when the gates were decided, which is now, and the page about it.
    fn reopen(&mut self) {
        let generation = self.status.observed_generation.unwrap_or(0);
        self.conditions = Conditions::from(&self.status.conditions, generation, self.now);
        self.status.page = None;
        for entry in &mut self.status.timeline {
            if matches!(entry.step, Step::Validated | Step::Scanned) {
                entry.finished = None;
            }
        }
    }
}
