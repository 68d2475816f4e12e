//! What an organisation may allow and demand, as it stands in the policy.

use super::packages::FORBIDDEN;
use super::table;
use repave_core::byte_size::ByteSize;
use repave_core::duration::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// SUID and SGID programs of a standard Debian system, in the merged `/usr`.
const SUID: &[&str] = &[
    "/usr/bin/bsd-write",
    "/usr/bin/chage",
    "/usr/bin/chfn",
    "/usr/bin/chsh",
    "/usr/bin/expiry",
    "/usr/bin/gpasswd",
    "/usr/bin/mount",
    "/usr/bin/newgrp",
    "/usr/bin/passwd",
    "/usr/bin/su",
    "/usr/bin/umount",
    "/usr/bin/wall",
    "/usr/bin/write",
    "/usr/bin/write.ul",
    "/usr/lib/dbus-1.0/dbus-daemon-launch-helper",
    "/usr/sbin/unix_chkpwd",
];

/// The id of a rule of the native check, such as `native.suid`. Other texts are refused with the list of ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
pub struct RuleId(String);

impl RuleId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RuleId {
    type Error = String;

    fn try_from(id: String) -> Result<Self, String> {
        if table::RULES.iter().any(|rule| rule.id == id) {
            return Ok(Self(id));
        }
        let ids: Vec<&str> = table::RULES.iter().map(|rule| rule.id).collect();
        let found: String = id.chars().take(100).collect();
        Err(format!(
            "expected the id of a native rule, found {found:?}; the rules are {}",
            ids.join(", ")
        ))
    }
}

/// Exceptions to the rules and demands of an organisation. The default allows what a standard Debian installation has, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// Paths that may be SUID or SGID. A path under `/usr` also allows the same path of a system without merged `/usr`.
    /// A copy of a shell is never allowed.
    pub suid_allowed: BTreeSet<String>,
    /// Paths that everybody may write to.
    pub world_writable_allowed: BTreeSet<String>,
    /// Accounts that may have a login shell.
    pub application_shells_allowed: BTreeSet<String>,
    /// Paths that may have file capabilities.
    pub file_capabilities_allowed: BTreeSet<String>,
    /// The image may run as root.
    pub allow_root_user: bool,
    /// Ports that may be exposed besides those above 1023.
    pub ports_allowed: BTreeSet<u16>,
    /// Hosts that packages may be installed from; empty: any.
    pub repositories_allowed: BTreeSet<String>,
    /// Packages that must be installed; `*` and `?` match as in a shell.
    pub packages_required: BTreeSet<String>,
    /// Packages that must not be installed; `*` and `?` match as in a shell.
    pub packages_forbidden: BTreeSet<String>,
    /// Labels that the image must have, with any text but the empty one.
    pub labels_required: BTreeSet<String>,
    /// How long ago the image may have been created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// Bytes of all layers, unpacked: what the image takes on a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub max_size: Option<ByteSize>,
    /// Layers of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_layers: Option<u32>,
    /// Rules to evaluate although they are off by default.
    pub rules_enabled: BTreeSet<RuleId>,
    /// Rules not to evaluate. It wins over `rulesEnabled`.
    pub rules_disabled: BTreeSet<RuleId>,
}

impl Default for Options {
    fn default() -> Self {
        let set = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        Self {
            suid_allowed: set(SUID),
            world_writable_allowed: BTreeSet::new(),
            application_shells_allowed: BTreeSet::new(),
            file_capabilities_allowed: BTreeSet::new(),
            allow_root_user: false,
            ports_allowed: BTreeSet::new(),
            repositories_allowed: BTreeSet::new(),
            packages_required: BTreeSet::new(),
            packages_forbidden: set(FORBIDDEN),
            labels_required: BTreeSet::new(),
            max_age: None,
            max_size: None,
            max_layers: None,
            rules_enabled: BTreeSet::new(),
            rules_disabled: BTreeSet::new(),
        }
    }
}
