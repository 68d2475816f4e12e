//! What a policy means for each kind of check: what opens its gate, what its Job is told. Pure.
//!
//! A new kind does not compile before it has its answers here. Must not judge a report (`src/core/verdict.rs` does) and
//! must not make a pod (`src/operator/controllers/candidate/jobs` does).

use repave_api::checks::{
    CheckKind, ContainerCheck, GossCheck, NativeCheck, OpenscapCheck, ResultFormat, VulnerabilityCheck,
};
use repave_checks::native;
use repave_core::verdict::Gate;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What is asked of every kind. Nothing has a default: whoever adds a kind answers each.
trait Judged {
    /// What opens the gate; what is tolerated of each severity is the same for all kinds and not said here.
    fn gate(&self) -> Gate;
    /// Its fields that only the gate and the exceptions read: a report that is there can be judged again under others.
    fn gate_only(&self) -> &'static [&'static str];
    /// What the runner is told besides its arguments: an object that the options of its tool are read from.
    fn options(&self, gate: &Gate, image: &ImageFacts<'_>) -> Value;
}

/// What is known of the image that is examined.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImageFacts<'a> {
    /// Its environment.
    pub env: &'a [String],
}

/// The row of each kind.
fn of(kind: &CheckKind) -> &dyn Judged {
    match kind {
        CheckKind::Native(spec) => spec,
        CheckKind::Goss(spec) => spec,
        CheckKind::Openscap(spec) => spec,
        CheckKind::Vulnerabilities(spec) => spec,
        CheckKind::Container(spec) => spec,
    }
}

/// What opens the gate of this kind, with nothing tolerated.
pub(crate) fn gate(kind: &CheckKind) -> Gate {
    of(kind).gate()
}

/// What a Job of this kind is told besides its arguments.
pub(crate) fn options(kind: &CheckKind, gate: &Gate, image: &ImageFacts<'_>) -> Value {
    of(kind).options(gate, image)
}

/// All of a check's kind that its examination depends on: the fields that the gate does not judge.
///
/// # Errors
/// The check cannot be written as JSON.
pub fn examined(kind: &CheckKind) -> Result<Map<String, Value>, serde_json::Error> {
    // One entry, its name: that of the kind.
    let written: BTreeMap<String, Map<String, Value>> = serde_json::from_value(serde_json::to_value(kind)?)?;
    let judged = of(kind).gate_only();
    let fields = written.into_values().flatten();
    Ok(fields.filter(|(name, _)| !judged.contains(&name.as_str())).collect())
}

/// A gate that asks for nothing but that enough was evaluated.
fn at_least(minimum: u32) -> Gate {
    Gate {
        allow: BTreeMap::new(),
        minimum_evaluated: u64::from(minimum),
        only_fixable: false,
        database_max_age: None,
        deny_known_exploited: false,
        epss_at_least: None,
        allow_end_of_life: false,
    }
}

impl Judged for NativeCheck {
    fn gate(&self) -> Gate {
        at_least(1)
    }

    fn gate_only(&self) -> &'static [&'static str] {
        &[]
    }

    /// See `checks::native::Options`.
    fn options(&self, _: &Gate, _: &ImageFacts<'_>) -> Value {
        let (ours, standard) = (self, native::Options::default());
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
            "packagesForbidden": ours.packages_forbidden.as_ref().unwrap_or(&standard.packages_forbidden),
            "labelsRequired": ours.labels_required,
            "rulesEnabled": ours.rules_enabled,
            "rulesDisabled": ours.rules_disabled,
        });
        options["maxAge"] = json!(ours.max_age);
        options["maxSize"] = json!(ours.max_size);
        options["maxLayers"] = json!(ours.max_layers);
        options
    }
}

impl Judged for GossCheck {
    fn gate(&self) -> Gate {
        at_least(self.minimum_tests)
    }

    fn gate_only(&self) -> &'static [&'static str] {
        &["minimumTests"]
    }

    fn options(&self, gate: &Gate, _: &ImageFacts<'_>) -> Value {
        json!({"minTests": gate.minimum_evaluated, "maxSkipped": self.maximum_skipped})
    }
}

impl Judged for OpenscapCheck {
    fn gate(&self) -> Gate {
        at_least(self.minimum_rules)
    }

