//! The upload's frames: a length (u32, little-endian) and that many bytes, repeatedly; then a
//! length of 0, the total (u64, little-endian) and the BLAKE3 digest of everything.
//!
//! So a broken connection is never mistaken for the end of an upload.

use std::io::{self, Read};

use crate::jobs::limits;

/// The reason why an upload is incomplete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The connection ended in the middle.
    #[error("the connection broke after {0} bytes; nothing was queued: push again")]
    Torn(u64),
    /// A frame is longer than any client sends.
    #[error("a frame of {0} bytes is too long: the client does not speak our protocol")]
    TooLong(u32),
    /// The received bytes differ from those sent.
    #[error(
        "the upload was damaged in transit (its digest does not match); nothing was queued: push again"
    )]
    Damaged,
    /// Reading the input failed.
    #[error("cannot read the upload: {0}")]
    Read(io::Error),
}

/// Reads frames and checks the whole at the end.
pub(crate) struct Frames<'i> {
    input: &'i mut dyn Read,
    buffer: Vec<u8>,
    hasher: blake3::Hasher,
    total: u64,
}

impl std::fmt::Debug for Frames<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Frames")
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

impl<'i> Frames<'i> {
    /// Reads from here.
    pub(crate) fn new(input: &'i mut dyn Read) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            hasher: blake3::Hasher::new(),
            total: 0,
        }
    }

    /// The next frame's bytes; `None` when the upload is complete and whole.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let mut len = [0; 4];
        self.fill(&mut len)?;
        let len = u32::from_le_bytes(len);
        if len == 0 {
            return self.finish().map(|()| None);
        }
        let fits = usize::try_from(len)
            .ok()
            .filter(|len| *len <= limits::FRAME_LEN_MAX);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(fits.ok_or(FrameError::TooLong(len))?, 0);
        self.fill(&mut buffer)?;
        self.buffer = buffer;
        self.hasher.update(&self.buffer);
        self.total += u64::from(len);
        Ok(Some(&self.buffer))
    }

    /// The digest of the bytes read.
    #[must_use]
    pub(crate) fn digest(&self) -> blake3::Hash {
        self.hasher.finalize()
    }

    fn finish(&mut self) -> Result<(), FrameError> {
        let (mut total, mut digest) = ([0; 8], [0; 32]);
        self.fill(&mut total)?;
        self.fill(&mut digest)?;
        if u64::from_le_bytes(total) != self.total
            || self.digest() != blake3::Hash::from_bytes(digest)
        {
            return Err(FrameError::Damaged);
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), FrameError> {
        self.input
            .read_exact(buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => FrameError::Torn(self.total),
                _ => FrameError::Read(error),
            })
    }
}
