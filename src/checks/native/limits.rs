//! How much of an image is examined before the check gives up with an error.
//!
//! Every loop over bytes or names of the candidate charges one of these; none of them may be unlimited.

/// Most bytes that are kept of one file, and the longest prefix in which a private key is sought.
pub(super) const FILE_BYTES: u64 = 1 << 20;

/// Most bytes of a package database. A full RHEL server has about 40 MB.
pub(super) const DATABASE_BYTES: u64 = 64 << 20;

/// Secrets and set-id files that layers hide, most that are remembered.
pub(super) const HIDDEN: usize = 10_000;

/// The bounds on work and memory. The defaults fit in about 600 MiB in the worst case; a Debian image needs 20 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries over all layers, directories that are only implied included.
    pub entries: u64,
    /// Layers of the image.
    pub layers: u64,
    /// Bytes of one path.
    pub path_bytes: u64,
    /// Components of one path.
    pub depth: u64,
    /// Bytes of all names and link targets that are kept.
    pub name_bytes: u64,
    /// Bytes of all layers after decompression, holes of sparse files included.
    pub decompressed_bytes: u64,
    /// How many times larger than its blob a layer may be, above [`Limits::ratio_free_bytes`].
    pub ratio: u64,
    /// Up to this size a layer may have any ratio: a small archive of zeros is no bomb.
    pub ratio_free_bytes: u64,
    /// Bytes of file contents that are kept in total, those that later layers replace included.
    pub content_bytes: u64,
    /// Look-ups of names, so that symbolic links cannot multiply the work.
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            layers: 512,
            path_bytes: 4096,
            depth: 256,
            name_bytes: 256 << 20,
            decompressed_bytes: 8 << 30,
            ratio: 200,
            ratio_free_bytes: 64 << 20,
            content_bytes: 128 << 20,
            steps: 50_000_000,
        }
    }
}
