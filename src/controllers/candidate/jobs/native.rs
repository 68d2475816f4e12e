//! `native`: our own rules over the layers.

use super::{PlannedCheck, Subject, pod};
use crate::{api::checks::NativeCheck, checks::native};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What the runner is told besides its arguments; see `checks::native::Options`.
pub(super) fn options(check: &PlannedCheck) -> Value {
    settings(check.spec.native.clone().unwrap_or_default())
}

fn settings(ours: NativeCheck) -> Value {
    let standard = native::Options::default();
    let mut options = json!({
        // In addition to Debian's standard programs, not instead of them.
        "suidAllowed": standard.suid_allowed.union(&ours.suid_allowed).collect::<BTreeSet<_>>(),
        "worldWritableAllowed": ours.world_writable_allowed,
        "fileCapabilitiesAllowed": ours.file_capabilities_allowed,
        "applicationShellsAllowed": ours.application_shells_allowed,
        "allowRootUser": ours.allow_root_user,
        "portsAllowed": ours.ports_allowed,
        "repositoriesAllowed": ours.repositories_allowed,
        "packagesRequired": ours.packages_required,
        "packagesForbidden": ours.packages_forbidden.unwrap_or(standard.packages_forbidden),
        "labelsRequired": ours.labels_required,
        "rulesEnabled": ours.rules_enabled,
        "rulesDisabled": ours.rules_disabled,
    });
    options["maxAge"] = json!(ours.max_age);
    options["maxSize"] = json!(ours.max_size);
    options["maxLayers"] = json!(ours.max_layers);
    options
}

/// The layers as an OCI layout.
pub(super) fn pod(subject: &Subject<'_>) -> Value {
    pod::layout(subject, "native")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_policy_may_say_the_runner_understands() {
        let text = json!({"suidAllowed": ["/opt/x"], "worldWritableAllowed": ["/w"], "fileCapabilitiesAllowed": ["/c"],
            "applicationShellsAllowed": ["a"], "allowRootUser": true, "portsAllowed": [80], "repositoriesAllowed": ["h"],
            "packagesRequired": ["p"], "packagesForbidden": ["f"], "labelsRequired": ["l"], "maxAge": "720h",
            "maxSize": "500Mi", "maxLayers": 10, "rulesEnabled": ["native.healthcheck"], "rulesDisabled": ["native.user"]});
        let read: native::Options =
            serde_json::from_value(settings(serde_json::from_value(text.clone()).unwrap())).unwrap();
        // All that the policy names, and Debian's set-id programs on top.
        let mut expected = text;
        expected["suidAllowed"] = json!(read.suid_allowed);
        assert!(read.suid_allowed.contains("/opt/x") && read.suid_allowed.contains("/usr/bin/su"));
        assert_eq!(serde_json::to_value(&read).unwrap(), expected);
        let read: native::Options = serde_json::from_value(settings(NativeCheck::default())).unwrap();
        assert_eq!(read, native::Options::default());
    }
}
