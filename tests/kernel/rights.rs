//! S9, S10: owners, permissions, attributes.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};

use super::{Fixture, set_xattr, xattr};
use crate::harness::programs::run;

/// Mount options of the two modes.
const MODES: [&str; 2] = ["", "passthrough"];

/// Run a shell command as user 4242, group 4243.
fn as_user(command: &str, dir: &std::path::Path) -> bool {
    as_user_with(command, dir, Stdio::null())
}

/// Runs like [`as_user`], with this standard output.
fn as_user_with(command: &str, dir: &std::path::Path, output: Stdio) -> bool {
    let mut shell = Command::new("setpriv");
    shell
        .args(["--reuid=4242", "--regid=4243", "--clear-groups"])
        .args(["/bin/sh", "-c", command])
        .current_dir(dir)
        .stdout(output);
    shell.status().unwrap().success()
}

fn mode(path: &std::path::Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

#[test]
fn s9_1_the_kernel_checks_permissions() {
    let f = Fixture::new(|lower| {
        fs::write(lower.join("secret"), "x").unwrap();
        fs::set_permissions(lower.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    });
    assert!(!as_user("cat secret", &f.mount.at));
    assert!(!as_user("chmod 644 secret", &f.mount.at));
    assert!(!as_user("rm -f secret", &f.mount.at));
    fs::set_permissions(f.at("secret"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(as_user("cat secret", &f.mount.at));
}

#[test]
fn s9_4_a_new_file_gets_and_loses_capabilities() {
    const NAME: &str = "security.capability";
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let f = Fixture::new(|_| ());
    let path = f.at("new");
    // The kernel asks at the first write, and then knows that there is none.
    fs::write(&path, "x").unwrap();
    for _ in 0..2 {
        assert_eq!(xattr(&path, NAME), None);
        set_xattr(&path, NAME, &capability).unwrap();
        assert_eq!(xattr(&path, NAME).unwrap(), capability);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(xattr(&path, NAME).unwrap(), capability);
        fs::write(&path, "y").unwrap();
    }
    set_xattr(&path, NAME, &capability).unwrap();
    rustix::fs::removexattr(&path, NAME).unwrap();
    assert_eq!(xattr(&path, NAME), None);
    set_xattr(&path, NAME, &capability).unwrap();
    f.mount.again();
    assert_eq!(xattr(&path, NAME).unwrap(), capability);
}

/// S9.3 "If the group cannot execute the file, set-group-ID is cleared when a user outside the
/// group changes it."
#[test]
fn s9_3_set_group_id_without_execution_goes_when_an_outsider_writes() {
    for options in MODES {
        let f = Fixture::with(
            |lower| {
                for name in ["w", "t", "f", "g"] {
                    fs::write(lower.join(name), "content").unwrap();
                }
            },
            options,
        );
        let set = |owner| {
            for name in ["w", "t", "f", "g"] {
                std::os::unix::fs::chown(f.at(name), Some(owner), Some(77)).unwrap();
                fs::set_permissions(f.at(name), fs::Permissions::from_mode(0o2666)).unwrap();
            }
        };
        let change = "echo x >>w; truncate -s 3 t; fallocate -l 9000 f";
        set(5);
        assert!(as_user(change, &f.mount.at));
        assert_eq!(
            ["w", "t", "f"].map(|name| mode(&f.at(name))),
            [0o666; 3],
            "{options}"
        );
        set(4242);
        assert!(as_user("chown 4242:4243 g", &f.mount.at));
        assert_eq!(mode(&f.at("g")), 0o666, "{options}");
        // A change by a member of the group keeps it.
        set(4242);
        let mut member = Command::new("setpriv");
        member.args([
            "--reuid=4242",
            "--regid=4243",
            "--groups=4243,77",
            "sh",
            "-c",
            change,
        ]);
        assert!(member.current_dir(f.at("")).status().unwrap().success());
        assert_eq!(
            ["w", "t", "f"].map(|name| mode(&f.at(name))),
            [0o2666; 3],
            "{options}"
        );
    }
}

#[test]
fn s9_3_no_rights_are_given_after_a_write() {
    for options in MODES {
        let f = Fixture::with(
            |lower| {
                for name in ["append", "copy"] {
                    assert!(fs::copy("/usr/bin/id", lower.join(name)).unwrap() > 0);
                    fs::set_permissions(lower.join(name), fs::Permissions::from_mode(0o4777))
                        .unwrap();
                }
            },
            options,
        );
        assert!(fs::copy("/usr/bin/id", f.at("late")).unwrap() > 0);
        let early = fs::OpenOptions::new()
            .append(true)
            .open(f.at("late"))
            .unwrap();
        fs::set_permissions(f.at("late"), fs::Permissions::from_mode(0o4755)).unwrap();
        assert!(as_user_with("echo x", &f.mount.at, Stdio::from(early)));
        // No stat(2) in between: the kernel would ask for the mode.
        let run = |script: &str| assert!(as_user(script, &f.mount.at), "{script} {options}");
        // Busy as long as another test's child has inherited the descriptor.
        run(
            "for i in 1 2 3 4 5 6 7 8 9; do u=$(./late -u) && break; sleep 1; done; test $u = 4242",
        );
        run("test $(./append -u) = 0; echo x >>append; test $(./append -u) = 4242");
        run("test $(./copy -u) = 0; cat late >copy; test $(./copy -u) = 4242");
    }
}

#[test]
fn s9_5_an_acl_set_from_outside_the_group_clears_set_group_id() {
    let f = Fixture::new(|lower| {
        for name in ["file", "own", "root"] {
            fs::write(lower.join(name), "x").unwrap();
        }
        fs::create_dir(lower.join("dir")).unwrap();
        for (name, group) in [("file", 77), ("dir", 77), ("own", 4243), ("root", 77)] {
            std::os::unix::fs::chown(lower.join(name), Some(4242), Some(group)).unwrap();
            fs::set_permissions(lower.join(name), fs::Permissions::from_mode(0o2775)).unwrap();
        }
    });
    let acl = "setfacl -m u:5:rwx";
    assert!(as_user(&format!("{acl} file dir own"), &f.mount.at));
    let root = Command::new("setfacl")
        .args(["-m", "u:5:rwx"])
        .arg(f.at("root"))
        .status();
    assert!(root.unwrap().success());
    let modes = ["file", "dir", "own", "root"].map(|name| mode(&f.at(name)));
    assert_eq!(modes, [0o775, 0o775, 0o2775, 0o2775]);
    // A member through a supplementary group keeps it.
    fs::set_permissions(f.at("file"), fs::Permissions::from_mode(0o2775)).unwrap();
    let member = Command::new("setpriv")
        .args(["--reuid=4242", "--regid=4243", "--groups=4243,77"])
        .args(["setfacl", "-m", "u:6:rwx"])
        .arg(f.at("file"))
        .status();
    assert!(member.unwrap().success());
    assert_eq!(mode(&f.at("file")), 0o2775);
}

#[test]
fn s9_4_file_capabilities() {
    // cap_net_raw, effective and permitted, version 2.
    let mut capability = [0_u8; 20];
    capability[..8].copy_from_slice(&[1, 0, 0, 2, 0, 0x20, 0, 0]);
    let f = Fixture::new(|lower| {
        fs::write(lower.join("f"), "program").unwrap();
        set_xattr(&lower.join("f"), "security.capability", &capability).unwrap();
    });
    fs::set_permissions(f.at("f"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        xattr(&f.at("f"), "security.capability").unwrap(),
        capability
    );
    fs::OpenOptions::new()
        .append(true)
        .open(f.at("f"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"!"))
        .unwrap();
    assert_eq!(xattr(&f.at("f"), "security.capability"), None);
}

#[test]
fn s10_3_the_status_is_an_attribute_of_the_root() {
    let f = Fixture::new(|_| {});
    let mut value = vec![0; 65536];
    let len = rustix::fs::getxattr(f.at(""), "user.layerfs.status", &mut value[..]).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&value[..len]).unwrap();
    assert!(["default", "passthrough"].contains(&status["mode"].as_str().unwrap()));
    assert_eq!(status["layers"].as_array().unwrap().len(), 1);
}

/// S9.7 "chattr +i and +a protect files and directories, from root too"
#[test]
fn s9_7_protected_objects_do_not_change() {
    for options in MODES {
        let f = Fixture::with(
            |lower| {
                fs::write(lower.join("low"), "content").unwrap();
                fs::create_dir(lower.join("dir")).unwrap();
                fs::write(lower.join("dir/f"), "x").unwrap();
            },
            options,
        );
        fs::write(f.at("up"), "content").unwrap();
        fs::write(f.at("other"), "x").unwrap();
        let sh = |script: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]).current_dir(f.at(""));
            shell.stdout(Stdio::null()).stderr(Stdio::null());
            shell.status().unwrap().success()
        };
        assert!(sh("chattr +i low up dir"), "{options}");
        assert!(!as_user("chattr -i low 2>/dev/null", &f.mount.at));
        assert!(!sh("chattr +d up"), "a flag that is not kept");
        let changes = [
            "echo more >>F",
            "echo new >F",
            "truncate -s 3 F",
            "fallocate -l 9000 F",
            "chmod 600 F",
            "chown 5 F",
            "touch F",
            "setfattr -n trusted.x -v 1 F",
            "setfacl -m u:5:r F",
            "ln F new",
            "mv F new",
            "mv other F",
            "rm -f F",
        ];
        let inside = [
            "touch dir/new",
            "mkdir dir/new",
            "ln other dir/new",
            "rm dir/f",
            "mv dir/f new",
            "mv other dir/",
            "rmdir dir",
            "mv dir new",
        ];
        for _ in 0..2 {
            for file in ["low", "up"] {
                for change in changes {
                    assert!(!sh(&change.replace('F', file)), "{change} {file} {options}");
                }
                assert_eq!(fs::read(f.at(file)).unwrap(), b"content");
                assert!(
                    sh(&format!("lsattr {file} | grep -q '^----i-'")),
                    "{file} {options}"
                );
                let kept = xattr(&f.upper.join(file), "trusted.overlay.protattr");
                assert_eq!(kept.as_deref(), Some(&b"i"[..]));
            }
            for change in inside {
                assert!(!sh(change), "{change} {options}");
            }
            assert!(sh("echo more >>dir/f"), "what is in it is not protected");
            f.mount.again();
        }
        assert!(sh("chattr -i low up dir"));
        assert_eq!(xattr(&f.upper.join("up"), "trusted.overlay.protattr"), None);
        assert!(sh("echo more >>up; rm low; touch dir/new"), "{options}");
        assert!(sh("chattr +a up dir"));
        for _ in 0..2 {
            assert!(sh("echo more >>up && touch up dir/x$$"), "{options}");
            let changes = [
                "echo new >up",
                "dd if=/dev/zero of=up bs=1 count=1 conv=notrunc",
                "rm -f up",
                "chmod 600 up",
                "rm -f dir/new",
                "mv up dir/",
            ];
            for change in changes {
                assert!(!sh(change), "{change} {options}");
            }
            assert!(sh("lsattr up | grep -q '^-----a'"));
            f.mount.again();
        }
        assert!(sh("chattr -a up dir"));
    }
}

/// A tree on the mount, attached once more with other owners: open_tree(2), mount_setattr(2).
const IDMAPPED: &str = r#"
import ctypes, os, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
holder = subprocess.Popen(["unshare", "-U", "sleep", "60"])
while os.stat(f"/proc/{holder.pid}/ns/user").st_ino == os.stat("/proc/self/ns/user").st_ino:
    time.sleep(0.01)
for kind in ("uid", "gid"):
    open(f"/proc/{holder.pid}/{kind}_map", "w").write("0 100000 65536")
users = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY)
tree = libc.syscall(428, -100, sys.argv[1].encode(), 1 | 0o2000000)
attributes = (ctypes.c_uint64 * 4)(0x100000, 0, 0, users)
failed = libc.syscall(442, tree, b"", 0x1000, ctypes.byref(attributes), 32)
holder.kill()
holder.wait()
if failed:
    sys.exit(f"mount_setattr: {os.strerror(ctypes.get_errno())}")
