//! What the page for people is as an artifact of an image: its type and its bound. `src/report` makes it, evidence keeps it.
//!
//! Must not know what is on it.

/// What a page is called among the artifacts of an image.
pub const ARTIFACT_TYPE: &str = "application/vnd.repave.page.v1+html";
/// Media type of the page itself.
pub const MEDIA_TYPE: &str = "text/html";
/// Largest page, in bytes: fewer findings are shown until it fits, and it says how many more there are.
pub const MAX_PAGE: u64 = 4 << 20;
