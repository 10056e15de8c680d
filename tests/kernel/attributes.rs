//! S4.5, S8.3–S8.5: attributes of stat(2) during copy-up, the kernel's cached attributes, and
//! access times.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::{Fixture, bytes};
use crate::harness::programs::run;

/// Mount options of the two modes.
const MODES: [&str; 2] = ["", "passthrough"];

/// All attributes of stat(2) of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    ino: u64,
    mode: u16,
    nlink: u32,
    owner: (u32, u32),
    size: u64,
    blocks: u64,
    atime: (i64, u32),
    mtime: (i64, u32),
    ctime: (i64, u32),
    rdev: (u32, u32),
}

/// Attributes from the kernel's cache, or from the daemon (`sync`).
fn seen(path: &Path, sync: bool) -> Option<Seen> {
    let how = if sync {
        AtFlags::STATX_FORCE_SYNC
    } else {
        AtFlags::empty()
    };
    let flags = AtFlags::SYMLINK_NOFOLLOW | how;
    let stat = rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS).ok()?;
    Some(Seen {
        ino: stat.stx_ino,
        mode: stat.stx_mode,
        nlink: stat.stx_nlink,
        owner: (stat.stx_uid, stat.stx_gid),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        atime: (stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec),
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        rdev: (stat.stx_rdev_major, stat.stx_rdev_minor),
    })
}

fn all(paths: &[PathBuf], sync: bool) -> Vec<Option<Seen>> {
    paths.iter().map(|path| seen(path, sync)).collect()
}

fn sh(dir: &Path, script: &str) {
    let mut shell = Command::new("sh");
    run(shell.args(["-ec", script]).current_dir(dir));
}

/// Commands that copy a file up and change no directory. `$F` is the file.
const IN_PLACE: [&str; 11] = [
    "touch $F",
    "chmod 600 $F",
    "chown 5:6 $F",
    "setfattr -n trusted.x -v 1 $F",
    "setfacl -m u:5:r $F",
    "echo more >>$F",
    "echo new >$F",
    "truncate -s 100 $F",
    "fallocate -l 9000 $F",
    "exec 3<>$F",
    "setfattr -x trusted.none $F || true",
];

