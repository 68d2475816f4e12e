//! A streaming tar reader that sees the archive as the runtimes do (they all use Go's `archive/tar`).
//!
//! The `tar` crate keeps extended headers of any size in memory, splits PAX values at line feeds, and skips data after
//! directories and links where Go does not: each of these would let a layer show us other files than the kubelet.
//! Where readers disagree, the archive is refused. Must not allocate by a size that a header claims.

use super::error::LayerFault;
use super::limits::FILE_BYTES;
use super::pax::Records;
use std::io::Read;

const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    Symlink,
    HardLink,
    Char,
    Block,
    Fifo,
}

/// One entry: its metadata, with long names and PAX records merged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Size that a program inside the image would see.
    pub size: u64,
    pub sparse: bool,
    pub capability: Option<Vec<u8>>,
}

#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Records>,
}

/// Yields the entries of an archive; [`TarStream::read`] reads the data of the entry last yielded.
pub(super) struct TarStream<R> {
    inner: R,
    data: u64,
    padding: u64,
}

impl<R: Read> TarStream<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            data: 0,
            padding: 0,
        }
    }

    /// The next entry, or `None` at the end of the archive.
    pub fn next(&mut self) -> Result<Option<Header>, LayerFault> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(block) = self.header_block()? else {
                if extensions.name.is_some() || extensions.link.is_some() || extensions.pax.is_some() {
                    return malformed("an extended header is not followed by its entry");
                }
                return Ok(None);
            };
            match block[156] {
                b'L' => set_once(&mut extensions.name, nul_ended(self.extension(&block)?))?,
                b'K' => set_once(&mut extensions.link, nul_ended(self.extension(&block)?))?,
                b'x' => {
                    let records = Records::parse(&self.extension(&block)?)?;
                    set_once(&mut extensions.pax, records)?;
                }
                b'g' if extensions.pax.is_some() => {
                    return malformed("a global header stands between an extended header and its entry");
                }
                // Runtimes ignore global headers (Git writes its commit there).
                b'g' => self.expect(numeric(&block[124..136])?),
                _ => return self.entry(&block, extensions).map(Some),
            }
        }
    }

    /// Reads data of the current entry; 0 at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, LayerFault> {
        let want = buffer.len().min(usize::try_from(self.data).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buffer[..want])?;
        if n == 0 {
            return malformed("the archive ends inside a file");
        }
        self.data -= n as u64;
        Ok(n)
    }

    fn entry(&mut self, block: &[u8; BLOCK], extensions: Extensions) -> Result<Header, LayerFault> {
        let pax = extensions.pax.unwrap_or_default();
        let sparse_records = pax.sparse()?;
        let mut name = plain_name(block)?;
        if let Some(path) = pax.path.clone() {
            name = path;
        }
        if let Some(path) = sparse_records.as_ref().and_then(|s| s.name.clone()) {
            name = path;
        }
        let name = extensions.name.unwrap_or(name);
        let link = extensions.link.or(pax.link).unwrap_or_else(|| field(&block[157..257]));
        let stored = pax.size.map_or_else(|| numeric(&block[124..136]), Ok)?;
        let kind = kind(block[156], &name)?;
        let has_data = kind == Kind::File;
        let gnu_sparse = block[156] == b'S';
        let size = match (has_data, gnu_sparse) {
            (false, _) => 0,
            (true, true) => self.gnu_sparse_size(block)?,
            (true, false) => sparse_records.as_ref().and_then(|s| s.real_size).unwrap_or(stored),
        };
        // Links, directories and devices have no data, whatever size they claim.
        self.expect(if has_data { stored } else { 0 });
        Ok(Header {
            name,
            link,
            kind,
            mode: (numeric(&block[100..108])? & 0o7777) as u16,
            uid: id("user", pax.uid, &block[108..116])?,
            gid: id("group", pax.gid, &block[116..124])?,
            size,
            sparse: gnu_sparse || sparse_records.is_some(),
            capability: pax.capability,
        })
    }

    /// The real size of a GNU sparse file; reads past the blocks of its map that follow the header.
    fn gnu_sparse_size(&mut self, block: &[u8; BLOCK]) -> Result<u64, LayerFault> {
        if !is_gnu(block) {
            return malformed("a sparse entry without a GNU header");
        }
        let real = numeric(&block[483..495])?;
        let mut more = block[482] != 0;
        while more {
            let mut map = [0_u8; BLOCK];
            self.inner.read_exact(&mut map)?;
            more = map[504] != 0;
        }
        Ok(real)
    }

    fn expect(&mut self, size: u64) {
        self.data = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip(&mut self) -> Result<(), LayerFault> {
        let mut buffer = [0_u8; 16 * 1024];
        while self.read(&mut buffer)? > 0 {}
        // Some writers leave out the padding of the last entry.
        self.data = std::mem::take(&mut self.padding);
        let padding = usize::try_from(self.data).unwrap_or(0);
        let mut read = 0;
        while read < padding {
            let n = self.inner.read(&mut buffer[read..padding])?;
            if n == 0 {
                break;
            }
            read += n;
        }
        self.data = 0;
        Ok(())
    }

    /// The next header, or `None` at the end: two zero blocks, or no more bytes.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerFault> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().any(|b| *b != 0) {
            return checksum(&block).map(|()| Some(block));
        }
        match self.block()? {
            Some(second) if second.iter().any(|b| *b != 0) => malformed("a zero block in the middle of the archive"),
            Some(_) | None => Ok(None),
        }
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerFault> {
        let mut block = [0_u8; BLOCK];
        let mut read = 0;
        while read < BLOCK {
            match self.inner.read(&mut block[read..])? {
                0 if read == 0 => return Ok(None),
                0 => return malformed("the archive ends inside a header"),
                n => read += n,
            }
        }
        Ok(Some(block))
    }

    /// The data of an extension header, at most [`FILE_BYTES`].
    fn extension(&mut self, block: &[u8; BLOCK]) -> Result<Vec<u8>, LayerFault> {
        let size = numeric(&block[124..136])?;
        if size > FILE_BYTES {
            return Err(LayerFault::limit("bytes of an extended header", FILE_BYTES));
        }
        self.expect(size);
        let mut bytes = Vec::new();
        let mut buffer = [0_u8; 4096];
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(bytes),
                n => bytes.extend_from_slice(&buffer[..n]),
            }
        }
    }
}

