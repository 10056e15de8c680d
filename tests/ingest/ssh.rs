//! `layerfs push` through a real sshd with real keys.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::sshd::{Sshd, authorize};
use crate::test_bakery::{TestBakery, program, run, text};

/// An upper as the kernel's overlayfs would have left it.
fn upper(bakery: &TestBakery) -> PathBuf {
    let upper = bakery.path("upper");
    fs::create_dir_all(upper.join("etc/opaque")).unwrap();
    fs::create_dir_all(upper.join("var/log")).unwrap();
    fs::write(upper.join("etc/motd"), "changed\n").unwrap();
    fs::write(upper.join("etc/opaque/inside"), "inside\n").unwrap();
    fs::write(upper.join("var/log/syslog"), "noise\n").unwrap();
    fs::write(upper.join("etc/setuid"), "x").unwrap();
    fs::set_permissions(upper.join("etc/setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(upper.join("etc/motd"), upper.join("etc/motd2")).unwrap();
    symlink("motd", upper.join("etc/link")).unwrap();
    run(Command::new("mknod")
        .arg(upper.join("etc/gone"))
        .args(["c", "0", "0"]));
    run(Command::new("setfattr")
        .args(["-n", "trusted.overlay.opaque", "-v", "y"])
        .arg(upper.join("etc/opaque")));
    run(Command::new("setfattr")
        .args(["-n", "user.note", "-v", "kept"])
        .arg(upper.join("etc/motd")));
    let sparse = fs::File::create(upper.join("etc/sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 32 << 20).unwrap();
    upper
}

#[test]
fn a_push_becomes_a_revision() {
    let bakery = TestBakery::new();
    let sshd = Sshd::start(&bakery);
    let upper = upper(&bakery);
    authorize(&bakery, &sshd, "ann", "kiosk");
    let _watch = bakery.watch(&[]);
    let pushed = sshd.push("ann", "kiosk", &upper, &["--wait"]);
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    assert!(
        text(&pushed.stdout).contains("published as revision 2"),
        "{}",
        text(&pushed.stdout)
    );
    let revisions = bakery.revisions("kiosk");
    assert_eq!(revisions.len(), 1);
    assert_eq!(revisions[0].manifest.author, "ann@desk");
    assert!(revisions[0].manifest.message.starts_with("a change\n"));
    assert_eq!(bakery.file("kiosk", "etc/motd").unwrap(), b"changed\n");
    assert_eq!(bakery.file("kiosk", "etc/motd2").unwrap(), b"changed\n");
    assert_eq!(
        bakery.file("kiosk", "etc/opaque/inside").unwrap(),
        b"inside\n"
    );
    assert_eq!(
        bakery.file("kiosk", "etc/gone"),
        None,
        "the whiteout hides it"
    );
    assert_eq!(
        bakery.file("kiosk", "var/log/syslog"),
        None,
        "logs are left out by default"
    );
    let sparse = bakery.file("kiosk", "etc/sparse").unwrap();
    assert_eq!(sparse.len(), 64 << 20);
    assert_eq!(&sparse[32 << 20..][..4], b"data");
    assert_eq!(sparse.iter().filter(|byte| **byte != 0).count(), 4);
    let history = bakery.history();
    let head = history.head(&"kiosk".parse().unwrap()).unwrap().unwrap();
    let index = history.merged(&head.manifest).unwrap().index;
    let etc = inode(&index, layerfmt::ROOT, "etc");
    let (motd, motd2) = (inode(&index, etc, "motd"), inode(&index, etc, "motd2"));
    assert_eq!(motd, motd2, "hard links stay one object");
    assert_eq!(index.xattr(motd, b"user.note"), Some(&b"kept"[..]));
    assert_eq!(
        index.inode(inode(&index, etc, "setuid")).unwrap().mode & 0o7777,
        0o4755
    );

    // The same upper again: there is no change to publish.
    let again = sshd.push("ann", "kiosk", &upper, &["--wait"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(
        text(&again.stdout).contains("changes nothing"),
        "{}",
        text(&again.stdout)
    );
    assert_eq!(bakery.revisions("kiosk").len(), 1);
}

fn inode(index: &layerfmt::Index, directory: layerfmt::Ino, name: &str) -> layerfmt::Ino {
    match index.lookup(directory, name.as_bytes()).unwrap().child {
        layerfmt::DirentTarget::Inode(ino) => ino,
        layerfmt::DirentTarget::Whiteout => panic!("{name} is a whiteout"),
    }
}

#[test]
fn a_right_to_what_the_store_does_not_have_is_given_with_a_warning() {
    let bakery = TestBakery::new();
    let sshd = Sshd::start(&bakery);
    let output = bakery
        .command()
        .arg("authorize")
        .arg(sshd.public("ann"))
        .args(["--systems", "kiosk,kioks,kiosk/lab"])
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let warned = |name: &str| said.contains(&format!("has no {name} yet"));
    assert!(
        warned("kioks/main") && warned("kiosk/lab") && !warned("kiosk/main"),
        "{said}"
    );
    assert!(text(&output.stdout).contains("kioks"), "the line is given");
}

#[test]
fn a_key_can_do_what_it_may_and_nothing_else() {
    let bakery = TestBakery::new();
    let sshd = Sshd::start(&bakery);
    let upper = upper(&bakery);
    authorize(&bakery, &sshd, "ann", "kiosk");
    let refused = |output: Output, words: &str| {
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
        let errors = text(&output.stderr);
        assert!(errors.contains(words), "{errors}");
        assert!(output.stdout.is_empty());
    };
    // A system for which the key is not allowed, a missing one, and an unknown key.
    refused(
        sshd.push("ann", "lab", &upper, &[]),
        "may not push to lab/main",
    );
    refused(
        sshd.push("ann", "kiosk/nowhere", &upper, &[]),
        "the server has no kiosk/nowhere",
    );
    refused(sshd.push("bob", "kiosk", &upper, &[]), "Permission denied");
    assert!(bakery.jobs().is_empty());
    // Anything but a push.
    for words in [
        &["id"][..],
        &["layerfs-push", "kiosk;id"],
        &["sh", "-c", "id"],
        &[],
    ] {
        let mut parts = sshd
            .ssh("ann")
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        parts.push("root@127.0.0.1".into());
        parts.extend(words.iter().map(|word| (*word).to_owned()));
        let output = Command::new(&parts[0])
            .args(&parts[1..])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        assert!(!output.status.success(), "{words:?}");
        assert!(!text(&output.stdout).contains("uid="), "{words:?}");
        assert!(
            text(&output.stdout).contains("refused"),
            "{words:?}: {}",
            text(&output.stdout)
        );
    }
    // An allowed push without a watcher: the prompt returns, the job waits.
    let pushed = sshd.push("ann", "kiosk", &upper, &["-q"]);
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    let job = text(&pushed.stdout).trim().to_owned();
    let jobs = bakery.jobs();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0]["id"], job.as_str());
    assert_eq!(jobs[0]["at"], "queued");
    assert_eq!(jobs[0]["request"]["origin"]["push"]["key"], "ann");
    // Revoked.
    run(bakery
        .command()
        .arg("authorize")
        .arg(sshd.public("ann"))
        .args(["--revoke", "--file"])
        .arg(sshd.authorized()));
    refused(sshd.push("ann", "kiosk", &upper, &[]), "Permission denied");
    // No server at all, no ssh at all.
    let nobody = Command::new(program("layerfs"))
        .args([
            "push",
            "--to",
            "root@127.0.0.1:kiosk",
            "--ssh",
            "ssh -F /dev/null -p 1 -o BatchMode=yes",
            "--upper",
        ])
        .arg(&upper)
        .output()
        .unwrap();
    refused(nobody, "Connection refused");
    let no_ssh = Command::new(program("layerfs"))
        .args([
            "push",
            "--to",
            "root@127.0.0.1:kiosk",
            "--ssh",
            "/nonexistent/ssh",
            "--upper",
        ])
        .arg(&upper)
        .output()
        .unwrap();
    refused(no_ssh, "install OpenSSH");
}

/// docs/PUSH.md, "The client inside a system": the key that comes with a system pushes to that system and to no other.
#[test]
fn the_client_of_a_system_brings_its_own_key() {
    let bakery = TestBakery::new();
    let sshd = Sshd::start(&bakery);
    let put = run(bakery
        .command()
        .args(["client", "kiosk", "--layerfs", "/bin/busybox"])
        .arg("--authorized-keys")
        .arg(sshd.authorized()));
    assert!(
        text(&put.stdout).contains("kiosk@2"),
        "{}",
        text(&put.stdout)
    );
    let program = bakery.file("kiosk", "usr/bin/layerfs").unwrap();
    assert_eq!(program, fs::read("/bin/busybox").unwrap());
    for path in [
        "sbin/mount.layerfs",
        "sbin/mount.fuse.layerfs",
        "etc/systemd/system/layerfs-boot-report.service",
        "etc/systemd/system/multi-user.target.wants/layerfs-boot-report.service",
        "etc/systemd/system/layerfs-follow.service",
        "etc/systemd/system/layerfs-hello.service",
        "etc/systemd/system/multi-user.target.wants/layerfs-follow.service",
        "etc/systemd/system/multi-user.target.wants/layerfs-hello.service",
    ] {
        assert!(bakery.file("kiosk", path).is_some(), "{path}");
    }
    let key = bakery.file("kiosk", "etc/layerfs/push_key").unwrap();
    let machine = sshd.directory.join("machine");
    fs::write(&machine, key).unwrap();
    fs::set_permissions(&machine, fs::Permissions::from_mode(0o600)).unwrap();
    let upper = upper(&bakery);
    let pushed = sshd.push("machine", "kiosk", &upper, &[]);
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    let refused = sshd.push("machine", "lab", &upper, &[]);
    assert!(!refused.status.success());
    assert!(
        text(&refused.stderr).contains("may not push"),
        "{}",
        text(&refused.stderr)
    );
    // Once more changes neither the key nor the list of keys.
    let keys = fs::read_to_string(sshd.authorized()).unwrap();
    run(bakery.command().args([
        "client",
        "lab",
        "--layerfs",
        "/bin/busybox",
        "--no-push-key",
    ]));
    assert_eq!(fs::read_to_string(sshd.authorized()).unwrap(), keys);
    assert!(bakery.file("lab", "etc/layerfs/push_key").is_none());
}

/// docs/PUSH.md, "The client inside a system": no two systems share a key, even if their names are
/// similar.
#[test]
fn each_system_has_a_push_key_of_its_own() {
    let bakery = TestBakery::new();
    let store = bakery.store();
    let keys = bakery::keys::Keys::locate(None, store.to_str().unwrap()).unwrap();
    let key = |name: &str| keys.push_key(&name.parse().unwrap()).unwrap().0;
    assert_ne!(key("lab/a-b"), key("lab-a/b"));
    assert_eq!(key("lab/a-b"), key("lab/a-b"));
}

/// A store that is named from here is named in full in the key's line: sshd starts the command elsewhere.
#[test]
fn a_client_needs_a_static_program_and_its_key_knows_the_store() {
    let bakery = TestBakery::new();
    let keys = bakery.path("authorized_keys");
    let client = |program: &Path| {
        let mut command = Command::new(crate::test_bakery::program("bakery"));
        command
            .current_dir(bakery.path("."))
            .args(["--store", "store", "client", "kiosk", "--layerfs"])
            .arg(program)
            .arg("--authorized-keys")
            .arg(&keys);
        command
    };
    let refused = client(Path::new("/bin/sh")).output().unwrap();
    assert!(!refused.status.success());
    assert!(
        text(&refused.stderr).contains("not a static program"),
        "{}",
        text(&refused.stderr)
    );
    run(&mut client(Path::new("/bin/busybox")));
    let line = fs::read_to_string(&keys).unwrap();
    let store = format!(
        "--store {}",
        fs::canonicalize(bakery.store()).unwrap().display()
    );
    assert!(line.contains(&store), "{line}");
}

/// An import with the client is one answer: a reader of `--json` gets one document.
#[test]
fn an_import_with_the_client_is_one_answer() {
    let bakery = TestBakery::new();
    let tree = bakery.path("tree");
    fs::create_dir_all(tree.join("usr/bin")).unwrap();
    fs::write(tree.join("usr/bin/tool"), b"a tool").unwrap();
    let import = |arguments: &[&str]| {
        run(bakery
            .command()
            .args([
                "import",
                "office",
                "--no-check",
                "--with-client",
                "--no-push-key",
            ])
            .args(["--layerfs", "/bin/busybox"])
            .args(arguments)
            .arg(&tree))
    };
    let done = import(&["--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(answer["published"], "office@1");
    assert_eq!(answer["client"]["published"], "office@2");
    let again = import(&[]);
    let lines = text(&again.stdout);
    assert!(lines.contains("published  office@3"), "{lines}");
    assert!(
        lines.contains("client     /bin/busybox in office@4"),
        "{lines}"
    );
}
