//! What a Waiver says about itself. Pure: no text changes with the clock alone, so an idle one is never written.

use super::validate::{self, Phase};
use crate::{
    api::{Waiver, WaiverStatus},
    controllers::{
        conditions::{self, ConditionStatus, Conditions},
        driver::{EventRecord, Outcome, Requeue},
    },
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Most candidates that are named.
const NAMED: usize = 5;

/// The new status, what people should hear of, and when it changes by itself.
pub fn summarize(waiver: &Waiver, users: &[String], now: Timestamp) -> Outcome<WaiverStatus> {
    let old = waiver.status.clone().unwrap_or_default();
    let generation = waiver.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::from(&old.conditions, generation, now);
    if users.is_empty() {
        conditions.set("Unused", ConditionStatus::True, "Unused", UNUSED);
    } else {
        conditions.clear("Unused");
    }
    let next = match validate::period(waiver) {
        Ok(period) => {
            by_phase(&mut conditions, waiver, period.phase(now), users.len());
            period.next_change(now).map_or(Requeue::AwaitChange, |at| {
                Requeue::After(at.duration_since(now).unsigned_abs())
            })
        }
        Err(error) => {
            conditions.clear("ExpiringSoon");
            conditions.clear("Expired");
            conditions.set("Active", ConditionStatus::False, "TooLong", error.to_string());
            conditions.stalled("TooLong", error.to_string());
            Requeue::AwaitChange
        }
    };
    let conditions = conditions.into_list();
    Outcome {
        events: events(&old.conditions, &conditions),
        status: WaiverStatus {
            observed_generation: Some(generation),
            used_by: u32::try_from(users.len()).unwrap_or(u32::MAX),
            last_used: users.iter().take(NAMED).cloned().collect(),
            conditions,
        },
        next,
    }
}

const UNUSED: &str =
    "no candidate that exists needed it: delete it if the findings are gone, or look at scope if they are not";

fn by_phase(conditions: &mut Conditions, waiver: &Waiver, phase: Phase, users: usize) {
    let (owner, expires) = (&waiver.spec.owner, waiver.spec.expires_at.0);
    let used = if users == 0 {
        "not needed by any candidate".to_owned()
    } else {
        format!("needed by {users}")
    };
    let expiring = phase == Phase::ExpiringSoon;
    if expiring {
        let message =
            format!("it ends at {expires}: then what it covers counts again. {owner}: repair it, or renew the Waiver");
        conditions.set("ExpiringSoon", ConditionStatus::True, "ExpiringSoon", message);
    } else {
        conditions.clear("ExpiringSoon");
    }
    match phase {
        Phase::NotYet => {
            conditions.clear("Expired");
            let message = format!(
                "it has no effect before {}",
                waiver.spec.not_before.as_ref().map_or(expires, |t| t.0)
            );
            conditions.set("Active", ConditionStatus::False, "NotYet", message.clone());
            conditions.reconciling("NotYet", message);
        }
        Phase::Active | Phase::ExpiringSoon => {
            conditions.clear("Expired");
            let message = format!("in force until {expires}, {used}");
            conditions.set("Active", ConditionStatus::True, "Active", message.clone());
            conditions.ready(if expiring { "ExpiringSoon" } else { "Active" }, message);
        }
        Phase::Expired => {
            let message = format!(
                "it ended at {expires}: what it covers counts again, {used}. {owner}: delete it, or write a later expiresAt"
            );
            conditions.set("Active", ConditionStatus::False, "Expired", message.clone());
            conditions.set("Expired", ConditionStatus::True, "Expired", message.clone());
            conditions.stalled("Expired", message);
        }
    }
}

/// An event for each of the two that people must hear of, once.
fn events(old: &[Condition], new: &[Condition]) -> Vec<EventRecord> {
    let mut events = Vec::new();
    for reason in ["ExpiringSoon", "Expired"] {
        if let (false, Some(condition)) = (conditions::is_true(old, reason), conditions::find(new, reason)) {
            events.push(EventRecord {
                warning: true,
                reason,
                message: condition.message.clone(),
            });
        }
    }
    events
}
