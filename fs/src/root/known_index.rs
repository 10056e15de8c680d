//! The index of the mounted revision under its own row numbers: what an index delta starts from. After a
//! switch the mount has only tables under other numbers.

use std::sync::{Arc, Weak};

use layerfmt::{Digest, Index};

use crate::sys::memory::ReclaimableBytes;

/// Effort of the compression: the fastest.
const LEVEL: i32 = 1;

/// An index that a delta can start from.
#[derive(Debug)]
pub(super) struct KnownIndex {
    /// The digest of its file.
    digest: Digest,
    form: KnownForm,
}

#[derive(Debug)]
enum KnownForm {
    /// The tables of a mount that has not switched.
    Mounted(Weak<Index>),
    /// Compressed, in memory that the kernel may take back; with the digest of these bytes.
    Packed(ReclaimableBytes, Digest, usize),
}

impl KnownIndex {
    /// The index of a new mount.
    pub(super) fn mounted(digest: Digest, index: &Arc<Index>) -> KnownIndex {
        KnownIndex {
            digest,
            form: KnownForm::Mounted(Arc::downgrade(index)),
        }
    }

    /// A copy of `index`. `None` without memory.
    pub(super) fn packed(digest: Digest, index: &Index) -> Option<KnownIndex> {
        let raw = index.raw();
        let packed = zstd::bulk::compress(&raw, LEVEL).ok()?;
        let bytes = ReclaimableBytes::new(&packed).ok()?;
        Some(KnownIndex {
            digest,
            form: KnownForm::Packed(bytes, Digest::of(&packed), raw.len()),
        })
    }

    /// The raw INDEX, if this is the one with that digest and is still here.
    pub(super) fn raw(&self, digest: &Digest) -> Option<Vec<u8>> {
        if self.digest != *digest {
            return None;
        }
        match &self.form {
            KnownForm::Mounted(index) => {
                let index = index.upgrade()?;
                index.await_whole().then(|| index.raw().into())
            }
            KnownForm::Packed(bytes, sum, raw_len) => {
                let packed = bytes.copy();
                let is_whole = Digest::of(&packed) == *sum;
                is_whole.then(|| zstd::bulk::decompress(&packed, *raw_len).ok())?
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_comes_back_until_the_kernel_takes_it() {
        let index = Arc::new(Index::empty());
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let mounted = KnownIndex::mounted(one, &index);
        let packed = KnownIndex::packed(one, &index).unwrap();
        let raw = Vec::from(index.raw());
        for known in [&mounted, &packed] {
            assert_eq!(known.raw(&one).as_ref(), Some(&raw));
            assert_eq!(known.raw(&other), None);
        }
        drop(index);
        assert_eq!(mounted.raw(&one), None);
        if let KnownForm::Packed(bytes, ..) = &packed.form {
            bytes.take();
        }
        assert_eq!(packed.raw(&one), None);
    }
}
