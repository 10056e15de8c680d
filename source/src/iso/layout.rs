//! Layouts of live media: the files of the system, and the kernel that boots it.

use super::menu::MenuEntry;

/// Packed systems of one file each, the most complete one first: ALT's live, installer and rescue
/// images; Fedora, KIWI and Void; Gentoo.
const SINGLE: [&str; 7] = [
    "live",
    "altinst",
    "rescue",
    "LiveOS/squashfs.img",
    "LiveOS/rootfs.img",
    "LiveOS/ext3fs.img",
    "image.squashfs",
];
/// Arch's names of the image, below a directory named after distribution and processor.
const ARCH: [&str; 2] = ["/airootfs.sfs", "/airootfs.erofs"];
/// Directory of the packed systems of Debian live, and the file with their order.
const DEBIAN: &str = "live/";
pub(super) const DEBIAN_ORDER: &str = "live/filesystem.module";
/// Extensions that live-boot accepts.
const DEBIAN_KINDS: [&str; 5] = [".squashfs", ".ext2", ".ext3", ".ext4", ".xfs"];
/// Directory of Ubuntu's packed systems.
const CASPER: &str = "casper/";
const CASPER_KIND: &str = ".squashfs";

/// Kernel and initrd pairs, in the order to try them (before the pairs of the boot menus and those
/// with versions in their names, see [`boot_files`]).
const BOOT_PAIRS: [(&str, &str); 14] = [
    ("boot/vmlinuz", "boot/initrd.img"),
    ("boot/vmlinuz", "boot/full.cz"),
    ("syslinux/alt0/vmlinuz", "syslinux/alt0/full.cz"),
    ("isolinux/alt0/vmlinuz", "isolinux/alt0/full.cz"),
    ("EFI/BOOT/vmlinuz", "EFI/BOOT/full.cz"),
    ("live/vmlinuz", "live/initrd.img"),
    ("live/vmlinuz", "live/initrd"),
    ("casper/vmlinuz", "casper/initrd"),
    ("casper/vmlinuz", "casper/initrd.lz"),
    ("images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"),
    ("boot/x86_64/loader/linux", "boot/x86_64/loader/initrd"),
    ("boot/vmlinuz", "boot/initrd"),
    ("isolinux/vmlinuz", "isolinux/initrd.img"),
    ("install/vmlinuz", "install/initrd.gz"),
];

/// Paths of kernel and initramfs on an ISO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// Path of the kernel inside the ISO.
    pub kernel: String,
    /// Path of the initrd inside the ISO.
    pub initrd: String,
}

/// Properties of a medium apart from the names of its files.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// Debian's order of the packed systems.
    pub(super) order: Option<String>,
    /// Ubuntu's name of the topmost one.
    pub(super) topmost: Option<String>,
}

/// The packed systems to import, lowest first; empty if there are none.
///
/// # Errors
/// Several are suitable, or the medium names a missing one.
pub(super) fn systems(names: &[String], hints: &Hints) -> Result<Vec<String>, String> {
    let holds = |name: &str| names.iter().any(|known| known == name);
    if let Some(single) = SINGLE.iter().find(|name| holds(name)) {
        return Ok(vec![(*single).to_owned()]);
    }
    let arch = names
        .iter()
        .find(|name| ARCH.iter().any(|end| name.ends_with(end)));
    if let Some(arch) = arch {
        return Ok(vec![arch.clone()]);
    }
    let debian = debian(names, hints.order.as_deref())?;
    if !debian.is_empty() {
        return Ok(debian);
    }
    casper(names, hints.topmost.as_deref())
}

/// The order of live-boot: that of `filesystem.module`, else by name.
fn debian(names: &[String], order: Option<&str>) -> Result<Vec<String>, String> {
    if let Some(order) = order {
        let listed: Vec<String> = order
            .split_whitespace()
            .map(|name| format!("{DEBIAN}{name}"))
            .collect();
        return match listed.iter().find(|name| !names.contains(name)) {
            Some(missing) => Err(format!(
                "{DEBIAN_ORDER} names {missing}, which does not exist"
            )),
            None => Ok(listed),
        };
    }
    let is_system = |name: &&String| {
        let inside = name.strip_prefix(DEBIAN);
        inside.is_some_and(|inside| {
            !inside.contains('/') && DEBIAN_KINDS.iter().any(|kind| inside.ends_with(kind))
        })
    };
    let mut found: Vec<String> = names.iter().filter(is_system).cloned().collect();
    found.sort_unstable();
    Ok(found)
}

