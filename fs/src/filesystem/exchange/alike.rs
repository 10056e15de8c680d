//! Objects that the upper and the other revision have made alike, as on the machine that pushed the
//! revision.

use layerfmt::{Index, Ino};

use crate::error::Result;
use crate::filesystem::reply::{DIRECTORY, REGULAR, SYMLINK};
use crate::sys::object::At;
use crate::upper::marks::Marks;

/// True if the object at `at` in the upper is like row `row` of `index`. Contents of files are not
/// read: equal lengths and times mean equal contents, as for rsync and make.
pub(super) fn is_alike(at: &At<'_>, marks: &Marks, index: &Index, row: Ino) -> Result<bool> {
    let Some(inode) = index.inode(row) else {
        return Ok(false);
    };
    let stat = at.stat()?;
    let owners = (stat.st_mode, stat.st_uid, stat.st_gid);
    if owners != (inode.mode, inode.uid, inode.gid) {
        return Ok(false);
    }
    let is_same = match inode.kind() {
        DIRECTORY => true,
        SYMLINK => at.read_link()? == index.symlink(row),
        REGULAR => {
            let time = (stat.st_mtime, stat.st_mtime_nsec);
            let length = u64::try_from(stat.st_size).ok();
            time == (inode.mtime.sec, u64::from(inode.mtime.nsec)) && length == Some(inode.size)
        }
        _ => false,
    };
    Ok(is_same && has_same_attributes(at, marks, index, row)?)
}

fn has_same_attributes(at: &At<'_>, marks: &Marks, index: &Index, row: Ino) -> Result<bool> {
    let mut count = 0;
    for stored in at.xattr_names()? {
        let Some(name) = marks.shown_name(&stored) else {
            continue;
        };
        if index.xattr(row, &name) != Some(&at.xattr(&stored)?[..]) {
            return Ok(false);
        }
        count += 1;
    }
    Ok(count == index.xattrs(row).count())
}
