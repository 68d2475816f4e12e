//! `native`: our own hardening rules.

use super::CheckSpec;
use crate::{
    domain::{byte_size::ByteSize, duration::Span, native_rules, report::ToolName},
    refs::KeyRef,
};
use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Our own hardening rules; `docs/native-rules.md` lists them.
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
    /// Files and directories that everybody may write to, as absolute paths.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 64))]
    pub world_writable_allowed: BTreeSet<String>,
    /// Whether the image may run as root: base images often do, and the images built on them choose the user.
    #[serde(default)]
    pub allow_root_user: bool,
    /// Ports below 1024 or for remote logins that may be exposed all the same.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<u16>", length(max = 64))]
    pub ports_allowed: BTreeSet<u16>,
    /// Hosts that the image's package repositories may be on. Without it, any.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 64))]
    pub repositories_allowed: BTreeSet<String>,
    /// Packages that must be installed; `*` and `?` match as in a shell.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 256))]
    pub packages_required: BTreeSet<String>,
    /// Packages that must not be installed; `*` and `?` match as in a shell. It replaces the default list of telnet, rsh, ftp,
    /// NIS, talk, inetd and SSH servers; an empty list forbids nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>", length(max = 256))]
    pub packages_forbidden: Option<BTreeSet<String>>,
    /// Labels that the image must have.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 64))]
    pub labels_required: BTreeSet<String>,
    /// How long ago the image may have been created, by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// Most bytes of all layers, unpacked, e.g. `500Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = ByteSize::PATTERN))]
    pub max_size: Option<String>,
    /// Most layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub max_layers: Option<u32>,
    /// Rules that are off by default and shall be evaluated.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(schema_with = "rules_schema")]
    pub rules_enabled: BTreeSet<String>,
    /// Rules that shall not be evaluated.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(schema_with = "rules_schema")]
    pub rules_disabled: BTreeSet<String>,
}

impl CheckSpec for NativeCheck {
    fn tool(&self) -> ToolName {
        ToolName::Native
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

/// The API server refuses other ids; here they are plain text, so that a policy with the id of a rule that is gone can
/// still be read (its check then says so).
fn rules_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string", "enum": native_rules::IDS}, "maxItems": 64})
}
