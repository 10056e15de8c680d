//! Checks that a tree is a system, before it is published as one.
//!
//! A tree of a container image's blobs, an image inside an archive or an empty archive is read
//! without an error but cannot boot: it must not become the newest revision of a history.

use crate::initrd::error::{Result, refuse};
use crate::initrd::system_tree::{SystemNode, SystemTree, list, resolve};

/// Paths of an init, in kernels and distributions.
const INITS: [&str; 7] = [
    "sbin/init",
    "usr/lib/systemd/systemd",
    "lib/systemd/systemd",
    "init",
    "etc/init",
    "bin/init",
    "usr/sbin/init",
];
/// Extensions of images.
const IMAGES: [&str; 11] = [
    ".img",
    ".raw",
    ".iso",
    ".squashfs",
    ".sfs",
    ".erofs",
    ".ext4",
    ".qcow2",
    ".tar",
    ".tar.zst",
    ".tar.gz",
];
/// The option that publishes the tree anyway.
const ANYWAY: &str = "--no-check publishes it anyway";

/// Succeeds for a bootable tree.
///
/// # Errors
/// The tree is not a system, with the remedy; or it cannot be read.
pub(crate) fn require_system(tree: &dyn SystemTree) -> Result<()> {
    let names = list(tree, "")?;
    let names: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| *name != "lost+found")
        .collect();
    if names.is_empty() {
        refuse!("it is not a system: it is empty; {ANYWAY}");
    }
    let has = |name: &str| names.contains(&name);
    if has("oci-layout") || (has("manifest.json") && (has("blobs") || has("repositories"))) {
        refuse!(
            "it is not a system but a container image in packed layers; make a container of it and \
             import that: `podman create --name C IMAGE && podman export C | bakery import SYSTEM \
             -`"
        );
    }
    if let Some(image) = only_image(tree, &names)? {
        refuse!(
            "it is not a system but contains one, {image}: unpack that file and import it; {ANYWAY}"
        );
    }
    if !is_directory(tree, "usr")? {
        refuse!(
            "it is not a system: it has no /usr (its root contains {}); {ANYWAY}",
            some(&names)
        );
    }
    for init in INITS {
        if let Some(real) = resolve(tree, init)?
            && tree.node(&real)? == Some(SystemNode::File)
        {
            return Ok(());
        }
    }
    refuse!(
        "it is not a system: it has no init (searched: /{}); {ANYWAY}",
        INITS.join(", /")
    )
}

fn is_directory(tree: &dyn SystemTree, path: &str) -> Result<bool> {
    let Some(real) = resolve(tree, path)? else {
        return Ok(false);
    };
    Ok(tree.node(&real)? == Some(SystemNode::Directory))
}

/// The image, if it is the only file of the tree, alone or in one directory.
fn only_image(tree: &dyn SystemTree, names: &[&str]) -> Result<Option<String>> {
    let [only] = names else { return Ok(None) };
    let mut path = (*only).to_owned();
    if is_directory(tree, &path)? {
        let inside = list(tree, &path)?;
        let [image] = inside.as_slice() else {
            return Ok(None);
        };
        path = format!("{path}/{image}");
    }
    let is_image = IMAGES.iter().any(|end| path.ends_with(end));
    Ok((is_image && tree.node(&path)? == Some(SystemNode::File)).then_some(path))
}

/// A few of the names.
fn some(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(8).copied().collect();
    let more = if names.len() > shown.len() {
        ", …"
    } else {
        ""
    };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::initrd::system_tree::DirectoryTree;

    /// The message about a tree with these files; a name with `->` is a link.
    fn said(files: &[&str]) -> Option<String> {
        let place = tempfile::tempdir().unwrap();
        for file in files {
            let (name, target) = file.split_once("->").unwrap_or((file, ""));
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match target {
                "" => fs::write(path, "x").unwrap(),
                target => symlink(target, path).unwrap(),
            }
        }
        let tree = DirectoryTree::open(place.path()).unwrap();
        require_system(&tree).err().map(|error| error.to_string())
    }

    #[test]
    fn systems_pass_and_what_is_none_is_named() {
        assert_eq!(said(&["usr/lib/systemd/systemd", "lib->usr/lib"]), None);
        assert_eq!(
            said(&["usr/bin/busybox", "sbin/init->/usr/bin/busybox"]),
            None
        );
        for (files, what) in [
            (&[][..], "it is empty"),
            (&["lost+found/x"], "it is empty"),
            (&["oci-layout", "blobs/sha256/0"], "podman export"),
            (
                &["manifest.json", "repositories", "0/layer.tar"],
                "podman export",
            ),
            (&["rootfs.img"], "rootfs.img"),
            (&["LiveOS/ext3fs.img"], "LiveOS/ext3fs.img"),
            (
                &["etc/passwd", "home/x"],
                "no /usr (its root contains etc, home)",
            ),
            (&["usr/bin/x", "sbin/init->nowhere"], "no init"),
        ] {
            let found = said(files).unwrap_or_default();
            assert!(found.contains(what), "{files:?}: {found}");
        }
    }
}
