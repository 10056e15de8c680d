//! Opens the file system of an image by its form.

use std::io;

use super::Limits;
use super::btrfs::Btrfs;
use super::erofs::Erofs;
use super::ext::Ext;
use super::magic::SourceForm;
use super::walk::FileSystem;
use super::window::Window;
use super::xfs::Xfs;

/// The file system in `window`; none if the form is another one. `subvolume` is for btrfs.
///
/// # Errors
/// It is damaged, holds changes in its log, or uses unsupported features.
pub(crate) fn open(
    window: Window,
    form: SourceForm,
    subvolume: Option<&str>,
    limits: Limits,
) -> io::Result<Option<Box<dyn FileSystem>>> {
    Ok(match form {
        SourceForm::Ext => Some(Box::new(Ext::open(window)?)),
        SourceForm::Xfs => Some(Box::new(Xfs::open(window)?)),
        SourceForm::Btrfs => Some(Box::new(Btrfs::open(window, subvolume)?)),
        SourceForm::Erofs => Some(Box::new(Erofs::open(window, limits)?)),
        _ => None,
    })
}