/// The order of casper: `a.b.c.squashfs` is on `a.b.squashfs`, which is on `a.squashfs`.
fn casper(names: &[String], topmost: Option<&str>) -> Result<Vec<String>, String> {
    let systems: Vec<&str> = names
        .iter()
        .filter_map(|name| name.strip_prefix(CASPER)?.strip_suffix(CASPER_KIND))
        .filter(|name| !name.contains('/'))
        .collect();
    if let Some(topmost) = topmost {
        let name = topmost.strip_suffix(CASPER_KIND).unwrap_or(topmost);
        if !systems.contains(&name) {
            return Err(format!(
                "its menu names casper/{topmost}, which does not exist"
            ));
        }
        return Ok(chain(&systems, name));
    }
    // The part on which no other part is based; of several, the live one.
    let is_top = |name: &&&str| {
        let above = format!("{name}.");
        !systems.iter().any(|other| other.starts_with(&above))
    };
    let tops: Vec<&str> = systems.iter().filter(is_top).copied().collect();
    let live: Vec<&str> = tops
        .iter()
        .filter(|name| name.ends_with(".live"))
        .copied()
        .collect();
    match (tops.as_slice(), live.as_slice()) {
        ([], _) => Ok(Vec::new()),
        ([only], _) | (_, [only]) => Ok(chain(&systems, only)),
        (_, []) if systems.contains(&"filesystem") => Ok(chain(&systems, "filesystem")),
        _ => Err(format!(
            "several systems could be meant: name one with --member: {}",
            systems
                .iter()
                .map(|name| format!("{CASPER}{name}{CASPER_KIND}"))
                .collect::<Vec<_>>()
                .join(", ")
        )),
    }
}

/// The packed system `name` and all parts below it, lowest first.
fn chain(systems: &[&str], name: &str) -> Vec<String> {
    let ends = name.match_indices('.').map(|(end, _)| end);
    let prefixes = ends.chain([name.len()]).filter_map(|end| name.get(..end));
    prefixes
        .filter(|prefix| systems.contains(prefix))
        .map(|prefix| format!("{CASPER}{prefix}{CASPER_KIND}"))
        .collect()
}

/// The packed systems for `member`: itself, and on Ubuntu's media all parts below it.
pub(super) fn member(names: &[String], member: &str) -> Vec<String> {
    let casper = casper(names, member.strip_prefix(CASPER));
    match (member.strip_prefix(CASPER), casper) {
        (Some(_), Ok(chain)) if chain.iter().any(|name| name == member) => chain,
        _ => vec![member.to_owned()],
    }
}

/// The kernel and initrd among `names`: a known pair first; then the first pair of the menus; then,
/// as Debian's live images have it, the pair of the highest version in `live/` or `boot/`.
pub(super) fn boot_files(names: &[String], menus: &[MenuEntry]) -> Option<BootFiles> {
    let holds = |name: &str| names.iter().any(|known| known == name);
    let pair = |kernel: &str, initrd: &str| BootFiles {
        kernel: kernel.to_owned(),
        initrd: initrd.to_owned(),
    };
    let known = BOOT_PAIRS
        .iter()
        .find(|(kernel, initrd)| holds(kernel) && holds(initrd));
    if let Some((kernel, initrd)) = known {
        return Some(pair(kernel, initrd));
    }
    let listed = menus.iter().find_map(|entry| {
        let initrd = entry.initrd.as_deref().filter(|initrd| holds(initrd))?;
        holds(&entry.kernel).then(|| pair(&entry.kernel, initrd))
    });
    if listed.is_some() {
        return listed;
    }
    for directory in ["live", "boot"] {
        let prefix = format!("{directory}/vmlinuz-");
        let mut versions: Vec<&str> = names
            .iter()
            .filter_map(|name| name.strip_prefix(&*prefix))
            .collect();
        versions.sort_by_key(|version| std::cmp::Reverse(version_key(version)));
        for version in versions {
            let spellings = [
                format!("{directory}/initrd.img-{version}"),
                format!("{directory}/initrd-{version}.img"),
                format!("{directory}/initrd-{version}"),
            ];
            if let Some(initrd) = spellings.into_iter().find(|name| holds(name)) {
                return Some(pair(&format!("{prefix}{version}"), &initrd));
            }
        }
    }
    None
}

/// Orders `6.1.0-9` before `6.1.0-10`: runs of digits as numbers, the rest as text.
fn version_key(version: &str) -> Vec<(u64, String)> {
    let mut parts = Vec::new();
    let mut rest = version;
    while !rest.is_empty() {
        let text_len = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (text, after) = rest.split_at(text_len);
        let digits_len = after
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(after.len());
        let (digits, after) = after.split_at(digits_len);
        parts.push((0, text.to_owned()));
        parts.push((digits.parse().unwrap_or(u64::MAX), String::new()));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests;
