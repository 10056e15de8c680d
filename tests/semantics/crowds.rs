//! Concurrent changes of a few objects: only errors that a plain file system would give, no torn
//! data, and the same tree after a remount.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::{Fixture, set_xattr};
use crate::harness::programs::program;

const THREADS: u8 = 16;
const TIME: Duration = Duration::from_millis(1200);
/// Longer than this is a hang.
const LIMIT: Duration = Duration::from_secs(60);
/// Bytes each file has at the start.
const LEN: usize = 200_000;
/// Bytes of one append.
const RECORD: usize = 64;
const KEPT: usize = 5000;

/// Numbers that do not repeat soon (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        for (left, by) in [(true, 13), (false, 7), (true, 17)] {
            self.0 ^= if left { self.0 << by } else { self.0 >> by };
        }
        (self.0 % limit as u64) as usize
    }
}

/// True for results that concurrent changes may cause.
fn expected(errno: Option<i32>) -> bool {
    [Errno::NOENT, Errno::EXIST, Errno::NODATA]
        .iter()
        .any(|known| errno == Some(known.raw_os_error()))
}

/// A record is one write, and names of files only move.
fn act(dice: &mut Dice, own: u8, one: &Path, two: &Path) -> std::io::Result<()> {
    let open = |write: bool| OpenOptions::new().read(true).write(write).open(one);
    match dice.below(14) {
        0 => fs::set_permissions(one, Permissions::from_mode([0o600, 0o644][dice.below(2)])),
        1 => Ok(set_xattr(one, "trusted.crowd", &[own; 50])?),
        2 => Ok(rustix::fs::removexattr(one, "trusted.crowd")?),
        3 => fs::rename(one, two),
        4 => fs::hard_link(one, two),
        5 if dice.below(4) == 0 => fs::remove_file(one),
        6 if dice.below(4) == 0 => open(true)?.set_len(dice.below(LEN) as u64),
        7 => Ok(rustix::fs::renameat_with(
            CWD,
            one,
            CWD,
            two,
            RenameFlags::EXCHANGE,
        )?),
        8 => std::os::unix::fs::chown(one, Some(dice.below(3) as u32), None),
        9 => open(false)?.set_modified(std::time::UNIX_EPOCH),
        10 => open(true)?.write_all_at(&[own; RECORD], (dice.below(1000) * RECORD) as u64),
        11 => {
            let file = open(false)?;
            let mut have = vec![0; LEN * 2];
            let len = file.read_at(&mut have, 0)?;
            have.truncate(len);
            have.retain(|byte| !(*byte == 0 || *byte == b'.' || (1..=THREADS).contains(byte)));
            assert_eq!(have, b"", "{}: bytes that nobody wrote", one.display());
            Ok(())
        }
        _ => OpenOptions::new()
            .append(true)
            .open(one)?
            .write_all(&[own; RECORD]),
    }
}

fn tree(at: &Path) -> BTreeMap<String, (u64, u32, u32, u64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for dir in ["a", "b"] {
        for entry in fs::read_dir(at.join(dir)).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.metadata().unwrap();
            let about = (
                meta.ino(),
                meta.mode(),
                meta.uid(),
                meta.nlink(),
                meta.mtime(),
            );
            let (ino, mode, uid, nlink, mtime) = about;
            let name = path.strip_prefix(at).unwrap().display().to_string();
            found.insert(
                name,
                (ino, mode, uid, nlink, mtime, fs::read(&path).unwrap()),
            );
        }
    }
    found
}

