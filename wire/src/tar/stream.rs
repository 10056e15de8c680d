//! The bytes of a tar archive: blocks, and the data between them.

use std::io::{self, Read};

use super::header::{BLOCK_LEN, Block};

/// A tar archive's bytes with a window on the data of one entry.
#[derive(Debug)]
pub struct Stream<R> {
    input: R,
    /// Bytes read from the input, without the peeked block.
    offset: u64,
    /// Most bytes the input may have.
    len_max: u64,
    peeked: Option<Block>,
    /// The peeked block's bytes already handed out as data.
    peeked_taken: usize,
    /// Bytes of the current entry's data still to come.
    remaining: u64,
    /// Bytes that fill its last block.
    padding: u64,
}

impl<R: Read> Stream<R> {
    /// The archive `input`, of at most `len_max` bytes.
    pub fn new(input: R, len_max: u64) -> Self {
        Stream {
            input,
            offset: 0,
            len_max,
            peeked: None,
            peeked_taken: 0,
            remaining: 0,
            padding: 0,
        }
    }

    /// The input itself.
    pub fn input_mut(&mut self) -> &mut R {
        &mut self.input
    }

    /// The position of the next block or byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Starts an entry's data: `len` bytes, then padding to a whole block.
    pub fn open(&mut self, len: u64) {
        self.remaining = len;
        self.padding = len.next_multiple_of(BLOCK_LEN as u64) - len;
    }

    /// Skips the rest of the current entry's data.
    ///
    /// # Errors
    /// The input cannot be read, ends too early or is too long.
    pub fn skip(&mut self) -> io::Result<()> {
        let rest = self.remaining + self.padding;
        (self.remaining, self.padding) = (rest, 0);
        if rest > 0 {
            io::copy(self, &mut io::sink())?;
        }
        Ok(())
    }

    /// The next block.
    ///
    /// # Errors
    /// The input cannot be read, ends too early or is too long.
    pub fn block(&mut self) -> io::Result<Block> {
        self.block_or_end()?
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The next block; `None` when the input ends before it.
    ///
    /// # Errors
    /// The input cannot be read, ends too early or is too long.
    pub fn block_or_end(&mut self) -> io::Result<Option<Block>> {
        if let Some(block) = self.peeked.take() {
            self.offset += BLOCK_LEN as u64;
            return Ok(Some(block));
        }
        let mut block: Block = [0; BLOCK_LEN];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.advance(BLOCK_LEN)?;
        Ok(Some(block))
    }

    /// The next block, without consuming it; `None` at the end of the input.
    ///
    /// # Errors
    /// The input cannot be read, ends too early or is too long.
    pub fn peek(&mut self) -> io::Result<Option<Block>> {
        let block = self.block_or_end()?;
        if block.is_some() {
            self.offset -= BLOCK_LEN as u64;
            self.peeked = block;
            self.peeked_taken = 0;
        }
        Ok(block)
    }

    /// Reads on to the end of the input; counts the bytes that are not zero.
    ///
    /// # Errors
    /// The input cannot be read, ends too early or is too long.
    pub fn drain(&mut self) -> io::Result<u64> {
        let mut buffer = vec![0; 64 << 10];
        let mut others = 0;
        loop {
            match self.input.read(&mut buffer) {
                Ok(0) => return Ok(others),
                Ok(count) => {
                    let read = buffer.get(..count).unwrap_or_default();
                    others += read.iter().filter(|&&byte| byte != 0).count() as u64;
                    self.advance(count)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn advance(&mut self, count: usize) -> io::Result<()> {
        self.offset += count as u64;
        if self.offset > self.len_max {
            let problem = format!(
                "it expands to more than {} bytes; raise the limit if this is intended",
                self.len_max
            );
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
        }
        Ok(())
    }

    fn read_peeked(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let block = self.peeked.as_ref()?;
        let rest = block.get(self.peeked_taken..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        let (from, to) = (rest.get(..count)?, buffer.get_mut(..count)?);
        to.copy_from_slice(from);
        self.peeked_taken += count;
        if self.peeked_taken == BLOCK_LEN {
            self.peeked = None;
        }
        self.offset += count as u64;
        Some(count)
    }
}

/// The current entry's data; an input that ends before it does is an error.
impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(buffer) = buffer.get_mut(..want).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let count = match self.read_peeked(buffer) {
            Some(count) => count,
            None => {
                let count = self.input.read(buffer)?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.advance(count)?;
                count
            }
        };
        self.remaining -= count as u64;
        Ok(count)
    }
}
