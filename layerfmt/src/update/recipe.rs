//! Recipes: they compress the raw form of data to exactly its compressed form again. The result
//! depends on the library that compresses. Therefore a writer tries a recipe before it uses it, and
//! a reader verifies the result. Without the feature `remake` no recipe works.

use crate::limits;

/// The way to compress data again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackRecipe {
    /// The data is not compressed.
    Plain,
    /// The LZMA2 data of one block of an .xz file.
    Lzma2 {
        /// Preset of liblzma, 0 to 9.
        preset: u8,
        /// The slower form of the preset.
        is_extreme: bool,
        /// Log2 of the dictionary's length.
        dict_log: u8,
    },
    /// A raw deflate stream: the data of a .gz file.
    Deflate {
        /// Level of zlib, 1 to 9.
        level: u8,
        /// Memory level of zlib, 1 to 9.
        mem_level: u8,
    },
    /// A zstd frame with its content size and a checksum, which is a .zst file. Its raw form has at most
    /// [`limits::UPDATE_ZSTD_RAW_LEN_MAX`] bytes.
    Zstd {
        /// Level of zstd, 1 to 22.
        level: u8,
        /// As a worker thread of zstd compresses a job; otherwise as a stream.
        is_job: bool,
    },
}

const KIND_PLAIN: u8 = 0;
const KIND_LZMA2: u8 = 1;
const KIND_DEFLATE: u8 = 2;
const KIND_ZSTD: u8 = 3;
/// Shortest dictionary of LZMA2, log2.
const DICT_LOG_MIN: u8 = 12;

impl PackRecipe {
    /// The recipe as one word of a script.
    pub fn to_word(self) -> u32 {
        u32::from_le_bytes(match self {
            PackRecipe::Plain => [KIND_PLAIN, 0, 0, 0],
            PackRecipe::Lzma2 {
                preset,
                is_extreme,
                dict_log,
            } => [KIND_LZMA2, preset, dict_log, u8::from(is_extreme)],
            PackRecipe::Deflate { level, mem_level } => [KIND_DEFLATE, level, mem_level, 0],
            PackRecipe::Zstd { level, is_job } => [KIND_ZSTD, level, u8::from(is_job), 0],
        })
    }

    /// The recipe of a word; `None` if it breaks a rule of `docs/FORMAT.md` §18.
    pub fn from_word(word: u32) -> Option<PackRecipe> {
        match word.to_le_bytes() {
            [KIND_PLAIN, 0, 0, 0] => Some(PackRecipe::Plain),
            [
                KIND_LZMA2,
                preset @ 0..=9,
                dict_log @ DICT_LOG_MIN..=limits::UPDATE_DICT_LOG_MAX,
                extreme @ 0..=1,
            ] => Some(PackRecipe::Lzma2 {
                preset,
                is_extreme: extreme == 1,
                dict_log,
            }),
            [KIND_DEFLATE, level @ 1..=9, mem_level @ 1..=9, 0] => {
                Some(PackRecipe::Deflate { level, mem_level })
            }
            [KIND_ZSTD, level @ 1..=22, job @ 0..=1, 0] => Some(PackRecipe::Zstd {
                level,
                is_job: job == 1,
            }),
            _ => None,
        }
    }

    /// Longest raw form that it may have, bytes.
    pub fn raw_len_max(self) -> u32 {
        match self {
            PackRecipe::Zstd { .. } => limits::UPDATE_ZSTD_RAW_LEN_MAX,
            _ => limits::UPDATE_PREFIX_LEN_MAX,
        }
    }

    /// Compresses `raw`; `None` if the result is longer than `len_max`.
    pub fn pack(self, raw: &[u8], len_max: usize) -> Option<Vec<u8>> {
        let packed = match self {
            PackRecipe::Plain => raw.to_vec(),
            PackRecipe::Lzma2 { .. } => coders::pack_lzma2(self, raw, len_max)?,
            PackRecipe::Deflate { level, mem_level } => {
                coders::pack_deflate(raw, level.into(), mem_level.into(), len_max)?
            }
            PackRecipe::Zstd { level, is_job } => match is_job {
                false => coders::pack_zstd(raw, level.into(), len_max)?,
                true => coders::pack_zstd_job(raw, level.into())?,
            },
        };
        (packed.len() <= len_max).then_some(packed)
    }

    /// True if compressing `raw` gives exactly `packed`. Stops at the first difference.
    pub fn makes(self, raw: &[u8], packed: &[u8]) -> bool {
        match self {
            PackRecipe::Lzma2 { .. } => coders::makes_lzma2(self, raw, packed).unwrap_or(false),
            _ => self.pack(raw, packed.len()).is_some_and(|it| it == packed),
        }
    }

