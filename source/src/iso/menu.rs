//! The boot menus of a live medium: each kernel with its initrd and parameters.

/// One entry of a menu.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MenuEntry {
    /// The kernel, as a path inside the medium without a leading slash.
    pub kernel: String,
    /// The first initrd.
    pub initrd: Option<String>,
    /// Its kernel parameters.
    pub options: Vec<String>,
    /// Name of the menu file.
    pub place: String,
}

/// The kernel parameters of a medium, for a boot from the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Parameters {
    /// Parameters that apply to the system in every boot.
    pub kept: Vec<String>,
    /// Parameters that locate files for the medium's own initramfs.
    pub left_out: Vec<String>,
    /// Name of the menu file.
    pub place: String,
}

/// Rank of a configuration file that may hold a menu; `None` for other files.
pub(super) fn rank(name: &str) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    let (directory, file) = name.rsplit_once('/')?;
    let last = directory.rsplit('/').next()?;
    if directory.ends_with("loader/entries") && file.ends_with(".conf") {
        return Some(3);
    }
    if !file.ends_with(".cfg") {
        return None;
    }
    match last {
        "isolinux" | "syslinux" => Some(0),
        "grub" | "grub2" => Some(1),
        "boot" | "efi" => Some(2),
        _ => None,
    }
}

/// The entries of a configuration of isolinux, GRUB or systemd-boot, in order.
pub(super) fn entries(text: &str, place: &str) -> Vec<MenuEntry> {
    let mut found = Vec::new();
    let mut open = MenuEntry::default();
    for line in text.lines() {
        let line = line.trim();
        let (verb, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let words = rest.split_whitespace();
        match verb.to_ascii_lowercase().as_str() {
            "label" | "menuentry" | "title" => close(&mut open, &mut found, place),
            "kernel" | "linux" | "linuxefi" | "linux16" => {
                if !open.kernel.is_empty() {
                    close(&mut open, &mut found, place);
                }
                let mut words = words;
                open.kernel = path(words.next().unwrap_or_default());
                add(&mut open, words);
            }
            "append" | "options" => add(&mut open, words),
            "initrd" | "initrdefi" | "initrd16" => {
                let mut words = words;
                let first = words
                    .next()
                    .map(|word| word.split(',').next().unwrap_or(word));
                open.initrd = first.map(path).or(open.initrd);
            }
            _ => {}
        }
    }
    close(&mut open, &mut found, place);
    found
}

fn add<'w>(open: &mut MenuEntry, words: impl Iterator<Item = &'w str>) {
    for word in words {
        match word.strip_prefix("initrd=") {
            Some(first) => {
                let first = first.split(',').next().unwrap_or(first);
                open.initrd.get_or_insert_with(|| path(first));
            }
            None => open.options.push(word.to_owned()),
        }
    }
}

fn close(open: &mut MenuEntry, found: &mut Vec<MenuEntry>, place: &str) {
    let mut entry = std::mem::take(open);
    // A module of the boot loader is not a kernel.
    let is_module = [".c32", ".com", ".0"]
        .iter()
        .any(|end| entry.kernel.ends_with(end));
    if !entry.kernel.is_empty() && !is_module {
        place.clone_into(&mut entry.place);
        found.push(entry);
    }
}

/// A path as the medium's listing has it: GRUB may name a device first.
fn path(word: &str) -> String {
    let word = match word.strip_prefix('(') {
        Some(rest) => rest.split_once(')').map_or(word, |(_, path)| path),
        None => word,
    };
    word.trim_start_matches('/').to_owned()
}

/// Parameters for the initrd of the medium, or that our initramfs would interpret.
const OTHERS: [&str; 56] = [
    "root",
    "rootfstype",
    "rootflags",
    "rootdelay",
    "rootwait",
    "ro",
    "rw",
    "init",
    "initrd",
    "BOOT_IMAGE",
    "BOOTIF",
    // live-boot
    "findiso",
    "fromiso",
    "fetch",
    "ftpfs",
    "httpfs",
    "netboot",
    "nfsroot",
    "nfsopts",
    "toram",
    "todisk",
    "module",
    "persistence",
    "persistent",
    "nopersistence",
    "plainroot",
    "union",
    "verify-checksums",
    "swapon",
    "ip",
    // casper and its installers
    "file",
    "preseed",
    "maybe-ubiquity",
    "only-ubiquity",
    "automatic-ubiquity",
    "noprompt",
    "integrity-check",
    "cdrom",
    // Fedora, KIWI, Arch
    "iso-scan/filename",
    "copytoram",
    "img_dev",
    "img_loop",
    "checksum",
    "verify",
    // ALT: make-initrd and propagator
    "bootchain",
    "automatic",
    "stagename",
    "ramdisk_size",
    "changedisk",
    "fastboot",
    "live",
    "live_rw",
    "lowmem",
    "showopts",
    "hash",
    "profile",
];
/// Prefixes of such parameters.
const FAMILIES: [&str; 14] = [
    "live-media",
    "persistence-",
    "overlay",
    "casper-",
    "layerfs",
    "rd.",
    "inst.",
    "archiso",
    "misobasedir",
    "miso",
    "cow_",
    "nfs",
    "live.",
    "vga",
];

