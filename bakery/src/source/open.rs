//! Finding out what an input is, by what it holds and not by its name.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::directory::Directory;
use super::iso::Iso;
use super::squashfs::Squashfs;
use super::tar::Tar;
use super::{Limits, Source, SourceError};

/// How to open an input.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Bounds on what it may hold.
    pub limits: Limits,
    /// Walk a directory across the file systems mounted in it.
    pub across: bool,
    /// Which file inside an ISO is the system.
    pub member: Option<String>,
    /// Where to put the one temporary file an ISO needs; the system's place when not given.
    pub temporary: Option<PathBuf>,
}

/// What an input turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A tar archive, not compressed.
    Tar,
    /// A tar archive compressed with zstd.
    TarZstd,
    /// A squashfs image.
    Squashfs,
    /// An ISO 9660 image.
    Iso,
}

/// Bytes that tell the forms apart: an ISO's mark ends at 32,774.
const HEAD_LEN: usize = 33 << 10;

/// Opens the tree at `path`: a directory, a tar archive (plain or zstd), a squashfs image or a
/// live ISO; `-` is a tar archive on standard input.
///
/// # Errors
/// It cannot be opened, or is none of these.
pub fn open(path: &Path, options: &Options) -> Result<Box<dyn Source>, SourceError> {
    if path.as_os_str() == "-" {
        return open_stream("standard input", io::stdin(), options);
    }
    let name = path.display().to_string();
    let file =
        File::open(path).map_err(|cause| SourceError::new(&name, "cannot open it").cause(cause))?;
    let metadata = file
        .metadata()
        .map_err(|cause| SourceError::new(&name, "cannot stat it").cause(cause))?;
    if metadata.is_dir() {
        return Ok(Box::new(Directory::open(path, options.across)?));
    }
    if !metadata.is_file() {
        // A pipe or a device: no seeking.
        return open_stream(&name, file, options);
    }
    open_file(&name, file, options)
}

/// Opens the image or archive in a regular file.
///
/// # Errors
/// It is none of the forms we know, or its reader cannot be started.
pub fn open_file(
    name: &str,
    file: File,
    options: &Options,
) -> Result<Box<dyn Source>, SourceError> {
    let unreadable = |cause| SourceError::new(name, "cannot read it").cause(cause);
    let head = file_head(&file).map_err(unreadable)?;
    match form(&head).map_err(|problem| SourceError::new(name, problem))? {
        Form::Squashfs => Ok(Box::new(Squashfs::open(name, &file, options.limits)?)),
        Form::Iso => {
            let iso = Iso::open(name, &file)?;
            let member = iso.system(options.member.as_deref())?;
            let temporary = options.temporary.clone().unwrap_or_else(std::env::temp_dir);
            let image = iso.copy_out(&member, &temporary, options.limits)?;
            let inside = format!("{name}:{member}");
            let head = file_head(&image).map_err(unreadable)?;
            if form(&head) != Ok(Form::Squashfs) {
                let problem = "it is no squashfs image; systems packed otherwise are not read";
                return Err(SourceError::new(inside, problem));
            }
            Ok(Box::new(Squashfs::open(&inside, &image, options.limits)?))
        }
        Form::Tar | Form::TarZstd => {
            let mut file = file;
            file.rewind().map_err(unreadable)?;
            open_stream(name, file, options)
        }
    }
}

/// The first bytes of a file.
///
/// # Errors
/// It cannot be read.
pub fn file_head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_LEN];
    let mut filled = 0;
    while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    head.truncate(filled);
    Ok(head)
}

/// Opens a tar archive, plain or zstd, that comes as a stream of bytes.
///
/// # Errors
/// It is something else.
pub fn open_stream(
    name: &str,
    input: impl Read + Send + 'static,
    options: &Options,
) -> Result<Box<dyn Source>, SourceError> {
    let mut input = input;
    let mut head = Vec::new();
    let read = input.by_ref().take(1024).read_to_end(&mut head);
    read.map_err(|cause| SourceError::new(name, "cannot read it").cause(cause))?;
    let form = form(&head).map_err(|problem| SourceError::new(name, problem))?;
    let whole = io::Cursor::new(head).chain(input);
    match form {
        Form::Tar => {
            let buffered = BufReader::with_capacity(256 << 10, whole);
            Ok(Box::new(Tar::new(name, buffered, options.limits)))
        }
        Form::TarZstd => {
            let plain = decompressed(whole).map_err(|cause| {
                SourceError::new(name, "cannot start the zstd decoder").cause(cause)
            })?;
            let buffered = BufReader::with_capacity(256 << 10, plain);
            Ok(Box::new(Tar::new(name, buffered, options.limits)))
        }
        Form::Squashfs | Form::Iso => {
            let problem = "images must be files: their readers seek; give its path instead";
            Err(SourceError::new(name, problem))
        }
    }
}

/// A zstd decoder that refuses windows which would cost more than 128 MiB.
fn decompressed(input: impl Read) -> io::Result<impl Read> {
    let mut decoder = zstd::stream::read::Decoder::new(input)?;
    decoder.window_log_max(layerfmt::limits::ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

/// The form of an input that begins with `head`.
///
/// # Errors
/// It is none that we read; the message says how to make it one where there is a way.
pub fn form(head: &[u8]) -> Result<Form, String> {
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..)
            .is_some_and(|rest| rest.starts_with(magic))
    };
    if at(0, b"hsqs") {
        return Ok(Form::Squashfs);
    }
    if at(0, &[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable_frame(head) {
        return Ok(Form::TarZstd);
    }
    if at(32_769, b"CD001") {
        return Ok(Form::Iso);
    }
    // Some hybrid disk images carry a boot record before the ISO; tar's mark is as good.
    if at(257, b"ustar") || super::tar::begins_archive(head) {
        return Ok(Form::Tar);
    }
    for (magic, what, program) in [
        (&[0x1f, 0x8b][..], "gzip", "zcat"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "xz", "xzcat"),
        (b"BZh", "bzip2", "bzcat"),
    ] {
        if at(0, magic) {
            return Err(format!(
                "it is compressed with {what}, only zstd is read; try `{program} FILE | bakery … -`"
            ));
        }
    }
    if at(0, b"sqsh") {
        return Err("it is a big-endian squashfs of version 3 or older, which is not read".into());
    }
    if head.is_empty() {
        return Err("it is empty".into());
    }
    Err("it is no tar archive (plain or zstd), squashfs image or ISO".into())
}

/// zstd's skippable frames, which pzstd puts in front.
fn is_skippable_frame(head: &[u8]) -> bool {
    matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}
