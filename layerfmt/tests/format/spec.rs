//! `docs/FORMAT.md` against the code: tables, limits, the worked example.

use std::path::Path;

use layerfmt::layout::{chunk, columns, superblock};
use layerfmt::{Layer, limits};

fn spec() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
    std::fs::read_to_string(path).unwrap()
}

/// The cells of all table rows between two headings.
fn rows(from: &str, to: &str) -> Vec<Vec<String>> {
    let spec = spec();
    let start = spec.find(from).unwrap_or_else(|| panic!("no {from}"));
    let end = spec[start..].find(to).unwrap_or_else(|| panic!("no {to}")) + start;
    let cells = |line: &str| {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect::<Vec<_>>()
    };
    spec[start..end]
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|--"))
        .map(cells)
        .collect()
}

#[test]
fn limits_are_the_documented_ones() {
    let have = [
        ("NAME_LEN_MAX", limits::NAME_LEN_MAX as u64),
        ("SYMLINK_LEN_MAX", limits::SYMLINK_LEN_MAX as u64),
        ("DEPTH_MAX", limits::DEPTH_MAX as u64),
        ("INODES_MAX", limits::INODES_MAX.into()),
        ("DIRENTS_MAX", limits::DIRENTS_MAX.into()),
        ("EXTENTS_MAX", limits::EXTENTS_MAX.into()),
        ("CHUNKS_MAX", limits::CHUNKS_MAX.into()),
        ("LAYERS_MAX", limits::LAYERS_MAX.into()),
        ("INDEX_LEN_MAX", limits::INDEX_LEN_MAX),
        ("CONTENT_LEN_MAX", limits::CONTENT_LEN_MAX),
        ("META_LEN_MAX", limits::META_LEN_MAX),
        ("EARLY_INDEX_LEN_MAX", limits::EARLY_INDEX_LEN_MAX),
        ("CHUNK_RAW_LEN_MAX", limits::CHUNK_RAW_LEN_MAX.into()),
        ("FILE_LEN_MAX", limits::FILE_LEN_MAX),
        ("XATTR_NAME_LEN_MAX", limits::XATTR_NAME_LEN_MAX as u64),
        ("XATTR_VALUE_LEN_MAX", limits::XATTR_VALUE_LEN_MAX as u64),
        ("XATTRS_PER_INODE_MAX", limits::XATTRS_PER_INODE_MAX as u64),
        ("XATTR_SETS_MAX", limits::XATTR_SETS_MAX.into()),
        (
            "UPDATE_RECORD_LEN_MAX",
            limits::UPDATE_RECORD_LEN_MAX.into(),
        ),
        ("UPDATE_HEAD_LEN_MAX", limits::UPDATE_HEAD_LEN_MAX.into()),
        ("UPDATE_UNIT_LEN_MAX", limits::UPDATE_UNIT_LEN_MAX.into()),
        (
            "UPDATE_PREFIX_LEN_MAX",
            limits::UPDATE_PREFIX_LEN_MAX.into(),
        ),
        (
            "UPDATE_SCRIPT_LEN_MAX",
            limits::UPDATE_SCRIPT_LEN_MAX.into(),
        ),
        ("UPDATE_DICT_LOG_MAX", limits::UPDATE_DICT_LOG_MAX.into()),
        (
            "UPDATE_ZSTD_RAW_LEN_MAX",
            limits::UPDATE_ZSTD_RAW_LEN_MAX.into(),
        ),
        (
            "UPDATE_INDEX_WINDOW_LEN_MAX",
            limits::UPDATE_INDEX_WINDOW_LEN_MAX,
        ),
    ];
    let rows = rows("## 12 Limits", "## 13");
    assert_eq!(rows.len() - 1, have.len());
    for ((name, value), row) in have.iter().zip(&rows[1..]) {
        assert_eq!(
            (name.to_string(), value.to_string()),
            (row[0].clone(), row[1].clone())
        );
    }
}

#[test]
fn superblock_fields_are_the_documented_ones() {
    let rows = rows("## 5 Superblock", "## 6 Sections");
    let at = |name: &str| {
        let row = rows.iter().find(|row| row[2] == name).unwrap();
        row[0].parse::<usize>().unwrap()
    };
    assert_eq!(at("section table"), superblock::SECTION_TABLE_OFFSET);
    assert_eq!(at("self_digest"), superblock::SELF_DIGEST_OFFSET);
    assert_eq!(at("self_digest") + 32, superblock::SUPERBLOCK_LEN);
    let mut end = 0;
    for row in &rows[1..] {
        assert_eq!(row[0].parse::<usize>().unwrap(), end, "{row:?}");
        end += row[1].parse::<usize>().unwrap();
    }
    assert_eq!(end, superblock::SUPERBLOCK_LEN);
    assert_eq!(superblock::SECTIONS * superblock::SECTION_ROW_LEN, 512);
    let magic = superblock::MAGIC.map(|b| format!("{b:02x}")).join(" ");
    assert!(rows.iter().any(|row| row[3] == format!("`{magic}`")));
    for id in superblock::SectionId::ALL {
        assert!(spec().contains(&format!("{} {}", id.code(), id.name())));
    }
    for (codec, text) in [
        (chunk::Codec::Stored, "0 stored"),
        (chunk::Codec::Zstd, "1 zstd"),
        (chunk::Codec::ZstdX86, "2 zstd"),
    ] {
        assert!(spec().contains(text), "{codec:?}");
        assert!(text.starts_with(&codec.code().to_string()));
    }
}