    /// Decompresses `packed`, which is one whole stream, to exactly `raw_len` bytes.
    pub fn unpack(self, packed: &[u8], raw_len: usize) -> Option<Vec<u8>> {
        let raw = match self {
            PackRecipe::Plain => packed.to_vec(),
            PackRecipe::Lzma2 { .. } => coders::unpack_lzma2(self, packed, raw_len)?,
            PackRecipe::Deflate { .. } => {
                let (raw, read) = coders::unpack_deflate(packed, raw_len)?;
                (read == packed.len()).then_some(raw)?
            }
            PackRecipe::Zstd { .. } => coders::unpack_zstd(packed, raw_len)?,
        };
        (raw.len() == raw_len).then_some(raw)
    }
}

/// Decompresses the deflate stream at the start of `packed` to at most `raw_len_max` bytes; also
/// returns the length of the stream.
pub fn inflate_start(packed: &[u8], raw_len_max: usize) -> Option<(Vec<u8>, usize)> {
    coders::unpack_deflate(packed, raw_len_max)
}

/// The length of the zstd frame at the start of `packed`, and of its raw form, if the frame names it.
pub fn zstd_frame(packed: &[u8]) -> Option<(usize, u64)> {
    let len = zstd::zstd_safe::find_frame_compressed_size(packed).ok()?;
    let raw_len = zstd::zstd_safe::get_frame_content_size(packed).ok()??;
    Some((len, raw_len))
}

#[cfg(feature = "remake")]
mod coders {
    use liblzma::stream::{Action, Filters, LzmaOptions, PRESET_EXTREME, Status, Stream};
    use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
    use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

    use super::PackRecipe;
    use crate::codec::decode_frame;
    pub(super) use crate::update::sys::deflate_raw as pack_deflate;
    pub(super) use crate::update::sys::inflate_raw as unpack_deflate;
    pub(super) use crate::update::sys::zstd_job as pack_zstd_job;

    fn filters(recipe: PackRecipe) -> Option<Filters> {
        let PackRecipe::Lzma2 {
            preset,
            is_extreme,
            dict_log,
        } = recipe
        else {
            return None;
        };
        let extreme = if is_extreme { PRESET_EXTREME } else { 0 };
        let mut options = LzmaOptions::new_preset(u32::from(preset) | extreme).ok()?;
        options.dict_size(1 << dict_log);
        let mut filters = Filters::new();
        filters.lzma2(&options);
        Some(filters)
    }

    fn run(mut stream: Stream, input: &[u8], len_max: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        out.try_reserve_exact(len_max).ok()?;
        let status = stream.process_vec(input, &mut out, Action::Finish).ok()?;
        let whole = status == Status::StreamEnd && stream.total_in() == input.len() as u64;
        whole.then_some(out)
    }

    pub(super) fn pack_lzma2(recipe: PackRecipe, raw: &[u8], len_max: usize) -> Option<Vec<u8>> {
        run(
            Stream::new_raw_encoder(&filters(recipe)?).ok()?,
            raw,
            len_max,
        )
    }

    /// Bytes that are compared at a time: LZMA2 has about as many in a chunk.
    const COMPARED_LEN: usize = 64 << 10;

    pub(super) fn makes_lzma2(recipe: PackRecipe, raw: &[u8], packed: &[u8]) -> Option<bool> {
        let mut stream = Stream::new_raw_encoder(&filters(recipe)?).ok()?;
        let mut made = vec![0; COMPARED_LEN];
        let place = |count: u64| usize::try_from(count).ok();
        loop {
            let (read, at) = (place(stream.total_in())?, place(stream.total_out())?);
            let status = stream.process(raw.get(read..)?, &mut made, Action::Finish);
            let end = place(stream.total_out())?;
            if packed.get(at..end)? != made.get(..end - at)? {
                return Some(false);
            }
            match status.ok()? {
                Status::StreamEnd => {
                    return Some(end == packed.len() && place(stream.total_in())? == raw.len());
                }
                _ if end == at && place(stream.total_in())? == read => return Some(false),
                _ => {}
            }
        }
    }

    pub(super) fn unpack_lzma2(
        recipe: PackRecipe,
        packed: &[u8],
        raw_len: usize,
    ) -> Option<Vec<u8>> {
        let stream = Stream::new_raw_decoder(&filters(recipe)?).ok()?;
        run(stream, packed, raw_len)
    }

    /// Length of the pieces in which the `zstd` program reads a file: the ends of its blocks depend on it.
    const PIECE_LEN: usize = 128 << 10;

