//! Selects the partition of a disk that is the system.

use std::io;

use super::disk::{Disk, Partition};
use super::magic::{HEAD_LEN, form};
use super::walk::FileSystem as _;
use super::window::Window;
use super::{Limits, file_system};

/// A directory that every system has.
const SIGN: &[u8] = b"usr";

/// The partition of the system: `wanted`, else the only one of type "root", else the only one with
/// a `/usr`. Also a note, if the content decided.
///
/// # Errors
/// There is none, or several are suitable; the message lists them.
pub(crate) fn select(
    disk: &Disk,
    image: &Window,
    wanted: Option<u32>,
    limits: Limits,
) -> Result<(Partition, Option<String>), String> {
    let all = disk.systems(image, wanted)?;
    if let [only] = all.as_slice() {
        return Ok((*only, None));
    }
    let (mut systems, mut unread) = (Vec::new(), Vec::new());
    for part in &all {
        let window = image.another(part.start, part.len);
        match window.and_then(|window| has_sign(window, limits)) {
            Ok(true) => systems.push(part),
            Ok(false) => {}
            Err(_) => unread.push(part),
        }
    }
    // A file system that cannot be read is the system if no other is: its error is the message.
    let systems = if systems.is_empty() { unread } else { systems };
    match systems.as_slice() {
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
    let Ok(form) = form(&window.head(HEAD_LEN)?) else {
        return Ok(true);
    };
    let Some(mut tree) = file_system::open(window, form, None, limits)? else {
        return Ok(true);
    };
    let names = tree.list(tree.root())?;
    Ok(names.iter().any(|(name, _)| name == SIGN))
}
