//! S9, S10: owners, permissions, attributes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Errno, Files as _, Fixture, MODES, Object, bytes, lacks_root, ordinary, set_xattr};
use crate::session::{OFlags, Protection, RenameFlags, User, is_root};

#[test]
fn s9_2_owners_groups_and_default_acls() {
    let f = Fixture::new(|lower| fs::create_dir(lower.join("gone")).unwrap());
    f.fs.chmod("", 0o777).unwrap();
    f.fs.mkdir("sgid").unwrap();
    let user = ordinary(0o027);
    let group = if is_root() { 77 } else { user.gid };
    f.fs.chown("sgid", None, Some(group)).unwrap();
    f.fs.chmod("sgid", 0o2777).unwrap();
    f.fs.rmdir("gone").unwrap();
    let theirs = f.fs.of(&user);
    theirs.put("f", "").unwrap();
    theirs.mkdir("d").unwrap();
    theirs.mkdir("gone").unwrap();
    theirs.symlink("x", "l").unwrap();
    theirs.put("sgid/f", "").unwrap();
    theirs.mkdir("sgid/d").unwrap();
    for name in ["f", "d", "l", "gone"] {
        let about = f.fs.about(name).unwrap();
        assert_eq!((about.uid, about.gid), (user.uid, user.gid), "{name}");
    }
    assert_eq!((f.fs.mode("f"), f.fs.mode("d")), (0o640, 0o750));
    assert_eq!(f.fs.about("sgid/f").unwrap().gid, group);
    assert_eq!(
        (f.fs.about("sgid/d").unwrap().gid, f.fs.mode("sgid/d")),
        (group, 0o2750)
    );
    // A default ACL of rwx for everybody, and for user 99: the umask does not count.
    let entry = |tag: u16, id: u32| {
        [
            &tag.to_le_bytes()[..],
            &7_u16.to_le_bytes(),
            &id.to_le_bytes(),
        ]
        .concat()
    };
    let any = u32::MAX;
    let acl = [
        2_u32.to_le_bytes().to_vec(),
        entry(1, any),
        entry(2, 99),
        entry(4, any),
        entry(0x10, any),
        entry(0x20, any),
    ]
    .concat();
    f.fs.put_xattr("d", "system.posix_acl_default", &acl)
        .unwrap();
    f.fs.chmod("d", 0o777).unwrap();
    let theirs = f.fs.of(&User {
        umask: 0o077,
        ..user
    });
    theirs.put("d/f", "").unwrap();
    theirs.mkdir("d/d").unwrap();
    assert_eq!((f.fs.mode("d/f"), f.fs.mode("d/d")), (0o666, 0o777));
    assert!(f.fs.get_xattr("d/d", "system.posix_acl_default").is_some());
    assert!(f.fs.get_xattr("d/f", "system.posix_acl_access").is_some());
}

#[test]
fn s9_3_unprivileged_changes_clear_privileges() {
    let user = ordinary(0o022);
    for options in MODES {
        let f = Fixture::with(
            |lower| {
                for name in ["w", "t", "c", "f", "r"] {
                    let path = lower.join(name);
                    fs::write(&path, "content").unwrap();
                    if is_root() {
                        std::os::unix::fs::chown(&path, Some(4242), Some(4243)).unwrap();
                    }
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap();
                }
                fs::write(lower.join("source"), "source").unwrap();
            },
            options,
        );
        let theirs = f.fs.of(&user);
        // The second time they are files of the upper.
        for _ in 0..2 {
            theirs.append("w", "x").unwrap();
            theirs
                .open_with("t", OFlags::WRONLY, 0)
                .unwrap()
                .set_len(3)
                .unwrap();
            theirs.chown("c", Some(user.uid), Some(user.gid)).unwrap();
            theirs.open_both("f").unwrap().allocate(9000).unwrap();
            let (from, to) = (
                theirs.open_read("source").unwrap(),
                theirs.open_both("r").unwrap(),
            );
            theirs
                .copy((from.handle(), 0), (to.handle(), 0), 3)
                .unwrap();
            for name in ["w", "t", "c", "f", "r"] {
                assert_eq!(f.fs.mode(name), 0o777, "{name} {options}");
                f.fs.chmod(name, 0o6777).unwrap();
            }
        }
    }
}

#[test]
fn s9_3_root_writes_and_rights_stay() {
    if lacks_root("S9.3 of root") {
        return;
    }
    for options in MODES {
        let f = Fixture::with(|_| {}, options);
        f.fs.put("f", "x").unwrap();
        f.fs.chmod("f", 0o4755).unwrap();
        f.fs.append("f", "y").unwrap();
        assert_eq!(f.fs.mode("f"), 0o4755, "{options}");
    }
}

