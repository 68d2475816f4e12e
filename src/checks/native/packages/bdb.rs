//! Berkeley DB hash files (`Packages` of RHEL 8 and older): only what rpm writes, off-page values on overflow pages.
//!
//! Layout: `db_page.h` of Berkeley DB 5.3; little endian, as every rpm of today's architectures writes. The pages of one
//! value are a list of page numbers that the candidate chose: it is followed at most as far as the file has pages.

use super::super::error::LayerFault;

/// The magic number of a hash file, at offset 12.
pub(super) const MAGIC: &[u8] = &[0x61, 0x15, 0x06, 0x00];

const PAGE_HEADER: usize = 26;
const HASH_UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const HASH: u8 = 13;
/// The value is on overflow pages.
const OFF_PAGE: u8 = 3;

/// Gives each value, an RPM header, to `visit`.
pub(super) fn headers(bytes: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<(), LayerFault>) -> Result<(), LayerFault> {
    let broken = || LayerFault::Malformed("expected an RPM database of Berkeley DB, found a damaged one".into());
    let size = little32(bytes, 20).ok_or_else(broken)?;
    let encrypted = bytes.get(24).is_none_or(|algorithm| *algorithm != 0);
    if !(512..=65536).contains(&size) || !size.is_power_of_two() || encrypted || !bytes.len().is_multiple_of(size) {
        return Err(broken());
    }
    // Pages that values may still use: no page belongs to two values.
    let mut left = bytes.len() / size;
    for page in bytes.chunks_exact(size).skip(1) {
        if !matches!(page[25], HASH | HASH_UNSORTED) {
            continue;
        }
        let entries = little16(page, 20).ok_or_else(broken)?;
        // Keys and values take turns.
        for index in (1..entries).step_by(2) {
            let at = little16(page, PAGE_HEADER + 2 * index).ok_or_else(broken)?;
            if page.get(at).ok_or_else(broken)? == &OFF_PAGE {
                let first = little32(page, at + 4).ok_or_else(broken)?;
                let length = little32(page, at + 8).ok_or_else(broken)?;
                visit(&value(bytes, size, first, length, &mut left).ok_or_else(broken)?)?;
            }
        }
    }
    Ok(())
}

fn value(bytes: &[u8], size: usize, first: usize, length: usize, left: &mut usize) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    let mut number = first;
    while number != 0 {
        *left = left.checked_sub(1)?;
        let start = number.checked_mul(size)?;
        let page = bytes.get(start..start.checked_add(size)?)?;
        if page[25] != OVERFLOW {
            return None;
        }
        let rest = &page[PAGE_HEADER..];
        value.extend_from_slice(&rest[..rest.len().min(length.checked_sub(value.len())?)]);
        number = little32(page, 16)?;
    }
    (value.len() == length).then_some(value)
}

fn little32(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at + 4)?;
    usize::try_from(u32::from_le_bytes(four.try_into().ok()?)).ok()
}

fn little16(bytes: &[u8], at: usize) -> Option<usize> {
    let two = bytes.get(at..at + 2)?;
    Some(u16::from_le_bytes(two.try_into().ok()?).into())
}
