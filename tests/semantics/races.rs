//! S4.7: changes to a file while others change its data.

use std::fs;
use std::sync::Barrier;

use super::{Files as _, Fixture, bytes};
use crate::session::NewTime;

const ROUNDS: usize = 24;
const OLD: i64 = 99;
const NEW: i64 = 7777;

/// One copies the data up, one changes, one looks.
#[test]
fn s4_7_what_is_set_during_a_copy_up_is_kept() {
    let f = Fixture::new(|lower| {
        for round in 0..ROUNDS {
            let path = lower.join(format!("f{round}"));
            fs::write(&path, bytes(2 << 20)).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            let old = std::time::Duration::from_secs(OLD.unsigned_abs());
            file.set_modified(std::time::UNIX_EPOCH + old).unwrap();
        }
    });
    for round in 0..ROUNDS {
        let path = format!("f{round}");
        let start = Barrier::new(3);
        let pause = std::time::Duration::from_micros(250 * (round as u64 % 12));
        let seen = std::thread::scope(|scope| {
            let copied = scope.spawn(|| {
                start.wait();
                // Copies the data, and writes nothing.
                f.fs.open_both(&path).unwrap().allocate(1).unwrap();
            });
            scope.spawn(|| {
                start.wait();
                std::thread::sleep(pause);
                f.fs.put_xattr(&path, super::attribute(), b"kept").unwrap();
                f.fs.chmod(&path, 0o751).unwrap();
                if round % 2 == 0 {
                    f.fs.set_times(&path, NewTime::Exactly((NEW, 0))).unwrap();
                }
            });
            start.wait();
            let mut seen = Vec::new();
            while !copied.is_finished() {
                seen.push(f.fs.about(&path).unwrap());
            }
            seen
        });
        let about = f.fs.about(&path).unwrap();
        assert_eq!(about.mode & 0o7777, 0o751, "round {round}");
        assert_eq!(
            f.fs.get_xattr(&path, super::attribute()).unwrap(),
            b"kept",
            "round {round}"
        );
        assert_eq!(f.fs.content(&path).unwrap(), bytes(2 << 20));
        for about in seen {
            assert_eq!(about.size, 2 << 20, "round {round}");
        }
    }
    f.again();
    assert_eq!(f.fs.mode("f0"), 0o751);
    assert_eq!(f.leftovers(), 0);
}
