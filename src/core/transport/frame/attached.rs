//! What travels with a report: the tool's own page, its raw result, the list of packages; each one gzipped.
//!
//! Must not unpack anything without a bound, and must not deliver bytes that are not those that the report names.

use super::{FrameError, torn};
use crate::{
    digest::Digest,
    report::{Attachment, Report},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use std::io::{self, Read as _, Write as _};

/// What travels: the report, and what the tool wrote besides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The report.
    pub report: Report,
    /// The bytes of the report's attachments, in the same order.
    pub attached: Vec<Attached>,
}

/// The bytes of one attachment, gzipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// File name of the unpacked bytes.
    pub name: String,
    /// Media type of the unpacked bytes.
    pub media_type: String,
    /// The gzipped bytes.
    pub gzip: Vec<u8>,
}

impl Attached {
    /// Packs the bytes of a file.
    pub fn pack(name: &str, media_type: &str, bytes: &[u8]) -> io::Result<Self> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes)?;
        Ok(Self {
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            gzip: encoder.finish()?,
        })
    }

    /// The unpacked bytes, if they are at most `limit`.
    pub fn unpack(&self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        GzDecoder::new(self.gzip.as_slice())
            .take(limit + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!(
                "{} unpacks to more than {limit} bytes",
                self.name
            )));
        }
        Ok(bytes)
    }

    pub(super) fn described(&self) -> Attachment {
        Attachment {
            name: self.name.clone(),
            media_type: self.media_type.clone(),
            digest: Digest::of(&self.gzip),
            size: self.gzip.len() as u64,
        }
    }
}

/// The report with its attachments, if they are exactly those that it names.
pub(super) fn deliver(report: Report, base64: Vec<String>) -> Result<Delivery, FrameError> {
    if report.attachments.len() != base64.len() {
        let (named, found) = (report.attachments.len(), base64.len());
        return Err(torn(format!("expected {named} attachments, found {found}")));
    }
    let mut attached = Vec::with_capacity(base64.len());
    for (named, text) in report.attachments.iter().zip(base64) {
        let gzip = STANDARD
            .decode(text)
            .map_err(|error| torn(format!("attachment {:?} is not base64: {error}", named.name)))?;
        let one = Attached {
            name: named.name.clone(),
            media_type: named.media_type.clone(),
            gzip,
        };
        if one.described() != *named {
            return Err(FrameError::Forged {
                expected: named.digest.clone(),
                found: Digest::of(&one.gzip).as_str().to_owned(),
            });
        }
        attached.push(one);
    }
    Ok(Delivery { report, attached })
}
