//! The labels: closed sets, each with the word that is exported.
//!
//! Must not export a Debug form: a renamed variant would silently rename a series.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use std::fmt::{Error, Write};

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that is exported.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), Error> {
                encoder.write_str(self.as_str())
            }
        }
    };
}

label! {
    /// A step of the pipeline.
    Step {
        /// Finding the digest.
        Discover => "discover",
        /// Copying it to the staging repository.
        Pull => "pull",
        /// Checking where it comes from.
        Verify => "verify",
        /// Building the customised image.
        Build => "build",
        /// The validation checks.
        Validate => "validate",
        /// The vulnerability checks.
        Scan => "scan",
        /// Promoting and signing.
        Promote => "promote",
        /// Rolling one workload.
        Repave => "repave",
    }
}

label! {
    /// How a step ended.
    StepResult {
        /// As wished.
        Passed => "passed",
        /// Evaluated and refused.
        Failed => "failed",
        /// It could not be done.
        Error => "error",
        /// Nothing was evaluated.
        NotEvaluated => "not_evaluated",
        /// It cannot be done for this image.
        Unsupported => "unsupported",
    }
}

label! {
    /// Where a candidate stands.
    CandidateState {
        /// A step is running or due.
        Running => "running",
        /// Promoted to production.
        Promoted => "promoted",
        /// Refused: by a gate, or because it was taken back.
        Rejected => "rejected",
        /// A check or the build could not be carried out.
        Error => "error",
        /// Another one came to be wanted first.
        Superseded => "superseded",
    }
}

label! {
    /// Where a workload stands.
    WorkloadState {
        /// On the released digest.
        Current => "current",
        /// Moving to it.
        Rolling => "rolling",
        /// On an older digest.
        Outdated => "outdated",
        /// Kept back by a person or after a rollback.
        Held => "held",
        /// The move failed.
        Failed => "failed",
        /// Told and not moved: built on the base, paused, owned by another controller.
        ReportedOnly => "reported_only",
    }
}

label! {
    /// A kind of object that the operator reconciles or writes.
    Kind {
        /// BaseImage.
        BaseImage => "BaseImage",
        /// ImageCandidate.
        ImageCandidate => "ImageCandidate",
        /// RepavePlan.
        RepavePlan => "RepavePlan",
        /// RepaveRun.
        RepaveRun => "RepaveRun",
        /// ReleaseHistory.
        ReleaseHistory => "ReleaseHistory",
        /// Waiver.
        Waiver => "Waiver",
        /// AdmissionList.
        AdmissionList => "AdmissionList",
        /// Job.
        Job => "Job",
        /// ConfigMap.
        ConfigMap => "ConfigMap",
        /// Deployment.
        Deployment => "Deployment",
        /// Event.
        Event => "Event",
    }
}

label! {
    /// How a reconcile ended.
    ReconcileResult {
        /// Nothing is left to do.
        Done => "done",
        /// Something else must happen first.
        Waiting => "waiting",
        /// The user must act.
        Stalled => "stalled",
        /// It failed and is tried again.
        Transient => "transient",
    }
}

label! {
    /// A write to the Kubernetes API.
    ApiVerb {
        /// create.
        Create => "create",
        /// patch of the object.
        Patch => "patch",
        /// patch of its status.
        PatchStatus => "patch_status",
        /// delete.
        Delete => "delete",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StepLabels {
    pub step: Step,
    pub result: StepResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CandidateLabels {
    pub state: CandidateState,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WorkloadLabels {
    pub base: String,
    pub state: WorkloadState,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BaseLabels {
    pub base: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RegistryLabels {
    pub host: String,
    pub verb: &'static str,
    pub code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReconcileLabels {
    pub kind: Kind,
    pub result: ReconcileResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct KindLabels {
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ApiWriteLabels {
    pub kind: Kind,
    pub verb: ApiVerb,
}

/// Codes that registries are known to answer with; a hostile one cannot add series with invented ones.
const CODES: [u16; 25] = [
    200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 409, 413, 416, 429, 500, 501, 502,
    503, 504,
];

/// The label for a status: the known ones as they are, others by class, none at all as `none`.
pub(super) fn code_label(code: Option<u16>) -> String {
    match code {
        None => "none".to_owned(),
        Some(code) if CODES.contains(&code) => code.to_string(),
        Some(code @ 100..=599) => format!("{}xx", code / 100),
        Some(_) => "invalid".to_owned(),
    }
}
