//! Conditions: their types, how they are set, and the kstatus trio.
//!
//! `lastTransitionTime` moves only when the status does, so that an unchanged world writes nothing. Must not know any
//! kind: a controller says which conditions it has.
//! Rules: kstatus <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>.

use super::error::{Class, Classified};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

/// Longest message that is kept, in characters: a status stays under 8 KiB with all its conditions.
const MAX_MESSAGE: usize = 800;

/// The value of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not decided yet.
    Unknown,
}

impl ConditionStatus {
    /// The word of the Kubernetes API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The conditions of one object in the making.
#[derive(Debug)]
pub struct Conditions {
    list: Vec<Condition>,
    generation: i64,
    now: Timestamp,
}

impl Conditions {
    /// Starts from what the object has now.
    pub fn from(list: &[Condition], generation: i64, now: Timestamp) -> Self {
        Self {
            list: list.to_vec(),
            generation,
            now,
        }
    }

    /// Sets one condition; `reason` is a static PascalCase word.
    pub fn set(
        &mut self,
        type_: &'static str,
        truth: ConditionStatus,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let message: String = message.into().trim().chars().take(MAX_MESSAGE).collect();
        let old = self.list.iter().position(|c| c.type_ == type_);
        let since = old
            .map(|at| &self.list[at])
            .filter(|c| c.status == truth.as_str())
            .map_or_else(|| Time(self.now), |c| c.last_transition_time.clone());
        let new = Condition {
            type_: type_.to_owned(),
            status: truth.as_str().to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: Some(self.generation),
            last_transition_time: since,
        };
        match old {
            Some(at) => self.list[at] = new,
            None => self.list.push(new),
        }
    }

    /// Removes a condition that is only there while it is true.
    pub fn clear(&mut self, type_: &str) {
        self.list.retain(|c| c.type_ != type_);
    }

    /// All is as wished: Ready, not reconciling, not stalled.
    pub fn ready(&mut self, reason: &'static str, message: impl Into<String>) {
        self.set("Ready", ConditionStatus::True, reason, message);
        self.clear("Reconciling");
        self.clear("Stalled");
    }

    /// Work is going on (or something is awaited that heals by itself).
    pub fn reconciling(&mut self, reason: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.set("Ready", ConditionStatus::False, reason, message.clone());
        self.set("Reconciling", ConditionStatus::True, reason, message);
        self.clear("Stalled");
    }

    /// What was wished for holds, and something newer is on its way.
    pub fn progressing(&mut self, reason: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.set("Ready", ConditionStatus::True, reason, message.clone());
        self.set("Reconciling", ConditionStatus::True, reason, message);
        self.clear("Stalled");
    }

    /// A person must act: nothing goes on by itself.
    pub fn stalled(&mut self, reason: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.set("Ready", ConditionStatus::False, reason, message.clone());
        self.set("Stalled", ConditionStatus::True, reason, message);
        self.clear("Reconciling");
    }

    /// A step failed: a person must act, or it goes on by itself, as the error knows.
    pub fn failed(&mut self, error: &impl Classified, message: impl Into<String>) {
        self.failed_as(error.class(), error.reason(), message);
    }

    /// The same, of a failure that is data already.
    pub fn failed_as(&mut self, class: Class, reason: &'static str, message: impl Into<String>) {
        match class {
            Class::Stalled => self.stalled(reason, message),
            Class::Waiting(_) | Class::Transient => self.reconciling(reason, message),
        }
    }

    /// The finished list.
    pub fn into_list(self) -> Vec<Condition> {
        self.list
    }
}

/// Whether a condition holds.
pub fn is_true(list: &[Condition], type_: &str) -> bool {
    list.iter().any(|c| c.type_ == type_ && c.status == "True")
}

/// One condition.
pub fn find<'a>(list: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    list.iter().find(|c| c.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let (t1, t2) = (Timestamp::from_second(1).unwrap(), Timestamp::from_second(2).unwrap());
        let mut first = Conditions::from(&[], 1, t1);
        first.set("Built", ConditionStatus::False, "Building", "a");
        let mut second = Conditions::from(&first.into_list(), 2, t2);
        second.set("Built", ConditionStatus::False, "Building", "b");
        assert_eq!(second.list[0].last_transition_time, Time(t1));
        assert_eq!(
            (second.list[0].message.as_str(), second.list[0].observed_generation),
            ("b", Some(2))
        );
        second.set("Built", ConditionStatus::True, "Built", "c");
        assert_eq!(second.list[0].last_transition_time, Time(t2));
    }

    #[test]
    fn the_trio_is_never_contradictory() {
        let mut conditions = Conditions::from(&[], 1, Timestamp::UNIX_EPOCH);
        conditions.reconciling("A", "a");
        conditions.stalled("B", "b");
        assert!(!is_true(&conditions.list, "Reconciling") && is_true(&conditions.list, "Stalled"));
        conditions.ready("C", "c");
        assert!(is_true(&conditions.list, "Ready") && !is_true(&conditions.list, "Stalled"));
    }
}
