//! Opens an input by its form, and follows images inside images to the tree.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};

use super::directory::DirectorySource;
use super::disk::Disk;
use super::disk_mounts::DiskMounts;
use super::iso::Iso;
use super::limits::NESTING_MAX;
use super::magic::{HEAD_LEN, SourceForm, form};
use super::noted::NotedSource;
use super::squashfs::{self, Squashfs};
use super::tar::Tar;
use super::walk::{FileSystem, Walk, find_file};
use super::window::{Window, copy_sparse};
use super::{Limits, Source, SourceError, file_system, qcow2, system_partition};

/// Options for opening an input.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// Bounds on its contents.
    pub limits: Limits,
    /// Also read file systems that are mounted inside a directory.
    pub across: bool,
    /// The file inside an ISO that is the system.
    pub member: Option<String>,
    /// The partition of a disk that is the system.
    pub partition: Option<u32>,
    /// The subvolume of a btrfs file system that is the system, as a path from the top.
    pub subvolume: Option<String>,
    /// Directory for temporary files for images inside images; by default the system's.
    pub temporary: Option<PathBuf>,
}

impl SourceOptions {
    fn temporary(&self) -> PathBuf {
        self.temporary.clone().unwrap_or_else(std::env::temp_dir)
    }
}

/// Images that hold the tree of a system, inside the image of a live medium: Fedora and KIWI, Void.
const NESTED: [&str; 2] = ["LiveOS/rootfs.img", "LiveOS/ext3fs.img"];

/// Opens the tree at `path`: a directory, an archive, an image or a live medium; `-` is a tar
/// archive on standard input.
///
/// # Errors
/// It cannot be opened, or its format is not supported.
pub fn open(path: &Path, options: &SourceOptions) -> Result<Box<dyn Source>, SourceError> {
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
        return Ok(Box::new(DirectorySource::open(path, options.across)?));
    }
    if !metadata.is_file() {
        // A pipe or a device, which cannot seek.
        return open_stream(&name, file, options);
    }
    let window = whole(&name, file)?;
    open_window(&name, window, options, 0)
}

fn whole(name: &str, file: File) -> Result<Window, SourceError> {
    Window::whole(file).map_err(|cause| SourceError::new(name, "cannot read it").cause(cause))
}

/// Opens the image or archive in `window`; `depth` images are around it.
fn open_window(
    name: &str,
    window: Window,
    options: &SourceOptions,
    depth: u32,
) -> Result<Box<dyn Source>, SourceError> {
    let wrong = |cause| SourceError::new(name, "cannot read it").cause(cause);
    if depth > NESTING_MAX {
        return Err(SourceError::new(name, "too many nested images"));
    }
    let head = window.head(HEAD_LEN).map_err(wrong)?;
    let found = form(&head).map_err(|problem| SourceError::new(name, problem))?;
    let limits = options.limits;
    match found {
        SourceForm::Tar | SourceForm::Zstd => {
            let mut file = window.into_file(&options.temporary()).map_err(wrong)?;
            file.rewind().map_err(wrong)?;
            open_stream(name, file, options)
        }
        SourceForm::Squashfs => {
            let file = window.into_file(&options.temporary()).map_err(wrong)?;
            open_squashfs(name, &file, options, depth)
        }
        SourceForm::Ext | SourceForm::Erofs | SourceForm::Xfs | SourceForm::Btrfs => {
            let subvolume = options.subvolume.as_deref();
            let tree = file_system::open(window, found, subvolume, limits).map_err(wrong)?;
            let tree = tree.ok_or_else(|| SourceError::new(name, "it is no file system"))?;
            open_tree(name, tree, options, depth)
        }
        SourceForm::Iso => {
            let file = window.into_file(&options.temporary()).map_err(wrong)?;
            open_iso(name, &file, options, depth)
        }
        SourceForm::Disk => open_disk(name, window, options, depth),
        SourceForm::Qcow2 => {
            let raw = qcow2::to_raw(name, window, &options.temporary(), limits)?;
            open_window(name, whole(name, raw)?, options, depth + 1)
        }
    }
}

/// The system of a disk, with the partitions that its `etc/fstab` mounts.
fn open_disk(
    name: &str,
    window: Window,
    options: &SourceOptions,
    depth: u32,
) -> Result<Box<dyn Source>, SourceError> {
    let wrong = |cause| SourceError::new(name, "cannot read it").cause(cause);
    let (disk, limits) = (Disk::read(&window).map_err(wrong)?, options.limits);
    let selected = system_partition::select(&disk, &window, options.partition, limits);
    let (root, note) = selected.map_err(|problem| SourceError::new(name, problem))?;
    let mut notes: Vec<String> = note.into_iter().collect();
    let inside = format!("{name}:partition {}", root.number);
    let wrong = |cause| SourceError::new(&inside, "cannot read it").cause(cause);
    let part = window.another(root.start, root.len).map_err(wrong)?;
    let head = part.head(HEAD_LEN).map_err(wrong)?;
    let form = form(&head).map_err(|problem| SourceError::new(&inside, problem))?;
    let system = file_system::open(part, form, options.subvolume.as_deref(), limits);
    let source = match system.map_err(wrong)? {
        Some(system) => {
            let mounts = DiskMounts {
                disk: &disk,
                image: &window,
                root,
                limits,
            };
            let (tree, mounted) = mounts.tree(system).map_err(wrong)?;
            notes.extend(mounted);
            open_tree(&inside, tree, options, depth + 1)?
        }
        None => {
            let part = window.part(root.start, root.len);
            open_window(&inside, part, options, depth + 1)?
        }
    };
    Ok(Box::new(NotedSource { source, notes }))
}

