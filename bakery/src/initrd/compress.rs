//! Compression of archives in a form that the kernel reads.

use std::io::Read as _;

use liblzma::stream::{Check, Filters, LzmaOptions, PRESET_EXTREME, Stream};

use super::error::Result;
use crate::failed::Doing as _;

/// Level of zstd for kernels that do not read xz.
const ZSTD_LEVEL: i32 = 19;
const XZ_PRESET: u32 = 9 | PRESET_EXTREME;
/// The kernel allocates the dictionary while it starts.
const XZ_DICTIONARY_MAX: u32 = 8 << 20;
const XZ_DICTIONARY_MIN: u32 = 64 << 10;

/// A form of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// The archives stay uncompressed.
    None,
    /// zstd with this level.
    Zstd(i32),
    /// xz. For programs, with the x86 filter if the kernel has it.
    Xz {
        /// True if the kernel has the x86 filter.
        x86: bool,
    },
}

impl Compression {
    /// The form for a kernel with this configuration (empty: unknown); `level` asks for zstd, or, if it
    /// is 0, for none.
    #[must_use]
    pub(crate) fn of_kernel(config: &str, level: Option<i32>) -> Self {
        let has = |option: &str| {
            config
                .lines()
                .any(|line| line.strip_suffix("=y") == Some(option))
        };
        match level {
            Some(0) => Self::None,
            Some(level) => Self::Zstd(level),
            None if has("CONFIG_RD_XZ") => Self::Xz {
                x86: has("CONFIG_XZ_DEC_X86"),
            },
            None => Self::Zstd(ZSTD_LEVEL),
        }
    }

    /// An archive of programs, compressed.
    ///
    /// # Errors
    /// The compression fails.
    pub(crate) fn of_programs(self, raw: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Xz { x86 } => xz(raw, x86),
            other => other.of_data(raw),
        }
    }

    /// An archive of modules and texts, compressed. (The x86 filter makes modules longer: the targets
    /// of their calls are not yet known.)
    ///
    /// # Errors
    /// The compression fails.
    pub(crate) fn of_data(self, raw: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::None => Ok(raw.to_vec()),
            Self::Zstd(level) => zstd(raw, level),
            Self::Xz { .. } => xz(raw, false),
        }
    }

    /// Data that only our own programs read.
    ///
    /// # Errors
    /// The compression fails.
    pub(crate) fn xz(raw: &[u8]) -> Result<Vec<u8>> {
        xz(raw, false)
    }
}

/// One zstd frame with a window that the kernel's decoder supports (up to 128 MiB).
fn zstd(raw: &[u8], level: i32) -> Result<Vec<u8>> {
    let compressed = zstd::bulk::Compressor::new(level).and_then(|mut encoder| {
        encoder.include_checksum(true)?;
        encoder.window_log(25)?;
        encoder.compress(raw)
    });
    Ok(compressed.doing(|| "cannot compress the initramfs".into())?)
}

/// One xz stream with the only check that the kernel's decoder supports.
fn xz(raw: &[u8], x86: bool) -> Result<Vec<u8>> {
    let dictionary = u32::try_from(raw.len()).unwrap_or(u32::MAX);
    let dictionary = dictionary.clamp(XZ_DICTIONARY_MIN, XZ_DICTIONARY_MAX);
    let stream = || -> Result<Stream, liblzma::stream::Error> {
        let mut options = LzmaOptions::new_preset(XZ_PRESET)?;
        options.dict_size(dictionary.next_power_of_two());
        let mut filters = Filters::new();
        if x86 {
            filters.x86();
        }
        Stream::new_stream_encoder(filters.lzma2(&options), Check::Crc32)
    };
    let mut compressed = Vec::new();
    let done = stream().map_err(std::io::Error::other).and_then(|stream| {
        liblzma::read::XzEncoder::new_stream(raw, stream).read_to_end(&mut compressed)
    });
    done.doing(|| "cannot compress the initramfs".into())?;
    Ok(compressed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_decides() {
        let debian = "CONFIG_RD_GZIP=y\nCONFIG_RD_XZ=y\nCONFIG_XZ_DEC_X86=y\n";
        for (config, level, form) in [
            (debian, None, Compression::Xz { x86: true }),
            (debian, Some(3), Compression::Zstd(3)),
            (debian, Some(0), Compression::None),
            ("CONFIG_RD_XZ=y\n", None, Compression::Xz { x86: false }),
            ("# CONFIG_RD_XZ is not set\n", None, Compression::Zstd(19)),
            ("", None, Compression::Zstd(19)),
        ] {
            assert_eq!(Compression::of_kernel(config, level), form, "{config}");
        }
    }

    /// The xz of this machine reads both, and says that the check is CRC32.
    #[test]
    fn xz_reads_it() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let program = std::fs::read("/proc/self/exe").unwrap();
        let raw = program.get(..200_000).unwrap();
        for x86 in [false, true] {
            let file = tempfile::NamedTempFile::with_suffix(".xz").unwrap();
            file.as_file().write_all(&xz(raw, x86).unwrap()).unwrap();
            let run = |mode: &[&str]| {
                let done = Command::new("xz")
                    .args(mode)
                    .arg(file.path())
                    .stderr(Stdio::inherit())
                    .output()
                    .unwrap();
                assert!(done.status.success());
                done.stdout
            };
            assert_eq!(run(&["-dc"]), raw);
            let list = String::from_utf8(run(&["--list", "-vv"])).unwrap();
            assert!(list.contains("CRC32"), "{list}");
            assert_eq!(list.contains("--x86"), x86, "{list}");
        }
    }
}
