//! `container`: an image and command of the user's own.

use super::{PlannedCheck, Subject, pod};
use serde_json::{Value, json};

/// What the runner is told besides its arguments.
pub(super) fn options(_: &PlannedCheck) -> Value {
    json!({})
}

/// The layers as an OCI layout.
pub(super) fn pod(subject: &Subject<'_>) -> Value {
    pod::layout(subject, "container")
}
