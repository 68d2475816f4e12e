//! `goss`: functional tests, run inside the candidate or over its root.

use super::CheckSpec;
use crate::{domain::report::ToolName, refs::KeyRef};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Goss tests.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.gossfile) != has(self.gossfileRef)", "goss names exactly one of gossfile (the tests themselves) or gossfileRef: {name: <ConfigMap>}"))]
#[x_kube(validation = ("!(has(self.vars) && has(self.varsRef))", "goss names at most one of vars and varsRef"))]
pub struct GossCheck {
    /// The gossfile itself, in YAML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub gossfile: Option<String>,
    /// ConfigMap with the gossfile; the key is `goss.yaml` unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gossfile_ref: Option<KeyRef>,
    /// Variables of the gossfile's templates, in YAML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub vars: Option<String>,
    /// ConfigMap with the variables; the key is `vars.yaml` unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vars_ref: Option<KeyRef>,
    /// Where the tests run.
    #[serde(default)]
    pub mode: GossMode,
    /// Fewest tests that must have run: fewer is an error, not a pass.
    #[serde(default = "default_minimum_tests")]
    #[schemars(range(min = 1, max = 10000))]
    pub minimum_tests: u32,
    /// Most tests that may have been skipped: more is an error, not a pass.
    #[serde(default)]
    #[schemars(range(max = 10000))]
    pub maximum_skipped: u32,
}

/// The gossfile's name in the check's Job.
pub const GOSSFILE: &str = "goss.yaml";
/// The name of the gossfile's variables in the check's Job.
pub const GOSS_VARIABLES: &str = "vars.yaml";

impl CheckSpec for GossCheck {
    fn tool(&self) -> ToolName {
        ToolName::Goss
    }

    fn texts(&self) -> Vec<(&'static str, &String)> {
        let texts = [(GOSSFILE, &self.gossfile), (GOSS_VARIABLES, &self.vars)];
        texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, text.as_ref()?)))
            .collect()
    }

    fn files(&self) -> Vec<(&'static str, &KeyRef)> {
        let files = [(GOSSFILE, &self.gossfile_ref), (GOSS_VARIABLES, &self.vars_ref)];
        files
            .into_iter()
            .filter_map(|(name, at)| Some((name, at.as_ref()?)))
            .collect()
    }

    fn vex(&self) -> &[KeyRef] {
        &[]
    }
}

fn default_minimum_tests() -> u32 {
    1
}

/// Where Goss runs.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
pub enum GossMode {
    /// In a container of the candidate, as its users will run it.
    #[default]
    InImage,
    /// In a container of the tools, with the candidate's files as root directory: for images that must not be executed
    /// in a container of their own. Their programs still run. It needs image volumes, the capability `SYS_CHROOT` (Pod
    /// Security `baseline`) and folders `/tmp` and `/dev` in the image.
    Chroot,
}
