//! How a report travels from a Job pod to the operator: one framed, gzipped, base64 text on stdout, found again by
//! the hash that the termination message carries.
//!
//! Pure, and used by both sides. Must not believe anything about what it decodes: a pod log may be torn by rotation,
//! mixed with other text, or written by code of the candidate. Exactly one whole frame with the announced hash is a
//! report; anything else is an error, and an error never opens a gate.

mod attached;

pub use super::error::FrameError;
pub use super::termination::{Counts, Failed, MAX_TERMINATION, OutcomeKind, Reported, Termination};

pub use attached::{Attached, Delivery};

use crate::{
    digest::Digest,
    report::{MAX_ATTACHMENTS, Report, at_most},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use std::io::{BufReader, Read as _, Write as _};

/// Longest base64 text of one frame. The kubelet rotates a container's log at 10 MiB by default.
pub const MAX_FRAME: usize = 6 * 1024 * 1024;

/// Most of a pod log that is worth reading: a frame, its line ends, and some foreign text around it.
pub const MAX_LOG: usize = 8 * 1024 * 1024;

/// Most that a frame may grow to when it is unpacked: 6 MiB of attachments as they travel, and 4 MiB of report, which are the
/// most findings that there may be with 400 bytes each. The operator has 256 MiB, and as many workers may each hold one.
pub const MAX_UNPACKED: u64 = 10 * 1024 * 1024;

/// Characters per line: container runtimes split log lines at 16 KiB.
const LINE: usize = 76 * 100;

const BEGIN: &str = "-----BEGIN REPAVE REPORT";
const BEGIN_V1: &str = "-----BEGIN REPAVE REPORT v1 ";
const DASHES: &str = "-----";
const END: &str = "-----END REPAVE REPORT-----";

/// The frame's JSON: the attachments follow the report as base64 of their gzipped bytes.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    report: Report,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_most::<_, _, MAX_ATTACHMENTS>"
    )]
    attached: Vec<String>,
}

/// A report ready to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What goes to stdout, with the final line end.
    pub text: String,
    /// The hash of the gzip bytes: goes into the termination message.
    pub sha256: Digest,
}

fn torn(why: impl Into<String>) -> FrameError {
    FrameError::Torn { why: why.into() }
}

fn unreadable(why: impl std::fmt::Display) -> FrameError {
    FrameError::Unreadable {
        why: crate::report::bounded(&why.to_string()),
    }
}

/// Frames a report with its attachments. Attachments that do not fit are left out, the largest first; a report that
/// does not fit loses its mildest findings and says so.
pub fn encode(report: &Report, attached: &[Attached]) -> Result<Frame, FrameError> {
    let mut report = report.clone().bounded();
    let mut attached: Vec<&Attached> = attached.iter().take(MAX_ATTACHMENTS).collect();
    loop {
        report.attachments = attached.iter().map(|one| one.described()).collect();
        let json = json(&report, &attached)?;
        // What would not be unpacked is not packed.
        let small = (json.len() as u64) < MAX_UNPACKED;
        let packed = if small { pack(&json)? } else { Vec::new() };
        if small && packed.len().div_ceil(3) * 4 <= MAX_FRAME {
            return Ok(frame(&packed));
        }
        if let Some(largest) = (0..attached.len()).max_by_key(|n| attached.get(*n).map_or(0, |one| one.gzip.len())) {
            attached.remove(largest);
            continue;
        }
        if report.findings.is_empty() {
            return Err(FrameError::TooLarge {
                what: "a report without findings",
                limit: MAX_FRAME as u64,
            });
        }
        report.findings.truncate(report.findings.len() / 2);
        report.truncated = true;
    }
}

fn json(report: &Report, attached: &[&Attached]) -> Result<Vec<u8>, FrameError> {
    let parcel = Payload {
        report: report.clone(),
        attached: attached.iter().map(|one| STANDARD.encode(&one.gzip)).collect(),
    };
    serde_json::to_vec(&parcel).map_err(unreadable)
}

fn pack(json: &[u8]) -> Result<Vec<u8>, FrameError> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(json).map_err(unreadable)?;
    encoder.finish().map_err(unreadable)
}

fn frame(packed: &[u8]) -> Frame {
    let sha256 = Digest::of(packed);
    let base64 = STANDARD.encode(packed);
    let mut text = format!("{BEGIN_V1}length={} sha256={}{DASHES}\n", base64.len(), sha256.hex());
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str(END);
    text.push('\n');
    Frame { text, sha256 }
}

