//! What a check's Job is told besides its arguments: the policy's words as the runner reads them. Pure.
//!
//! Must not make a pod: `operator/controllers/candidate/jobs` does.

use crate::checks::PlannedCheck;
use repave_api::checks::NativeCheck;
use repave_checks::native;
use repave_core::report::ToolName;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The options of a check that reads the layers only, as its Job gets them; `None` for one that needs a pod of its own.
pub fn layout_options(check: &PlannedCheck) -> Option<Value> {
    match check.tool {
        ToolName::Native => Some(native_options(check)),
        ToolName::Grype | ToolName::Trivy => Some(scan_options(check)),
        ToolName::Goss | ToolName::Openscap | ToolName::Container => None,
    }
}

/// What the runner is told besides its arguments; see `checks::native::Options`.
pub fn native_options(check: &PlannedCheck) -> Value {
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

/// What the runner is told besides its arguments.
pub fn goss_options(check: &PlannedCheck) -> Value {
    let skipped = check.spec.goss.as_ref().map_or(0, |goss| goss.maximum_skipped);
    json!({"minTests": check.gate.minimum_evaluated, "maxSkipped": skipped})
}

/// What the runner is told besides its arguments.
pub fn container_options(check: &PlannedCheck) -> Value {
    let image = check.spec.container.as_ref().map(|container| container.image.as_str());
    json!({"minTests": check.gate.minimum_evaluated, "image": image.unwrap_or_default()})
}

/// What the runner is told besides its arguments.
pub fn scan_options(_: &PlannedCheck) -> Value {
    json!({})
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
