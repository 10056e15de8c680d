//! Compressed data inside files, and the recipe that makes exactly this data again.
//!
//! An .xz file is a header, blocks and an index; the LZMA2 data of each block is compressed by
//! itself. A .gz file is a header, one deflate stream and a trailer. Everything but the compressed
//! data itself stays as it is. The parameters are not in the file: each likely recipe is tried, and
//! only one that gives the same bytes is used.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use layerfmt::limits;
use layerfmt::update::{PackRecipe, inflate_start, zstd_frame};

/// Compressed data in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Region {
    /// Its position in the file.
    pub(super) place: Range<u64>,
    /// Length of its raw form, bytes.
    pub(super) raw_len: u32,
    /// A recipe that decompresses it; the one that compresses it may have other parameters.
    pub(super) recipe: PackRecipe,
}

const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
const GZIP_MAGIC: &[u8] = b"\x1f\x8b\x08";
const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";
/// Number of first bytes that show if a file may have compressed data.
pub(super) const MAGIC_LEN: usize = 6;

/// True if a file that begins with `first` may have regions.
pub(super) fn may_have_regions(first: &[u8]) -> bool {
    let magics = [XZ_MAGIC, GZIP_MAGIC, ZSTD_MAGIC];
    magics.iter().any(|magic| first.starts_with(magic))
}

/// The compressed data of a file, in order. Omits what cannot be used.
pub(super) fn regions(file: &[u8]) -> Vec<Region> {
    if file.starts_with(XZ_MAGIC) {
        return xz_regions(file);
    }
    let region = match file.starts_with(ZSTD_MAGIC) {
        true => zstd_region(file),
        false => gzip_region(file),
    };
    region.into_iter().collect()
}

/// Length of the header of an xz stream.
const XZ_HEADER_LEN: usize = 12;

fn xz_regions(file: &[u8]) -> Vec<Region> {
    let mut found = Vec::new();
    let check_len = file.get(7).map_or(0, |kind| match kind & 15 {
        0 => 0,
        kind => 4 << ((kind - 1) / 3),
    });
    let mut at = XZ_HEADER_LEN;
    // A byte of zero begins the index.
    while let Some(&size) = file.get(at).filter(|size| **size != 0) {
        let start = at + (usize::from(size) + 1) * 4;
        let Some(end) = lzma2_end(file, start) else {
            break;
        };
        let dict_log = file.get(at..start).and_then(dict_log);
        if let (Some(dict_log), Ok(raw_len)) = (dict_log, u32::try_from(end.raw_len))
            && raw_len <= limits::UPDATE_UNIT_LEN_MAX
        {
            found.push(Region {
                place: start as u64..end.at as u64,
                raw_len,
                recipe: lzma2(6, false, dict_log),
            });
        }
        at = end.at.next_multiple_of(4) + check_len;
    }
    found
}

fn lzma2(preset: u8, is_extreme: bool, dict_log: u8) -> PackRecipe {
    PackRecipe::Lzma2 {
        preset,
        is_extreme,
        dict_log,
    }
}

/// Log2 of the dictionary that the header of a block names, if LZMA2 is its only filter and a
/// recipe can name the dictionary.
fn dict_log(header: &[u8]) -> Option<u8> {
    const SIZES: [u8; 2] = [0x40, 0x80];
    const LZMA2: u64 = 0x21;
    let flags = *header.get(1)?;
    let mut rest = header.get(2..)?;
    if flags & 3 != 0 {
        return None;
    }
    for _ in SIZES.iter().filter(|flag| flags & **flag != 0) {
        number(&mut rest)?;
    }
    if number(&mut rest)? != LZMA2 || number(&mut rest)? != 1 {
        return None;
    }
    let bits = *rest.first()?;
    let log = bits / 2 + 12;
    (bits % 2 == 0 && log <= limits::UPDATE_DICT_LOG_MAX).then_some(log)
}

/// A number of the xz format, taken off `rest`.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

struct Lzma2End {
    at: usize,
    raw_len: u64,
}

