//! Decoding of one frame piece by piece, for sections that are never in memory as a whole.

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// Largest window, log2: the memory that the decoder needs. [`super::LARGE_WINDOW_LOG`] is what our
/// writer uses.
const WINDOW_LOG_MAX: u32 = 23;

/// A frame that this module does not decode: damaged, or from another writer. The caller decodes it
/// as a whole, which also finds the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsuitable;

/// Reads the content of one zstd frame whose digest was checked.
pub(crate) struct FrameReader<'s> {
    decoder: DCtx<'static>,
    stored: InBuffer<'s>,
    /// True once the decoder has finished the frame.
    at_end: bool,
}

impl std::fmt::Debug for FrameReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameReader").finish_non_exhaustive()
    }
}

impl<'s> FrameReader<'s> {
    /// A reader at the start of the frame.
    pub(crate) fn new(stored: &'s [u8]) -> Result<FrameReader<'s>, Unsuitable> {
        let mut decoder = DCtx::create();
        decoder
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
            .map_err(|_| Unsuitable)?;
        Ok(FrameReader {
            decoder,
            stored: InBuffer::around(stored),
            at_end: false,
        })
    }

    /// Fills `place` with the next bytes.
    pub(crate) fn fill(&mut self, place: &mut [u8]) -> Result<(), Unsuitable> {
        let len = place.len();
        let mut out = OutBuffer::around(place);
        while out.pos() < len {
            if self.at_end {
                return Err(Unsuitable);
            }
            let before = (out.pos(), self.stored.pos());
            self.step(&mut out)?;
            if before == (out.pos(), self.stored.pos()) {
                return Err(Unsuitable);
            }
        }
        Ok(())
    }

    /// Checks that the frame ends here, and nothing follows it.
    pub(crate) fn finish(mut self) -> Result<(), Unsuitable> {
        if !self.at_end {
            let mut nothing = [0; 1];
            let mut out = OutBuffer::around(&mut nothing[..]);
            self.step(&mut out)?;
            if out.pos() > 0 {
                return Err(Unsuitable);
            }
        }
        let is_read = self.stored.pos() == self.stored.src.len();
        (self.at_end && is_read).then_some(()).ok_or(Unsuitable)
    }

    fn step(&mut self, out: &mut OutBuffer<'_, [u8]>) -> Result<(), Unsuitable> {
        let missing = self.decoder.decompress_stream(out, &mut self.stored);
        self.at_end = missing.map_err(|_| Unsuitable)? == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(raw: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(raw, 3).unwrap()
    }

    fn read(stored: &[u8], pieces: &[usize]) -> Result<Vec<u8>, Unsuitable> {
        let mut reader = FrameReader::new(stored)?;
        let mut all = Vec::new();
        for len in pieces {
            let mut piece = vec![0; *len];
            reader.fill(&mut piece)?;
            all.extend(piece);
        }
        reader.finish().map(|()| all)
    }

    #[test]
    fn pieces_make_the_whole_and_nothing_may_follow() {
        let raw: Vec<u8> = (0..300_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        let stored = frame(&raw);
        let pieces = [64, 0, 100_000, raw.len() - 100_064];
        assert_eq!(read(&stored, &pieces).as_ref(), Ok(&raw));
        assert_eq!(read(&stored, &[raw.len() - 1]), Err(Unsuitable));
        assert_eq!(read(&stored, &[raw.len() + 1]), Err(Unsuitable));
        assert_eq!(read(&stored[..stored.len() - 1], &pieces), Err(Unsuitable));
        let twice = [stored.clone(), stored].concat();
        assert_eq!(read(&twice, &[raw.len()]), Err(Unsuitable));
        assert_eq!(read(&[], &[1]), Err(Unsuitable));
    }
}
