//! S2: listings end, and have what they should, whatever happens meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::{Files as _, Fixture};
use crate::session::files::Open;
use crate::session::{Attached, OFlags, RenameFlags};

const DIRECTORY: &str = "d";

/// A running listing.
struct Reader<'f> {
    directory: Option<Open<'f, dyn Attached>>,
    /// Where it goes on.
    cookie: u64,
    /// Names that were there when it began and have stayed.
    stays: BTreeSet<String>,
    /// Names that were there when it began.
    first: BTreeSet<String>,
    seen: BTreeMap<String, usize>,
    /// True for the mount with which the listing began.
    is_local: bool,
    /// Listings that began since.
    later: usize,
    ended: bool,
}

fn open(f: &Fixture) -> Option<Open<'_, dyn Attached>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    Some(f.fs.open_with(DIRECTORY, flags, 0).unwrap())
}

impl<'f> Reader<'f> {
    fn begin(f: &'f Fixture, there: &BTreeSet<String>) -> Reader<'f> {
        let mut reader = Reader {
            directory: open(f),
            cookie: 0,
            stays: there.clone(),
            first: there.clone(),
            seen: BTreeMap::new(),
            is_local: true,
            later: 0,
            ended: false,
        };
        reader.read(1);
        reader
    }

    /// Read up to `count` entries from where the last one ended: what telldir, seekdir and NFS do.
    fn read(&mut self, count: usize) {
        for _ in 0..count {
            let directory = self.directory.as_ref().unwrap();
            let Some(entry) = directory.list(self.cookie, 1).unwrap().pop() else {
                self.ended = true;
                return;
            };
            self.cookie = entry.cookie;
            let name = String::from_utf8(entry.name).unwrap();
            if name != "." && name != ".." {
                *self.seen.entry(name).or_default() += 1;
            }
        }
    }

    fn finish(mut self) {
        while !self.ended {
            self.read(50);
        }
        for (name, count) in &self.seen {
            assert_eq!(*count, 1, "{name} was listed {count} times");
        }
        for name in &self.stays {
            assert!(self.seen.contains_key(name), "{name} is missing");
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Make(u8),
    Remove(u8),
    Rename(u8, u8),
    Exchange(u8, u8),
    CopyUp(u8),
    Begin,
    Read(u8, u8),
    /// The mount ends and is made again; the listings go on with their cookies.
    Restart,
    /// The kernel and the daemon forget what they can.
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = 0_u8..48;
    let step = prop_oneof![
        4 => name.clone().prop_map(Step::Make),
        4 => name.clone().prop_map(Step::Remove),
        4 => (name.clone(), name.clone()).prop_map(|(a, b)| Step::Rename(a, b)),
        1 => (name.clone(), name.clone()).prop_map(|(a, b)| Step::Exchange(a, b)),
        2 => name.prop_map(Step::CopyUp),
        3 => Just(Step::Begin),
        8 => (any::<u8>(), 1_u8..12).prop_map(|(reader, count)| Step::Read(reader, count)),
        1 => Just(Step::Restart),
        1 => Just(Step::Forget),
    ];
    proptest::collection::vec(step, 1..120)
}

/// Names 0 to 23 are the lower's.
fn name(number: u8) -> String {
    format!("n{number}")
}

fn at(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

fn run_steps(f: &Fixture, steps: &[Step]) {
    let mut there: BTreeSet<String> = f.fs.names(DIRECTORY).into_iter().collect();
    let mut readers: Vec<Reader<'_>> = Vec::new();
    // Removed while a listing was unfinished: the kernel may list them once more (S2.2).
    let mut kept = BTreeSet::new();
    for step in steps {
        if let Step::Remove(n) | Step::Rename(n, _) = step
            && readers.iter().any(|reader| !reader.ended)
        {
            kept.insert(name(*n));
        }
        match step {
            Step::Make(n) => {
                let name = name(*n);
                if there.insert(name.clone()) {
                    f.fs.put(at(&name), "").unwrap();
                }
            }
            Step::Remove(n) => {
                let name = name(*n);
                if there.remove(&name) {
                    f.fs.unlink(at(&name)).unwrap();
                    readers.iter_mut().for_each(|reader| {
                        reader.stays.remove(&name);
                    });
                }
            }
            Step::Rename(one, two) => {
                let (one, two) = (name(*one), name(*two));
                if one != two && there.remove(&one) {
                    f.fs.mv(at(&one), at(&two)).unwrap();
                    there.insert(two.clone());
                    for reader in &mut readers {
                        reader.stays.remove(&one);
                    }
                }
            }
            Step::Exchange(one, two) => {
                let (one, two) = (name(*one), name(*two));
                if one != two && there.contains(&one) && there.contains(&two) {
                    f.fs.mv_with(at(&one), at(&two), RenameFlags::EXCHANGE)
                        .unwrap();
                }
            }
            Step::CopyUp(n) => {
                if there.contains(&name(*n)) {
                    f.fs.chmod(at(&name(*n)), 0o600).unwrap();
                }
            }
            Step::Begin => {
                readers.iter_mut().for_each(|reader| reader.later += 1);
                readers.push(Reader::begin(f, &there));
            }
            Step::Read(which, count) => {
                let which = usize::from(*which) % readers.len().max(1);
                if let Some(reader) = readers.get_mut(which).filter(|reader| !reader.ended) {
                    reader.read(usize::from(*count));
                }
            }
            Step::Restart | Step::Forget => {
                for reader in &mut readers {
                    reader.directory = None;
                    reader.is_local = false;
                }
                match step {
                    Step::Restart => f.again(),
                    _ => f.fs.forget(),
                }
                for reader in &mut readers {
                    reader.directory = open(f);
                }
            }
        }
    }
    for reader in readers {
        if reader.is_local && reader.later < 8 {
            let is_new = |n: &&String| !reader.first.contains(*n) && !kept.contains(*n);
            let met = reader.seen.keys().find(is_new);
            assert_eq!(met, None, "a name made later was listed");
        }
        reader.finish();
    }
}

#[test]
fn s2_2_and_s2_4_listings_of_a_model() {
    let config = ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in steps(), lower in any::<bool>())| {
        let f = Fixture::new(|tree| {
            fs::create_dir(tree.join(DIRECTORY)).unwrap();
            for n in 0..if lower { 24 } else { 0 } {
                File::create(tree.join(DIRECTORY).join(name(n))).unwrap();
            }
        });
        run_steps(&f, &steps);
    });
}

/// S2.4 "What telldir(3) gives stays right as long as the layers are the same"
#[test]
fn s2_4_places_hold_across_a_remount() {
    let f = Fixture::new(|lower| {
        for n in 0..60 {
            File::create(lower.join(format!("low{n}"))).unwrap();
        }
    });
    for n in 0..60 {
        f.fs.put(format!("up{n}"), "").unwrap();
    }
    f.again();
    let places = |f: &Fixture| -> BTreeMap<Vec<u8>, u64> {
        // The bits of when the listing began are no part of the place.
        let entries = f.fs.entries("").unwrap().into_iter();
        entries
            .map(|entry| (entry.name, entry.cookie & !(7 << 28)))
            .collect()
    };
    let before = places(&f);
    assert_eq!(before.len(), 120);
    let different: BTreeSet<_> = before.values().collect();
    assert_eq!(different.len(), 120, "two entries have one place");
    f.again();
    assert_eq!(places(&f), before);
    assert!(f.fs.about(Path::new("low7")).is_ok());
}

/// S2.2 "A name that exists for the whole duration of a listing is listed exactly once", also while
/// the kernel forgets the directory's files.
#[test]
fn s2_2_a_listing_is_whole_while_files_are_forgotten() {
    const FILES: usize = 100;
    let f = Fixture::new(|tree| fs::create_dir(tree.join(DIRECTORY)).unwrap());
    for n in 0..FILES {
        f.fs.put(format!("{DIRECTORY}/n{n}"), "").unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                f.fs.forget();
            }
        });
        let short = (0..300).find(|_| f.fs.names(DIRECTORY).len() != FILES);
        done.store(true, Ordering::Relaxed);
        assert_eq!(short, None, "the number of the listing that lacks names");
    });
}
