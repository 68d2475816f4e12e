//! `native`: our own hardening rules.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Our own hardening rules.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NativeCheck {
    /// SUID and SGID files that are allowed besides Debian's standard ones, as absolute paths.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 64))]
    pub suid_allowed: BTreeSet<String>,
    /// Files that may carry file capabilities, as absolute paths.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 64))]
    pub file_capabilities_allowed: BTreeSet<String>,
    /// Application accounts that may have a login shell.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 64))]
    pub application_shells_allowed: BTreeSet<String>,
}
