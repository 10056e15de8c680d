//! S2: listings end with the right contents, during any changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Mode, OFlags, RawDir};

use super::Fixture;
use crate::harness::programs::run;

/// Names of a directory whose listing takes several requests.
const MANY: usize = 2000;

fn open(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
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
