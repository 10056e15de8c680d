//! S4.9: many at once on the same few objects: no error that a plain file system would not give, nothing torn, and the same tree after
//! a remount.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use super::{Attr, Errno, Files as _, Fixture};
use crate::session::{Attached, NewTime, OFlags, RenameFlags, Result, is_root};

const THREADS: u8 = 16;
const TIME: Duration = Duration::from_millis(1200);
/// Longer than this is a hang.
const LIMIT: Duration = Duration::from_secs(60);
/// Bytes each file has at the start.
const LEN: usize = 200_000;
/// Bytes of one append.
const RECORD: usize = 64;

/// Numbers that do not repeat soon (xorshift).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        for (left, by) in [(true, 13), (false, 7), (true, 17)] {
            self.0 ^= if left { self.0 << by } else { self.0 >> by };
        }
        (self.0 % limit as u64) as usize
    }
}

/// True for results that concurrent changes may cause.
fn expected(errno: Errno) -> bool {
    [Errno::NOENT, Errno::EXIST, Errno::NODATA].contains(&errno)
}

/// A record is one write, and names of files only move.
fn act(fs: &dyn Attached, dice: &mut Dice, own: u8, one: &str, two: &str) -> Result<()> {
    match dice.below(14) {
        0 => fs.chmod(one, [0o600, 0o644][dice.below(2)]),
        1 => fs.put_xattr(one, super::attribute(), &[own; 50]),
        2 => fs.drop_xattr(one, super::attribute()),
        3 => fs.mv(one, two),
        4 => fs.hard_link(one, two),
        5 if dice.below(4) == 0 => fs.unlink(one),
        6 if dice.below(4) == 0 => fs.open_both(one)?.set_len(dice.below(LEN) as u64),
        7 => fs.mv_with(one, two, RenameFlags::EXCHANGE),
        8 if is_root() => fs.chown(one, Some(dice.below(3) as u32), None),
        9 => fs.set_times(one, NewTime::Exactly((0, 0))),
        10 => fs
            .open_both(one)?
            .write((dice.below(1000) * RECORD) as u64, [own; RECORD]),
        11 => {
            let mut have = fs.open_read(one)?.read(0, LEN * 2)?;
            have.retain(|byte| !(*byte == 0 || *byte == b'.' || (1..=THREADS).contains(byte)));
            assert_eq!(have, b"", "{one}: bytes that nobody wrote");
            Ok(())
        }
        _ => fs
            .open_with(one, OFlags::WRONLY | OFlags::APPEND, 0)?
            .write(0, [own; RECORD]),
    }
}

fn tree(fs: &dyn Attached) -> BTreeMap<String, (Attr, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for dir in ["a", "b"] {
        for name in fs.names(dir) {
            let path = format!("{dir}/{name}");
            let content = fs.content(&path).unwrap();
            let mut about = fs.about(&path).unwrap();
            about.atime = (0, 0);
            found.insert(path, (about, content));
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
                    let [one, two] = [(); 2]
                        .map(|()| format!("{}/{}", ["a", "b"][dice.below(2)], dice.below(9)));
                    if let Err(errno) = act(&*f.fs, &mut dice, own, &one, &two) {
                        assert!(expected(errno), "{one}: {errno}");
                    }
                }
            });
        }
    });
    assert!(began.elapsed() < LIMIT);
    f.fs.forget();
    let before = tree(&*f.fs);
    assert_eq!(f.fs.status()["panics"], 0);
    assert_eq!(f.leftovers(), 0);
    f.again();
    assert!(tree(&*f.fs) == before, "another tree after a remount");
}
