//! Evidence against real registries.