os.fchdir(tree)
user = ["setpriv", "--reuid=100000", "--regid=100000", "--clear-groups", "sh", "-ec", sys.argv[2]]
code = subprocess.run(user).returncode
os.chown("up", 100005, 100006)
sys.exit(code)
"#;

/// S9.8 "An idmapped mount shows and creates objects with the owners of its map."
#[test]
fn s9_8_idmapped_mounts() {
    for options in MODES {
        let f = Fixture::with(
            |lower| {
                for name in ["low", "sgid"] {
                    fs::write(lower.join(name), "content").unwrap();
                }
                std::os::unix::fs::chown(lower.join("sgid"), Some(7), Some(77)).unwrap();
            },
            options,
        );
        fs::set_permissions(f.at("sgid"), fs::Permissions::from_mode(0o2666)).unwrap();
        fs::write(f.at("up"), "content").unwrap();
        set_xattr(&f.at("up"), "trusted.secret", b"x").unwrap();
        let script = "test $(stat -c %u:%g low) = 100000:100000; echo more >>low; echo new >new; mkdir dir; \
            echo x >>sgid; ln low linked; mv new dir/; truncate -s 3 up; getfattr -m - up | grep trusted && exit 1; ln -s x link";
        run(Command::new("python3")
            .args(["-c", IDMAPPED])
            .arg(f.at(""))
            .arg(script));
        let owner = |name: &str| {
            let meta = f.at(name).symlink_metadata().unwrap();
            (meta.uid(), meta.gid())
        };
        assert_eq!(
            ["low", "dir", "dir/new", "link"].map(owner),
            [(0, 0); 4],
            "{options}"
        );
        assert_eq!(owner("up"), (5, 6), "{options}");
        assert_eq!(mode(&f.at("sgid")), 0o666, "{options}");
        // The caller's groups are known as before.
        assert!(xattr(&f.at("up"), "trusted.secret").is_some());
        assert!(
            run(Command::new("getfattr").args(["-m", "-"]).arg(f.at("up")))
                .stdout
                .windows(7)
                .any(|w| w == b"trusted")
        );
    }
}
