//! Layouts of live media, by the names of their files.

use super::*;

fn found(names: &[&str]) -> Option<(String, String)> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    boot_files(&names, &[]).map(|files| (files.kernel, files.initrd))
}

#[test]
fn kernels_are_found_in_every_known_layout() {
    let table: &[(&[&str], Option<(&str, &str)>)] = &[
        // ALT p10/p11 live.
        (
            &[
                "live",
                "boot/vmlinuz",
                "boot/initrd.img",
                "boot/vmlinuz-6.1",
                "EFI/BOOT/x.efi",
            ],
            Some(("boot/vmlinuz", "boot/initrd.img")),
        ),
        // ALT with propagator.
        (
            &[
                "altinst",
                "boot/vmlinuz",
                "boot/full.cz",
                "syslinux/alt0/vmlinuz",
            ],
            Some(("boot/vmlinuz", "boot/full.cz")),
        ),
        // ALT before.
        (
            &["isolinux/alt0/full.cz", "isolinux/alt0/vmlinuz"],
            Some(("isolinux/alt0/vmlinuz", "isolinux/alt0/full.cz")),
        ),
        (
            &["EFI/BOOT/vmlinuz", "EFI/BOOT/full.cz"],
            Some(("EFI/BOOT/vmlinuz", "EFI/BOOT/full.cz")),
        ),
        // Debian live: versions only.
        (
            &[
                "live/vmlinuz-6.1.0-9-amd64",
                "live/vmlinuz-6.1.0-10-amd64",
                "live/initrd.img-6.1.0-9-amd64",
                "live/initrd.img-6.1.0-10-amd64",
            ],
            Some((
                "live/vmlinuz-6.1.0-10-amd64",
                "live/initrd.img-6.1.0-10-amd64",
            )),
        ),
        (&["boot/vmlinuz"], None),
        (&[], None),
    ];
    for (names, expected) in table {
        let expected = expected.map(|(k, i)| (k.to_owned(), i.to_owned()));
        assert_eq!(found(names), expected, "{names:?}");
    }
}

fn stacked(names: &[&str], order: Option<&str>, topmost: Option<&str>) -> Result<String, String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let hints = Hints {
        order: order.map(str::to_owned),
        topmost: topmost.map(str::to_owned),
    };
    systems(&names, &hints).map(|found| found.join(" "))
}

#[test]
fn systems_are_found_in_every_known_layout() {
    let found = |names: &[&str]| stacked(names, None, None).unwrap();
    assert_eq!(found(&["altinst", "live", "rescue"]), "live");
    assert_eq!(
        found(&["LiveOS/squashfs.img", "images/pxeboot/vmlinuz"]),
        "LiveOS/squashfs.img"
    );
    assert_eq!(
        found(&["arch/x86_64/airootfs.erofs"]),
        "arch/x86_64/airootfs.erofs"
    );
    assert_eq!(
        found(&["live/vmlinuz", "live/filesystem.squashfs"]),
        "live/filesystem.squashfs"
    );
    assert_eq!(found(&["pool/main/x.deb"]), "");
}

#[test]
fn debian_stacks_by_its_list_else_by_name() {
    let names = [
        "live/b.squashfs",
        "live/a.squashfs",
        "live/c.ext4",
        "live/initrd.img",
    ];
    let all = "live/a.squashfs live/b.squashfs live/c.ext4";
    assert_eq!(stacked(&names, None, None).unwrap(), all);
    let listed = stacked(&names, Some("b.squashfs\na.squashfs\n"), None).unwrap();
    assert_eq!(listed, "live/b.squashfs live/a.squashfs");
    let missing = stacked(&names, Some("z.squashfs"), None).unwrap_err();
    assert!(missing.contains("live/z.squashfs"), "{missing}");
}

#[test]
fn ubuntu_stacks_by_the_dots_in_the_names() {
    let names = [
        "casper/minimal.squashfs",
        "casper/minimal.de.squashfs",
        "casper/minimal.standard.squashfs",
        "casper/minimal.standard.de.squashfs",
        "casper/minimal.standard.live.squashfs",
    ];
    let live = "casper/minimal.squashfs casper/minimal.standard.squashfs casper/minimal.standard.live.squashfs";
    assert_eq!(stacked(&names, None, None).unwrap(), live);
    let asked = stacked(&names, None, Some("minimal.standard.squashfs")).unwrap();
    assert_eq!(
        asked,
        "casper/minimal.squashfs casper/minimal.standard.squashfs"
    );
    let unclear = stacked(&names[..2], None, None).unwrap();
    assert_eq!(
        unclear,
        "casper/minimal.squashfs casper/minimal.de.squashfs"
    );
    let several = ["casper/a.squashfs", "casper/b.squashfs"];
    assert!(
        stacked(&several, None, None)
            .unwrap_err()
            .contains("--member")
    );
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(member(&names, "casper/minimal.de.squashfs").len(), 2);
    assert_eq!(member(&names, "live/x.squashfs"), ["live/x.squashfs"]);
}
