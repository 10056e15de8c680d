//! The boot pack's stream: one request, each chunk served as it arrives.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use layerfmt::layout::superblock::SUPERBLOCK_LEN;
use layerfmt::{Digest, Index, buffer_for};
use tokio::sync::watch;

use crate::chunks::remote::{CacheTiers, chunk_range};
use crate::net::error::{Blame, FetchError};
use crate::net::exchange::{Ask, HttpAnswer};
use crate::net::fetcher::FetcherShared;
use crate::net::object::{ChunkRange, Object};
use crate::net::status::{Counters, StatusText};
use crate::net::worker::yield_to_demand;

/// Number of consecutive attempts, without a received chunk, to resume a broken stream: some
/// minutes.
const TRIES_MAX: u32 = 60;

/// Parts that the stream needs besides the network.
pub(crate) struct PackStream {
    pub(crate) inner: Arc<FetcherShared>,
    pub(crate) caches: Arc<CacheTiers>,
    pub(crate) object: Arc<Object>,
    /// Length of the pack's file.
    pub(crate) len: u64,
    /// No part of it can be local, so it is requested before its contents are known.
    pub(crate) eager: bool,
    /// Text for the status.
    pub(crate) state: Arc<StatusText>,
}

/// The chunks of the pack that `index` uses, in file order.
pub(crate) fn ranges(index: &Index, objects: &[Arc<Object>]) -> Vec<ChunkRange> {
    let mut ranges: Vec<ChunkRange> = index
        .chunks()
        .filter_map(|chunk| chunk_range(objects, &chunk))
        .filter(|range| range.object.optional)
        .collect();
    ranges.sort_by_key(|range| range.offset);
    ranges
}

impl PackStream {
    /// Streams the pack. Sends the request at once; reads the answer as soon as `index` describes
    /// the contents. Until then the answer waits in the socket.
    pub(crate) async fn run(self, mut ranges: watch::Receiver<Option<Vec<ChunkRange>>>) {
        let start = SUPERBLOCK_LEN as u64;
        let mut first = None;
        if self.eager {
            first = Some((start, self.ask(start..self.len).await));
        }
        let known = ranges
            .wait_for(Option::is_some)
            .await
            .map(|known| known.clone());
        let Ok(Some(wanted)) = known else {
            return self.over();
        };
        let wanted: Vec<ChunkRange> = wanted
            .into_iter()
            .filter(|range| !self.caches.knows(range))
            .collect();
        let Some((begin, end)) = wanted
            .first()
            .map(|p| p.offset)
            .zip(wanted.last().map(ChunkRange::end))
        else {
            self.state.set("complete: everything was local");
            return self.over();
        };
        let (position, answer) = match first {
            Some(first) => first,
            None => (begin, self.ask(begin..end).await),
        };
        let result = self.stream(position, answer, &wanted, end).await;
        self.over();
        match result {
            Ok(()) => self.state.set(format!("complete: {} chunks", wanted.len())),
            Err(error) => {
                tracing::warn!(%error, "the boot pack's stream has failed: chunks are fetched on demand");
                self.state.set(format!("given up: {error}"));
            }
        }
    }

    /// Ends the stream: readers that waited for it now send their own requests.
    fn over(&self) {
        self.inner.queue().stream_over();
        self.inner.wake.notify_waiters();
        self.inner.wake.notify_one();
    }

    async fn ask(&self, range: Range<u64>) -> Result<(usize, HttpAnswer), FetchError> {
        let (index, server) = self.inner.server(0).await?;
        let stall = self.inner.mirrors.stall(index);
        let ask = Ask::range(&self.object.path, range.clone(), stall);
        let answer = server.ask_h1(&ask).await.and_then(|answer| {
            answer.check_range(&range)?;
            Ok(answer)
        });
        match answer {
            Ok(answer) => Ok((index, answer)),
            Err(error) => {
                self.inner.mirrors.failed(index, &self.object.path, &error);
                Err(error)
            }
        }
    }

