//! Fetches the early index of a large merged index, from the META section at the end of its file.

use layerfmt::layout::superblock::{SUPERBLOCK_LEN, SectionId, Superblock};
use layerfmt::{Digest, Index, Meta};
use wire::manifest::IndexRef;
use wire::paths::ObjectPath;

use super::error::FetchError;
use super::exchange::Ask;
use super::fetcher::{FetcherShared, STALL_FIRST, get_whole};

/// The early index of the index file `reference`, if it has one. Each server is asked once: without
/// an early index a mount waits for the whole one.
///
/// # Errors
/// No server has it, or what it has is damaged.
pub(crate) async fn early_index(
    inner: &FetcherShared,
    reference: &IndexRef,
) -> Result<Option<Index>, FetchError> {
    let path = ObjectPath::Index(reference.digest).url();
    let refused = |server, what: &str| {
        inner.mirrors.failed(server, what, &FetchError::Corrupt);
        FetchError::Corrupt
    };
    let part = |range: std::ops::Range<u64>| {
        let len = usize::try_from(range.end.saturating_sub(range.start));
        let ask = Ask::range(&path, range, STALL_FIRST);
        async move { get_whole(inner, &ask, len.unwrap_or(0)).await }
    };
    let (server, head) = part(0..SUPERBLOCK_LEN as u64).await?;
    let superblock = Superblock::decode(&head).ok();
    let superblock = superblock.filter(|_| Digest::of(&head) == reference.digest);
    let superblock = superblock.ok_or_else(|| refused(server, &path))?;
    let Some(meta) = superblock.section(SectionId::Meta) else {
        return Ok(None);
    };
    let (server, stored) = part(meta.offset..meta.offset + meta.stored_len).await?;
    let meta = Meta::of_stored(&superblock, &stored).map_err(|_| refused(server, &path))?;
    // These bytes are what the signer meant.
    meta.early().map_err(|error| {
        tracing::warn!(%error, "the early index is wrong: the mount waits for the whole index");
        FetchError::Corrupt
    })
}
