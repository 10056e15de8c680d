//! S2: listings end with the right contents, during any changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};

use super::Fixture;
use crate::harness::programs::run;

/// Names of a directory whose listing takes several requests.
const MANY: usize = 2000;

/// A running listing.
struct Reader {
    directory: OwnedFd,
    /// Position of the next entry.
    cookie: u64,
    /// Names that existed at the start and were not touched.
    stays: BTreeSet<String>,
    /// Names that existed at the start.
    first: BTreeSet<String>,
    seen: BTreeMap<String, usize>,
    /// True for the mount with which the listing began.
    is_local: bool,
    /// Listings that began since.
    later: usize,
    ended: bool,
}

fn open(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

impl Reader {
    fn begin(path: &Path, there: &BTreeSet<String>) -> Reader {
        let mut reader = Reader {
            directory: open(path),
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

    /// Reads up to `count` entries, then returns to the position of the next one, as telldir,
    /// seekdir and NFS do.
    fn read(&mut self, count: usize) {
        let mut buffer = vec![std::mem::MaybeUninit::uninit(); 32 * 24];
        rustix::fs::seek(&self.directory, SeekFrom::Start(self.cookie)).unwrap();
        for _ in 0..count {
            let mut directory = RawDir::new(&self.directory, &mut buffer);
            let Some(entry) = directory.next() else {
                self.ended = true;
                return;
            };
            let entry = entry.unwrap();
            let name = entry.file_name().to_str().unwrap().to_owned();
            self.cookie = entry.next_entry_cookie();
            rustix::fs::seek(&self.directory, SeekFrom::Start(self.cookie)).unwrap();
            if name != "." && name != ".." {
                *self.seen.entry(name).or_default() += 1;
            }
        }
    }

    fn gone(&mut self, name: &str) {
        self.stays.remove(name);
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
    /// The mount ends and is made again; the listings continue with their cookies.
    Restart,
    /// The kernel and the daemon forget as much as possible.
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

fn run_steps(f: &Fixture, steps: &[Step]) {
    let dir = f.at("d");
    let mut there: BTreeSet<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut readers: Vec<Reader> = Vec::new();
    for step in steps {
        match step {
            Step::Make(n) => {
                let name = name(*n);
                if there.insert(name.clone()) {
                    File::create(dir.join(&name)).unwrap();
                }
            }
            Step::Remove(n) => {
                let name = name(*n);
                if there.remove(&name) {
                    fs::remove_file(dir.join(&name)).unwrap();
                    readers.iter_mut().for_each(|reader| reader.gone(&name));
                }
            }
            Step::Rename(one, two) => {
                let (one, two) = (name(*one), name(*two));
                if one != two && there.remove(&one) {
                    fs::rename(dir.join(&one), dir.join(&two)).unwrap();
                    there.insert(two.clone());
                    for reader in &mut readers {
                        reader.gone(&one);
                    }
                }
            }
            Step::Exchange(one, two) => {
                let (one, two) = (name(*one), name(*two));
                if one != two && there.contains(&one) && there.contains(&two) {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    let here = open(&dir);
                    rustix::fs::renameat_with(&here, &one, &here, &two, flags).unwrap();
                }
            }
            Step::CopyUp(n) => {
                if there.contains(&name(*n)) {
                    let mode = fs::Permissions::from_mode(0o600);
                    fs::set_permissions(dir.join(name(*n)), mode).unwrap();
                }
            }
            Step::Begin => {
                readers.iter_mut().for_each(|reader| reader.later += 1);
                readers.push(Reader::begin(&dir, &there));
            }
            Step::Read(which, count) => {
                let which = usize::from(*which) % readers.len().max(1);
                if let Some(reader) = readers.get_mut(which).filter(|reader| !reader.ended) {
                    reader.read(usize::from(*count));
                }
            }
            Step::Restart | Step::Forget => {
                for reader in &mut readers {
                    reader.directory = open(&f.bench.path(""));
                    reader.is_local = false;
                }
                match step {
                    Step::Restart => f.mount.again(),
                    _ => fs::write("/proc/sys/vm/drop_caches", "2").unwrap(),
                }
                for reader in &mut readers {
                    reader.directory = open(&dir);
                }
            }
        }
    }
    for reader in readers {
        if reader.is_local && reader.later < 8 {
            let met = reader.seen.keys().find(|n| !reader.first.contains(*n));
            assert_eq!(met, None, "a name made later was listed");
        }
        reader.finish();
    }
}

#[test]
fn s2_2_listings_of_a_model() {
    let config = ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in steps(), lower in any::<bool>())| {
        let f = Fixture::new(|tree| {
            fs::create_dir(tree.join("d")).unwrap();
            for n in 0..if lower { 24 } else { 0 } {
                File::create(tree.join("d").join(name(n))).unwrap();
            }
        });
        run_steps(&f, &steps);
    });
}

/// A directory of the lower, one of the upper, and one that is both.
fn three_directories(count: usize) -> Fixture {
    let f = Fixture::new(|lower| {
        for dir in ["low", "both"] {
            fs::create_dir(lower.join(dir)).unwrap();
            for i in 0..count / 2 {
                File::create(lower.join(format!("{dir}/f{i}"))).unwrap();
            }
        }
    });
    fs::create_dir(f.at("up")).unwrap();
    for i in 0..count / 2 {
        File::create(f.at(&format!("up/f{i}"))).unwrap();
        File::create(f.at(&format!("both/g{i}"))).unwrap();
    }
    f
}

const DIRECTORIES: [(&str, usize); 3] = [("low", 1), ("both", 2), ("up", 1)];

/// Each program takes as many steps as there were names, for every operation.
#[test]
fn s2_2_loops_of_real_programs_end() {
    let f = three_directories(MANY);
    let python = |body: &str| {
        format!(
            "import os, sys\nn = 0\nfor e in os.scandir(sys.argv[1]):\n  n += 1\n  \
             if n > 4 * {MANY}: sys.exit('endless')\n  {body}\nprint(n)"
        )
    };
    let perl = format!(
        "opendir(my $d, $ARGV[0]); my $n = 0; while (my $e = readdir $d) {{ next if $e =~ /^\\.\\.?$/; \
         die 'endless' if ++$n > 4 * {MANY}; rename(\"$ARGV[0]/$e\", \"$ARGV[0]/$e.x\") or die; }} print \"$n\\n\";"
    );
    let again = python("os.remove(e.path); open(e.path, 'w').close()");
    let other = python("os.rename(e.path, e.path + '.x')");
    let both =
        python("open(e.path + '.new', 'w').close(); os.rename(e.path, 'n%d' % n, dst_dir_fd=D)")
            .replace("n = 0\n", "n = 0\nD = os.open(sys.argv[1], os.O_RDONLY)\n");
    let lists =
        python("os.rename(e.path, e.path + '.y'); os.listdir(sys.argv[1]) if n % 100 == 0 else 0");
    for (dir, halves) in DIRECTORIES {
        let count = halves * MANY / 2;
        let taken = |program: &str, option: &str, text: &str| {
            let output = run(Command::new(program).args([option, text]).arg(f.at(dir)));
            String::from_utf8(output.stdout)
                .unwrap()
                .trim()
                .parse::<usize>()
                .unwrap()
        };
        for text in [&again, &other] {
            assert_eq!(taken("python3", "-c", text), count, "{dir}: {text}");
        }
        assert_eq!(taken("perl", "-e", &perl), count, "{dir}");
        // Others begin a listing after each 100 changes: some of the new names may come, each once.
        let steps = taken("python3", "-c", &lists);
        assert!((count..=2 * count).contains(&steps), "{dir}: {steps}");
        assert_eq!(taken("python3", "-c", &both), count, "{dir}");
        assert_eq!(fs::read_dir(f.at(dir)).unwrap().count(), 2 * count);
    }
}

/// find(1) reads 10,000 names before it does anything: of fewer it would see no change.
#[test]
fn s2_2_find_renames_each_of_many_files_once() {
    let f = three_directories(2);
    let count = 12_000;
    f.mount.detach();
    for i in 2..count {
        File::create(f.upper.join(format!("up/f{i}"))).unwrap();
    }
    f.mount.recover();
    let mover = f.bench.path("mover");
    fs::write(
        &mover,
        "import os, sys\nfor a in sys.argv[1:]: os.rename(a, a + '.x')",
    )
    .unwrap();
    run(Command::new("find")
        .arg(f.at("up"))
        .args(["-type", "f", "-exec", "python3"])
        .arg(&mover)
        .args(["{}", "+"]));
    let names: Vec<_> = fs::read_dir(f.at("up"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), count - 1);
    assert!(names.iter().all(|name| name.matches(".x").count() == 1));
}

#[test]
fn s2_2_a_hundred_thousand_names_and_more() {
    let f = three_directories(2);
    let count = 110_000;
    f.mount.detach();
    for i in 1..count {
        File::create(f.upper.join(format!("both/g{i}"))).unwrap();
    }
    f.mount.recover();
    let listed = |f: &Fixture| {
        let directory = open(&f.at("both"));
        let mut buffer = vec![std::mem::MaybeUninit::uninit(); 32 << 10];
        let mut directory = RawDir::new(&directory, &mut buffer);
        let mut found = BTreeMap::new();
        while let Some(entry) = directory.next() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_bytes().to_vec();
            assert!(found.insert(name, entry.next_entry_cookie()).is_none());
        }
        found
    };
    let before = listed(&f);
    assert_eq!(before.len(), count + 3);
    let cookies: BTreeSet<_> = before.values().collect();
    assert_eq!(cookies.len(), before.len(), "two entries have one cookie");
    let wide = cookies.iter().filter(|cookie| ***cookie >= 1 << 31).count();
    assert!(
        wide < 200,
        "{wide} cookies are too long for 32-bit programs"
    );
    f.mount.again();
    // The last bits of when a listing began are in it too: both began first.
    assert_eq!(listed(&f).len(), before.len());
    let place = |cookie: &u64| cookie & !(7 << 28);
    let after = listed(&f);
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(one, other)| { one.0 == other.0 && place(one.1) == place(other.1) })
    );
}