#[test]
fn s4_5_a_copy_up_changes_nothing_of_the_directories_above() {
    for options in MODES {
        let f = Fixture::with(
            |lower| {
                let deep = lower.join("a/b/c");
                fs::create_dir_all(&deep).unwrap();
                for at in 0..IN_PLACE.len() {
                    fs::write(deep.join(format!("f{at}")), bytes(300)).unwrap();
                }
                fs::write(deep.join("one"), "linked").unwrap();
                fs::hard_link(deep.join("one"), lower.join("a/two")).unwrap();
            },
            options,
        );
        fs::write(f.at("a/b/c/new"), "a change of c, and of it alone").unwrap();
        let above = ["", "a", "a/b", "a/b/c"].map(|path| f.at(path));
        let before = all(&above, false);
        for (at, script) in IN_PLACE.iter().enumerate() {
            let script = script.replace("$F", &format!("f{at}"));
            sh(&f.at("a/b/c"), &script);
            assert_eq!(all(&above, false), before, "{script} {options}");
            assert_eq!(all(&above, true), before, "{script} {options}, asked again");
        }
        sh(&f.at("a/b/c"), "chmod 600 one");
        assert_eq!(all(&above, true), before, "a hard link {options}");
        f.mount.again();
        assert_eq!(all(&above, false), before, "after a remount {options}");
        // Real changes of a directory are visible.
        fs::set_permissions(
            f.at("a/b"),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
        fs::write(f.at("a/new"), "").unwrap();
        sh(&f.at("a"), "setfattr -n trusted.x -v 1 .");
        for sync in [false, true] {
            let now = all(&above, sync);
            let ctime = |of: &Option<Seen>| of.as_ref().map(|seen| seen.ctime);
            let changed: Vec<bool> = now
                .iter()
                .zip(&before)
                .map(|(now, before)| ctime(now) > ctime(before))
                .collect();
            assert_eq!(changed, [false, true, true, false], "{options}");
        }
        f.mount.again();
        assert_ne!(all(&above, false)[1..3], before[1..3]);
    }
}

/// tar compares the attributes of a directory before and after.
#[test]
fn s4_5_tar_sees_no_change_while_others_are_copied_up() {
    for options in MODES {
        let f = Fixture::with(
            |lower| {
                for dir in ["a/b", "a/hot"] {
                    fs::create_dir_all(lower.join(dir)).unwrap();
                    for at in 0..40 {
                        fs::write(lower.join(format!("{dir}/f{at}")), bytes(5000)).unwrap();
                    }
                }
            },
            options,
        );
        let tar = |rest: &str| {
            let script = format!("tar -cf {}/t.tar {rest} a 2>&1", f.bench.path("").display());
            let said = Command::new("sh")
                .args(["-c", &script])
                .current_dir(f.at(""))
                .output()
                .unwrap();
            let said_text = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(said.status.success(), "{options}: {said_text}");
        };
        tar("");
        sh(&f.at(""), "touch a/b/f0");
        tar("");
        std::thread::scope(|scope| {
            let hot = scope.spawn(|| {
                for at in 0..40 {
                    sh(&f.at("a/hot"), &format!("echo x >>f{at}; chmod 640 f{at}"));
                }
            });
            while !hot.is_finished() {
                tar("--exclude=a/hot");
            }
        });
    }
}

/// Every kind of call, on an object `$F`; some fail for some kinds of object.
const CALLS: [&str; 38] = [
    "chmod 640 $F",
    "chown 5:6 $F",
    "chown -h 7:8 $F",
    "touch -d @1000000000 $F",
    "touch $F",
    "touch -a -d @1500000000 $F",
    "setfattr -n trusted.x -v 1 $F",
    "setfattr -n trusted.y -v 1 $F && setfattr -x trusted.y $F",
    "setfattr -x trusted.none $F",
    "setfacl -m u:5:rwx $F",
    "setfacl -m d:u:5:rwx $F",
    "echo more >>$F",
    "echo new >$F",
    "dd if=/dev/zero of=$F bs=100 count=1 conv=notrunc 2>&-",
    "dd if=/dev/zero of=$F bs=4096 count=1 conv=notrunc oflag=direct 2>&-",
    "truncate -s 5 $F",
    "truncate -s 0 $F",
    "truncate -s 100000 $F",
    "exec 3<>$F",
    "exec 3>>$F",
    "fallocate -l 200000 $F",
    "fallocate -n -l 300000 $F",
    "fallocate -p -l 4096 $F",
    "python3 -c 'import os,sys; a=os.open(\"up\",0); b=os.open(sys.argv[1],1); os.copy_file_range(a,b,3)' $F",
    "cat $F",
    "readlink $F",
    "ls $F",
    "sync $F",
    "ln $F made",
    "rm $F",
    "rmdir $F",
    "mv $F made",
    "mv $F sub/made",
    "mv -T other $F",
    "mv -n other $F",
    "mkdir $F/made",
    "mkfifo $F/made; ln -s x $F/link; touch $F/file",
    "rm $F/*",
];
/// The objects, in each state that there is.
const OBJECTS: [&str; 8] = ["low", "meta", "up", "hard", "link", "sub", "updir", "empty"];
/// All names that the calls touch.
const NAMES: [&str; 17] = [
    ".",
    "low",
    "meta",
    "up",
    "hard",
    "hard2",
    "link",
    "sub",
    "updir",
    "empty",
    "other",
    "made",
    "sub/made",
    "sub/inner",
    "sub/file",
    "empty/made",
    "updir/file",
];

/// One directory for each call and object.
fn place(call: usize, object: &str) -> String {
    format!("{call}-{object}")
}

fn fill(dir: &Path) {
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    for name in ["low", "meta", "hard", "other", "sub/inner"] {
        fs::write(dir.join(name), bytes(10_000)).unwrap();
    }
    fs::hard_link(dir.join("hard"), dir.join("hard2")).unwrap();
    std::os::unix::fs::symlink("low", dir.join("link")).unwrap();
}

/// Every call on every object: the kernel's cached attributes equal those of the daemon.
#[test]
fn s8_3_warm_is_cold_after_every_call() {
    for options in MODES {
        let f = Fixture::with(
            |lower| {
                for call in 0..CALLS.len() {
                    for object in OBJECTS {
                        fill(&lower.join(place(call, object)));
                    }
                }
            },
            options,
        );
        let script = "for d in *; do cd $d; chmod 600 meta; echo content >up; mkdir updir; echo >updir/file; cd ..; done";
        sh(&f.at(""), script);
        for (call, script) in CALLS.iter().enumerate() {
            for object in OBJECTS {
                let dir = f.at(&place(call, object));
                let mut paths: Vec<PathBuf> = NAMES.iter().map(|name| dir.join(name)).collect();
                paths.push(f.at(""));
                // Now the kernel has cached them.
                all(&paths, true);
                let said = Command::new("sh")
                    .args(["-c", &script.replace("$F", object)])
                    .current_dir(&dir)
                    .output()
                    .unwrap();
                drop(said);
                let warm = all(&paths, false);
                let cold = all(&paths, true);
                for ((path, warm), cold) in paths.iter().zip(warm).zip(cold) {
                    assert_eq!(warm, cold, "{} after {script} {options}", path.display());
                }
            }
        }
    }
}

/// A write through a mapping, which the daemon does not see, is visible when the file is closed.
#[test]
fn s8_3_a_mapping_written_to_is_known_when_it_is_closed() {
    for options in MODES {
        let f = Fixture::with(
            |lower| fs::write(lower.join("low"), bytes(10_000)).unwrap(),
            options,
        );
        fs::write(f.at("up"), bytes(10_000)).unwrap();
        for name in ["low", "up"] {
            let path = f.at(name);
            sh(&f.at(""), &format!("touch -d @1000000000 {name}"));
            let before = seen(&path, true).unwrap();
            let store = "import mmap,sys; f=open(sys.argv[1],'r+b'); m=mmap.mmap(f.fileno(),0); m[5]=7; m.flush(); m.close(); f.close()";
            run(Command::new("python3").args(["-c", store]).arg(&path));
            // RELEASE arrives after close(2) has returned.
            let known = (0..500).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                seen(&path, false).unwrap().mtime > before.mtime
            });
            assert!(known, "{name} {options}");
            assert_eq!(seen(&path, false), seen(&path, true), "{name} {options}");
        }
    }
}

