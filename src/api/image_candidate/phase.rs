//! Where a candidate stands, as it is stored: the one field that decides what its controller does next.
//!
//! Conditions are for people and other programs and are never read back. A status of a version that stored no phase is
//! mapped once, so that nothing that was promoted or refused enters the pipeline again.

use super::{CandidateResult, ImageCandidateStatus, Step};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a candidate stands: the step that is next, or what it came to.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
pub enum Phase {
    /// The upstream image must be copied to staging.
    Pull,
    /// Upstream's signature or digest must be verified.
    Verify,
    /// The customised image must be built.
    Build,
    /// The checks must run and be judged.
    Check,
    /// Every gate is open: it must be promoted.
    Promote,
    /// It was promoted.
    Released,
    /// A gate refused it; waivers may open it while it is wanted.
    Rejected,
    /// A check or the build could not be carried out.
    Error,
    /// Its BaseImage came to want another candidate first.
    Superseded,
}

impl Phase {
    /// The phase of a stored status. What is decided wins over everything else, so that no contradiction re-opens it.
    pub fn of(status: &ImageCandidateStatus) -> Self {
        if status.promoted.is_some() {
            return Self::Released;
        }
        match status.result {
            Some(CandidateResult::Passed) => Self::Released,
            Some(CandidateResult::Rejected) => Self::Rejected,
            Some(CandidateResult::Error) => Self::Error,
            Some(CandidateResult::Superseded) => Self::Superseded,
            Some(CandidateResult::Running | CandidateResult::Waiting) | None => {
                status.phase.unwrap_or_else(|| of_conditions(status))
            }
        }
    }

    /// Whether it is decided: no error, restart or lost read leaves it, only an evaluation that comes to its end.
    pub const fn is_final(self) -> bool {
        self.result().is_some()
    }

    /// The step that is on its way; none when it is decided.
    pub const fn step(self) -> Option<Step> {
        match self {
            Self::Pull => Some(Step::Pulled),
            Self::Verify => Some(Step::Verified),
            Self::Build => Some(Step::Built),
            // With scans both gates are judged together; the first one stands for them.
            Self::Check => Some(Step::Validated),
            Self::Promote => Some(Step::Promoted),
            Self::Released | Self::Rejected | Self::Error | Self::Superseded => None,
        }
    }

    /// What a decided phase is called as a result; none on the way.
    pub const fn result(self) -> Option<CandidateResult> {
        match self {
            Self::Released => Some(CandidateResult::Passed),
            Self::Rejected => Some(CandidateResult::Rejected),
            Self::Error => Some(CandidateResult::Error),
            Self::Superseded => Some(CandidateResult::Superseded),
            Self::Pull | Self::Verify | Self::Build | Self::Check | Self::Promote => None,
        }
    }
}

/// For a status that stored no phase: the first step that its conditions do not say is done.
fn of_conditions(status: &ImageCandidateStatus) -> Phase {
    let done = |step: Step| {
        let mut conditions = status.conditions.iter();
        conditions.any(|condition| condition.type_ == step.as_str() && condition.status == "True")
    };
    if !done(Step::Pulled) {
        Phase::Pull
    } else if !done(Step::Verified) {
        Phase::Verify
    } else if !done(Step::Built) || status.built_digest.is_none() {
        Phase::Build
    } else if done(Step::Validated) && done(Step::Scanned) {
        Phase::Promote
    } else {
        Phase::Check
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repave_core::digest::Digest;
    use serde_json::{Value, json};

    /// A status of a version without phases.
    fn old(result: &Value, done: &[Step], built: bool, promoted: bool) -> ImageCandidateStatus {
        let conditions: Vec<Value> = done
            .iter()
            .map(|step| {
                json!({"type": step.as_str(), "status": "True", "reason": "Done", "message": "",
                       "lastTransitionTime": "2026-11-20T00:00:00Z"})
            })
            .collect();
        let promoted = promoted.then(|| {
            json!({"repository": "r.local/base", "digest": Digest::of(b"b"), "tag": "t", "chainId": Digest::of(b"c"),
                   "layers": 1, "at": "2026-11-20T00:00:00Z"})
        });
        let built = built.then(|| Digest::of(b"b"));
        let status = json!({"result": result, "conditions": conditions, "builtDigest": built, "promoted": promoted});
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn what_an_older_version_stored_goes_on_where_it_was_and_nothing_decided_starts_again() {
        let (running, waiting) = (json!("Running"), json!("Waiting"));
        let all = Step::ALL;
        for (result, done, built, promoted, phase) in [
            (&Value::Null, &all[..0], false, false, Phase::Pull),
            (&waiting, &all[..0], false, false, Phase::Pull),
            (&running, &all[..1], false, false, Phase::Verify),
            (&waiting, &all[..1], false, false, Phase::Verify),
            (&running, &all[..2], false, false, Phase::Build),
            (&running, &all[..3], false, false, Phase::Build),
            (&running, &all[..3], true, false, Phase::Check),
            (&running, &all[..4], true, false, Phase::Check),
            (&running, &all[..5], true, false, Phase::Promote),
            (&json!("Passed"), &all[..], true, true, Phase::Released),
            // A failed look had written this over a release: it must not be promoted again.
            (&waiting, &all[1..], true, true, Phase::Released),
            (&running, &all[..], true, true, Phase::Released),
            (&json!("Rejected"), &all[..2], false, false, Phase::Rejected),
            (&json!("Error"), &all[..3], true, false, Phase::Error),
            (&json!("Superseded"), &all[..5], true, false, Phase::Superseded),
        ] {
            assert_eq!(
                Phase::of(&old(result, done, built, promoted)),
                phase,
                "{result} {done:?}"
            );
        }
    }

    #[test]
    fn a_stored_phase_is_not_argued_with_by_conditions_and_never_by_itself_leaves_a_decision() {
        let mut status = old(&json!("Running"), &Step::ALL, true, false);
        status.phase = Some(Phase::Check);
        assert_eq!(Phase::of(&status), Phase::Check);
        status.conditions.clear();
        assert_eq!(Phase::of(&status), Phase::Check);
        status.result = Some(CandidateResult::Rejected);
        assert_eq!(Phase::of(&status), Phase::Rejected);
        for decided in [Phase::Released, Phase::Rejected, Phase::Error, Phase::Superseded] {
            assert!(decided.is_final() && decided.step().is_none());
            status.result = decided.result();
            assert_eq!(Phase::of(&status), decided);
        }
    }
}