/// The end of the LZMA2 data that begins at `at`.
fn lzma2_end(file: &[u8], mut at: usize) -> Option<Lzma2End> {
    let mut raw_len = 0;
    loop {
        let control = *file.get(at)?;
        let two = |at: usize| {
            let bytes: [u8; 2] = file.get(at..at + 2)?.try_into().ok()?;
            Some(usize::from(u16::from_be_bytes(bytes)))
        };
        match control {
            0 => {
                return Some(Lzma2End {
                    at: at + 1,
                    raw_len,
                });
            }
            1 | 2 => {
                let len = two(at + 1)? + 1;
                raw_len += len as u64;
                at += 3 + len;
            }
            0x80.. => {
                raw_len += ((usize::from(control & 0x1f) << 16) + two(at + 1)? + 1) as u64;
                let properties = usize::from(control >= 0xc0);
                at += 5 + properties + two(at + 3)? + 1;
            }
            _ => return None,
        }
    }
}

fn gzip_region(file: &[u8]) -> Option<Region> {
    const HEADER_CHECK: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    if !file.starts_with(GZIP_MAGIC) {
        return None;
    }
    let flags = *file.get(3)?;
    let mut at = 10;
    if flags & EXTRA != 0 {
        let len: [u8; 2] = file.get(at..at + 2)?.try_into().ok()?;
        at += 2 + usize::from(u16::from_le_bytes(len));
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            at += file.get(at..)?.iter().position(|byte| *byte == 0)? + 1;
        }
    }
    if flags & HEADER_CHECK != 0 {
        at += 2;
    }
    // The trailer has the length of the last member: room for one member only.
    let trailer: [u8; 4] = file.get(file.len().checked_sub(4)?..)?.try_into().ok()?;
    let raw_len = u32::from_le_bytes(trailer);
    if raw_len > limits::UPDATE_UNIT_LEN_MAX {
        return None;
    }
    let (raw, len) = inflate_start(file.get(at..)?, raw_len as usize)?;
    (raw.len() == raw_len as usize).then_some(Region {
        place: at as u64..(at + len) as u64,
        raw_len,
        recipe: PackRecipe::Deflate {
            level: 9,
            mem_level: 9,
        },
    })
}

/// The frame of a file that has no other.
fn zstd_region(file: &[u8]) -> Option<Region> {
    let recipe = zstd(19, false);
    let (len, raw_len) = zstd_frame(file)?;
    let raw_len = u32::try_from(raw_len).ok()?;
    let is_usable = len == file.len() && raw_len <= recipe.raw_len_max();
    is_usable.then_some(Region {
        place: 0..len as u64,
        raw_len,
        recipe,
    })
}

fn zstd(level: u8, is_job: bool) -> PackRecipe {
    PackRecipe::Zstd { level, is_job }
}

/// The levels of kernel modules and of firmware, and that of the program without an option. The program
/// compresses more than 512 KiB on worker threads.
fn zstd_candidates(raw_len: u32) -> [PackRecipe; 8] {
    const THREADED_LEN_MIN: u32 = 512 << 10;
    let is_job = raw_len > THREADED_LEN_MIN;
    let (likely, other) = (is_job, !is_job);
    let at = |is_job| move |level| zstd(level, is_job);
    let [a, b, c, d] = [19, 3, 22, 9].map(at(likely));
    let [e, f, g, h] = [19, 3, 22, 9].map(at(other));
    [a, b, c, d, e, f, g, h]
}

/// After so many failures without a success, a kind of recipe is not tried any more. LZMA2 and zstd are slow.
const LZMA2_FAILURES_MAX: u32 = 12;
const ZSTD_FAILURES_MAX: u32 = 12;
const DEFLATE_FAILURES_MAX: u32 = 500;

/// The results of recipes so far. Trying costs as much as compressing.
#[derive(Debug, Default)]
pub(super) struct Trials {
    lzma2: RecipeTrials,
    deflate: RecipeTrials,
    zstd: RecipeTrials,
}

/// The results of one kind of recipe.
#[derive(Debug, Default)]
struct RecipeTrials {
    /// Failures since the last success.
    failures: AtomicU32,
    /// Number of the candidate that succeeded last: files of one package are compressed alike.
    last: AtomicUsize,
}

/// A region that can be remade: its raw form and the recipe.
pub(super) struct Proved {
    pub(super) raw: Vec<u8>,
    pub(super) recipe: PackRecipe,
}

