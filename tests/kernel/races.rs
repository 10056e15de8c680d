//! S4.7: changes to a file whose data is being copied up.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, StatxFlags};

use super::{Fixture, bytes, set_xattr, xattr};

const CAPABILITY: &str = "security.capability";
/// Long setting: `LAYERFS_RACES=500`.
const ROUNDS: usize = 24;
const OLD: i64 = 99;
const NEW: i64 = 7777;

fn capability(bits: u8) -> [u8; 20] {
    let mut value = [0; 20];
    (value[0], value[3], value[5]) = (1, 2, bits);
    value
}

/// The modification time from the daemon, not from the kernel's cache.
fn mtime(path: &Path) -> i64 {
    let stat = rustix::fs::statx(
        rustix::fs::CWD,
        path,
        AtFlags::STATX_FORCE_SYNC,
        StatxFlags::MTIME,
    );
    stat.unwrap().stx_mtime.tv_sec
}

/// One opens for writing (which copies the data with `passthrough`), one changes, one looks.
#[test]
fn s4_7_what_is_set_during_a_copy_up_is_kept() {
    let rounds = std::env::var("LAYERFS_RACES").map_or(ROUNDS, |text| text.parse().unwrap());
    let name = |round: usize| format!("f{round}");
    let f = Fixture::with(
        |lower| {
            for round in 0..rounds {
                let path = lower.join(name(round));
                fs::write(&path, bytes(4 << 20)).unwrap();
                set_xattr(&path, CAPABILITY, &capability(0x20)).unwrap();
                let file = File::options().write(true).open(&path).unwrap();
                file.set_modified(UNIX_EPOCH + Duration::from_secs(OLD as u64))
                    .unwrap();
            }
        },
        "passthrough",
    );
    for round in 0..rounds {
        let path = f.at(&name(round));
        let start = Barrier::new(3);
        let wait = Duration::from_micros(250 * (round as u64 % 12));
        let seen = std::thread::scope(|scope| {
            let opened = scope.spawn(|| {
                start.wait();
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(&path)
                    .unwrap()
            });
            scope.spawn(|| {
                start.wait();
                std::thread::sleep(wait);
                let time = UNIX_EPOCH + Duration::from_secs(NEW as u64);
                File::open(&path).unwrap().set_modified(time).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(0o751)).unwrap();
                match round % 4 {
                    0 => set_xattr(&path, CAPABILITY, &capability(0x40)).unwrap(),
                    1 => rustix::fs::lremovexattr(&path, CAPABILITY).unwrap(),
                    // Capabilities do not outlive a change of the owner.
                    2 => std::os::unix::fs::chown(&path, Some(5), Some(6)).unwrap(),
                    _ => {}
                }
            });
            start.wait();
            let mut seen = Vec::new();
            while !opened.is_finished() {
                seen.push((mtime(&path), xattr(&path, CAPABILITY).is_some()));
            }
            opened.join().unwrap();
            seen
        });
        let expected = [Some(capability(0x40)), None, None, Some(capability(0x20))][round % 4];
        for at in [&path, &f.upper.join(name(round))] {
            assert_eq!(
                mtime(at),
                NEW,
                "round {round}: {}: the time is lost",
                at.display()
            );
            assert_eq!(
                at.metadata().unwrap().mode() & 0o7777,
                0o751,
                "round {round}"
            );
            let found = xattr(at, CAPABILITY);
            assert_eq!(
                found.as_deref(),
                expected.as_ref().map(|v| &v[..]),
                "round {round}"
            );
        }
        for (time, capable) in seen {
            assert!(
                time == OLD || time == NEW,
                "round {round}: a time of the copying: {time}"
            );
            assert!(
                capable || matches!(round % 4, 1 | 2),
                "round {round}: no capability while it is copied"
            );
        }
        assert_eq!(fs::read(&path).unwrap(), bytes(4 << 20));
    }
}
