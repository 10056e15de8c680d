//! Finds the kernel image of a release in a tree.

use super::error::Result;
use super::kernel::release;
use super::system_tree::{SystemNode, SystemTree, list, read, resolve};

/// Prefixes of kernel images in `/boot`.
const NAMES: &[&str] = &[
    "vmlinuz", "vmlinux", "bzImage", "Image", "image", "kernel", "linux",
];

/// The kernel image of a release. Debian, ALT, Fedora, openSUSE and Arch name it by the release in one of these
/// places; Alpine and Arch also by the flavour (`vmlinuz-lts`, `vmlinuz-linux`), which an image then must confirm.
///
/// # Errors
/// The tree cannot be read.
pub(crate) fn kernel_image(tree: &dyn SystemTree, kernel: &str) -> Result<Option<String>> {
    for path in [
        format!("boot/vmlinuz-{kernel}"),
        format!("boot/vmlinux-{kernel}"),
        format!("boot/image-{kernel}"),
        format!("boot/Image-{kernel}"),
        format!("boot/kernel-{kernel}"),
        format!("usr/lib/modules/{kernel}/vmlinuz"),
        format!("lib/modules/{kernel}/vmlinuz"),
        format!("lib/modules/{kernel}/Image"),
    ] {
        if let Some(real) = file(tree, &path)? {
            return Ok(Some(real));
        }
    }
    let mut silent = None;
    for name in list(tree, "boot")? {
        if !NAMES.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let Some(real) = file(tree, &format!("boot/{name}"))? else {
            continue;
        };
        match read(tree, &real)?.as_deref().and_then(release) {
            Some(said) if said == kernel => return Ok(Some(real)),
            Some(_) => {}
            None if is_named_for(tree, &name, kernel)? => silent = Some(real),
            None => {}
        }
    }
    Ok(silent)
}

/// True if an image without a release belongs to `kernel` by name: by Arch's `pkgbase`, by the last
/// word of the release, as on Alpine, or by the plain name.
fn is_named_for(tree: &dyn SystemTree, name: &str, kernel: &str) -> Result<bool> {
    let base = read(tree, &format!("lib/modules/{kernel}/pkgbase"))?.unwrap_or_default();
    let base = String::from_utf8_lossy(&base).trim().to_owned();
    let Some((_, flavour)) = name.split_once('-') else {
        return Ok(true);
    };
    let last = kernel.rsplit('-').next().unwrap_or(kernel);
    Ok(flavour == base || flavour == last)
}

/// The regular file that `path` leads to.
fn file(tree: &dyn SystemTree, path: &str) -> Result<Option<String>> {
    let Some(real) = resolve(tree, path)? else {
        return Ok(None);
    };
    Ok((tree.node(&real)? == Some(SystemNode::File)).then_some(real))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initrd::system_tree::DirectoryTree;

    /// An x86 image that contains a release, as far as `release` reads it.
    fn image(said: &str) -> Vec<u8> {
        let mut image = vec![0; 0x1000];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
        image[0x500..0x500 + said.len()].copy_from_slice(said.as_bytes());
        image
    }

    fn found(files: &[(&str, Vec<u8>)], kernel: &str) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        kernel_image(&DirectoryTree::open(root.path()).unwrap(), kernel).unwrap()
    }

    #[test]
    fn every_distribution_has_its_place() {
        for (path, kernel) in [
            ("boot/vmlinuz-6.1.0-1-amd64", "6.1.0-1-amd64"),
            ("lib/modules/6.12.1-arch1-1/vmlinuz", "6.12.1-arch1-1"),
            ("usr/lib/modules/6.4.0-1-default/vmlinuz", "6.4.0-1-default"),
        ] {
            assert_eq!(found(&[(path, vec![])], kernel).as_deref(), Some(path));
        }
        // By the flavor, if the image confirms it.
        let alpine = [("boot/vmlinuz-lts", image("6.12.13-0-lts (build@x) #1"))];
        assert_eq!(
            found(&alpine, "6.12.13-0-lts").as_deref(),
            Some("boot/vmlinuz-lts")
        );
        assert_eq!(found(&alpine, "6.12.9-0-lts"), None);
        let arch = [
            ("boot/vmlinuz-linux", image("6.12.1-arch1-1 (x) #1")),
            ("boot/vmlinuz-linux-lts", image("6.6.9-1-lts (x) #1")),
        ];
        assert_eq!(
            found(&arch, "6.6.9-1-lts").as_deref(),
            Some("boot/vmlinuz-linux-lts")
        );
        assert_eq!(
            found(&arch, "6.12.1-arch1-1").as_deref(),
            Some("boot/vmlinuz-linux")
        );
        // An image of another processor contains no release.
        let silent = [
            ("boot/vmlinuz-virt", vec![0; 64]),
            ("boot/vmlinuz-lts", vec![0; 64]),
            ("lib/modules/6.6.2-1-virt/modules.dep", vec![]),
        ];
        assert_eq!(
            found(&silent, "6.6.2-1-virt").as_deref(),
            Some("boot/vmlinuz-virt")
        );
        assert_eq!(found(&[("boot/vmlinuz", image("6.1 x"))], "6.2"), None);
        assert_eq!(
            found(&[("boot/vmlinuz", image("6.2 x"))], "6.2").as_deref(),
            Some("boot/vmlinuz")
        );
    }
}