impl Trials {
    /// The recipe that makes exactly `packed`; it was tried.
    pub(super) fn prove(&self, packed: &[u8], raw_len: u32, recipe: PackRecipe) -> Option<Proved> {
        let (kind, failures_max, candidates): (_, _, &[PackRecipe]) = match recipe {
            PackRecipe::Plain => return None,
            PackRecipe::Lzma2 { dict_log, .. } => (
                &self.lzma2,
                LZMA2_FAILURES_MAX,
                &[(6, false), (9, false), (6, true), (9, true)]
                    .map(|(preset, is_extreme)| lzma2(preset, is_extreme, dict_log)),
            ),
            PackRecipe::Deflate { .. } => (
                &self.deflate,
                DEFLATE_FAILURES_MAX,
                &[(9, 9), (9, 8), (6, 9), (6, 8)]
                    .map(|(level, mem_level)| PackRecipe::Deflate { level, mem_level }),
            ),
            PackRecipe::Zstd { .. } => (&self.zstd, ZSTD_FAILURES_MAX, &zstd_candidates(raw_len)),
        };
        if kind.failures.load(Ordering::Relaxed) >= failures_max {
            return None;
        }
        let raw = recipe.unpack(packed, raw_len as usize)?;
        let recipe = kind.first_exact(candidates, &raw, packed)?;
        Some(Proved { raw, recipe })
    }
}

