//! `openscap`: a profile of a SCAP data stream.

use super::CheckSpec;
use crate::{domain::report::ToolName, refs::KeyRef};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// An OpenSCAP profile.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenscapCheck {
    /// Profile of the data stream, e.g. `cis_level1_server` or `stig`; its full id is understood too.
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub profile: String,
    /// File name of the data stream in the tools image, e.g. `ssg-rhel9-ds.xml`; the one for the candidate's OS unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*\.xml$"))]
    pub data_stream: Option<String>,
    /// ConfigMap with an XCCDF tailoring of yours; the key is `tailoring.xml` unless named. It chooses which rules apply;
    /// for exceptions write a Waiver, which has an owner and an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tailoring_ref: Option<KeyRef>,
    /// Fewest rules that must have been evaluated: fewer is an error, not a pass.
    #[serde(default = "default_minimum_rules")]
    #[schemars(range(min = 1, max = 10000))]
    pub minimum_rules: u32,
}

/// The name of the user's XCCDF tailoring in the check's Job.
pub const TAILORING: &str = "tailoring.xml";

impl CheckSpec for OpenscapCheck {
    fn tool(&self) -> ToolName {
        ToolName::Openscap
    }

    fn texts(&self) -> Vec<(&'static str, &String)> {
        Vec::new()
    }

    fn files(&self) -> Vec<(&'static str, &KeyRef)> {
        self.tailoring_ref.iter().map(|at| (TAILORING, at)).collect()
    }

    fn vex(&self) -> &[KeyRef] {
        &[]
    }
}

fn default_minimum_rules() -> u32 {
    20
}
