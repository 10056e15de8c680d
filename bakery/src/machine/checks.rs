//! Further data of one machine in a tree: each finding is reported once with its remedy. The tree
//! is not changed.

use super::mounts;
use crate::initrd::error::Result;
use crate::initrd::system_tree::{SystemNode, SystemTree, list, read, resolve};

/// Files that are read, in addition to the tables of mounts.
const READ: &[&str] = &[
    "etc/mdadm/mdadm.conf",
    "etc/mdadm.conf",
    "etc/initramfs-tools/conf.d/resume",
    "etc/default/grub",
    "etc/kernel/cmdline",
    "etc/udev/rules.d/70-persistent-net.rules",
    "etc/udev/rules.d/75-persistent-net-generator.rules",
    "etc/network/interfaces",
    "etc/hostname",
];
/// Directories whose files are read, and the marks of a file that belongs to one machine.
const NETWORK: &[(&str, &[&str])] = &[
    (
        "etc/systemd/network",
        &["MACAddress=", "PermanentMACAddress="],
    ),
    ("etc/sysconfig/network-scripts", &["HWADDR="]),
    ("etc/NetworkManager/system-connections", &["mac-address="]),
    ("etc/netplan", &["macaddress:"]),
];
/// Files that always belong to one machine, with their descriptions.
const IDENTITY: &[(&str, &str)] = &[
    (
        "etc/iscsi/initiatorname.iscsi",
        "the iSCSI initiator's name",
    ),
    ("etc/nvme/hostnqn", "the NVMe host's name"),
    ("etc/nvme/hostid", "the NVMe host's number"),
    ("etc/hostid", "the host's number, as ZFS uses it"),
    ("etc/zfs/zpool.cache", "the ZFS pools of one machine"),
    (
        "etc/lvm/devices/system.devices",
        "the LVM disks of one machine",
    ),
    (
        "etc/salt/pki/minion/minion.pem",
        "the key of one Salt minion",
    ),
    (
        "var/lib/samba/private/secrets.tdb",
        "the domain account of one machine",
    ),
    (
        "var/lib/cloud/instance",
        "cloud-init's record of one machine",
    ),
    ("etc/krb5.keytab", "the Kerberos keys of one machine"),
];

/// True if [`findings`] reads the file at `path`.
#[must_use]
pub(crate) fn is_read(path: &[u8]) -> bool {
    let inside = |directory: &str| {
        let rest = path.strip_prefix(directory.as_bytes());
        rest.and_then(|rest| rest.strip_prefix(b"/")).is_some()
    };
    READ.iter().any(|known| known.as_bytes() == path)
        || NETWORK.iter().any(|(directory, _)| inside(directory))
}

/// Data of one machine in a tree, apart from lines of mounts.
///
/// # Errors
/// The tree cannot be read.
pub(crate) fn findings(tree: &dyn SystemTree) -> Result<Vec<String>> {
    let mut found = Vec::new();
    disks(tree, &mut found)?;
    loader(tree, &mut found)?;
    network(tree, &mut found)?;
    for (path, what) in IDENTITY {
        if resolve(tree, path)?.is_some() {
            found.push(format!("{path}: {what}; exclude it with --exclude /{path}"));
        }
    }
    Ok(found)
}

/// Lines of mounts that a boot would wait for: for a tree that was imported before they were masked.
///
/// # Errors
/// The tree cannot be read.
pub(crate) fn waiting_mounts(tree: &dyn SystemTree) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for table in mounts::TABLES {
        if let Some(text) = read(tree, table.path)? {
            let masked = mounts::mask(table, &text);
            found.extend(mounts::said(table, &masked.lines, true));
        }
    }
    Ok(found)
}

/// Lines except comments.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn lines_of(tree: &dyn SystemTree, path: &str) -> Result<Vec<String>> {
    Ok(lines(&read(tree, path)?.unwrap_or_default()))
}

fn disks(tree: &dyn SystemTree, found: &mut Vec<String>) -> Result<()> {
    for path in ["etc/mdadm/mdadm.conf", "etc/mdadm.conf"] {
        if let Some(line) = lines_of(tree, path)?
            .iter()
            .find(|line| line.starts_with("ARRAY"))
        {
            found.push(format!(
                "{path}: \"{line}\" is a RAID of one machine; remove the line, or the package mdadm"
            ));
        }
    }
    let groups = list(tree, "etc/lvm/backup")?;
    if !groups.is_empty() {
        found.push(format!(
            "etc/lvm/backup: {}: volume groups of one machine; exclude them with --exclude '/etc/lvm/backup/**'",
            groups.join(", ")
        ));
    }
    let resume = lines_of(tree, "etc/initramfs-tools/conf.d/resume")?;
    let names_a_disk = |line: &&String| {
        let value = line
            .strip_prefix("RESUME=")
            .map(|value| value.trim_matches('"'));
        value.is_some_and(|value| !matches!(value, "" | "none" | "auto"))
    };
    if let Some(line) = resume.iter().find(names_a_disk) {
        found.push(format!(
            "etc/initramfs-tools/conf.d/resume: \"{line}\" is the swap of one machine; an initramfs made by initramfs-tools waits for it: write RESUME=none"
        ));
    }
    for path in ["etc/default/grub", "etc/kernel/cmdline"] {
        let lines = lines_of(tree, path)?;
        let words = lines.iter().flat_map(|line| line.split(['"', '\'', ' ']));
        let mut disks =
            words.filter(|word| word.starts_with("resume=") || word.starts_with("root=UUID="));
        if let Some(word) = disks.next() {
            found.push(format!(
                "{path}: {word} names a disk of one machine; it has no effect, because the revision has the kernel parameters (--cmdline)"
            ));
        }
    }
    Ok(())
}

