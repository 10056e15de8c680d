//! Writes a long file to disk while it grows, so that its end does not wait for all of it.

use std::fs::File;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes between two syncs.
const INTERVAL: u64 = 16 << 20;

/// A thread that syncs a file while it is written.
#[derive(Debug)]
pub struct Writeback {
    ask: SyncSender<()>,
    thread: JoinHandle<io::Result<u64>>,
    unasked: u64,
}

impl Writeback {
    /// Starts the thread for `file`.
    ///
    /// # Errors
    /// There is no descriptor or no thread left.
    pub fn of(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (ask, asked) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("writeback".into())
            .spawn(move || {
                let mut syncs = 0;
                while asked.recv().is_ok() {
                    file.sync_data()?;
                    syncs += 1;
                }
                Ok(syncs)
            })?;
        Ok(Self {
            ask,
            thread,
            unasked: 0,
        })
    }

    /// So many bytes more are in the file.
    pub fn wrote(&mut self, len: u64) {
        self.unasked += len;
        // A pending sync includes these bytes.
        if self.unasked >= INTERVAL && self.ask.try_send(()).is_ok() {
            self.unasked = 0;
        }
    }

    /// Ends, and returns the error: the kernel reports a write error once, possibly to this thread.
    /// Returns the number of syncs.
    ///
    /// # Errors
    /// An error of writing.
    pub fn finish(self) -> io::Result<u64> {
        drop(self.ask);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the writing thread has panicked")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_synced_while_it_is_written() {
        let file = tempfile::tempfile().unwrap();
        let mut writeback = Writeback::of(&file).unwrap();
        writeback.wrote(INTERVAL - 1);
        assert_eq!(writeback.finish().unwrap(), 0);
        let mut writeback = Writeback::of(&file).unwrap();
        writeback.wrote(INTERVAL);
        assert_eq!(writeback.finish().unwrap(), 1);
    }
}