impl RecipeTrials {
    /// The first of the candidates that makes exactly `packed`, begun with the one that did so last.
    fn first_exact(
        &self,
        candidates: &[PackRecipe],
        raw: &[u8],
        packed: &[u8],
    ) -> Option<PackRecipe> {
        let last = self.last.load(Ordering::Relaxed);
        let others = (0..candidates.len()).filter(|at| *at != last);
        let exact = |at: &usize| {
            let recipe = candidates.get(*at);
            recipe.is_some_and(|recipe| recipe.makes(raw, packed))
        };
        let Some(found) = std::iter::once(last).chain(others).find(exact) else {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        // Others of this kind fail one by one, and are tried.
        self.failures.store(0, Ordering::Relaxed);
        self.last.store(found, Ordering::Relaxed);
        candidates.get(found).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn compressed(program: &str, arguments: &[&str], raw: &[u8]) -> Vec<u8> {
        use std::io::Write as _;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let raw = raw.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&raw).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    fn text() -> Vec<u8> {
        (0..60_000u64)
            .flat_map(|i| format!("{} {}\n", i * i % 977, i / 3).into_bytes())
            .collect()
    }

    /// Files of the real programs are remade, as the kernel's build and `dh_compress` call them.
    #[test]
    fn files_of_xz_and_gzip_are_remade() {
        let raw = text();
        let xz: [&[&str]; 3] = [
            &["--check=crc32", "--lzma2=dict=1MiB", "-T1"],
            &[
                "--check=crc32",
                "--lzma2=dict=64KiB",
                "-T2",
                "--block-size=200KiB",
            ],
            &["--check=sha256", "--lzma2=preset=9,dict=1MiB", "-T1"],
        ];
        for arguments in xz {
            let file = compressed("xz", arguments, &raw);
            let found = regions(&file);
            assert!(!found.is_empty(), "{arguments:?}");
            let mut whole = Vec::new();
            for region in found {
                let place = region.place.start as usize..region.place.end as usize;
                let packed = &file[place];
                let trials = Trials::default();
                let proved = trials.prove(packed, region.raw_len, region.recipe).unwrap();
                assert_eq!(
                    proved.recipe.pack(&proved.raw, packed.len()).unwrap(),
                    packed
                );
                whole.extend(proved.raw);
            }
            assert_eq!(whole, raw, "{arguments:?}");
        }
        // Below the length at which the program ends blocks early by its own rule.
        let file = compressed("gzip", &["-9n"], &raw[..20_000]);
        let [region] = &regions(&file)[..] else {
            panic!("no region");
        };
        let packed = &file[region.place.start as usize..region.place.end as usize];
        let proved = Trials::default().prove(packed, region.raw_len, region.recipe);
        assert_eq!(proved.unwrap().raw, raw[..20_000]);
    }

    /// The program's own kinds: one thread, or worker threads for longer files; other frames have no recipe.
    #[test]
    fn files_of_zstd_are_remade() {
        let raw = text().repeat(2);
        let prove = |packed: &[u8]| {
            let [region] = &regions(packed)[..] else {
                panic!("no region");
            };
            assert_eq!(region.place, 0..packed.len() as u64);
            Trials::default().prove(packed, region.raw_len, region.recipe)
        };
        for (level, is_job, len) in [
            (19, false, 100_000),
            (3, true, 900_000),
            (3, false, 900_000),
        ] {
            let recipe = zstd(level, is_job);
            let packed = recipe.pack(&raw[..len], len).unwrap();
            let proved = prove(&packed).unwrap();
            assert_eq!(proved.raw, raw[..len]);
            assert_eq!(
                proved.recipe.pack(&proved.raw, packed.len()).unwrap(),
                packed
            );
        }
        // The library's one call makes no checksum.
        assert!(prove(&zstd::bulk::compress(&raw[..5_000], 19).unwrap()).is_none());
        // Two frames, a cut one, and a long one.
        let packed = zstd(3, false).pack(&raw[..5_000], 5_000).unwrap();
        assert_eq!(regions(&packed.repeat(2)), []);
        for len in 0..packed.len() {
            assert_eq!(regions(&packed[..len]), [], "{len}");
        }
        let long = raw.repeat(3);
        assert!(long.len() > limits::UPDATE_ZSTD_RAW_LEN_MAX as usize);
        assert_eq!(regions(&zstd(3, true).pack(&long, long.len()).unwrap()), []);
    }

    /// A large dictionary, several filters, and damage at any byte: no region, and never a panic.
    #[test]
    fn other_files_have_no_region() {
        let raw = text();
        for arguments in [&["-6"][..], &["--x86", "--lzma2=dict=1MiB"]] {
            assert_eq!(regions(&compressed("xz", arguments, &raw)), []);
        }
        let file = compressed("xz", &["--lzma2=dict=64KiB"], &raw[..5_000]);
        for len in 0..file.len() {
            regions(&file[..len]);
            let mut damaged = file.clone();
            damaged[len] ^= 0x55;
            regions(&damaged);
        }
        let file = compressed("gzip", &["-9"], &raw[..5_000]);
        for len in 0..file.len() {
            assert_eq!(regions(&file[..len]), [], "{len}");
        }
    }

    #[test]
    fn a_kind_that_only_fails_is_given_up() {
        let trials = Trials::default();
        let raw = text().split_off(550_000);
        let recipe = PackRecipe::Deflate {
            level: 1,
            mem_level: 1,
        };
        let packed = recipe.pack(&raw, raw.len()).unwrap();
        for _ in 0..DEFLATE_FAILURES_MAX {
            assert!(trials.prove(&packed, raw.len() as u32, recipe).is_none());
        }
        let recipe = PackRecipe::Deflate {
            level: 9,
            mem_level: 9,
        };
        let packed = recipe.pack(&raw, raw.len()).unwrap();
        assert!(trials.prove(&packed, raw.len() as u32, recipe).is_none());
        assert!(
            Trials::default()
                .prove(&packed, raw.len() as u32, recipe)
                .is_some()
        );
    }

    /// Files of one package are compressed alike: the recipe of the last one is tried first.
    #[test]
    fn the_recipe_of_the_last_success_is_tried_first() {
        let raw = text().split_off(550_000);
        let trials = Trials::default();
        // Presets 6 and 9 differ only in larger files.
        for (preset, is_extreme, last) in [(6, true, 2), (6, false, 0), (6, true, 2)] {
            let recipe = lzma2(preset, is_extreme, 20);
            let packed = recipe.pack(&raw, raw.len()).unwrap();
            let proved = trials.prove(&packed, raw.len() as u32, recipe).unwrap();
            assert_eq!(proved.recipe, recipe);
            assert_eq!(trials.lzma2.last.load(Ordering::Relaxed), last);
        }
        let other = lzma2(1, false, 20);
        let packed = other.pack(&raw, raw.len()).unwrap();
        assert!(trials.prove(&packed, raw.len() as u32, other).is_none());
        assert_eq!(trials.lzma2.failures.load(Ordering::Relaxed), 1);
    }
}