fn loader(tree: &dyn SystemTree, found: &mut Vec<String>) -> Result<()> {
    for path in ["boot/grub/grub.cfg", "boot/grub2/grub.cfg"] {
        if let Some(real) = resolve(tree, path)?
            && tree.node(&real)? == Some(SystemNode::File)
        {
            found.push(format!(
                "{path}: GRUB's hooks run when a kernel is installed and find no disk; remove GRUB's packages, or exclude the file with --exclude /{path}: without it they do nothing"
            ));
        }
    }
    Ok(())
}

fn network(tree: &dyn SystemTree, found: &mut Vec<String>) -> Result<()> {
    for path in [
        "etc/udev/rules.d/70-persistent-net.rules",
        "etc/udev/rules.d/75-persistent-net-generator.rules",
    ] {
        if !lines_of(tree, path)?.is_empty() {
            found.push(format!(
                "{path}: it names the network cards of one machine, and the cards of others get other names; exclude it with --exclude /{path}"
            ));
        }
    }
    for (directory, marks) in NETWORK {
        for name in list(tree, directory)? {
            let path = format!("{directory}/{name}");
            let all = lines_of(tree, &path)?;
            let line = all
                .iter()
                .find(|line| marks.iter().any(|mark| line.starts_with(mark)));
            if let Some(line) = line {
                found.push(format!(
                    "{path}: \"{line}\" is the network card of one machine"
                ));
            }
        }
    }
    let interfaces = lines_of(tree, "etc/network/interfaces")?;
    let is_static = |line: &&String| line.starts_with("iface ") && line.ends_with(" static");
    if let Some(line) = interfaces.iter().find(is_static) {
        found.push(format!(
            "etc/network/interfaces: \"{line}\" gives every machine the same address; the initramfs has configured the card already, remove it there"
        ));
    }
    if let Some(name) = lines_of(tree, "etc/hostname")?.first() {
        found.push(format!(
            "etc/hostname: every machine is called {name}; with --exclude /etc/hostname each takes its name from DHCP"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initrd::system_tree::DirectoryTree;

    #[test]
    fn an_installed_machine_is_said_once_each() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            (
                "etc/mdadm/mdadm.conf",
                "# x\nHOMEHOST <system>\nARRAY /dev/md/0 UUID=1\nARRAY /dev/md/1 UUID=2\n",
            ),
            ("etc/lvm/backup/vg0", "x"),
            ("etc/initramfs-tools/conf.d/resume", "RESUME=UUID=7\n"),
            (
                "etc/default/grub",
                "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet resume=UUID=7\"\n",
            ),
            ("boot/grub/grub.cfg", "menu"),
            (
                "etc/udev/rules.d/70-persistent-net.rules",
                "SUBSYSTEM==\"net\", ATTR{address}==\"52:54\", NAME=\"eth0\"\n",
            ),
            (
                "etc/systemd/network/10-lan.link",
                "[Match]\nMACAddress=52:54:00:12:34:56\n",
            ),
            (
                "etc/network/interfaces",
                "auto lo\niface lo inet loopback\niface eth0 inet static\n",
            ),
            ("etc/hostname", "golden\n"),
            ("etc/iscsi/initiatorname.iscsi", "x"),
        ];
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let tree = DirectoryTree::open(root.path()).unwrap();
        let found = findings(&tree).unwrap();
        for (path, _) in files {
            let about = path.trim_end_matches("/vg0");
            let count = found.iter().filter(|line| line.starts_with(about)).count();
            assert_eq!(count, 1, "{path}: {found:#?}");
            assert!(
                about.contains("lvm")
                    || path.starts_with("boot")
                    || path.contains("iscsi")
                    || is_read(path.as_bytes())
            );
        }
        assert_eq!(found.len(), files.len(), "{found:#?}");
    }

    #[test]
    fn a_plain_tree_has_nothing_to_say() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            (
                "etc/network/interfaces",
                "# all\nauto lo\niface lo inet loopback\n",
            ),
            ("etc/initramfs-tools/conf.d/resume", "RESUME=none\n"),
            ("etc/hostname", ""),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let tree = DirectoryTree::open(root.path()).unwrap();
        assert_eq!(findings(&tree).unwrap(), [""; 0]);
        assert_eq!(waiting_mounts(&tree).unwrap(), [""; 0]);
    }
}
