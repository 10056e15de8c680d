//! Fetches the head of a merged index, superblock and tables, from any server, and resumes after broken
//! answers.

use std::collections::BTreeMap;

use layerfmt::{Digest, Layer, buffer_for};
use wire::paths::ObjectPath;

use super::error::{Blame, FetchError};
use super::exchange::Ask;
use super::fetcher::FetcherShared;
use super::server::Server;
use super::status::Counters;

/// Rounds over all servers after which a missing index is reported as missing.
const ROUNDS_MAX: u32 = 5;

/// Indexes up to this length get their memory at the start, bytes.
const LEN_AT_ONCE: usize = 8 << 20;

/// Fetches the first `head_len` bytes of the index named `digest`, without a time limit. A broken
/// answer is resumed on the same server, so that one server's data is verified as a whole.
///
/// # Errors
/// No server has it.
pub(crate) async fn index_head(
    inner: &FetcherShared,
    digest: &Digest,
    head_len: u64,
) -> Result<Layer, FetchError> {
    let path = ObjectPath::Index(*digest).url();
    let mut arrived: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let (mut avoid, mut rounds) = (0u64, 0u32);
    loop {
        let (index, server) = inner.server(avoid).await?;
        let bytes = arrived.entry(index).or_default();
        let had = bytes.len();
        let ask = Ask::range(&path, had as u64..head_len, inner.mirrors.stall(index));
        let error = match more(inner, &server, &ask, head_len, bytes).await {
            Ok(()) => match Layer::from_vec(std::mem::take(bytes)) {
                Ok(layer) if layer.digest() == *digest => {
                    inner.mirrors.succeeded(index);
                    return Ok(layer);
                }
                _ => FetchError::Corrupt,
            },
            Err(error) => error,
        };
        if error.blame() == Blame::Server {
            if bytes.len() > had {
                inner.mirrors.succeeded(index);
            }
            inner.mirrors.failed(index, &path, &error);
            server.hang_up().await;
            continue;
        }
        bytes.clear();
        inner.mirrors.failed(index, &path, &error);
        avoid |= 1 << index;
        if inner.mirrors.exhausted(avoid) {
            avoid = 0;
            rounds += 1;
            if rounds >= ROUNDS_MAX && error.is_missing() {
                return Err(error);
            }
            tokio::time::sleep(inner.mirrors.wait(rounds)).await;
        }
    }
}

/// Appends the answer to `ask` to `bytes`, up to `head_len`.
async fn more(
    inner: &FetcherShared,
    server: &Server,
    ask: &Ask,
    head_len: u64,
    bytes: &mut Vec<u8>,
) -> Result<(), FetchError> {
    let mut answer = server.ask_h1(ask).await?;
    if let Some(range) = &ask.range {
        answer.check_range(range)?;
    }
    let len_max = usize::try_from(head_len).unwrap_or(usize::MAX);
    if bytes.capacity() == 0 && len_max <= LEN_AT_ONCE {
        *bytes = buffer_for(len_max);
    }
    while bytes.len() < len_max {
        let Some(part) = answer.next().await? else {
            return Err(FetchError::Wrong("the body ends early"));
        };
        Counters::add(&inner.counters.bytes, part.len() as u64);
        let part = part.get(..part.len().min(len_max - bytes.len()));
        bytes.extend_from_slice(part.unwrap_or_default());
    }
    if matches!(answer.next().await, Ok(None)) {
        server.keep(answer).await;
    }
    Ok(())
}