    pub(super) fn pack_zstd(raw: &[u8], level: i32, len_max: usize) -> Option<Vec<u8>> {
        let mut context = CCtx::create();
        let parameters = [
            CParameter::CompressionLevel(level),
            CParameter::ChecksumFlag(true),
            CParameter::ContentSizeFlag(true),
        ];
        for parameter in parameters {
            context.set_parameter(parameter).ok()?;
        }
        context.set_pledged_src_size(Some(raw.len() as u64)).ok()?;
        let mut packed = Vec::new();
        packed.try_reserve_exact(len_max).ok()?;
        let mut out = OutBuffer::around(&mut packed);
        let (mut rest, mut is_last) = (raw, false);
        while !is_last {
            let (piece, after) = rest.split_at(rest.len().min(PIECE_LEN));
            rest = after;
            is_last = rest.is_empty();
            let step = match is_last {
                true => ZSTD_EndDirective::ZSTD_e_end,
                false => ZSTD_EndDirective::ZSTD_e_continue,
            };
            let mut input = InBuffer::around(piece);
            loop {
                let before = (input.pos, out.pos());
                let more = context.compress_stream2(&mut out, &mut input, step).ok()?;
                let is_read = input.pos == piece.len();
                if is_read && (more == 0 || !is_last) {
                    break;
                }
                // The rest does not fit.
                if before == (input.pos, out.pos()) {
                    return None;
                }
            }
        }
        Some(packed)
    }

    pub(super) fn unpack_zstd(packed: &[u8], raw_len: usize) -> Option<Vec<u8>> {
        let (len, promised) = super::zstd_frame(packed)?;
        if len != packed.len() || promised != raw_len as u64 {
            return None;
        }
        decode_frame(packed, raw_len).ok()
    }
}

#[cfg(not(feature = "remake"))]
mod coders {
    use super::PackRecipe;

    pub(super) fn pack_lzma2(_: PackRecipe, _: &[u8], _: usize) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn makes_lzma2(_: PackRecipe, _: &[u8], _: &[u8]) -> Option<bool> {
        None
    }

    pub(super) fn unpack_lzma2(_: PackRecipe, _: &[u8], _: usize) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn pack_deflate(_: &[u8], _: i32, _: i32, _: usize) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn pack_zstd(_: &[u8], _: i32, _: usize) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn pack_zstd_job(_: &[u8], _: i32) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn unpack_zstd(_: &[u8], _: usize) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn unpack_deflate(_: &[u8], _: usize) -> Option<(Vec<u8>, usize)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_and_others_refused() {
        let recipes = [
            PackRecipe::Plain,
            PackRecipe::Lzma2 {
                preset: 6,
                is_extreme: true,
                dict_log: 20,
            },
            PackRecipe::Deflate {
                level: 9,
                mem_level: 9,
            },
            PackRecipe::Zstd {
                level: 22,
                is_job: true,
            },
        ];
        for recipe in recipes {
            assert_eq!(PackRecipe::from_word(recipe.to_word()), Some(recipe));
        }
        let too_much = u32::from_le_bytes([1, 6, limits::UPDATE_DICT_LOG_MAX + 1, 0]);
        let zstd = [3, 0x1703, 0x02_1303, 0x0100_1303];
        let others = [4, 0x100, 0x0a01, too_much, 0x0002, 0x0a_0902, 0x0100_0902];
        for word in others.into_iter().chain(zstd) {
            assert_eq!(PackRecipe::from_word(word), None, "{word:#x}");
        }
    }

    #[cfg(feature = "remake")]
    #[test]
    fn packed_data_is_unpacked_and_lengths_are_bounds() {
        let raw: Vec<u8> = (0..100_000u32)
            .flat_map(|i| (i / 7).to_le_bytes())
            .collect();
        for recipe in [
            PackRecipe::Lzma2 {
                preset: 6,
                is_extreme: false,
                dict_log: 20,
            },
            PackRecipe::Deflate {
                level: 9,
                mem_level: 9,
            },
            PackRecipe::Zstd {
                level: 19,
                is_job: false,
            },
            PackRecipe::Zstd {
                level: 3,
                is_job: true,
            },
        ] {
            let packed = recipe.pack(&raw, raw.len()).unwrap();
            assert!(packed.len() * 2 < raw.len());
            assert_eq!(recipe.unpack(&packed, raw.len()).unwrap(), raw);
            assert_eq!(recipe.unpack(&packed, raw.len() - 1), None);
            assert_eq!(recipe.unpack(&packed, raw.len() + 1), None);
            assert_eq!(recipe.pack(&raw, packed.len() - 1), None);
            assert!(recipe.makes(&raw, &packed));
            assert!(!recipe.makes(&raw[1..], &packed));
            assert!(!recipe.makes(&raw, &packed[..packed.len() - 1]));
            let mut more = packed.clone();
            more.push(0);
            assert!(!recipe.makes(&raw, &more));
            assert_eq!(recipe.unpack(&more, raw.len()), None);
            more.truncate(packed.len() - 1);
            assert_eq!(recipe.unpack(&more, raw.len()), None);
        }
    }
}
