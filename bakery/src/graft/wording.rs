//! Texts for the change of each side to a path.

use layerfmt::tree::{Kind, Node};

use super::FileId;

/// Describes the change from `before` to `after`.
/// Describes the change from `before` to `after`.
pub(super) fn change(before: Option<&Node<FileId>>, after: Option<&Node<FileId>>) -> String {
    let (before, after) = match (before, after) {
        (None, None) => return "did nothing".into(),
        (Some(before), None) => return format!("deleted the {}", noun(before)),
        (None, Some(after)) => return format!("added a {}", noun(after)),
        (Some(before), Some(after)) => (before, after),
    };
    if noun(before) != noun(after) {
        return format!("replaced the {} by a {}", noun(before), noun(after));
    }
    let mut changes = Vec::new();
    match (&before.kind, &after.kind) {
        (Kind::File(a), Kind::File(b)) if a != b => changes.push("changed the content".to_owned()),
        (Kind::Symlink(a), Kind::Symlink(b)) if a != b => {
            changes.push(format!(
                "changed its target to {}",
                String::from_utf8_lossy(b)
            ));
        }
        (Kind::Directory(_), Kind::Directory(_)) => {}
        (a, b) if a != b => changes.push("changed the device number".into()),
        _ => {}
    }
    let (old, new) = (&before.meta, &after.meta);
    if old.mode != new.mode {
        changes.push(format!(
            "changed the mode {:04o} to {:04o}",
            old.mode, new.mode
        ));
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        changes.push(format!("changed the owner to {}:{}", new.uid, new.gid));
    }
    if old.xattrs != new.xattrs {
        changes.push("changed the attributes".into());
    }
    if changes.is_empty() {
        "changed things inside".into()
    } else {
        changes.join(" and ")
    }
}

fn noun(node: &Node<FileId>) -> &'static str {
    match node.kind {
        Kind::Directory(_) => "directory",
        Kind::File(_) => "file",
        Kind::Symlink(_) => "symbolic link",
        Kind::Char(..) | Kind::Block(..) => "device",
        Kind::Fifo => "pipe",
        Kind::Socket => "socket",
    }
}
