//! The fuzz targets as plain functions: each takes bytes and asserts an invariant.
//!
//! `fuzz_targets/` passes them to libFuzzer (`cargo +nightly fuzz run open_layer`);
//! `tests/smoke.rs` runs the same functions on stable Rust over a seeded corpus and mutations of
//! it.

use std::os::unix::fs::FileExt as _;

use bakery::assemble::{AssembleError, Contents, Reading, assemble};
use layerfmt::update::{IndexFrame, Preamble, UpdateHead, UpdatePlan};
use layerfmt::{Chunk, ChunkFile, DirentTarget, Index, Layer};
use source::accounts::Accounts;
use source::btrfs::Btrfs;
use source::tar::Tar;
use source::walk::{FileSystem, Walk};
use source::window::Window;
use source::xfs::Xfs;
use source::{Data, EntryPath, Limits};
use wire::manifest::{Head, Manifest, RingRecord};
use wire::trust::Envelope;

/// Opening a layer from hostile bytes: an error, or a layer whose every accessor answers.
pub fn open_layer(bytes: &[u8]) {
    let Ok(layer) = Layer::from_vec(bytes.to_vec()) else {
        return;
    };
    walk(layer.index());
    let _ = layer.meta();
    if let Ok(Some(content)) = layer.content() {
        let _ = layerfmt::dump::dump(layer.index(), Some(&content));
    }
}

/// Validating an index by itself, without the digests that keep mutations out above.
pub fn decode_index(bytes: &[u8]) {
    if let Ok(index) = Index::decode(bytes.to_vec(), u64::MAX / 2) {
        walk(&index);
    }
}

fn walk(index: &Index) {
    for ino in 0..index.inode_count() {
        let inode = index.inode(ino);
        assert!(inode.is_some(), "an inode below the count is there");
        let mut last: Option<&[u8]> = None;
        for entry in index.entries(ino, 0) {
            assert!(
                last.is_none_or(|last| last < entry.name),
                "entries are in order, each once"
            );
            assert!(layerfmt::name::check(entry.name).is_ok(), "names are names");
            let found = index.lookup(ino, entry.name).map(|found| found.child);
            assert_eq!(found, Some(entry.child), "what is listed is found");
            if let DirentTarget::Inode(child) = entry.child {
                assert!(child < index.inode_count(), "entries lead to inodes");
            }
            last = Some(entry.name);
        }
        let size = inode.map_or(0, |inode| inode.size);
        for extent in index.extents(ino, 0..u64::MAX) {
            let chunk = index.chunk(extent.chunk);
            let end = u64::from(extent.chunk_offset) + u64::from(extent.len);
            assert!(
                chunk.is_some_and(|chunk| end <= u64::from(chunk.raw_len)),
                "inside its chunk"
            );
            assert!(
                extent.file_offset + u64::from(extent.len) <= size,
                "inside its file"
            );
        }
        let _ = (index.symlink(ino), index.xattrs(ino).count());
    }
}

/// Decoding a chunk whose digest is right but whose bytes are anything: never more than promised.
pub fn decode_chunk(bytes: &[u8]) {
    let Some(([codec, low, high], stored)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let Ok(stored_len) = u32::try_from(stored.len()) else {
        return;
    };
    let codecs = [
        layerfmt::Codec::Stored,
        layerfmt::Codec::Zstd,
        layerfmt::Codec::ZstdX86,
    ];
    let Some(codec) = codecs.get(usize::from(*codec) % codecs.len()).copied() else {
        return;
    };
    let raw_len = match codec {
        // A validated index has no other.
        layerfmt::Codec::Stored => stored_len,
        _ => u32::from(u16::from_le_bytes([*low, *high])) + 1,
    };
    let digest = layerfmt::Digest::of(stored);
    let chunk = Chunk {
        source: ChunkFile::Own,
        offset: 1024,
        stored_len,
        raw_len,
        codec,
        digest,
    };
    let (mut out, mut whole) = (Vec::new(), None);
    if layerfmt::decode_chunk(&chunk, stored, &mut out).is_ok() {
        assert_eq!(
            out.len(),
            raw_len as usize,
            "a decoded chunk has its promised length"
        );
        whole = Some(out);
    }
    let mut start = Vec::new();
    for wanted in [1, raw_len as usize / 3, raw_len as usize] {
        let done = layerfmt::decode_chunk_start(&chunk, stored, wanted, &mut start);
        assert!(
            done.is_ok() || whole.is_none(),
            "what decodes whole has a start"
        );
        if done.is_ok() {
            let least = wanted.min(raw_len as usize);
            assert!((least..=raw_len as usize).contains(&start.len()));
        }
        if let Some(whole) = whole.as_ref().filter(|_| done.is_ok()) {
            assert!(whole.starts_with(&start), "the start of the whole");
        }
    }
}

/// Takes contents and counts them: each is as long as its segments promise.
struct Sum;

impl Contents for Sum {
    type Content = u64;
    fn take(
        &mut self,
        _source: &str,
        _path: &EntryPath,
        data: Data<'_>,
    ) -> Result<u64, AssembleError> {
        let promised: u64 = data.segments.iter().map(|(_, len)| len).sum();
        let mut end = 0;
        for (offset, len) in &data.segments {
            assert!(
                *offset >= end && offset + len <= data.size,
                "segments are in order"
            );
            end = offset + len;
        }
        let mut buffer = [0; 4096];
        let mut read = 0;
        loop {
            let part = data.reader.read(&mut buffer);
            let part = part.map_err(|source| AssembleError::Io {
                doing: "cannot read the content".to_owned(),
                source,
            })?;
            match part {
                0 => break,
                count => read += count as u64,
            }
        }
        assert_eq!(
            read, promised,
            "the reader yields what the segments promise"
        );
        Ok(read)
    }
}

const LIMITS: Limits = Limits {
    entries_max: 10_000,
    expanded_len_max: 64 << 20,
};

/// Reading a tar archive: an error, or a tree; contents are read to their end.
pub fn tar_ingest(bytes: &[u8]) {
    let mut tar = Tar::new("fuzz", bytes, LIMITS);
    let excludes = wire::exclude::Excludes::default();
    let below = || Ok(Accounts::default());
    let changes = Reading::Changes;
    if let Ok(assembly) = assemble(&mut tar, changes, &excludes, &mut Sum, &below) {
        let _ = bakery::overlay::standing_alone(assembly);
    }
}

/// Reading an XFS image: an error, or a tree; contents are read to their end.
pub fn xfs_image(bytes: &[u8]) {
    if let Some(image) = image(bytes)
        && let Ok(tree) = Xfs::open(image)
    {
        walk_image(tree);
    }
}

/// Reading a btrfs image: an error, or a tree; contents are read to their end.
pub fn btrfs_image(bytes: &[u8]) {
    if let Some(image) = image(bytes)
        && let Ok(tree) = Btrfs::open(image, None)
    {
        walk_image(tree);
    }
}

fn walk_image(tree: impl FileSystem) {
    let mut source = Walk::new("fuzz", tree, LIMITS);
    let excludes = wire::exclude::Excludes::default();
    let below = || Ok(Accounts::default());
    let _ = assemble(&mut source, Reading::Whole, &excludes, &mut Sum, &below);
}

/// Bytes of a page of an image.
pub const PAGE_LEN: usize = 4096;
/// Most pages of an image.
const PAGES_MAX: u32 = 1 << 16;

/// Images are mostly zeros: the bytes are the number of pages, then each page that is not zeros,
/// after its number.
fn image(bytes: &[u8]) -> Option<Window> {
    let (count, records) = bytes.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count).min(PAGES_MAX);
    let file = tempfile::tempfile().ok()?;
    file.set_len(u64::from(count) * PAGE_LEN as u64).ok()?;
    for record in records.chunks(4 + PAGE_LEN) {
        let (number, page) = record.split_first_chunk::<4>()?;
        let number = u64::from(u32::from_le_bytes(*number) % count.max(1));
        file.write_all_at(page, number * PAGE_LEN as u64).ok()?;
    }
    Window::whole(file).ok()
}

