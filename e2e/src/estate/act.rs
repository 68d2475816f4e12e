//! What people do while a release rolls, and when.

use serde_json::Value;

/// When something is done; each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// All applications are up on the old release, and the new one is not there yet.
    Before,
    /// The Deployment names the target.
    Moved,
    /// It has been settled on the target for so many seconds.
    Settled(u64),
    /// Repave has rolled it back and holds it.
    RolledBack,
    /// The run of its plan has ended.
    RunEnded,
}

/// Something that people do.
#[derive(Debug, Clone)]
pub enum Act {
    /// A merge patch of the Deployment.
    Patch(Value),
    /// An object is applied to the group's namespace.
    Apply(Value),
    /// kubectl with these words; the namespace is the group's.
    Kubectl(&'static str),
    /// The channel tag is moved to upstream's image by somebody.
    StealTag,
}
