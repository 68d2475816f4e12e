//! What an organisation may allow, as it stands in the policy.

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

/// Exceptions to the rules. The default allows what a standard Debian installation has, and nothing else.
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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            suid_allowed: SUID.iter().map(|path| (*path).to_owned()).collect(),
            world_writable_allowed: BTreeSet::new(),
            application_shells_allowed: BTreeSet::new(),
            file_capabilities_allowed: BTreeSet::new(),
            allow_root_user: false,
        }
    }
}
