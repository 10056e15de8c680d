//! Trees of items by key: every block is checked before it is used.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::checksum::SUM_LEN_MAX;
use super::superblock::BtrfsSuperblock;
use super::volume::BtrfsVolume;
use crate::fields::{byte, le32, le64, slice};
use crate::walk::damaged;

/// Bytes before the records of a block.
const HEADER_LEN: usize = 101;
/// Bytes of a record in a leaf: key, offset and length of the item.
const ITEM_LEN: usize = 25;
/// Bytes of a record above the leaves: key, address and generation of the block.
const POINTER_LEN: usize = 33;
/// The highest level.
const LEVEL_MAX: u8 = 7;
/// Blocks kept in memory.
const NODES_KEPT: NonZeroUsize = match NonZeroUsize::new(256) {
    Some(count) => count,
    None => NonZeroUsize::MIN,
};

/// The key of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ItemKey {
    pub(super) object: u64,
    pub(super) kind: u8,
    pub(super) offset: u64,
}

impl ItemKey {
    pub(super) fn parse(bytes: &[u8], at: usize) -> io::Result<Self> {
        Ok(ItemKey {
            object: le64(bytes, at)?,
            kind: byte(bytes, at + 8)?,
            offset: le64(bytes, at + 9)?,
        })
    }

    /// The first possible key of this kind.
    pub(super) fn first(object: u64, kind: u8) -> Self {
        ItemKey {
            object,
            kind,
            offset: 0,
        }
    }

    /// The last possible key of this kind.
    pub(super) fn last(object: u64, kind: u8) -> Self {
        ItemKey {
            object,
            kind,
            offset: u64::MAX,
        }
    }
}

/// The address of a block, and the properties that it must have.
#[derive(Debug, Clone, Copy)]
pub(super) struct TreePointer {
    address: u64,
    level: u8,
    generation: u64,
    /// Its first key; a root may have none.
    first: Option<ItemKey>,
}

impl TreePointer {
    /// The root of a tree.
    pub(super) fn root(address: u64, level: u8, generation: u64) -> Self {
        TreePointer {
            address,
            level,
            generation,
            first: None,
        }
    }
}

/// A block, after its checks.
#[derive(Debug)]
struct TreeNode {
    bytes: Vec<u8>,
    level: u8,
    generation: u64,
    count: usize,
}

impl TreeNode {
    fn key(&self, place: usize) -> io::Result<ItemKey> {
        let len = if self.level == 0 {
            ITEM_LEN
        } else {
            POINTER_LEN
        };
        ItemKey::parse(&self.bytes, HEADER_LEN + place * len)
    }

    /// The item of a record of a leaf.
    fn item(&self, place: usize) -> io::Result<&[u8]> {
        let at = HEADER_LEN + place * ITEM_LEN + 17;
        let (start, len) = (le32(&self.bytes, at)?, le32(&self.bytes, at + 4)?);
        slice(&self.bytes, HEADER_LEN + start as usize, len as usize)
    }

    /// The block of a record above the leaves.
    fn child(&self, place: usize) -> io::Result<TreePointer> {
        let at = HEADER_LEN + place * POINTER_LEN + 17;
        Ok(TreePointer {
            address: le64(&self.bytes, at)?,
            level: self.level.saturating_sub(1),
            generation: le64(&self.bytes, at + 8)?,
            first: Some(self.key(place)?),
        })
    }

    /// The position of the last record whose key is at most `key`.
    fn floor(&self, key: ItemKey) -> io::Result<Option<usize>> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle)? <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.checked_sub(1))
    }
}

/// The trees of a file system.
#[derive(Debug)]
pub(super) struct Trees {
    pub(super) volume: BtrfsVolume,
    pub(super) superblock: BtrfsSuperblock,
    nodes: LruCache<u64, Arc<TreeNode>>,
}

/// Called with each item.
type ItemVisit<'v> = &'v mut dyn FnMut(ItemKey, &[u8]) -> io::Result<()>;

impl Trees {
    pub(super) fn new(volume: BtrfsVolume, superblock: BtrfsSuperblock) -> Self {
        Trees {
            volume,
            superblock,
            nodes: LruCache::new(NODES_KEPT),
        }
    }