/// Reading the records: a parsed record can be written, and reads the same again.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        let rendered = manifest.render().unwrap_or_default();
        assert_eq!(
            Manifest::parse(&rendered).ok(),
            Some(manifest),
            "it reads the same again"
        );
    }
    if let Ok(head) = Head::parse(bytes) {
        let rendered = head.render().unwrap_or_default();
        assert_eq!(
            Head::parse(&rendered).ok(),
            Some(head),
            "it reads the same again"
        );
    }
    if let Ok(record) = RingRecord::parse(bytes) {
        let rendered = record.render().unwrap_or_default();
        assert_eq!(
            RingRecord::parse(&rendered).ok(),
            Some(record),
            "it reads the same again"
        );
    }
    let _ = Envelope::parse(bytes);
}

/// Reading a batch request: an error, or ranges inside the object that are written the same way.
pub fn batch(bytes: &[u8]) {
    let (object_len, body) = match bytes.split_first_chunk::<8>() {
        Some((len, body)) => (u64::from_le_bytes(*len), body),
        None => (u64::MAX, bytes),
    };
    let Ok(ranges) = wire::batch::decode(body, object_len) else {
        return;
    };
    let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    assert!(total <= wire::limits::BATCH_LEN_MAX, "a bounded answer");
    assert!(
        ranges.iter().all(|range| range.end <= object_len),
        "inside the object"
    );
    assert_eq!(
        wire::batch::encode(ranges).as_deref(),
        Ok(body),
        "it is written the same way"
    );
}

/// Reading a path: refused, or the one spelling of what it names.
pub fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some(object) = wire::paths::ObjectPath::parse(text) {
        assert_eq!(object.to_string(), text, "one spelling");
    }
    if let Some(request) = wire::paths::Request::parse(text) {
        let again = wire::paths::Request::parse(&request.to_string());
        assert_eq!(again, Some(request), "it reads the same again");
    }
}

/// Reading an update pack without the digests that keep mutations out: an error, or a head that is
/// written as it was read; a frame with a prefix decodes to the promised length or not at all.
pub fn update_pack(bytes: &[u8]) {
    let _ = Preamble::decode(bytes);
    let index = Index::empty();
    if let Ok(head) = UpdateHead::from_bytes(bytes) {
        assert_eq!(head.to_bytes(), bytes, "it is written as it was read");
        let count = head.units.len();
        if let Ok(plan) = UpdatePlan::new(head, &index, &index) {
            assert_eq!(plan.len() as usize, count);
        }
    }
    let Some((len, stored)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let frame = IndexFrame {
        stored_len: u32::try_from(stored.len()).unwrap_or(u32::MAX),
        digest: layerfmt::Digest::of(stored),
        raw_len: u64::from(u32::from_le_bytes(*len)),
        raw_digest: layerfmt::Digest::default(),
    };
    let read = layerfmt::update::decode_index(&frame, stored, &index);
    assert!(read.is_err(), "no bytes have the digest zero");
}