#[test]
fn s4_9_sixteen_threads_change_the_same_lower_files() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("a")).unwrap();
        fs::create_dir(lower.join("b")).unwrap();
        for i in 0..8 {
            fs::write(lower.join(format!("a/{i}")), [b'.'; LEN]).unwrap();
            if i % 2 == 0 {
                fs::hard_link(lower.join(format!("a/{i}")), lower.join(format!("b/{i}"))).unwrap();
            }
        }
    });
    let began = Instant::now();
    std::thread::scope(|scope| {
        for own in 1..=THREADS {
            let f = &f;
            scope.spawn(move || {
                let mut dice = Dice(u64::from(own).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                while began.elapsed() < TIME {
                    let [one, two] = [(); 2].map(|()| {
                        f.at(&format!("{}/{}", ["a", "b"][dice.below(2)], dice.below(9)))
                    });
                    if let Err(error) = act(&mut dice, own, &one, &two) {
                        assert!(expected(error.raw_os_error()), "{}: {error}", one.display());
                    }
                }
            });
        }
    });
    assert!(began.elapsed() < LIMIT);
    let before = tree(&f.mount.at);
    assert_eq!(f.mount.status()["panics"], 0);
    assert_eq!(f.leftovers(), 0);
    f.mount.again();
    assert!(tree(&f.mount.at) == before, "another tree after a remount");
    f.mount.kill();
    f.mount.recover();
    assert!(tree(&f.mount.at) == before, "another tree after a kill");
}

/// The names that stay are changed, exchanged and replaced; others come and go.
#[test]
fn s2_2_a_listing_of_many_names_while_they_change() {
    let f = Fixture::new(|lower| {
        fs::create_dir(lower.join("d")).unwrap();
        for i in (0..KEPT).step_by(2) {
            File::create(lower.join(format!("d/keep{i}"))).unwrap();
        }
        for i in 0..1000 {
            File::create(lower.join(format!("d/go{i}"))).unwrap();
        }
    });
    for i in (1..KEPT).step_by(2) {
        File::create(f.at(&format!("d/keep{i}"))).unwrap();
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 1..3 {
            let (f, over) = (&f, &over);
            scope.spawn(move || {
                let mut dice = Dice(seed);
                while !over.load(Ordering::Relaxed) {
                    let kept = |dice: &mut Dice| f.at(&format!("d/keep{}", dice.below(KEPT)));
                    let (one, two) = (kept(&mut dice), kept(&mut dice));
                    let goes = f.at(&format!("d/go{}", dice.below(2000)));
                    match dice.below(5) {
                        0 => drop(fs::remove_file(goes)),
                        1 => drop(File::create(goes)),
                        2 => drop(fs::rename(goes, one)),
                        3 => fs::set_permissions(one, Permissions::from_mode(0o600)).unwrap(),
                        _ => rustix::fs::renameat_with(CWD, one, CWD, two, RenameFlags::EXCHANGE)
                            .unwrap(),
                    }
                }
            });
        }
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..8 {
                        let mut seen = BTreeSet::new();
                        for entry in fs::read_dir(f.at("d")).unwrap() {
                            let name = entry.unwrap().file_name().into_string().unwrap();
                            let new = seen.insert(name.clone());
                            assert!(new || name.starts_with("go"), "{name} is listed twice");
                        }
                        let kept = seen.iter().filter(|name| name.starts_with("keep"));
                        assert_eq!(kept.count(), KEPT);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        over.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
}

#[test]
fn single_pages_are_right_also_when_the_chunk_cache_is_full() {
    const PAGE: usize = 4096;
    // A program, so that the call filter is in it, and text.
    let mut plain = fs::read(program("layerfs")).unwrap();
    plain.truncate(1 << 20);
    plain.extend((0..1 << 17).flat_map(|i: u64| (i * i % 7919).to_le_bytes()));
    let content = &plain;
    let f = Fixture::with(
        |lower| fs::write(lower.join("f"), content).unwrap(),
        "chunk-cache=600K",
    );
    // Every read reaches the daemon.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
        .open(f.at("f"))
        .unwrap();
    let file = &file;
    std::thread::scope(|scope| {
        for seed in 1..5 {
            scope.spawn(move || {
                let mut dice = Dice(seed * 7919);
                let mut buffer = vec![0; 3 * PAGE];
                for _ in 0..1500 {
                    let len = PAGE * (1 + dice.below(3));
                    let at = dice.below(content.len() - len);
                    file.read_exact_at(&mut buffer[..len], at as u64).unwrap();
                    assert!(buffer[..len] == content[at..at + len], "{len} from {at}");
                }
            });
        }
    });
    assert!(fs::read(f.at("f")).unwrap() == *content);
}
