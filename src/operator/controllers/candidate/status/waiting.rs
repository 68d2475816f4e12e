//! What a candidate's status says about what it waits for. Pure.

use super::{CandidateResult, ConditionStatus, Draft, Pending, QUEUED, Step, WaitingOn, Wanted};

impl Draft<'_> {
    pub(super) fn waiting(&mut self, waiting_on: &[WaitingOn]) {
        // What is out, or goes on at once, waits for nothing.
        if self.phase.is_final() {
            return;
        }
        for one in waiting_on {
            self.waits(one);
        }
    }

    /// A copy that has not ended: no failure, and the same words at each look.
    pub(super) fn under_way(&mut self, step: Step, pending: &Pending) {
        let (reason, doing) = if step == Step::Promoted {
            ("Promoting", "copying to production")
        } else {
            ("Copying", "copying to staging")
        };
        match pending {
            Pending::Running => self.running(step, reason, format!("{doing}; this goes on by itself")),
            Pending::Queued { by, .. } => {
                let message =
                    format!("{doing} waits: {by} has as many transfers under way as it may; this goes on by itself");
                self.running(step, "TransferQueued", message);
            }
        }
    }

    fn waits(&mut self, waiting_on: &WaitingOn) {
        let queued = !self.applied.queued.is_empty();
        match waiting_on {
            WaitingOn::BaseImage(wanted) => self.unwanted(wanted),
            WaitingOn::Signature(why) => {
                self.running(Step::Verified, "SignaturePending", why.clone());
                self.status.result = Some(CandidateResult::Waiting);
            }
            WaitingOn::VerificationConfigured => {
                let message = "nothing says how to tell that upstream is genuine: declare it in the BaseImage, either spec.verify: [{cosign: {keyRef: {name: <Secret with cosign.pub>}}}] or [{digests: [sha256:…]}]";
                self.running(Step::Verified, "VerificationNotConfigured", message);
                self.conditions.set(
                    Step::Verified.as_str(),
                    ConditionStatus::False,
                    "VerificationNotConfigured",
                    message,
                );
                self.status.result = Some(CandidateResult::Waiting);
                self.conditions.stalled("VerificationNotConfigured", message);
            }
            WaitingOn::Build { .. } if queued => self.running(Step::Built, "Queued", QUEUED),
            WaitingOn::Build { reason, what } => self.running(Step::Built, reason, what.clone()),
            WaitingOn::Checks { step, image, open } => {
                let waiting = if queued { format!(". {QUEUED}") } else { String::new() };
                let message = format!("running on {image}: {}{waiting}", open.join(", "));
                self.running(*step, "ChecksRunning", message);
            }
            WaitingOn::Rules => {
                let message = "its own checks are done; the rules look at all results, and scans still run";
                self.running(Step::Validated, "RulesWaiting", message);
            }
            // Of a release: said in its own condition.
            WaitingOn::Rescan { .. } => {}
        }
    }

    /// Nothing goes on until the BaseImage says that it wants this candidate; the steps that are done stay done.
    fn unwanted(&mut self, wanted: &Wanted) {
        let (reason, message) = match wanted {
            // Superseded is no wait: it is decided.
            Wanted::Yes | Wanted::No { .. } => return,
            // A moment between two writes of the BaseImage's controller is not worth one of ours.
            Wanted::NotYetKnown { .. } if self.status.result.is_some() => return,
            Wanted::NotYetKnown { why } => ("BaseImageNotObserved", format!("{why}; nothing is done until then")),
            Wanted::Suspended => {
                let message = "its BaseImage is suspended: no new step is taken until spec.suspend is false";
                ("Suspended", message.to_owned())
            }
            Wanted::BaseImageGone { why } => {
                let message = format!("{why}: no new step is taken, and nothing is promoted");
                ("BaseImageGone", message)
            }
        };
        self.status.result = Some(CandidateResult::Waiting);
        self.conditions.reconciling(reason, message);
    }
}