/// Asynchronous direct writes during reads through the page cache.
#[test]
fn s12_2_direct_writes_leave_no_stale_page() {
    for options in MODES {
        let f = Fixture::with(
            |lower| fs::write(lower.join("low"), bytes(64 * 4096)).unwrap(),
            options,
        );
        fs::write(f.at("up"), bytes(64 * 4096)).unwrap();
        let program = f.bench.path("direct_writes");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernel/direct_writes.c");
        run(Command::new("gcc")
            .args(["-O2", "-pthread", "-o"])
            .args([&program, &source]));
        for engine in ["libaio", "io_uring"] {
            for name in ["low", "up"] {
                let path = f.at(name);
                let output = Command::new(&program)
                    .arg(engine)
                    .arg(&path)
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                // 77: this kernel does not let us use the engine.
                let code = output.status.code();
                assert!(
                    matches!(code, Some(0 | 77)),
                    "{engine} {name} {options}: {said}{output:?}"
                );
                let mut page = [0; 64 * 4096];
                fs::File::open(&path)
                    .unwrap()
                    .read_exact_at(&mut page, 0)
                    .unwrap();
                let below = fs::read(f.upper.join(name)).unwrap();
                assert!(page[..] == below, "{engine} {name} {options}");
            }
        }
    }
}

/// Reads `path` past the page cache, so that FUSE sees the access.
fn access(path: &Path) {
    let file = fs::File::open(path).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    file.read_at(&mut [0; 100], 0).unwrap();
}

/// Which of these change the times of access: reading a file, reading it again, reading a link, listing a directory.
fn accesses(f: &Fixture) -> [bool; 4] {
    let old = "touch -h -a -d @1000000000 file link dir; touch -h -m -d @1100000000 file link dir";
    sh(&f.at(""), old);
    let atime = |name: &str| seen(&f.at(name), true).unwrap().atime;
    let before = ["file", "link", "dir"].map(atime);
    access(&f.at("file"));
    let once = atime("file");
    // Times have the grain of the kernel's ticks.
    std::thread::sleep(Duration::from_millis(20));
    access(&f.at("file"));
    let twice = atime("file");
    fs::read_link(f.at("link")).unwrap();
    fs::read_dir(f.at("dir")).unwrap().for_each(drop);
    [
        once != before[0],
        twice != once,
        atime("link") != before[1],
        atime("dir") != before[2],
    ]
}

#[test]
fn s8_5_times_of_access_are_kept_as_the_options_say() {
    for mode in MODES {
        for (options, expected) in [
            ("noatime", [false; 4]),
            ("relatime", [true, false, true, true]),
            ("strictatime", [true; 4]),
            ("strictatime,nodiratime", [true, true, true, false]),
            ("lazytime", [true, false, true, true]),
        ] {
            let f = Fixture::with(|_| (), &format!("{options},{mode}"));
            sh(
                &f.at(""),
                "echo content >file; ln -s file link; mkdir dir; echo >dir/f",
            );
            assert_eq!(accesses(&f), expected, "{options} {mode}");
            // Whatever the options of the upper's own mount are.
            f.mount.detach();
            let own = rustix::mount::MountFlags::NOATIME;
            rustix::mount::mount_remount(f.bench.path(""), own, c"").unwrap();
            f.mount.recover();
            let own = if options == "lazytime" {
                [false; 4]
            } else {
                expected
            };
            assert_eq!(accesses(&f), own, "{options} {mode} over noatime");
        }
    }
}

#[test]
fn s16_10_a_remount_changes_how_times_of_access_are_kept() {
    let f = Fixture::new(|_| ());
    sh(
        &f.at(""),
        "echo content >file; ln -s file link; mkdir dir; echo >dir/f",
    );
    let helper = f.bench.dir("sbin").join("mount.fuse.layerfs");
    std::os::unix::fs::symlink(crate::harness::programs::program("layerfs"), &helper).unwrap();
    let remount = |options: &str| {
        let mut helper = Command::new(&helper);
        helper.arg("layerfs").arg(&f.mount.at);
        run(helper.args(["-o", &format!("remount,{options}"), "-t", "fuse.layerfs"]));
    };
    let shown = "rw,relatime,user_id=0,group_id=0,default_permissions,allow_other,max_read=262144";
    for (options, expected) in [
        ("noatime", [false; 4]),
        ("strictatime", [true; 4]),
        (shown, [true, false, true, true]),
    ] {
        remount(options);
        assert_eq!(accesses(&f), expected, "{options}");
    }
    remount("ro,noatime");
    assert!(fs::write(f.at("new"), "").is_err());
    remount("rw");
    assert_eq!(accesses(&f), [false; 4], "as said last");
    assert_eq!(super::xattr(&f.upper, "user.layerfs.access-times"), None);
}
