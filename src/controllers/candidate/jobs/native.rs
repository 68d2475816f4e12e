//! `native`: our own rules over the layers.

use super::{PlannedCheck, Subject, pod};
use crate::checks::native;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What the runner is told besides its arguments; see `checks::native::Options`.
pub(super) fn options(check: &PlannedCheck) -> Value {
    let ours = check.spec.native.clone().unwrap_or_default();
    let standard = native::Options::default();
    json!({
        // In addition to Debian's standard programs, not instead of them.
        "suidAllowed": standard.suid_allowed.union(&ours.suid_allowed).collect::<BTreeSet<_>>(),
        "fileCapabilitiesAllowed": ours.file_capabilities_allowed,
        "applicationShellsAllowed": ours.application_shells_allowed,
    })
}

/// The layers as an OCI layout.
pub(super) fn pod(subject: &Subject<'_>) -> Value {
    pod::layout(subject, "native")
}
