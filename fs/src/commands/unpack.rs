//! `layerfs initramfs unpack`: unpacks the drivers that an initramfs keeps packed.
//!
//! The drivers of all cards and disks are most of an initramfs, and few machines need them: as one
//! compressed file in it they cost the kernel no time at a boot. The file has the form of an
//! initramfs: cpio archives (newc, directories and regular files only), each compressed by xz or
//! zstd, one after the other.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::limits::CPIO_NAME_LEN_MAX;

/// Bytes of a newc header.
const HEADER_LEN: usize = 110;
const MAGIC: &[u8] = b"070701";
const XZ_MAGIC: &[u8] = b"\xfd7zXZ";
const TRAILER: &str = "TRAILER!!!";
const TYPE_MASK: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// Arguments of `layerfs initramfs unpack`.
#[derive(Debug, Clone, clap::Args)]
pub struct UnpackArgs {
    /// The archive to unpack
    pub archive: PathBuf,
    /// The directory to unpack into
    #[arg(default_value = "/")]
    pub directory: PathBuf,
}

/// Unpacks.
///
/// # Errors
/// It cannot be read or is not such an archive, or a file cannot be written.
pub(crate) fn run(args: &UnpackArgs) -> Result<ExitCode> {
    let at = || args.archive.display().to_string();
    let file = BufReader::new(File::open(&args.archive).with_context(at)?);
    let decoder = decoder(file).with_context(at)?;
    let mut archives = BufReader::with_capacity(1 << 17, decoder);
    unpack_all(&mut archives, &args.directory).with_context(at)?;
    Ok(ExitCode::SUCCESS)
}

/// Decompresses by the first bytes: xz or zstd.
fn decoder(mut file: impl BufRead + 'static) -> Result<Box<dyn Read>> {
    if file.fill_buf()?.starts_with(XZ_MAGIC) {
        return Ok(Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(
            file,
        )));
    }
    Ok(Box::new(zstd::stream::read::Decoder::with_buffer(file)?))
}

/// Unpacks every archive, with zeros after each; there is at least one.
fn unpack_all(archives: &mut impl BufRead, directory: &Path) -> Result<()> {
    loop {
        unpack(archives, directory)?;
        loop {
            let bytes = archives.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            if zeros == 0 {
                break;
            }
            archives.consume(zeros);
        }
    }
}

fn unpack(archive: &mut impl BufRead, directory: &Path) -> Result<()> {
    let mut read = 0;
    loop {
        let mut header = [0; HEADER_LEN];
        archive
            .read_exact(&mut header)
            .context("the archive ends too early")?;
        let [mode, len, name_len] = fields(&header).context("not a cpio archive (newc)")?;
        if name_len == 0 || u64::from(name_len) > CPIO_NAME_LEN_MAX {
            bail!("a name of {name_len} bytes");
        }
        let mut name = vec![0; name_len as usize];
        archive
            .read_exact(&mut name)
            .context("the archive ends in a name")?;
        read += (HEADER_LEN + name.len()) as u64;
        read += skip_to_4(archive, read)?;
        let name = name
            .strip_suffix(b"\0")
            .and_then(|name| std::str::from_utf8(name).ok());
        let name = name.context("a name is not valid UTF-8")?;
        if name == TRAILER {
            return Ok(());
        }
        let place = place(directory, name)?;
        match mode & TYPE_MASK {
            DIRECTORY => fs::create_dir_all(&place).with_context(|| place.display().to_string())?,
            REGULAR => {
                write(archive, u64::from(len), mode & 0o7777, &place)
                    .with_context(|| place.display().to_string())?;
                read += u64::from(len);
                read += skip_to_4(archive, read)?;
            }
            _ => bail!("{name} is neither a directory nor a regular file"),
        }
    }
}

