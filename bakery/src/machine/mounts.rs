//! `etc/fstab` and `etc/crypttab`: masks lines for a disk that only one machine has. systemd waits
//! 90 s for such a disk and then ends the boot in emergency mode.

/// In front of a line that is masked.
const MASK: &str = "# masked by bakery, a disk of one machine: ";

/// A table that systemd reads at every boot.
#[derive(Debug)]
pub(crate) struct Table {
    /// Path of the table in the tree.
    pub path: &'static str,
    belongs: fn(&[&str]) -> bool,
}

/// The tables whose lines can be masked.
pub(crate) const TABLES: &[Table] = &[
    Table {
        path: "etc/fstab",
        belongs: mounts_a_disk,
    },
    Table {
        path: "etc/crypttab",
        belongs: opens_a_disk,
    },
];

/// A table with its lines masked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Masked {
    /// The whole table.
    pub text: Vec<u8>,
    /// The masked lines in their original form.
    pub lines: Vec<String>,
}

/// Masks the lines of `table` that belong to one machine.
#[must_use]
pub(crate) fn mask(table: &Table, text: &[u8]) -> Masked {
    let mut masked = Masked {
        text: Vec::with_capacity(text.len()),
        lines: Vec::new(),
    };
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let shown = String::from_utf8_lossy(line);
        let fields: Vec<&str> = shown.split_whitespace().collect();
        let is_comment = fields.first().is_none_or(|field| field.starts_with('#'));
        if !is_comment && (table.belongs)(&fields) {
            masked.text.extend_from_slice(MASK.as_bytes());
            masked.lines.push(fields.join(" "));
        }
        masked.text.extend_from_slice(line);
    }
    masked
}

/// Messages about masked lines, one for each.
#[must_use]
pub(crate) fn said(table: &Table, lines: &[String], is_kept: bool) -> Vec<String> {
    let path = table.path;
    let each = lines.iter().map(|line| match is_kept {
        true => format!("{path}: \"{line}\" is for a disk of one machine; a boot without it ends in emergency mode"),
        false => format!("{path}: \"{line}\" is masked, because it is for a disk of one machine (--keep-fstab keeps it)"),
    });
    each.collect()
}

/// True if an option lets the boot continue without the device.
fn is_optional(options: Option<&&str>) -> bool {
    let mut words = options.copied().unwrap_or_default().split(',');
    words.any(|word| matches!(word, "noauto" | "nofail"))
}

fn mounts_a_disk(fields: &[&str]) -> bool {
    let (Some(device), Some(place)) = (fields.first(), fields.get(1)) else {
        return false;
    };
    // The root is mounted; its line could only remount it as something else.
    if *place == "/" {
        return true;
    }
    if is_optional(fields.get(3)) {
        return false;
    }
    let kind = fields.get(2).copied().unwrap_or_default();
    let named = ["UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ID=", "/dev/"];
    let is_named = named
        .iter()
        .any(|start| device.trim_start_matches('"').starts_with(start));
    let is_memory = device.starts_with("/dev/zram") || device.starts_with("/dev/ram");
    let is_disk = is_named || kind == "swap";
    (is_disk && !is_memory) || kind == "zfs"
}

fn opens_a_disk(fields: &[&str]) -> bool {
    fields.len() >= 2 && !is_optional(fields.get(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_wait_for_a_disk_are_masked() {
        let text = "# /etc/fstab\n\
            UUID=1234 / ext4 errors=remount-ro 0 1\n\
            UUID=AB12 /boot/efi vfat umask=0077 0 1\n\
            UUID=77 none swap sw 0 0\n\
            /swapfile none swap sw 0 0\n\
            /dev/mapper/vg-home /home xfs defaults 0 2\n\
            LABEL=data /data ext4 nofail 0 2\n\
            /dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n\
            tmpfs /tmp tmpfs size=1g 0 0\n\
            server:/home /net nfs defaults 0 0\n\
            /dev/zram0 none swap defaults 0 0\n\
            /srv /export none bind 0 0\n\
            overlay / overlay rw 0 0";
        let masked = mask(&TABLES[0], text.as_bytes());
        let places: Vec<&str> = masked
            .lines
            .iter()
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(
            places,
            [
                "UUID=1234",
                "UUID=AB12",
                "UUID=77",
                "/swapfile",
                "/dev/mapper/vg-home",
                "overlay"
            ]
        );
        let text = String::from_utf8(masked.text).unwrap();
        assert!(text.contains(
            "\n# masked by bakery, a disk of one machine: UUID=AB12 /boot/efi vfat umask=0077 0 1\n"
        ));
        assert!(
            text.contains("\ntmpfs /tmp tmpfs size=1g 0 0\n")
                && text.ends_with("overlay / overlay rw 0 0")
        );
        // A masked line is a comment.
        assert!(mask(&TABLES[0], text.as_bytes()).lines.is_empty());
        let crypt = mask(
            &TABLES[1],
            b"swap UUID=1 /dev/urandom swap\nusb UUID=2 none noauto\n",
        );
        assert_eq!(crypt.lines, ["swap UUID=1 /dev/urandom swap"]);
    }
}
