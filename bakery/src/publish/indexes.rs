//! The merged indexes of a draft, and their upload to the store.

use std::collections::BTreeSet;

use bytes::Bytes;
use layerfmt::Digest;
use layerfmt::flatten::MergedIndex;
use layerfmt::layout::superblock::SUPERBLOCK_LEN;
use wire::manifest::{IndexRef, ObjectRef};

use super::{Draft, DraftIndex, Plain, Publisher};
use crate::history::{HistoryError, Result};
use crate::store::Key;

/// The merged indexes of a revision, in the store.
#[derive(Debug)]
pub(super) struct Indexes {
    pub(super) reference: IndexRef,
    pub(super) borrowed: Vec<ObjectRef>,
    pub(super) tree_digest: Digest,
    /// The one without the boot pack, with its bytes if they were made just now.
    pub(super) plain: Option<(IndexRef, Option<Bytes>)>,
    /// The bytes, if they were made just now.
    bytes: Option<Bytes>,
}

impl Indexes {
    /// The indexes of a dry run: without a name if they were not made.
    pub(super) fn of_nothing(draft: &Draft) -> Indexes {
        let (reference, borrowed, tree_digest) = match &draft.merged {
            DraftIndex::Same {
                index,
                borrowed,
                tree_digest,
            } => (*index, borrowed.clone(), *tree_digest),
            DraftIndex::New(merged) => {
                let nameless = IndexRef {
                    digest: Digest::default(),
                    head_len: 0,
                    len: 0,
                };
                let tree_digest = merged.tree_digest().unwrap_or_default();
                (nameless, borrowed(draft, merged), tree_digest)
            }
        };
        Indexes {
            reference,
            borrowed,
            tree_digest,
            plain: None,
            bytes: None,
        }
    }

    /// The indexes that were just made.
    pub(super) fn made(&self) -> impl Iterator<Item = (&IndexRef, &Bytes)> {
        let plain = self.plain.iter();
        let plain = plain.filter_map(|(reference, bytes)| Some((reference, bytes.as_ref()?)));
        let packed = self.bytes.iter().map(|bytes| (&self.reference, bytes));
        packed.chain(plain)
    }
}

/// The layers outside the stack from which a draft's merged indexes borrow: including the index
/// without the boot pack, which is used if the pack is unavailable.
fn borrowed(draft: &Draft, merged: &MergedIndex) -> Vec<ObjectRef> {
    let stack = draft.layers.iter().chain(&draft.pack);
    let stack: BTreeSet<Digest> = stack.map(|layer| layer.digest).collect();
    let layers_of = |merged: &MergedIndex| -> Vec<ObjectRef> {
        let layers = merged.index.layers();
        let layers = layers.map(|layer| ObjectRef {
            digest: layer.digest,
            len: layer.file_len,
        });
        layers.collect()
    };
    let mut borrowed = layers_of(merged);
    match &draft.plain {
        Some(Plain::Same { borrowed: more, .. }) => borrowed.extend(more),
        Some(Plain::New(plain)) => borrowed.extend(layers_of(plain)),
        None => {}
    }
    borrowed.retain(|layer| !stack.contains(&layer.digest));
    borrowed.sort();
    borrowed.dedup();
    borrowed
}

impl Publisher {
    /// Makes both merged indexes of a draft, in parallel, and stores them.
    pub(super) fn upload_indexes(&self, draft: &Draft) -> Result<Indexes> {
        let new_plain = match &draft.plain {
            Some(Plain::New(plain)) => Some(plain),
            _ => None,
        };
        let (mut index, plain) = std::thread::scope(|scope| {
            let plain = new_plain.map(|plain| scope.spawn(|| self.upload_merged(plain, None)));
            let index = self.upload_index(draft);
            let plain = plain.map(|thread| {
                let lost = || HistoryError::Refused("making an index failed".into());
                thread.join().unwrap_or_else(|_| Err(lost()))
            });
            (index, plain.transpose())
        });
        let plain = plain?;
        if let Ok(index) = &mut index {
            index.plain = match (&draft.plain, plain) {
                (Some(Plain::Same { index, .. }), _) => Some((*index, None)),
                (_, Some((reference, bytes))) => Some((reference, Some(bytes))),
                _ => None,
            };
        }
        index
    }

    fn upload_index(&self, draft: &Draft) -> Result<Indexes> {
        let merged = match &draft.merged {
            DraftIndex::Same {
                index,
                borrowed,
                tree_digest,
            } => {
                return Ok(Indexes {
                    reference: *index,
                    borrowed: borrowed.clone(),
                    tree_digest: *tree_digest,
                    bytes: None,
                    plain: None,
                });
            }
            DraftIndex::New(merged) => merged,
        };
        let pack = draft.pack.as_ref().map(|pack| &pack.digest);
        let (reference, bytes) = self.upload_merged(merged, pack)?;
        let tree_digest = merged.tree_digest().ok_or_else(|| {
            HistoryError::Refused("a layer without content digests cannot be published".into())
        })?;
        Ok(Indexes {
            reference,
            borrowed: borrowed(draft, merged),
            tree_digest,
            bytes: Some(bytes),
            plain: None,
        })
    }

    fn upload_merged(
        &self,
        merged: &MergedIndex,
        pack: Option<&Digest>,
    ) -> Result<(IndexRef, Bytes)> {
        let (bytes, head_len) = merged.to_bytes(pack)?;
        let digest = Digest::of(bytes.get(..SUPERBLOCK_LEN).unwrap_or_default());
        let reference = IndexRef {
            digest,
            head_len,
            len: bytes.len() as u64,
        };
        let bytes = Bytes::from(bytes);
        self.store()
            .create_object(&Key::index(&digest), bytes.clone())?;
        Ok((reference, bytes))
    }
}
