//! Selects the partition of a disk that is the system.

use std::io;

use super::Limits;
use super::btrfs::Btrfs;
use super::disk::{Disk, Partition};
use super::erofs::Erofs;
use super::ext::Ext;
use super::magic::{HEAD_LEN, SourceForm, form};
use super::walk::FileSystem;
use super::window::Window;
use super::xfs::Xfs;

/// A directory that every system has.
const SIGN: &[u8] = b"usr";

/// The partition of the system: `wanted`, else the only one of type "root", else the only one with
/// a `/usr`. Also a note, if the content decided.
///
/// # Errors
/// There is none, or several are suitable; the message lists them.
pub(crate) fn select(
    image: &Window,
    wanted: Option<u32>,
    limits: Limits,
) -> Result<(Partition, Option<String>), String> {
    let disk = Disk::read(image).map_err(|cause| format!("cannot read it: {cause}"))?;
    let all = disk.systems(image, wanted)?;
    if let [only] = all.as_slice() {
        return Ok((*only, None));
    }
    let systems = all.iter().filter(|part| {
        // A file system that cannot be read may be the system.
        let window = image.another(part.start, part.len);
        window
            .and_then(|window| has_sign(window, limits))
            .unwrap_or(true)
    });
    match systems.collect::<Vec<_>>().as_slice() {
        [only] => {
            let note = format!(
                "the system is partition {}, the only one with a /usr (--partition selects another); {}",
                only.number,
                disk.listed(image)
            );
            Ok((**only, Some(note)))
        }
        _ => Err(format!(
            "several partitions could be the system: name one with --partition; {}",
            disk.listed(image)
        )),
    }
}

/// True if the file system has a `/usr`, or if it is not looked into.
fn has_sign(window: Window, limits: Limits) -> io::Result<bool> {
    let head = window.head(HEAD_LEN)?;
    match form(&head) {
        Ok(SourceForm::Ext) => holds_sign(Ext::open(window)?),
        Ok(SourceForm::Xfs) => holds_sign(Xfs::open(window)?),
        Ok(SourceForm::Btrfs) => holds_sign(Btrfs::open(window, None)?),
        Ok(SourceForm::Erofs) => holds_sign(Erofs::open(window, limits)?),
        _ => Ok(true),
    }
}

fn holds_sign(mut tree: impl FileSystem) -> io::Result<bool> {
    let names = tree.list(tree.root())?;
    Ok(names.iter().any(|(name, _)| name == SIGN))
}
