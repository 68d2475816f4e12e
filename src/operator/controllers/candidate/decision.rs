//! What is said about a check and about the rules once reports are judged. Pure.
//!
//! Must not decide whether a candidate goes on: `status.rs` does, from what is made here.

use super::{
    judging::{Judging, Previous},
    validate::Wish,
};
use crate::{
    api::{ImageCandidateStatus, image_candidate::ReleaseDifference},
    domain::{
        difference::{self, Difference},
        report::Report,
        verdict::Judgement,
    },
};
use jiff::Timestamp;
pub use repave_policy::{Broken, CHECK_MESSAGE, FINDING_LINE, broken_rules, summary};

/// Most waivers that a status names.
const MAX_WAIVERS: usize = 16;

/// Notes which waivers were in force. Checks that were judged with different ones give a word that no set of waivers has,
/// so that a refusal is judged anew, with one set.
pub fn judged_with(status: &mut ImageCandidateStatus, in_force: &str) {
    let several = status.judged_with.as_deref().is_some_and(|before| before != in_force);
    status.judged_with = Some(if several { "several" } else { in_force }.to_owned());
}

/// Adds the waivers that a judgement used, and what changed since the release before.
pub fn note(status: &mut ImageCandidateStatus, report: &Report, judgement: &Judgement, judging: &Judging) {
    for waiver in &judgement.used_waivers {
        if status.waivers.len() < MAX_WAIVERS && !status.waivers.contains(waiver) {
            status.waivers.push(waiver.clone());
        }
    }
    status.waivers.sort();
    let (since, before) = match &judging.previous {
        Previous::None => return,
        Previous::NotKnown => (String::new(), None),
        Previous::Known { candidate, checks } => (candidate.clone(), checks.get(&report.check)),
    };
    let known = status.difference.get_or_insert_with(|| ReleaseDifference {
        since: since.clone(),
        ..ReleaseDifference::default()
    });
    if known.since.is_empty() {
        known.since = since;
    }
    let Some(before) = before else {
        if known.not_known.len() < difference::NAMED {
            known.not_known.push(report.check.clone());
        }
        known.summary = describe(&of(known), &known.not_known);
        return;
    };
    let mut total = of(known);
    let mut more = Difference::between(&before.report, report);
    more.waivers = i64::from(judgement.waived) - i64::from(before.waived);
    total.add(more);
    known.summary = describe(&total, &known.not_known);
    (known.fixes, known.opens, known.unchanged) = (total.fixes, total.opens, total.unchanged);
    (known.waivers, known.closed, known.opened) = (total.waivers, total.closed, total.opened);
}

fn of(known: &ReleaseDifference) -> Difference {
    Difference {
        fixes: known.fixes,
        opens: known.opens,
        unchanged: known.unchanged,
        waivers: known.waivers,
        closed: known.closed.clone(),
        opened: known.opened.clone(),
    }
}

fn describe(total: &Difference, not_known: &[String]) -> String {
    if not_known.is_empty() {
        total.to_string()
    } else {
        format!("{total}; not known for {}", not_known.join(", "))
    }
}

/// The rules that do not hold, once all checks are judged.
pub fn broken(wish: &Wish, status: &ImageCandidateStatus, now: Timestamp) -> Vec<Broken> {
    broken_rules(&wish.rules, status, now)
}
