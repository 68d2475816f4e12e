//! Extended headers (PAX records) of a tar archive.
//!
//! Reads records by their stated length, as Go's `archive/tar` does: a value may hold line feeds (capabilities do), and
//! a reader that splits at lines would see another archive than the runtime. Must not guess at a broken record.

use super::error::LayerFault;

/// The records that change what is examined; all others are ignored.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub capability: Option<Vec<u8>>,
    sparse_major: Option<Vec<u8>>,
    sparse_minor: Option<Vec<u8>>,
    sparse_map: bool,
    sparse_name: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    sparse_any: bool,
}

/// A sparse file that PAX records describe.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sparse {
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
}

impl Records {
    pub fn parse(mut bytes: &[u8]) -> Result<Self, LayerFault> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or_else(|| broken("expected `<length> <key>=<value>`"))?;
            records.set(key, value)?;
            bytes = rest;
        }
        Ok(records)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), LayerFault> {
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" | b"linkpath" | b"GNU.sparse.name" if value.contains(&0) => {
                return Err(broken("a name holds a NUL byte"));
            }
            // An empty value means "as in the plain header"; the last record of a key wins.
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = decimal(value)?,
            b"uid" => self.uid = decimal(value)?,
            b"gid" => self.gid = decimal(value)?,
            b"SCHILY.xattr.security.capability" => self.capability = text(),
            b"GNU.sparse.name" => self.sparse_name = text(),
            b"GNU.sparse.major" => self.sparse_major = text(),
            b"GNU.sparse.minor" => self.sparse_minor = text(),
            b"GNU.sparse.map" => self.sparse_map = !value.is_empty(),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse_size = decimal(value)?,
            _ => {}
        }
        self.sparse_any |= key.starts_with(b"GNU.sparse.");
        Ok(())
    }

    /// The sparse file that the records describe, if any. A mixture that readers understand differently is refused.
    pub fn sparse(&self) -> Result<Option<Sparse>, LayerFault> {
        if !self.sparse_any {
            return Ok(None);
        }
        let version = (self.sparse_major.as_deref(), self.sparse_minor.as_deref());
        match version {
            (Some(b"1"), Some(b"0")) | (Some(b"0"), Some(b"0" | b"1")) => {}
            (None, None) if self.sparse_map => {}
            _ => return Err(broken("sparse records of an unknown version")),
        }
        Ok(Some(Sparse {
            name: self.sparse_name.clone(),
            real_size: self.sparse_size,
        }))
    }
}

/// The first record and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let digits = &bytes[..space];
    let length = usize::try_from(number(digits)?).ok()?;
    if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return None;
    }
    let body = &bytes[space + 1..length - 1];
    let equals = body.iter().position(|b| *b == b'=')?;
    (equals > 0).then(|| (&body[..equals], &body[equals + 1..], &bytes[length..]))
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn decimal(value: &[u8]) -> Result<Option<u64>, LayerFault> {
    if value.is_empty() {
        return Ok(None);
    }
    number(value).map(Some).ok_or_else(|| broken("expected a number"))
}

fn broken(why: &str) -> LayerFault {
    LayerFault::Malformed(format!("broken extended header: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_line_feeds_and_the_last_record_wins() {
        let records = Records::parse(b"8 uid=1\n11 path=a\n\n8 uid=2\n").unwrap();
        assert_eq!((records.uid, records.path.as_deref()), (Some(2), Some(&b"a\n"[..])));
    }

    #[test]
    fn broken_records_are_refused() {
        for bytes in [
            &b"9 uid=1\n"[..],
            b"7 uid=1",
            b"uid=1\n",
            b"8 uid=x\n",
            b"5 =1\n",
            b"11 path=a\0b\n",
            b"0 a=b\n",
        ] {
            assert!(Records::parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        let odd = Records::parse(b"22 GNU.sparse.major=7\n").unwrap();
        assert!(odd.sparse().is_err());
    }
}