/// The system of a live medium, or the requested part of it.
fn open_iso(
    name: &str,
    file: &File,
    options: &SourceOptions,
    depth: u32,
) -> Result<Box<dyn Source>, SourceError> {
    let iso = Iso::open(name, file)?;
    let parts = iso.systems(options.member.as_deref())?;
    let member = match (parts.as_slice(), &options.member) {
        ([only], _) => only,
        // The user named one of several.
        (several, Some(member)) if several.contains(member) => member,
        (several, _) => {
            let names = several.join(", ");
            let problem = format!(
                "its system has several parts ({names}); `bakery import` reads all of them, --member one"
            );
            return Err(SourceError::new(name, problem));
        }
    };
    let image = iso.copy_out(member, &options.temporary(), options.limits)?;
    let inside = format!("{name}:{member}");
    let image = whole(&inside, image)?;
    open_window(&inside, image, options, depth + 1)
}

/// A squashfs, or the system image that is its only content.
fn open_squashfs(
    name: &str,
    file: &File,
    options: &SourceOptions,
    depth: u32,
) -> Result<Box<dyn Source>, SourceError> {
    for path in NESTED {
        if squashfs::holds(name, file, path)? {
            let inside = format!("{name}:{path}");
            let mut bytes = squashfs::cat(&inside, file, path)?;
            let image = spool(&inside, &mut bytes, options)?;
            return open_window(&inside, image, options, depth + 1);
        }
    }
    Ok(Box::new(Squashfs::open(name, file, options.limits)?))
}

/// A file system, or the system image that is its only content.
fn open_tree<F: FileSystem + 'static>(
    name: &str,
    mut tree: F,
    options: &SourceOptions,
    depth: u32,
) -> Result<Box<dyn Source>, SourceError> {
    for path in NESTED {
        let found = find_file(&mut tree, path);
        let found = found.map_err(|cause| SourceError::new(name, "cannot read it").cause(cause))?;
        if let Some(mut file) = found {
            let inside = format!("{name}:{path}");
            let image = spool(&inside, &mut file.bytes(&mut tree), options)?;
            return open_window(&inside, image, options, depth + 1);
        }
    }
    Ok(Box::new(Walk::new(name, tree, options.limits)))
}

/// An image inside an image, as a separate file.
fn spool(name: &str, bytes: &mut dyn Read, options: &SourceOptions) -> Result<Window, SourceError> {
    let place = options.temporary();
    let copied = tempfile::tempfile_in(&place).and_then(|mut copy| {
        let mut bytes = bytes.take(options.limits.expanded_len_max);
        copy_sparse(&mut bytes, &mut copy)?;
        Window::whole(copy)
    });
    copied.map_err(|cause| {
        let problem = format!("cannot copy it to a temporary file in {}", place.display());
        SourceError::new(name, problem).cause(cause)
    })
}

/// Opens a tar archive, plain or zstd, from a stream of bytes.
///
/// # Errors
/// It has another form.
pub fn open_stream(
    name: &str,
    input: impl Read + Send + 'static,
    options: &SourceOptions,
) -> Result<Box<dyn Source>, SourceError> {
    let (head, whole) = peeked(name, input)?;
    match form(&head).map_err(|problem| SourceError::new(name, problem))? {
        SourceForm::Tar => Ok(archive(name, whole, options)),
        SourceForm::Zstd => {
            let plain = decompressed(whole).map_err(|cause| {
                SourceError::new(name, "cannot start the zstd decoder").cause(cause)
            })?;
            let (head, whole) = peeked(name, plain)?;
            let inside = |problem: String| format!("inside its zstd compression: {problem}");
            let found = form(&head).map_err(|problem| SourceError::new(name, inside(problem)))?;
            if found != SourceForm::Tar {
                let problem = format!(
                    "{} is compressed in it; decompress it with `zstd -d` and give the result's path",
                    found.words()
                );
                return Err(SourceError::new(name, problem));
            }
            Ok(archive(name, whole, options))
        }
        other => {
            let problem = format!(
                "it is {}, which must be seekable: give its path instead of a stream",
                other.words()
            );
            Err(SourceError::new(name, problem))
        }
    }
}

/// Returns the first bytes of a stream, and the whole stream.
fn peeked<R: Read>(name: &str, mut input: R) -> Result<(Vec<u8>, impl Read + use<R>), SourceError> {
    let mut head = Vec::new();
    let read = input.by_ref().take(HEAD_LEN as u64).read_to_end(&mut head);
    read.map_err(|cause| SourceError::new(name, "cannot read it").cause(cause))?;
    let whole = io::Cursor::new(head.clone()).chain(input);
    Ok((head, whole))
}

fn archive(
    name: &str,
    input: impl Read + Send + 'static,
    options: &SourceOptions,
) -> Box<dyn Source> {
    let buffered = BufReader::with_capacity(256 << 10, input);
    Box::new(Tar::new(name, buffered, options.limits))
}

/// A zstd decoder that refuses windows which would cost more than 128 MiB.
fn decompressed<R: Read>(input: R) -> io::Result<impl Read + use<R>> {
    let mut decoder = zstd::stream::read::Decoder::new(input)?;
    decoder.window_log_max(layerfmt::limits::ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}
