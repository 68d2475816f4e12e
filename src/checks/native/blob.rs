//! Reading one layer blob: digest of the bytes as stored, decompression, digest and bounds of the bytes as unpacked.
//!
//! Must not write anything, and must not hand out more bytes than the limits allow.

use super::error::LayerFault;
use super::limits::Limits;
use flate2::bufread::MultiGzDecoder;
use repave_core::digest::Digest;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, Read};

/// Hashes and counts what passes through.
pub(super) struct Hashing<R> {
    inner: R,
    hash: Sha256,
    pub bytes: u64,
}

impl<R: Read> Hashing<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// Reads what nobody read yet, and gives the digest of everything.
    pub fn finish(mut self) -> io::Result<Digest> {
        let mut buffer = vec![0_u8; 64 * 1024];
        while self.read(&mut buffer)? > 0 {}
        Ok(Digest::from_hash(self.hash.finalize().as_slice()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

/// Bytes that may still be unpacked from the whole image.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
    limit: u64,
}

impl Budget {
    pub fn new(limits: &Limits) -> Self {
        Self {
            left: limits.decompressed_bytes,
            limit: limits.decompressed_bytes,
        }
    }

    pub fn spent(&self) -> u64 {
        self.limit - self.left
    }

    pub fn spend(&mut self, bytes: u64) -> Result<(), LayerFault> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(LayerFault::limit("unpacked bytes of the image", self.limit)),
        }
    }
}

/// Stops with an error when a layer or the image unpacks to more than is allowed.
pub(super) struct Metered<'a, R> {
    inner: R,
    budget: &'a mut Budget,
    left: u64,
    limit: u64,
}

impl<'a, R: Read> Metered<'a, R> {
    /// `stored` is the size of the blob.
    pub fn new(inner: R, budget: &'a mut Budget, stored: u64, limits: &Limits) -> Self {
        let limit = stored.saturating_mul(limits.ratio).max(limits.ratio_free_bytes);
        Self {
            inner,
            budget,
            left: limit,
            limit,
        }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.budget.spend(n as u64).map_err(io::Error::other)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::other(LayerFault::limit(
                "unpacked bytes of a layer of this size (expansion ratio)",
                self.limit,
            ))
        })?;
        Ok(n)
    }
}

/// Decompresses by what the bytes are, not by what the media type says: runtimes do the same, and the diff ID decides.
pub(super) enum Decoder<R: BufRead> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(Box<Zstd<R>>),
}

impl<R: BufRead> Decoder<R> {
    pub fn new(mut source: R) -> io::Result<Self> {
        let head = source.fill_buf()?;
        Ok(match head {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(source))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Self::Zstd(Box::new(Zstd::new(source)))
            }
            _ => Self::Plain(source),
        })
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Gzip(source) => source.read(buffer),
            Self::Zstd(source) => source.read(buffer),
        }
    }
}

/// All frames of a zstd stream; skippable frames (the table of contents of `zstd:chunked`) are passed over.
pub(super) struct Zstd<R> {
    source: R,
    frame: FrameDecoder,
    open: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        Self {
            source,
            frame: FrameDecoder::new(),
            open: false,
        }
    }

    /// Starts the next frame; `false` at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.frame.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBlocks;
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.open {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.open = true;
            }
            // One block (at most 128 KiB) at a time keeps memory at the window plus one block.
            if self.frame.can_collect() == 0 && !self.frame.is_finished() {
                self.frame
                    .decode_blocks(&mut self.source, UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            let n = self.frame.read(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            if self.frame.is_finished() && self.frame.can_collect() == 0 {
                self.open = false;
            }
        }
    }
}
