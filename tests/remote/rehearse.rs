//! `bakery rehearse` with emulators that are none: what it refuses, and the report of a failed boot.
//! The long test (`make test-rehearse`) boots a real system.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::client::program;
use super::site::{SYSTEM, Site};

/// An initramfs in which only the name of the client counts.
pub(crate) fn initramfs(name: &str) -> Vec<u8> {
    let member = |name: &str, mode: u32| {
        let head = format!(
            "070701{:08x}{mode:08x}{:0>72}{:08x}{:08x}",
            1,
            0,
            name.len() + 1,
            0
        );
        let mut bytes = head.into_bytes();
        bytes.extend(name.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    [member(name, 0o100_755), member("TRAILER!!!", 0)].concat()
}

fn write(path: &Path, bytes: &[u8]) -> PathBuf {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    path.to_owned()
}

/// A store with one small system, and the emulator of a test.
struct Rehearsing {
    site: Site,
    root: PathBuf,
    emulator: PathBuf,
    /// The bakery, in a place that every account may enter.
    bakery: PathBuf,
}

/// The program under another name, without a copy where the file system allows it.
fn copy_of_bakery(to: PathBuf) -> PathBuf {
    let from = program("bakery");
    if std::fs::hard_link(&from, &to).is_err() {
        std::fs::copy(&from, &to).unwrap();
    }
    to
}

impl Rehearsing {
    fn new() -> Rehearsing {
        let site = Site::empty();
        // As root the emulator runs under another account.
        std::fs::set_permissions(site.path("."), PermissionsExt::from_mode(0o755)).unwrap();
        let root = site.path("tree");
        write(&root.join("sbin/init"), b"#!/bin/sh\n");
        std::fs::create_dir_all(root.join("usr")).unwrap();
        let emulator = site.path("emulator");
        let bakery = copy_of_bakery(site.path("bakery"));
        Rehearsing {
            site,
            root,
            emulator,
            bakery,
        }
    }

    fn bakery(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.bakery);
        command.arg("--store").arg(self.site.store());
        command.args(arguments).output().unwrap()
    }

    fn import(&self, more: &[&str]) {
        let root = self.root.to_str().unwrap();
        let done = self.bakery(&[&["import", SYSTEM, root, "--level", "3"], more].concat());
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// Imports the system with a kernel and an initramfs whose client has this name.
    fn import_bootable(&self, client: &str) {
        let kernel = write(&self.site.path("kernel"), b"kernel");
        let initrd = write(&self.site.path("initrd"), &initramfs(client));
        let (kernel, initrd) = (kernel.to_str().unwrap(), initrd.to_str().unwrap());
        self.import(&["--kernel", kernel, "--initrd", initrd]);
    }

    /// The error of a rehearsal under an emulator that is this script; nothing is published.
    fn refused(&self, emulator: &str, more: &[&str]) -> String {
        write(
            &self.emulator,
            format!("#!/bin/sh\n{emulator}\n").as_bytes(),
        );
        let emulator = self.emulator.to_str().unwrap();
        let before = self
            .site
            .publisher()
            .history()
            .require_head(&Site::name())
            .unwrap();
        let done = self.bakery(&[&["rehearse", SYSTEM, "--qemu", emulator], more].concat());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{said}");
        let after = self
            .site
            .publisher()
            .history()
            .require_head(&Site::name())
            .unwrap();
        assert_eq!(before.number(), after.number());
        said
    }
}

#[test]
fn a_failed_boot_is_reported_with_the_end_of_its_console() {
    let test = Rehearsing::new();
    test.import_bootable("bin/layerfs");
    for (emulator, more, expected) in [
        (
            "echo the first line; echo 'Kernel panic - not syncing: no init'; exec sleep 600",
            &[][..],
            &["the boot failed: Kernel panic", "the first line"][..],
        ),
        (
            "echo a last word; exit 3",
            &[],
            &["the machine ended (exit status: 3)"],
        ),
        (
            "echo waiting for a server; exec sleep 600",
            &["--timeout", "1"],
            &["no trace came within 1 s", "waiting for a server"],
        ),
    ] {
        let said = test.refused(emulator, more);
        for part in expected {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[test]
fn the_machine_has_the_files_of_the_revision_and_a_network_of_one_address() {
    let test = Rehearsing::new();
    test.import_bootable("bin/layerfs");
    let said = test.refused("printf '%s\\n' \"$@\"; exit 1", &["--memory", "512"]);
    for part in [
        "restrict=on,guestfwd=tcp:10.0.2.100:80-cmd:",
        "root=layerfs:http://10.0.2.100/kiosk/main@1",
        "rdinit=/rehearse/init",
        "layerfs.prefetch=no",
        "512",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn what_cannot_be_booted_is_refused_with_the_remedy() {
    let test = Rehearsing::new();
    test.import(&[]);
    assert!(test.refused("exit 0", &[]).contains("bakery initrd kiosk"));
    test.import_bootable("bin/other");
    let said = test.refused("exit 0", &[]);
    assert!(said.contains("has no layerfs client"), "{said}");
    test.import_bootable("bin/layerfs");
    let done = test.bakery(&["rehearse", SYSTEM, "--qemu", "/nonexistent/emulator"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("install QEMU"), "{said}");
}

/// As root, QEMU runs under the account nobody, which starts this program for each connection.
#[test]
fn a_program_that_qemu_may_not_execute_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: QEMU runs under another account only if root starts it");
        return;
    }
    let test = Rehearsing::new();
    test.import_bootable("bin/layerfs");
    let emulator = write(&test.emulator, b"#!/bin/sh\nexit 0\n");
    let own = test.site.path("own");
    std::fs::create_dir(&own).unwrap();
    std::fs::set_permissions(&own, PermissionsExt::from_mode(0o700)).unwrap();
    let mut command = Command::new(copy_of_bakery(own.join("bakery")));
    command.arg("--store").arg(test.site.store());
    command.args(["rehearse", SYSTEM, "--qemu"]).arg(emulator);
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(
        said.contains("account nobody, which may not execute"),
        "{said}"
    );
}
