//! `native`: our own rules over the layers.

use super::{Subject, pod};
use serde_json::Value;

/// The layers as an OCI layout.
pub(super) fn pod(subject: &Subject<'_>) -> Value {
    pod::layout(subject, "native")
}
