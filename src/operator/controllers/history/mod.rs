//! The releases of a base image as they are kept in its `ReleaseHistory`: read, decided, written, rebuilt.
//!
//! | file | what it does |
//! |---|---|
//! | `convert` | between the stored rows, candidates and [`crate::domain::history`]; pure |
//! | `store` | reads and writes the objects; two writers cannot lose a row |
//! | `rebuild` | looks through the production repository for releases that are not known here |
//! | `decide` | the next history, what is released by it, what is said about it; pure |
//! | `record` | one turn: read, decide, write |
//!
//! The BaseImage's controller writes in this order: history, status, channel tag. A crash between two of them is harmless,
//! because the next look at the same history comes to the same status and tag.

pub mod convert;
pub mod decide;
pub mod rebuild;
pub mod record;
pub mod store;

pub use rebuild::Failures;
pub use record::{NextHistory, Past, read};
pub use store::{Error, Stored};