    async fn stream(
        &self,
        mut position: u64,
        mut answer: Result<(usize, HttpAnswer), FetchError>,
        wanted: &[ChunkRange],
        end: u64,
    ) -> Result<(), FetchError> {
        let mut cursor = Cursor {
            wanted,
            next: 0,
            held: Vec::new(),
        };
        let mut tries = 0;
        loop {
            let before = cursor.next;
            let error = match answer {
                Ok((index, answer)) => match self.read(answer, position, end, &mut cursor).await {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        self.inner.mirrors.failed(index, &self.object.path, &error);
                        error
                    }
                },
                Err(error) => error,
            };
            tries = if cursor.next > before { 1 } else { tries + 1 };
            // A server that sends wrong data or lacks the pack is not used again: demand selects
            // its own server.
            if tries >= TRIES_MAX || error.blame() != Blame::Server {
                return Err(error);
            }
            self.over();
            tokio::time::sleep(self.inner.mirrors.wait(tries)).await;
            cursor.held.clear();
            position = match cursor.wanted.get(cursor.next) {
                Some(next) => next.offset,
                None => return Ok(()),
            };
            answer = self.ask(position..end).await;
        }
    }

    async fn read(
        &self,
        mut answer: HttpAnswer,
        mut position: u64,
        end: u64,
        cursor: &mut Cursor<'_>,
    ) -> Result<(), FetchError> {
        self.inner.queue().stream_at(&self.object, position, end);
        while position < end {
            yield_to_demand(&self.inner, || self.inner.queue().stream_awaited()).await?;
            let Some(bytes) = answer.next().await? else {
                return Err(FetchError::Wrong("a pack that ends early"));
            };
            Counters::add(&self.inner.counters.bytes, bytes.len() as u64);
            cursor.feed(position, &bytes, |range, bytes| self.deliver(range, bytes))?;
            position += bytes.len() as u64;
            let next = cursor
                .wanted
                .get(cursor.next)
                .map_or(end, |range| range.offset);
            self.inner.queue().stream_at(&self.object, next, end);
            if !self.inner.queue().stream_awaited() {
                self.inner.limiter.pay(bytes.len() as u64).await;
            }
        }
        Ok(())
    }

    fn deliver(&self, range: &ChunkRange, bytes: Vec<u8>) -> Result<(), FetchError> {
        use crate::net::fetcher::ChunkSink;
        if Digest::of(&bytes) != range.digest {
            return Err(FetchError::Corrupt);
        }
        Counters::add(&self.inner.counters.pack_chunks, 1);
        let bytes = Bytes::from(bytes);
        self.caches.put(range, &bytes);
        let notices = self.inner.queue().streamed(range, &bytes);
        notices.notify();
        Ok(())
    }
}

/// Position of the stream in the list of wanted chunks.
struct Cursor<'a> {
    wanted: &'a [ChunkRange],
    next: usize,
    held: Vec<u8>,
}

impl Cursor<'_> {
    fn feed(
        &mut self,
        start: u64,
        bytes: &[u8],
        deliver: impl Fn(&ChunkRange, Vec<u8>) -> Result<(), FetchError>,
    ) -> Result<(), FetchError> {
        let end = start + bytes.len() as u64;
        while let Some(range) = self.wanted.get(self.next) {
            let from = range
                .offset
                .saturating_add(self.held.len() as u64)
                .max(start);
            let to = range.end().min(end);
            if from >= to {
                break;
            }
            let at = |place: u64| usize::try_from(place - start).unwrap_or(usize::MAX);
            if self.held.is_empty() {
                self.held = buffer_for(range.len as usize);
            }
            self.held
                .extend_from_slice(bytes.get(at(from)..at(to)).unwrap_or_default());
            if range.end() > end {
                break;
            }
            self.next += 1;
            deliver(range, std::mem::take(&mut self.held))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn cuts_pieces_at_every_split_and_skips_the_gaps() {
        let object = Arc::new(Object::pack(&Digest::of(b"pack")));
        let file: Vec<u8> = (0..200u8).collect();
        let wanted: Vec<ChunkRange> = [(10u64, 20u32), (30, 5), (100, 40)]
            .into_iter()
            .map(|(offset, len)| {
                let bytes = &file[offset as usize..offset as usize + len as usize];
                ChunkRange {
                    object: Arc::clone(&object),
                    offset,
                    len,
                    digest: Digest::of(bytes),
                }
            })
            .collect();
        for split in 1..file.len() {
            let got = RefCell::new(Vec::new());
            let mut cursor = Cursor {
                wanted: &wanted,
                next: 0,
                held: Vec::new(),
            };
            let mut position = 4;
            for part in file[4..].chunks(split) {
                cursor
                    .feed(position, part, |range, bytes| {
                        assert_eq!(Digest::of(&bytes), range.digest);
                        got.borrow_mut().push(range.offset);
                        Ok(())
                    })
                    .unwrap();
                position += part.len() as u64;
            }
            assert_eq!(*got.borrow(), [10, 30, 100]);
        }
    }
}