fn malformed<T>(why: &str) -> Result<T, LayerFault> {
    Err(LayerFault::Malformed(why.to_owned()))
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), LayerFault> {
    match slot.replace(value) {
        Some(_) => malformed("two extended headers of one kind for one entry"),
        None => Ok(()),
    }
}

fn nul_ended(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn field(bytes: &[u8]) -> Vec<u8> {
    nul_ended(bytes.to_vec())
}

fn is_gnu(block: &[u8; BLOCK]) -> bool {
    &block[257..265] == b"ustar  \0"
}

/// The name of the plain header, with the prefix of a USTAR header.
fn plain_name(block: &[u8; BLOCK]) -> Result<Vec<u8>, LayerFault> {
    let name = field(&block[..100]);
    if is_gnu(block) {
        // Go reads these fields as a prefix when they are not times, others do not.
        let times = [&block[345..357], &block[357..369]];
        if times.iter().any(|t| t[0] != 0 && numeric(t).is_err()) {
            return malformed("a GNU header whose times are not numbers");
        }
        return Ok(name);
    }
    if &block[257..265] != b"ustar\x0000" {
        return Ok(name);
    }
    if &block[508..512] == b"tar\0" {
        return malformed("expected a USTAR, PAX or GNU header, found the star format");
    }
    let mut path = field(&block[345..500]);
    if path.is_empty() {
        return Ok(name);
    }
    path.push(b'/');
    path.extend_from_slice(&name);
    Ok(path)
}

fn kind(flag: u8, name: &[u8]) -> Result<Kind, LayerFault> {
    match flag {
        0 if name.ends_with(b"/") => Ok(Kind::Dir),
        0 | b'0' | b'S' => Ok(Kind::File),
        b'1' => Ok(Kind::HardLink),
        b'2' => Ok(Kind::Symlink),
        b'3' => Ok(Kind::Char),
        b'4' => Ok(Kind::Block),
        b'5' => Ok(Kind::Dir),
        b'6' => Ok(Kind::Fifo),
        other => malformed(&format!(
            "expected an entry type that runtimes unpack, found {:?} for {}",
            char::from(other),
            name.escape_ascii().to_string().chars().take(200).collect::<String>()
        )),
    }
}

fn id(what: &str, pax: Option<u64>, bytes: &[u8]) -> Result<u32, LayerFault> {
    let value = pax.map_or_else(|| numeric(bytes), Ok)?;
    u32::try_from(value).map_err(|_| LayerFault::Malformed(format!("expected a {what} id below 2^32, found {value}")))
}

/// A numeric field: octal text, or base 256 for large values.
fn numeric(bytes: &[u8]) -> Result<u64, LayerFault> {
    let bad = || LayerFault::Malformed(format!("expected a number in a header, found {}", bytes.escape_ascii()));
    if bytes[0] & 0x80 != 0 {
        // 0x40 is the sign: nothing that we read may be negative.
        let head = u64::from(bytes[0] & 0x7f);
        return bytes[1..]
            .iter()
            .try_fold(head, |sum, b| sum.checked_mul(256).map(|sum| sum + u64::from(*b)))
            .filter(|_| bytes[0] & 0x40 == 0)
            .ok_or_else(bad);
    }
    let is_blank = |b: &u8| matches!(b, 0 | b' ');
    let start = bytes.iter().position(|b| !is_blank(b)).unwrap_or(bytes.len());
    let digits = bytes[start..].split(|b| *b == 0).next().unwrap_or_default();
    let end = digits.iter().rposition(|b| *b != b' ').map_or(0, |i| i + 1);
    digits[..end].iter().try_fold(0_u64, |sum, b| match b {
        b'0'..=b'7' => Ok(sum * 8 + u64::from(b - b'0')),
        _ => Err(bad()),
    })
}

fn checksum(block: &[u8; BLOCK]) -> Result<(), LayerFault> {
    let stated = numeric(&block[148..156])?;
    let (mut unsigned, mut signed) = (0_u64, 0_i64);
    for (i, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&i) { b' ' } else { *byte };
        unsigned += u64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if stated == unsigned || i64::try_from(stated) == Ok(signed) {
        Ok(())
    } else {
        malformed("expected a tar header, found a block with a wrong checksum")
    }
}