/// Files and directories that their owner may not write, or not even read, can be changed, moved and removed all the same.
#[test]
fn s9_6_forbidden_objects_are_copied_up_moved_and_removed() {
    let f = Fixture::new(|lower| {
        for (kind, mode) in [("ro", 0o444), ("no", 0)] {
            for name in ["chmod", "move", "link", "touch", "gone"] {
                let path = lower.join(format!("{kind}-{name}"));
                fs::write(&path, bytes(9000)).unwrap();
                fs::set_permissions(
                    path,
                    fs::Permissions::from_mode(if is_root() { mode } else { 0o600 }),
                )
                .unwrap();
            }
        }
        for name in ["d-move", "d-shut"] {
            fs::create_dir_all(lower.join(name).join("in")).unwrap();
        }
    });
    let shut = |name: &str, mode: u32| f.fs.chmod(name, mode).unwrap();
    for (kind, mode) in [("ro", 0o444), ("no", 0)] {
        let name = |rest: &str| format!("{kind}-{rest}");
        for rest in ["chmod", "move", "link", "touch", "gone"] {
            shut(&name(rest), mode);
        }
        f.fs.mv(name("move"), name("moved")).unwrap();
        f.fs.hard_link(name("link"), name("linked")).unwrap();
        f.fs.set_times(name("touch"), crate::session::NewTime::Exactly((77, 0)))
            .unwrap();
        f.fs.unlink(name("gone")).unwrap();
        assert_eq!(f.fs.mode(name("moved")), mode);
        if !is_root() {
            let refused = f.fs.open_both(name("chmod")).err();
            assert_eq!(refused, Some(Errno::ACCESS));
        }
        shut(&name("chmod"), 0o600);
        f.fs.append(name("chmod"), "more").unwrap();
        assert_eq!(f.fs.content(name("chmod")).unwrap().len(), 9004);
    }
    shut("d-move", 0o555);
    f.fs.mv("d-move", "d-moved").unwrap();
    shut("d-shut", 0);
    f.again();
    assert_eq!(
        (
            f.fs.mode("d-shut"),
            f.fs.mode("d-moved"),
            f.fs.mode("no-moved")
        ),
        (0, 0o555, 0)
    );
    shut("d-shut", 0o700);
    assert_eq!(
        (f.fs.names("d-shut"), f.fs.names("d-moved")),
        (vec!["in".into()], vec!["in".into()])
    );
    assert_eq!(f.fs.about("no-touch").unwrap().mtime, (77, 0));
    assert_eq!(f.leftovers(), 0);
}

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
        f.fs.put("up", "content").unwrap();
        f.fs.put("other", "x").unwrap();
        let protect = |path: &str, immutable, append_only| {
            let protection = Protection {
                immutable,
                append_only,
            };
            f.fs.protect(Path::new(path), protection).unwrap();
        };
        for path in ["low", "up", "dir"] {
            protect(path, true, false);
        }
        let refused =
            |done: crate::session::Result<()>| assert_eq!(done, Err(Errno::PERM), "{options}");
        for _ in 0..2 {
            for file in ["low", "up"] {
                refused(f.fs.append(file, "more"));
                refused(f.fs.truncate(file, 3));
                refused(f.fs.open_both(file).and_then(|open| open.allocate(9000)));
                refused(f.fs.chmod(file, 0o600));
                refused(f.fs.set_times(file, crate::session::NewTime::Exactly((7, 7))));
                refused(f.fs.put_xattr(file, super::attribute(), b"1"));
                refused(f.fs.hard_link(file, "new"));
                refused(f.fs.mv(file, "new"));
                refused(f.fs.mv("other", file));
                refused(f.fs.unlink(file));
                assert_eq!(f.fs.content(file).unwrap(), b"content");
                let kept = f.marked(file, "overlay.protattr");
                assert_eq!(kept.as_deref(), Some(&b"i"[..]));
            }
            refused(f.fs.put("dir/new", ""));
            refused(f.fs.mkdir("dir/new"));
            refused(f.fs.hard_link("other", "dir/new"));
            refused(f.fs.unlink("dir/f"));
            refused(f.fs.mv("dir/f", "new"));
            refused(f.fs.mv("other", "dir/other"));
            refused(f.fs.mv("dir", "new"));
            refused(f.fs.mv_with("other", "up", RenameFlags::EXCHANGE));
            f.fs.append("dir/f", "in it nothing is protected").unwrap();
            f.again();
        }
        for path in ["low", "up", "dir"] {
            protect(path, false, false);
        }
        assert_eq!(f.marked("up", "overlay.protattr"), None);
        f.fs.append("up", "more").unwrap();
        f.fs.unlink("low").unwrap();
        f.fs.put("dir/new", "").unwrap();
        for path in ["up", "dir"] {
            protect(path, false, true);
        }
        for round in 0..2 {
            f.fs.append("up", "more").unwrap();
            f.fs.put(format!("dir/x{round}"), "").unwrap();
            refused(f.fs.open_both("up").and_then(|open| open.write(0, b"x")));
            refused(f.fs.truncate("up", 0));
            refused(f.fs.unlink("up"));
            refused(f.fs.chmod("up", 0o600));
            refused(f.fs.unlink("dir/new"));
            f.again();
        }
        for path in ["up", "dir"] {
            protect(path, false, false);
        }
    }
}

