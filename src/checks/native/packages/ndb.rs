//! RPM's own database format (`Packages.db` of SUSE): slots that point to blobs, each an RPM header.
//!
//! Layout: rpm's `lib/backend/ndb/rpmpkg.c`. All numbers are little endian. Every offset comes from the candidate.

use super::super::error::LayerFault;

/// The first bytes of the file.
pub(super) const MAGIC: &[u8] = b"RpmP";

const PAGE: usize = 4096;
const SLOT: usize = 16;

/// Gives each RPM header to `visit`.
pub(super) fn headers(bytes: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<(), LayerFault>) -> Result<(), LayerFault> {
    let broken = || LayerFault::Malformed("expected an RPM database in the ndb format, found a damaged one".into());
    let pages = little(bytes, 12).ok_or_else(broken)?;
    let version = little(bytes, 4).ok_or_else(broken)?;
    if version != 0 || pages == 0 || pages > bytes.len() / PAGE {
        return Err(broken());
    }
    // The first two slots are the file's header.
    for slot in bytes[2 * SLOT..pages * PAGE].chunks_exact(SLOT) {
        let (index, block) = (little(slot, 4).ok_or_else(broken)?, little(slot, 8).ok_or_else(broken)?);
        if !slot.starts_with(b"Slot") {
            return Err(broken());
        }
        if index == 0 {
            continue;
        }
        let blob = bytes.get(block * 16..).ok_or_else(broken)?;
        let length = little(blob, 12).ok_or_else(broken)?;
        if !blob.starts_with(b"BlbS") || little(blob, 4) != Some(index) {
            return Err(broken());
        }
        visit(blob.get(16..).and_then(|b| b.get(..length)).ok_or_else(broken)?)?;
    }
    Ok(())
}

fn little(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at + 4)?;
    usize::try_from(u32::from_le_bytes(four.try_into().ok()?)).ok()
}
