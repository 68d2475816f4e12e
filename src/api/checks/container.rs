//! `container`: any image and command of the user's own as a check.

use super::CheckSpec;
use crate::{domain::report::ToolName, refs::KeyRef};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A check of your own: any image and command. It finds the candidate as an OCI layout in `/work/image`, has no token and
/// no credentials, and writes its result to the file that `REPAVE_RESULT` names.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerCheck {
    /// The image, by digest.
    #[schemars(length(max = 512))]
    #[x_kube(validation = ("self.matches('@sha256:[0-9a-f]{64}$')", "container.image must name a digest (image@sha256:…): a check that can change under its name proves nothing"))]
    pub image: String,
    /// The program and its arguments; no shell is put in between.
    #[schemars(length(min = 1, max = 32), inner(length(max = 1024)))]
    pub command: Vec<String>,
    /// How the result is read.
    #[serde(default)]
    pub result: ResultFormat,
    /// Fewest tests or rules that the result must name: fewer is an error, not a pass. Without meaning for `ExitCode`.
    #[serde(default = "default_minimum_tests")]
    #[schemars(range(min = 1, max = 10000))]
    pub minimum_tests: u32,
}

impl CheckSpec for ContainerCheck {
    fn tool(&self) -> ToolName {
        ToolName::Container
    }

    fn texts(&self) -> Vec<(&'static str, &String)> {
        Vec::new()
    }

    fn files(&self) -> Vec<(&'static str, &KeyRef)> {
        Vec::new()
    }

    fn vex(&self) -> &[KeyRef] {
        &[]
    }
}

fn default_minimum_tests() -> u32 {
    1
}

/// How the result of a container check is read.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum ResultFormat {
    /// 0 passes, 1 fails (with the last lines of the output), anything else is an error.
    #[default]
    ExitCode,
    /// JUnit XML.
    JUnit,
    /// SARIF 2.1.0.
    Sarif,
    /// Our own report format.
    Repave,
}
