//! Disks in QEMU's qcow2 format, through a confined `qemu-img`.
//!
//! An image that names another file (a backing file, a data file) is refused: its author would
//! choose a file of this machine to read.

use std::fs::File;
use std::path::Path;

use super::window::Window;
use super::{Limits, SourceError, subprocess};

/// Feature bit: the data is in another file.
const DATA_FILE: u64 = 1 << 2;

/// The disk in `window` as a raw disk, in an unnamed file in `directory`.
///
/// # Errors
/// `qemu-img` is missing or fails, or the image names another file.
pub(crate) fn to_raw(
    name: &str,
    window: Window,
    directory: &Path,
    limits: Limits,
) -> Result<File, SourceError> {
    let wrong = |cause| SourceError::new(name, "cannot read it").cause(cause);
    let refused = |problem: &str| Err(SourceError::new(name, problem));
    let head = window.head(104).map_err(wrong)?;
    let long = |at: usize| {
        let bytes = head.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    };
    let version = long(0) & 0xffff_ffff;
    if long(8) != 0 {
        return refused(
            "it has a backing file; join them first: `qemu-img convert -O qcow2 FILE joined.qcow2`",
        );
    }
    if version >= 3 && long(72) & DATA_FILE != 0 {
        return refused(
            "its data is in another file; join them first: `qemu-img convert -O qcow2 FILE joined.qcow2`",
        );
    }
    if long(32) >> 32 != 0 {
        return refused("it is encrypted; decrypt it first with `qemu-img convert`");
    }
    if long(24) > limits.expanded_len_max {
        return refused("its disk is larger than --max-bytes allows");
    }
    let image = window.into_file(directory).map_err(wrong)?;
    let raw = tempfile::tempfile_in(directory).map_err(|cause| {
        let place = directory.display();
        SourceError::new(name, format!("cannot make a temporary file in {place}")).cause(cause)
    })?;
    let arguments = [
        "convert",
        "-q",
        "-f",
        "qcow2",
        "-O",
        "raw",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
    ];
    subprocess::run_into("qemu-img", "qemu-utils", &arguments, &image, &raw, name)?;
    Ok(raw)
}
