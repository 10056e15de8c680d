//! Every bound on untrusted input, each with its reason. `docs/FORMAT.md` §12 quotes this table
//! and a test compares the two.

/// Longest name of one path component, bytes. Linux' `NAME_MAX`.
pub const NAME_LEN_MAX: usize = 255;
/// Longest symbolic link target, bytes. Linux' `PATH_MAX` without the final NUL.
pub const SYMLINK_LEN_MAX: usize = 4095;
/// Deepest directory nesting: an absolute path of `PATH_MAX` bytes cannot name more than twice this.
pub const DEPTH_MAX: usize = 1024;
/// Most inodes of one layer or merged index: 16 times the largest distribution tree we know (1 M).
pub const INODES_MAX: u32 = 1 << 24;
/// Most directory entries (hard links make more entries than inodes).
pub const DIRENTS_MAX: u32 = 1 << 25;
/// Bound on the number of extents.
pub const EXTENTS_MAX: u32 = 1 << 27;
/// Most chunks: 16 M of 256 KiB are 4 TiB of content.
pub const CHUNKS_MAX: u32 = 1 << 24;
/// Most layers one index may borrow chunks from.
pub const LAYERS_MAX: u32 = 4096;
/// Largest index, bytes before compression. Debian with 43,468 inodes needs 4 MB.
pub const INDEX_LEN_MAX: u64 = 2 << 30;
/// Largest CONTENT section, bytes: a digest per inode and per chunk.
pub const CONTENT_LEN_MAX: u64 = 2 << 30;
/// Largest META section, bytes.
pub const META_LEN_MAX: u64 = 4 << 20;
/// Longest early index, bytes before compression: the share of a stack with a million chunks.
pub const EARLY_INDEX_LEN_MAX: u64 = 64 << 20;
/// Smallest and largest raw length of a chunk, bytes. Bake writes 256 KiB, packs up to 1 MiB.
pub const CHUNK_RAW_LEN_MAX: u32 = 16 << 20;
/// Largest file, bytes: Linux' `MAX_LFS_FILESIZE`.
pub const FILE_LEN_MAX: u64 = i64::MAX as u64;
/// Longest extended attribute name, bytes. Linux' `XATTR_NAME_MAX`.
pub const XATTR_NAME_LEN_MAX: usize = 255;
/// Longest extended attribute value, bytes. Linux' `XATTR_SIZE_MAX`.
pub const XATTR_VALUE_LEN_MAX: usize = 65536;
/// Most attributes of one inode. Linux bounds the list to 64 KiB of names.
pub const XATTRS_PER_INODE_MAX: usize = 4096;
/// Most distinct xattr sets of one index.
pub const XATTR_SETS_MAX: u32 = 1 << 24;
/// Largest zstd window a chunk may ask for, log2 bytes.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Longest signed record of an update pack, bytes: a record of less than 1 KB and its signature.
pub const UPDATE_RECORD_LEN_MAX: u32 = 16 << 10;
/// Longest head of an update pack, bytes, stored or raw: a chunk takes about 50.
pub const UPDATE_HEAD_LEN_MAX: u32 = 64 << 20;
/// Most raw bytes that one unit of an update pack makes: a client holds them, the prefix and the
/// frame at once.
pub const UPDATE_UNIT_LEN_MAX: u32 = 8 << 20;
/// Longest prefix of a unit, bytes.
pub const UPDATE_PREFIX_LEN_MAX: u32 = 16 << 20;
/// Longest raw script of a unit, bytes: a part takes 12.
pub const UPDATE_SCRIPT_LEN_MAX: u32 = 1 << 20;
/// Longest dictionary of LZMA2 that a recipe names, log2 bytes: the encoder takes 12 times as much
/// memory.
pub const UPDATE_DICT_LOG_MAX: u8 = 21;
/// Longest raw form of a zstd frame that a recipe makes again, bytes: the encoder takes 16 times as much
/// memory at the highest levels.
pub const UPDATE_ZSTD_RAW_LEN_MAX: u32 = 2 << 20;
/// Longest old and new INDEX together that an update pack encodes, bytes: zstd's window. A tree of
/// a million files has an INDEX of 95 MB, and is sent whole.
pub const UPDATE_INDEX_WINDOW_LEN_MAX: u64 = 1 << ZSTD_WINDOW_LOG_MAX;