/// Finds the one report in a pod's log; `sha256` is what the termination message announced.
pub fn decode(log: &[u8], sha256: &Digest) -> Result<Delivery, FrameError> {
    if log.len() > MAX_LOG {
        return Err(FrameError::TooLarge {
            what: "the pod's log",
            limit: MAX_LOG as u64,
        });
    }
    let (header, base64) = locate(log)?;
    let forged = |found: &str| FrameError::Forged {
        expected: sha256.clone(),
        found: found.to_owned(),
    };
    if header.sha256 != *sha256 {
        return Err(forged(header.sha256.as_str()));
    }
    // Each form is gone before the next one grows.
    let packed = STANDARD.decode(base64).map_err(|e| torn(format!("not base64: {e}")))?;
    let found = Digest::of(&packed);
    if found != *sha256 {
        return Err(forged(found.as_str()));
    }
    unpack(&packed)
}

struct Header {
    length: usize,
    sha256: Digest,
}

/// The header and the base64 text of the only frame. Foreign lines are ignored outside of it and refused inside.
fn locate(log: &[u8]) -> Result<(Header, Vec<u8>), FrameError> {
    let mut open: Option<(Header, Vec<u8>)> = None;
    let mut whole = None;
    for line in log.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(BEGIN.as_bytes()) {
            if open.is_some() || whole.is_some() {
                return Err(FrameError::Duplicate);
            }
            open = Some((header(line)?, Vec::new()));
        } else if let Some((header, mut base64)) = open.take() {
            if line == END.as_bytes() {
                whole = Some((header, base64));
                continue;
            }
            collect(line, &mut base64, header.length)?;
            open = Some((header, base64));
        }
    }
    match (open, whole) {
        (Some(_), _) => Err(torn("it has no end line")),
        (None, None) => Err(FrameError::Missing),
        (None, Some((header, base64))) if base64.len() != header.length => Err(torn(format!(
            "expected {} characters, found {}",
            header.length,
            base64.len()
        ))),
        (None, Some(whole)) => Ok(whole),
    }
}

fn collect(line: &[u8], base64: &mut Vec<u8>, length: usize) -> Result<(), FrameError> {
    let is_base64 = |b: &u8| b.is_ascii_alphanumeric() || b"+/=".contains(b);
    if line.is_empty() || line.len() > LINE || !line.iter().all(is_base64) {
        return Err(torn("foreign text inside of it"));
    }
    if base64.len() + line.len() > length {
        return Err(torn(format!("expected {length} characters, found more")));
    }
    base64.extend_from_slice(line);
    Ok(())
}

fn header(line: &[u8]) -> Result<Header, FrameError> {
    let malformed = || torn("expected a header of the form BEGIN REPAVE REPORT v1 length=N sha256=HEX");
    let text = std::str::from_utf8(line).map_err(|_| malformed())?;
    let fields = text
        .strip_prefix(BEGIN_V1)
        .and_then(|rest| rest.strip_suffix(DASHES))
        .and_then(|rest| rest.strip_prefix("length="))
        .and_then(|rest| rest.split_once(" sha256="));
    let (length, hex) = fields.ok_or_else(malformed)?;
    if !length.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed());
    }
    let length: usize = length.parse().map_err(|_| malformed())?;
    if length > MAX_FRAME {
        return Err(FrameError::TooLarge {
            what: "the report",
            limit: MAX_FRAME as u64,
        });
    }
    let sha256 = format!("sha256:{hex}").parse().map_err(|_| malformed())?;
    Ok(Header { length, sha256 })
}

/// Unpacks through a bounded reader straight into the parser: a bomb costs what it may grow to, never more.
fn unpack(packed: &[u8]) -> Result<Delivery, FrameError> {
    let mut limited = BufReader::new(GzDecoder::new(packed).take(MAX_UNPACKED));
    let parcel: Result<Payload, _> = serde_json::from_reader(&mut limited);
    if limited.get_ref().limit() == 0 {
        return Err(FrameError::TooLarge {
            what: "the unpacked report",
            limit: MAX_UNPACKED,
        });
    }
    let parcel = parcel.map_err(unreadable)?;
    if !limited.into_inner().into_inner().into_inner().is_empty() {
        return Err(torn("bytes after the end of its gzip stream"));
    }
    attached::deliver(parcel.report, parcel.attached)
}

#[cfg(test)]
mod tests;
