//! A tree as an installed machine has it, imported with defaults.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tree::{run, scratch, shell};

const BAKERY: &str = env!("CARGO_BIN_EXE_bakery");

/// The tree of an installed Debian 13, as far as it matters here.
fn installed(tree: &Path) {
    shell(
        "mkdir -p etc/ssh etc/systemd/system usr/lib/systemd/system usr/sbin usr/bin var/lib/dbus var/log; \
         : > usr/lib/systemd/systemd; : > usr/sbin/sshd; : > usr/bin/ssh-keygen; : > usr/lib/systemd/system/ssh.service; \
         printf '[Unit]\\nConditionFirstBoot=yes\\n' > usr/lib/systemd/system/sshd-keygen.service; \
         echo root:x:0:0::/root:/bin/sh > etc/passwd; echo 0123456789abcdef0123456789abcdef > etc/machine-id; \
         chmod 444 etc/machine-id; ln -s /etc/machine-id var/lib/dbus/machine-id; \
         echo key > etc/ssh/ssh_host_ed25519_key; echo golden > etc/hostname; \
         printf 'UUID=1 / ext4 errors=remount-ro 0 1\\nUUID=2 /boot/efi vfat umask=0077 0 1\\nUUID=3 none swap sw 0 0\\ntmpfs /tmp tmpfs defaults 0 0\\n' > etc/fstab; \
         echo 'swap UUID=4 /dev/urandom swap' > etc/crypttab; \
         touch -d '2024-05-06 07:08:09.123456789' usr; touch -d @1000 etc",
        tree,
    );
}

/// Imports with defaults and `more`; gives the unpacked tree and the report's warnings.
fn imported(place: &Path, tree: &Path, more: &[&str]) -> (PathBuf, Vec<String>) {
    let store = place.join("store");
    let store = store.to_str().unwrap();
    if !Path::new(store).exists() {
        run(BAKERY, &["--store", store, "init"]);
    }
    let mut command = Command::new(BAKERY);
    command
        .args(["--store", store, "import", "sys", "--json"])
        .arg(tree)
        .args(more);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let digest = answer["report"]["layer"].as_str().unwrap();
    let out = place.join(format!("out{}", more.len()));
    let layer = format!("{store}/layers/{digest}.layer");
    run(BAKERY, &["unpack", &layer, "-o", out.to_str().unwrap()]);
    let warnings = answer["report"]["warnings"].as_array().unwrap();
    let warnings = warnings
        .iter()
        .map(|text| text.as_str().unwrap().to_owned());
    (out, warnings.collect())
}

