//! A writer that processes its bytes on another thread, so that reading the upper and compressing
//! it run in parallel, as in `tar | zstd`.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of one block.
const BLOCK_LEN: usize = 64 << 10;
/// Maximum number of waiting blocks.
const BLOCKS_MAX: usize = 32;

/// The writing end. Unflushed bytes are lost when it is dropped.
#[derive(Debug)]
pub(super) struct Ahead {
    block: Vec<u8>,
    sender: SyncSender<Vec<u8>>,
}

/// Creates both ends. The receiver gives the blocks in order, and ends when the writer is dropped.
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
        // The receiver is dropped if its own work failed; it returns the reason.
        let sent = self.sender.send(block);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