/// Splits the parameters of an entry by their receiver.
pub(super) fn parted(entry: &MenuEntry) -> Parameters {
    let mut parameters = Parameters {
        place: entry.place.clone(),
        ..Parameters::default()
    };
    for word in &entry.options {
        let key = word.split('=').next().unwrap_or(word);
        // live-config needs this one; initramfs ignore it.
        let own = match key {
            "boot" => word == "boot=live",
            _ => !OTHERS.contains(&key) && !FAMILIES.iter().any(|family| key.starts_with(family)),
        };
        // Dashes separate the parameters of the medium from those of an installed system; variables
        // belong to the boot loader.
        if word.chars().all(|c| c == '-') {
            continue;
        }
        let plain = !word.contains(['$', '"', '\'', '\\', '{', '}', '%']);
        let list = if own && plain {
            &mut parameters.kept
        } else {
            &mut parameters.left_out
        };
        if !list.contains(word) {
            list.push(word.clone());
        }
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> (String, Option<String>, String, String) {
        let entry = entries(text, "x.cfg").into_iter().next().unwrap();
        let parameters = parted(&entry);
        (
            entry.kernel,
            entry.initrd,
            parameters.kept.join(" "),
            parameters.left_out.join(" "),
        )
    }

    fn expect(text: &str, kernel: &str, initrd: &str, kept: &str, left_out: &str) {
        let expected = (
            kernel.to_owned(),
            Some(initrd.to_owned()),
            kept.to_owned(),
            left_out.to_owned(),
        );
        assert_eq!(first(text), expected, "{text}");
    }

    #[test]
    fn every_boot_loader_is_read() {
        // live-build's isolinux.
        expect(
            "label live-amd64\n\tmenu label ^Live system (amd64)\n\tmenu default\n\tlinux /live/vmlinuz\n\
             \tinitrd /live/initrd.img\n\tappend boot=live components quiet splash username=visitor findiso=${iso_path}\n",
            "live/vmlinuz",
            "live/initrd.img",
            "boot=live components quiet splash username=visitor",
            "findiso=${iso_path}",
        );
        // Ubuntu's GRUB.
        expect(
            "set timeout=30\nmenuentry \"Try or Install Ubuntu\" {\n\tset gfxpayload=keep\n\
             \tlinux\t/casper/vmlinuz layerfs-path=minimal.standard.live.squashfs --- quiet splash\n\tinitrd\t/casper/initrd\n}\n",
            "casper/vmlinuz",
            "casper/initrd",
            "quiet splash",
            "layerfs-path=minimal.standard.live.squashfs",
        );
        // Fedora's GRUB.
        expect(
            "menuentry 'Start Fedora' --class fedora {\n linux ($root)/images/pxeboot/vmlinuz root=live:CDLABEL=Fedora-WS-Live rd.live.image quiet rhgb\n\
             initrd ($root)/images/pxeboot/initrd.img\n}",
            "images/pxeboot/vmlinuz",
            "images/pxeboot/initrd.img",
            "quiet rhgb",
            "root=live:CDLABEL=Fedora-WS-Live rd.live.image",
        );
        // Arch's systemd-boot.
        expect(
            "title    Arch Linux install medium\nlinux    /arch/boot/x86_64/vmlinuz-linux\ninitrd   /arch/boot/x86_64/initramfs-linux.img\n\
             options  archisobasedir=arch archisosearchuuid=2026-01-01-00-00-00-00\n",
            "arch/boot/x86_64/vmlinuz-linux",
            "arch/boot/x86_64/initramfs-linux.img",
            "",
            "archisobasedir=arch archisosearchuuid=2026-01-01-00-00-00-00",
        );
        // ALT's syslinux, in capitals, the initrd among the parameters.
        expect(
            "LABEL live\n MENU LABEL Live\n KERNEL alt0/vmlinuz\n APPEND initrd=alt0/full.cz live fastboot root=bootchain \
             automatic=method:cdrom stagename=live showopts quiet lang=ru_RU\n",
            "alt0/vmlinuz",
            "alt0/full.cz",
            "quiet lang=ru_RU",
            "live fastboot root=bootchain automatic=method:cdrom stagename=live showopts",
        );
    }

    #[test]
    fn a_module_of_the_boot_loader_is_no_kernel() {
        let text = "label menu\n kernel vesamenu.c32\nlabel local\n localboot 0\n";
        assert_eq!(entries(text, "x"), []);
    }

    #[test]
    fn parameters_of_ours_are_never_taken_from_a_medium() {
        let text =
            "linux /k layerfs=http://evil.example/x layerfs.shell init=/bin/sh quiet\ninitrd /i";
        expect(
            text,
            "k",
            "i",
            "quiet",
            "layerfs=http://evil.example/x layerfs.shell init=/bin/sh",
        );
    }
}
