//! Concurrent changes of a few objects: only errors that a plain file system would give, no torn
//! data, and the same tree after a remount.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};

use super::Fixture;
use crate::harness::programs::program;
use crate::semantics::crowds::Dice;

const KEPT: usize = 5000;

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
    single_pages("chunk-cache=600K");
}

#[test]
fn single_pages_are_right_when_they_are_returned_before_the_rest_is_decoded() {
    single_pages("");
    single_pages("threads=8");
}

fn single_pages(options: &str) {
    const PAGE: usize = 4096;
    // A program, so that the call filter is in it, and text.
    let mut plain = fs::read(program("layerfs")).unwrap();
    plain.truncate(1 << 20);
    plain.extend((0..1 << 17).flat_map(|i: u64| (i * i % 7919).to_le_bytes()));
    let content = &plain;
    let f = Fixture::with(
        |lower| fs::write(lower.join("f"), content).unwrap(),
        options,
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
