//! A writer whose bytes are dealt with on another thread, so that reading the upper and compressing it
//! go on side by side, as in `tar | zstd`.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes handed over at a time.
const BLOCK_LEN: usize = 64 << 10;
/// Blocks that may wait.
const BLOCKS_MAX: usize = 32;

/// The end that is written to. What is not flushed when it is dropped is lost.
#[derive(Debug)]
pub(super) struct Ahead {
    block: Vec<u8>,
    sender: SyncSender<Vec<u8>>,
}

/// Both ends; the other one gives the blocks in order, and ends when the writer is dropped.
pub(super) fn ahead() -> (Ahead, Receiver<Vec<u8>>) {
    let (sender, blocks) = sync_channel(BLOCKS_MAX);
    let block = Vec::with_capacity(BLOCK_LEN);
    (Ahead { block, sender }, blocks)
}

impl Write for Ahead {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BLOCK_LEN.saturating_sub(self.block.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.block.extend_from_slice(taken);
        if self.block.len() >= BLOCK_LEN {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_LEN));
        // The other end is gone when its own work failed; it says why.
        let sent = self.sender.send(block);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
