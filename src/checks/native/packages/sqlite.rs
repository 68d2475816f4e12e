//! Just enough of the SQLite file format to read one table of an RPM database (`rpmdb.sqlite` of RHEL 9, Fedora, UBI).
//!
//! <https://www.sqlite.org/fileformat2.html>, sections 1.3, 1.5, 1.6, 2.1 and 2.6. A crate would bring SQLite's C code, which
//! would then parse hostile bytes. No page is visited twice, so that no loop of page numbers can multiply the work.

use super::super::error::LayerFault;

/// The first bytes of the file.
pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";

/// The table that holds RPM headers: `CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)`.
const TABLE: &[u8] = b"Packages";

const MAX_DEPTH: usize = 20;

/// Gives each RPM header to `visit`.
pub(super) fn headers(bytes: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<(), LayerFault>) -> Result<(), LayerFault> {
    let mut file = File::open(bytes).ok_or_else(broken)?;
    let mut root = None;
    file.rows(1, MAX_DEPTH, &mut |record| {
        // Columns of the schema table: type, name, tbl_name, rootpage, sql.
        let kind = column(record, 0).ok_or_else(broken)?;
        let name = column(record, 1).ok_or_else(broken)?;
        if kind == b"table" && name == TABLE {
            root = column(record, 3).and_then(integer);
        }
        Ok(())
    })?;
    let root = root.ok_or_else(|| LayerFault::Malformed("expected a table Packages in rpmdb.sqlite".into()))?;
    file.rows(root, MAX_DEPTH, &mut |record| {
        visit(column(record, 1).ok_or_else(broken)?)
    })
}

fn broken() -> LayerFault {
    LayerFault::Malformed("expected an RPM database in the SQLite format, found a damaged one".into())
}

struct File<'a> {
    bytes: &'a [u8],
    page: usize,
    usable: usize,
    seen: Vec<bool>,
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let page = match u16::from_be_bytes(bytes.get(16..18)?.try_into().ok()?) {
            1 => 65536,
            size => usize::from(size),
        };
        let usable = page.checked_sub(usize::from(*bytes.get(20)?))?;
        let sound = (512..=65536).contains(&page) && page.is_power_of_two() && usable >= 480;
        (sound && bytes.len().is_multiple_of(page)).then(|| Self {
            bytes,
            page,
            usable,
            seen: vec![false; bytes.len() / page],
        })
    }

    /// A page by its number, counted from 1. Each is given once.
    fn take(&mut self, number: usize) -> Option<&'a [u8]> {
        let index = number.checked_sub(1)?;
        let seen = self.seen.get_mut(index)?;
        if std::mem::replace(seen, true) {
            return None;
        }
        self.bytes.get(index * self.page..(index + 1) * self.page)
    }

    /// Gives each record of a table b-tree to `visit`.
    fn rows(
        &mut self,
        number: usize,
        depth: usize,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), LayerFault>,
    ) -> Result<(), LayerFault> {
        let page = self.take(number).ok_or_else(broken)?;
        let start = if number == 1 { 100 } else { 0 };
        let cells = usize::from(short(page, start + 3).ok_or_else(broken)?);
        let depth = depth.checked_sub(1).ok_or_else(broken)?;
        match page[start] {
            0x05 => {
                for cell in 0..cells {
                    let at = usize::from(short(page, start + 12 + 2 * cell).ok_or_else(broken)?);
                    self.rows(long(page, at).ok_or_else(broken)?, depth, visit)?;
                }
                self.rows(long(page, start + 8).ok_or_else(broken)?, depth, visit)
            }
            0x0d => (0..cells).try_for_each(|cell| {
                let at = usize::from(short(page, start + 8 + 2 * cell).ok_or_else(broken)?);
                visit(&self.record(page, at).ok_or_else(broken)?)
            }),
            _ => Err(broken()),
        }
    }

    /// The payload of a cell of a leaf, its overflow pages appended.
    fn record(&mut self, page: &[u8], at: usize) -> Option<Vec<u8>> {
        let (length, n) = varint(page.get(at..)?)?;
        let (_, m) = varint(page.get(at + n..)?)?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.bytes.len())?;
        let start = at + n + m;
        let (most, least) = (self.usable - 35, (self.usable - 12) * 32 / 255 - 23);
        if length <= most {
            return Some(page.get(start..start + length)?.to_vec());
        }
        let here = least + (length - least) % (self.usable - 4);
        let here = if here <= most { here } else { least };
        let mut payload = page.get(start..start + here)?.to_vec();
        let mut next = long(page, start + here)?;
        while payload.len() < length {
            let overflow = self.take(next)?;
            let rest = length - payload.len();
            payload.extend_from_slice(overflow.get(4..4 + rest.min(self.usable - 4))?);
            next = long(overflow, 0)?;
        }
        (next == 0).then_some(payload)
    }
}

/// One column of a record: text, blob, or the bytes of an integer; empty for NULL.
fn column(record: &[u8], wanted: usize) -> Option<&[u8]> {
    let (header, mut at) = varint(record)?;
    let header = usize::try_from(header).ok()?;
    let mut data = header;
    for index in 0..=wanted {
        if at >= header {
            return None;
        }
        let (kind, n) = varint(record.get(at..header)?)?;
        at += n;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => usize::try_from((kind - 12) / 2).ok()?,
        };
        if index == wanted {
            return record.get(data..data.checked_add(size)?);
        }
        data = data.checked_add(size)?;
    }
    None
}

fn integer(bytes: &[u8]) -> Option<usize> {
    let fits = (1..=6).contains(&bytes.len()) && bytes[0] & 0x80 == 0;
    fits.then(|| bytes.iter().fold(0, |sum, b| sum << 8 | usize::from(*b)))
}

/// A big endian number of 1 to 9 bytes, 7 bits each but the last.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            return Some((value << 8 | u64::from(*byte), 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_be_bytes(four.try_into().ok()?)).ok()
}