/// Runs the service's command on `root` in place of `/`; the names of the host keys it made.
fn host_keys_made(unit: &str, root: &Path) -> Vec<String> {
    let (_, command) = unit.split_once("ExecStart=").unwrap();
    let script = command.trim().strip_prefix("/bin/sh -c '").unwrap();
    let root = root.to_str().unwrap();
    let script = script
        .trim_end_matches('\'')
        .replace("$$", "$")
        .replace("/etc/", &format!("{root}/etc/"))
        .replace("ssh-keygen -A", &format!("ssh-keygen -A -f {root}"));
    run("/bin/sh", &["-c", &script]);
    let made = fs::read_dir(format!("{root}/etc/ssh")).unwrap();
    let mut names: Vec<String> = made
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with("_key"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_boot_makes_no_host_key_that_takes_long() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    installed(&tree);
    let (out, _) = imported(&place, &tree, &[]);
    let unit =
        fs::read_to_string(out.join("etc/systemd/system/layerfs-host-keys.service")).unwrap();
    assert_eq!(host_keys_made(&unit, &out), ["ssh_host_ed25519_key"]);
    // A server whose configuration names its keys gets all kinds.
    fs::remove_file(out.join("etc/ssh/ssh_host_ed25519_key")).unwrap();
    let config = "# HostKey /no\nHostKey /etc/ssh/ssh_host_rsa_key\n";
    fs::write(out.join("etc/ssh/sshd_config"), config).unwrap();
    let made = host_keys_made(&unit, &out);
    assert!(made.contains(&"ssh_host_rsa_key".to_owned()), "{made:?}");
}

#[test]
fn no_boot_of_an_imported_machine_is_a_first_boot() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    installed(&tree);
    let (out, _) = imported(&place, &tree, &[]);
    let id = fs::metadata(out.join("etc/machine-id")).unwrap();
    assert_eq!((id.len(), id.mode() & 0o7777), (0, 0o444));
    let link = fs::read_link(out.join("var/lib/dbus/machine-id")).unwrap();
    assert_eq!(link, Path::new("/etc/machine-id"));
    // As systemd compares them.
    let usr = fs::metadata(out.join("usr")).unwrap();
    assert_eq!(usr.mtime_nsec(), 123_456_789);
    for stamp in ["etc/.updated", "var/.updated"] {
        let stamp = fs::metadata(out.join(stamp)).unwrap();
        assert_eq!(
            (stamp.mtime(), stamp.mtime_nsec()),
            (usr.mtime(), usr.mtime_nsec())
        );
    }
    // A service makes host keys before SSH starts, at every boot.
    assert!(!out.join("etc/ssh/ssh_host_ed25519_key").exists());
    let unit =
        fs::read_to_string(out.join("etc/systemd/system/layerfs-host-keys.service")).unwrap();
    assert!(!unit.contains("ConditionFirstBoot"), "{unit}");
    let wants = out.join("etc/systemd/system/ssh.service.wants/layerfs-host-keys.service");
    assert_eq!(
        fs::read_link(wants).unwrap(),
        Path::new("../layerfs-host-keys.service")
    );
    // An exclude pattern can include the identity.
    let (out, _) = imported(
        &place,
        &tree,
        &[
            "--exclude",
            "!/etc/machine-id",
            "--exclude",
            "!/etc/ssh/ssh_host_*",
        ],
    );
    assert_eq!(
        fs::read_to_string(out.join("etc/machine-id"))
            .unwrap()
            .len(),
        33
    );
    assert!(out.join("etc/ssh/ssh_host_ed25519_key").exists());
    assert!(
        !out.join("etc/.updated").exists()
            && !out.join("etc/systemd/system/ssh.service.wants").exists()
    );
}

/// A tree without users is filled at its first boot: it stays unchanged.
#[test]
fn a_tree_to_be_filled_at_its_first_boot_has_one() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    shell(
        "mkdir -p etc usr/lib/systemd var; : > usr/lib/systemd/systemd",
        &tree,
    );
    let (out, _) = imported(&place, &tree, &[]);
    assert!(!out.join("etc/machine-id").exists() && !out.join("etc/.updated").exists());
}

#[test]
fn mounts_of_one_machine_are_masked_and_said_once() {
    let (_guard, place) = scratch();
    let tree = place.join("tree");
    fs::create_dir(&tree).unwrap();
    installed(&tree);
    let (out, warnings) = imported(&place, &tree, &[]);
    let table = fs::read_to_string(out.join("etc/fstab")).unwrap();
    let live: Vec<&str> = table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(live, ["tmpfs /tmp tmpfs defaults 0 0"]);
    assert!(
        table.contains("UUID=2 /boot/efi vfat umask=0077 0 1"),
        "{table}"
    );
    let table = fs::read_to_string(out.join("etc/crypttab")).unwrap();
    assert!(table.starts_with('#'), "{table}");
    for part in [
        "UUID=1 /",
        "UUID=2 /boot/efi",
        "UUID=3 none",
        "swap UUID=4",
        "golden",
    ] {
        let count = warnings.iter().filter(|line| line.contains(part)).count();
        assert_eq!(count, 1, "{part}: {warnings:#?}");
    }
    let (out, warnings) = imported(&place, &tree, &["--keep-fstab"]);
    let kept = fs::read(out.join("etc/fstab")).unwrap();
    assert_eq!(kept, fs::read(tree.join("etc/fstab")).unwrap());
    assert!(
        warnings.iter().any(|line| line.contains("emergency mode")),
        "{warnings:#?}"
    );
}