#[test]
fn columns_are_the_documented_ones() {
    use columns::Column::*;
    let have = [
        InodeMode,
        InodeUid,
        InodeGid,
        InodeSizeLow,
        InodeSizeHigh,
        InodeMtimeLow,
        InodeMtimeHigh,
        InodeMtimeNsec,
        InodeNlink,
        InodeFirst,
        InodeCount,
        InodeXattrs,
        DirentNameEnd,
        DirentInode,
        ExtentFileLow,
        ExtentFileHigh,
        ExtentChunk,
        ExtentChunkOffset,
        ExtentLen,
        ChunkSource,
        ChunkOffsetLow,
        ChunkOffsetHigh,
        ChunkStoredLen,
        ChunkRawLen,
        ChunkCodec,
        LayerLenLow,
        LayerLenHigh,
        XattrSetEnd,
        XattrPairName,
        XattrPairValueEnd,
        XattrNameEnd,
    ];
    assert_eq!(have.len(), columns::COLUMNS);
    let rows = rows(
        "Each table is stored column by column",
        "Then the byte areas",
    );
    let documented: Vec<&str> = rows[1..].iter().map(|row| row[0].as_str()).collect();
    let names: Vec<String> = have.iter().map(|column| format!("{column:?}")).collect();
    assert_eq!(documented, names);
    // In file order, without gaps.
    let counts = columns::Counts {
        inodes: 3,
        dirents: 5,
        extents: 7,
        chunks: 11,
        layers: 13,
        xattr_sets: 17,
        xattr_pairs: 19,
        xattr_names: 23,
        ..Default::default()
    };
    let layout = columns::Columns::new(counts);
    let mut at = columns::HEADER_LEN;
    for column in have {
        assert_eq!(layout.start(column), at, "{column:?}");
        at += layout.rows(column) as usize * 4;
    }
}

/// The listed bytes of a code block, by offset.
fn listing(tag: &str) -> Vec<(usize, Vec<u8>)> {
    let spec = spec();
    let start = spec.find(&format!("```{tag}\n")).unwrap() + tag.len() + 4;
    let end = spec[start..].find("```").unwrap() + start;
    let line = |line: &str| {
        let (offset, rest) = line.split_once(": ").unwrap();
        let bytes = rest
            .split(';')
            .next()
            .unwrap()
            .split_whitespace()
            .map(|word| u8::from_str_radix(word, 16).unwrap())
            .collect();
        (usize::from_str_radix(offset, 16).unwrap(), bytes)
    };
    spec[start..end].lines().map(line).collect()
}

#[test]
fn the_worked_example_is_the_golden_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v1/smallest.layer");
    let file = std::fs::read(&path).unwrap();
    let mut unlisted = vec![true; file.len()];
    for (offset, bytes) in listing("hex") {
        assert_eq!(&file[offset..offset + bytes.len()], bytes, "at {offset:#x}");
        unlisted[offset..offset + bytes.len()].fill(false);
    }
    let superblock = unlisted[..superblock::SUPERBLOCK_LEN].iter().zip(&file);
    assert!(
        superblock
            .filter(|(unlisted, _)| **unlisted)
            .all(|(_, byte)| *byte == 0)
    );

    let layer = Layer::open(&path).unwrap();
    let raw = layer.index().raw();
    let mut next = 0;
    for (offset, bytes) in listing("index") {
        assert_eq!(offset, next);
        assert_eq!(&raw[offset..offset + bytes.len()], bytes, "at {offset:#x}");
        next += bytes.len();
    }
    assert_eq!(next, raw.len());
    let today = tempfile::tempdir().unwrap();
    let (again, _) = crate::arbitrary::bake(
        &crate::golden::smallest_tree(),
        None,
        1,
        &today.path().join("s"),
    );
    assert_eq!(again.index().raw(), raw);
}

#[test]
fn the_worked_example_of_an_update_pack_is_the_golden_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v1/smallest.update");
    let file = std::fs::read(&path).unwrap();
    let mut next = 0;
    for (offset, bytes) in listing("update") {
        assert_eq!(offset, next);
        assert_eq!(&file[offset..offset + bytes.len()], bytes, "at {offset:#x}");
        next += bytes.len();
    }
    assert_eq!(next, file.len());
}

#[test]
fn the_head_of_an_update_pack_has_the_documented_header() {
    let rows = rows(
        "The raw head begins with a header",
        "The tables follow the header",
    );
    let mut end = 0;
    for row in &rows[1..] {
        assert_eq!(row[0].parse::<usize>().unwrap(), end, "{row:?}");
        end += row[1].parse::<usize>().unwrap();
    }
    assert_eq!(end, layerfmt::update::HEADER_LEN);
}