    /// Visits the items with keys from `from` to `to`.
    pub(super) fn scan(
        &mut self,
        root: TreePointer,
        (from, to): (ItemKey, ItemKey),
        visit: ItemVisit<'_>,
    ) -> io::Result<()> {
        self.scan_node(root, (from, to), None, visit)
    }

    /// Visits the items of one block; all its keys are below `end`.
    fn scan_node(
        &mut self,
        pointer: TreePointer,
        (from, to): (ItemKey, ItemKey),
        end: Option<ItemKey>,
        visit: ItemVisit<'_>,
    ) -> io::Result<()> {
        let node = self.node(pointer)?;
        let Some(last) = node.count.checked_sub(1) else {
            return Ok(());
        };
        if end.is_some_and(|end| node.key(last).is_ok_and(|last| last >= end)) {
            return Err(wrong(pointer.address, "keys of another block"));
        }
        // The record before `from` may lead to keys after `from`.
        for place in node.floor(from)?.unwrap_or(0)..node.count {
            let key = node.key(place)?;
            if key > to {
                break;
            }
            if node.level > 0 {
                let next = if place == last {
                    end
                } else {
                    Some(node.key(place + 1)?)
                };
                self.scan_node(node.child(place)?, (from, to), next, visit)?;
            } else if key >= from {
                visit(key, node.item(place)?)?;
            }
        }
        Ok(())
    }

    /// The item with the largest key that is at most `key`.
    pub(super) fn floor(
        &mut self,
        root: TreePointer,
        key: ItemKey,
    ) -> io::Result<Option<(ItemKey, Vec<u8>)>> {
        let mut pointer = root;
        loop {
            let node = self.node(pointer)?;
            let Some(place) = node.floor(key)? else {
                return Ok(None);
            };
            if node.level == 0 {
                return Ok(Some((node.key(place)?, node.item(place)?.to_vec())));
            }
            pointer = node.child(place)?;
        }
    }

    /// A block, from memory or after its checks.
    fn node(&mut self, pointer: TreePointer) -> io::Result<Arc<TreeNode>> {
        let node = match self.nodes.get(&pointer.address) {
            Some(node) => Arc::clone(node),
            None => {
                let node = Arc::new(self.read(pointer.address)?);
                self.nodes.put(pointer.address, Arc::clone(&node));
                node
            }
        };
        if node.level != pointer.level || node.generation != pointer.generation {
            return Err(wrong(pointer.address, "another level or generation"));
        }
        if let Some(first) = pointer.first
            && (node.count == 0 || node.key(0)? != first)
        {
            return Err(wrong(pointer.address, "another first key"));
        }
        Ok(node)
    }

    /// Reads the first intact copy of a block.
    fn read(&self, address: u64) -> io::Result<TreeNode> {
        let superblock = &self.superblock;
        let mut bytes = vec![0; superblock.node_len];
        let mut copy = 0;
        while self.volume.read(address, copy, &mut bytes)? {
            let (stored, rest) = bytes.split_at(SUM_LEN_MAX);
            let is_right = superblock.algorithm.matches(rest, stored);
            if is_right && bytes.get(32..48) == Some(&superblock.uuid) {
                return parse(bytes, address);
            }
            copy += 1;
        }
        Err(damaged(format!(
            "the block at address {address} does not match its checksum"
        )))
    }
}

fn wrong(address: u64, problem: &str) -> io::Error {
    damaged(format!("the block at address {address} has {problem}"))
}

fn parse(bytes: Vec<u8>, address: u64) -> io::Result<TreeNode> {
    let node = TreeNode {
        level: byte(&bytes, 100)?,
        generation: le64(&bytes, 80)?,
        count: le32(&bytes, 96)? as usize,
        bytes,
    };
    if le64(&node.bytes, 48)? != address || node.level > LEVEL_MAX {
        return Err(wrong(address, "another address"));
    }
    let record_len = if node.level == 0 {
        ITEM_LEN
    } else {
        POINTER_LEN
    };
    if node.count > (node.bytes.len() - HEADER_LEN) / record_len {
        return Err(wrong(address, "too many records"));
    }
    let mut last = None;
    for place in 0..node.count {
        let key = node.key(place)?;
        if last.is_some_and(|last| last >= key) {
            return Err(wrong(address, "keys out of order"));
        }
        last = Some(key);
    }
    Ok(node)
}