/// Permissions with the type, length of the data, length of the name.
fn fields(header: &[u8; HEADER_LEN]) -> Option<[u32; 3]> {
    let rest = header.strip_prefix(MAGIC)?;
    let field = |number: usize| {
        let digits = rest.get(number * 8..number * 8 + 8)?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    Some([field(1)?, field(6)?, field(11)?])
}

/// `name` below `directory`, if it is below.
fn place(directory: &Path, name: &str) -> Result<PathBuf> {
    let name = Path::new(name);
    if !name
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        bail!("{} is not below the directory", name.display());
    }
    Ok(directory.join(name))
}

fn write(archive: &mut impl Read, len: u64, permissions: u32, place: &Path) -> Result<()> {
    let mut options = File::options();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(permissions);
    let copied = io::copy(&mut archive.take(len), &mut options.open(place)?)?;
    if copied != len {
        bail!("the archive ends in its data");
    }
    Ok(())
}

/// The fill behind `read` bytes.
fn skip_to_4(archive: &mut impl Read, read: u64) -> Result<u64> {
    let fill = read.next_multiple_of(4) - read;
    let skipped = io::copy(&mut archive.take(fill), &mut io::sink())?;
    if skipped != fill {
        bail!("the archive ends too early");
    }
    Ok(fill)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, mode: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{name}\0",
            1, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0
        )
        .into_bytes();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn directories_and_files_come_out_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let end = entry(TRAILER, 0, b"");
        let good = [
            entry("lib", 0o040_755, b""),
            entry("lib/a.ko", 0o100_644, b"abcde"),
            entry("lib/b", 0o100_600, b""),
            end.clone(),
        ];
        unpack(&mut &good.concat()[..], directory.path()).unwrap();
        assert_eq!(
            fs::read(directory.path().join("lib/a.ko")).unwrap(),
            b"abcde"
        );
        assert_eq!(fs::read(directory.path().join("lib/b")).unwrap(), b"");
        for (bad, said) in [
            (entry("../x", 0o100_644, b""), "not below"),
            (entry("/x", 0o100_644, b""), "not below"),
            (entry("x", 0o120_777, b"y"), "neither"),
            (b"garbage".to_vec(), "newc"),
            ([b'0'; HEADER_LEN].to_vec(), "newc"),
        ] {
            let error =
                unpack(&mut &[bad, end.clone()].concat()[..], directory.path()).unwrap_err();
            assert!(format!("{error:#}").contains(said), "{error:#}");
        }
        let next = [entry("lib/c.ko", 0o100_644, b"c"), end.clone()].concat();
        for fill in [0, 4, 512] {
            let both = [good.concat(), vec![0; fill], next.clone(), vec![0; fill]].concat();
            let directory = tempfile::tempdir().unwrap();
            unpack_all(&mut &both[..], directory.path()).unwrap();
            for name in ["lib/a.ko", "lib/b", "lib/c.ko"] {
                assert!(directory.path().join(name).exists(), "{name}, {fill} zeros");
            }
            let torn = both.get(..both.len() - fill - 5).unwrap();
            assert!(unpack_all(&mut &*torn, directory.path()).is_err());
        }
        let parts = [good.concat(), next];
        let xz = |raw: &Vec<u8>| {
            let mut bytes = Vec::new();
            let mut encoder = liblzma::read::XzEncoder::new(raw.as_slice(), 1);
            encoder.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let zstd = |raw: &Vec<u8>| zstd::bulk::compress(raw, 1).unwrap();
        for packed in [
            parts.iter().flat_map(xz).collect::<Vec<u8>>(),
            parts.iter().flat_map(zstd).collect(),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let decoder = decoder(io::Cursor::new(packed)).unwrap();
            unpack_all(&mut BufReader::new(decoder), directory.path()).unwrap();
            assert!(directory.path().join("lib/c.ko").exists());
        }
        let whole = good.concat();
        for len in 0..whole.len() - 4 {
            assert!(
                unpack(&mut whole.get(..len).unwrap(), directory.path()).is_err(),
                "cut at {len}"
            );
        }
    }
}
