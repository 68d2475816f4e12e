//! The name in an RPM header, as all three database formats store it.
//!
//! Layout (rpm's `lib/header.c`): number of index entries and bytes of data, both big endian; entries of tag, type, offset
//! and count; data. Nothing but the name is read.

use super::super::error::LayerFault;

/// RPMTAG_NAME, a string.
const NAME: (u32, u32) = (1000, 6);

/// Most entries of a header that rpm itself accepts.
const MAX_ENTRIES: u32 = 0xffff;

/// The package's name.
pub(in super::super) fn name(header: &[u8]) -> Result<Vec<u8>, LayerFault> {
    read(header)
        .ok_or_else(|| LayerFault::Malformed("expected an RPM header with a name in the package database".into()))
}

fn read(header: &[u8]) -> Option<Vec<u8>> {
    let entries = big(header, 0)?;
    if entries == 0 || entries > MAX_ENTRIES {
        return None;
    }
    let data = header.get(8 + 16 * usize::try_from(entries).ok()?..)?;
    for index in 0..usize::try_from(entries).ok()? {
        let at = 8 + 16 * index;
        if (big(header, at)?, big(header, at + 4)?) == NAME {
            let text = data.get(usize::try_from(big(header, at + 8)?).ok()?..)?;
            let end = text.iter().take(256).position(|b| *b == 0)?;
            return (end > 0).then(|| text[..end].to_vec());
        }
    }
    None
}

fn big(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}