    fn gate_only(&self) -> &'static [&'static str] {
        &["minimumRules"]
    }

    fn options(&self, gate: &Gate, image: &ImageFacts<'_>) -> Value {
        json!({"minEvaluated": gate.minimum_evaluated, "env": image.env})
    }
}

impl Judged for VulnerabilityCheck {
    fn gate(&self) -> Gate {
        // The policy says percent, reports carry hundredths of one.
        let hundredths = |percent: u32| u16::try_from(percent.saturating_mul(100)).unwrap_or(u16::MAX);
        Gate {
            only_fixable: self.only_fixable,
            database_max_age: Some(self.database_max_age.signed()),
            deny_known_exploited: !self.allow_known_exploited,
            epss_at_least: self.epss_at_least.map(hundredths),
            allow_end_of_life: self.allow_end_of_life,
            ..at_least(1)
        }
    }

    fn gate_only(&self) -> &'static [&'static str] {
        &[
            "onlyFixable",
            "databaseMaxAge",
            "allowKnownExploited",
            "allowEndOfLife",
            "vexRefs",
            "epssAtLeast",
        ]
    }

    fn options(&self, _: &Gate, _: &ImageFacts<'_>) -> Value {
        json!({})
    }
}

impl Judged for ContainerCheck {
    fn gate(&self) -> Gate {
        at_least(match self.result {
            // An exit code names no tests.
            ResultFormat::ExitCode => 1,
            ResultFormat::JUnit | ResultFormat::Sarif | ResultFormat::Repave => self.minimum_tests,
        })
    }

    fn gate_only(&self) -> &'static [&'static str] {
        &["minimumTests"]
    }

    fn options(&self, gate: &Gate, _: &ImageFacts<'_>) -> Value {
        json!({"minTests": gate.minimum_evaluated, "image": self.image})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native_options(check: &NativeCheck) -> native::Options {
        serde_json::from_value(check.options(&check.gate(), &ImageFacts::default())).unwrap()
    }

    #[test]
    fn whatever_a_policy_may_say_the_runner_understands() {
        let text = json!({"suidAllowed": ["/opt/x"], "worldWritableAllowed": ["/w"], "fileCapabilitiesAllowed": ["/c"],
            "applicationShellsAllowed": ["a"], "allowRootUser": true, "portsAllowed": [80], "repositoriesAllowed": ["h"],
            "packagesRequired": ["p"], "packagesForbidden": ["f"], "labelsRequired": ["l"], "maxAge": "720h",
            "maxSize": "500Mi", "maxLayers": 10, "rulesEnabled": ["native.healthcheck"], "rulesDisabled": ["native.user"]});
        let read = native_options(&serde_json::from_value(text.clone()).unwrap());
        // All that the policy names, and Debian's set-id programs on top.
        let mut expected = text;
        expected["suidAllowed"] = json!(read.suid_allowed);
        assert!(read.suid_allowed.contains("/opt/x") && read.suid_allowed.contains("/usr/bin/su"));
        assert_eq!(serde_json::to_value(&read).unwrap(), expected);
        assert_eq!(native_options(&NativeCheck::default()), native::Options::default());
    }

    #[test]
    fn what_only_the_gate_reads_is_a_field_of_the_kind_and_left_out_of_the_examination() {
        let kinds = [
            json!({"native": {}}),
            json!({"goss": {"gossfile": "x"}}),
            json!({"openscap": {"profile": "p"}}),
            json!({"vulnerabilities": {"epssAtLeast": 1, "vexRefs": [{"name": "v"}]}}),
            json!({"container": {"image": "i", "command": ["c"]}}),
        ];
        assert_eq!(kinds.len(), repave_api::checks::KINDS.len());
        for text in kinds {
            let kind: CheckKind = serde_json::from_value(text).unwrap();
            let all = serde_json::to_value(&kind).unwrap()[kind.name()].clone();
            let examined = examined(&kind).unwrap();
            for field in of(&kind).gate_only() {
                assert!(all.get(field).is_some(), "{} has no field {field}", kind.name());
                assert!(!examined.contains_key(*field));
            }
            let all = all.as_object().unwrap().len();
            assert_eq!(examined.len() + of(&kind).gate_only().len(), all, "{}", kind.name());
        }
    }
}