#[test]
fn s10_1_all_kinds_of_attributes() {
    let low = crate::transport::attribute_name("user.low", "trusted.lower");
    let f = Fixture::new(|lower| {
        fs::write(lower.join("f"), "x").unwrap();
        std::os::unix::fs::symlink("f", lower.join("l")).unwrap();
        set_xattr(&lower.join("f"), low, b"1").unwrap();
        if is_root() {
            set_xattr(&lower.join("l"), "trusted.low", b"2").unwrap();
        }
    });
    assert_eq!(f.fs.get_xattr("f", low).unwrap(), b"1");
    f.fs.put_xattr("f", low, &[7; 3000]).unwrap();
    f.fs.put_xattr("f", super::attribute(), b"").unwrap();
    f.fs.drop_xattr("f", super::attribute()).unwrap();
    if is_root() {
        assert_eq!(f.fs.get_xattr("l", "trusted.low").unwrap(), b"2");
        f.fs.put_xattr("l", "trusted.up", b"3").unwrap();
        f.fs.drop_xattr("l", "trusted.low").unwrap();
    } else {
        assert_eq!(f.fs.put_xattr("f", "trusted.x", b"1"), Err(Errno::PERM));
    }
    f.again();
    assert_eq!(f.fs.get_xattr("f", low).unwrap(), [7; 3000]);
    if is_root() {
        assert_eq!(f.fs.get_xattr("l", "trusted.up").unwrap(), b"3");
        assert_eq!(f.fs.get_xattr("l", "trusted.low"), None);
    }
    assert_eq!(f.fs.xattr_names(Path::new("f")).unwrap(), [low]);
    assert_eq!(f.fs.drop_xattr("f", super::attribute()), Err(Errno::NODATA));
}

#[test]
fn s10_2_marks_are_hidden_and_nested_overlays_have_theirs() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        fs::write(lower.join("f"), "data").unwrap();
    });
    f.fs.mv("d", "e").unwrap();
    f.fs.chmod("f", 0o600).unwrap();
    for name in ["e", "f"] {
        let names = f.fs.xattr_names(Path::new(name)).unwrap();
        assert!(names.is_empty(), "{names:?}");
    }
    let opaque = super::mark("overlay.opaque");
    assert_eq!(f.fs.get_xattr("e", &super::mark("overlay.redirect")), None);
    f.fs.put_xattr("e", &opaque, b"y").unwrap();
    assert_eq!(f.fs.get_xattr("e", &opaque).unwrap(), b"y");
    assert_eq!(f.marked("e", "overlay.overlay.opaque").unwrap(), b"y");
    let refused = f.fs.put_xattr("e", &super::mark("layerfs.origin"), b"y");
    assert_eq!(refused, Err(Errno::PERM));
    f.again();
    assert_eq!(f.fs.get_xattr("e", &opaque).unwrap(), b"y");
}

#[test]
fn s9_4_file_capabilities() {
    if lacks_root("S9.4") {
        return;
    }
    // cap_net_raw, effective and permitted, version 2.
    const NAME: &str = "security.capability";
    let mut capability = [0_u8; 20];
    capability[..8].copy_from_slice(&[1, 0, 0, 2, 0, 0x20, 0, 0]);
    let f = Fixture::new(|lower| {
        fs::write(lower.join("f"), "program").unwrap();
        set_xattr(&lower.join("f"), NAME, &capability).unwrap();
    });
    f.fs.chmod("f", 0o755).unwrap();
    assert_eq!(f.fs.get_xattr("f", NAME).unwrap(), capability);
    f.again();
    assert_eq!(f.fs.get_xattr("f", NAME).unwrap(), capability);
    assert_eq!(f.fs.stat(Object::Name(Path::new("f"))).unwrap().size, 7);
}
