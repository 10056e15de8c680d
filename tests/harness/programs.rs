//! Paths of the built programs; running and ending them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

/// The program `name`: beside this test or in `target/release`, whichever is newer. A program older
/// than its sources is refused: `cargo test` alone does not build it.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("own path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/<profile>/deps");
    let target = profile.parent().expect("target");
    let found = [
        profile.join(name),
        target.join("release").join(name),
        target.join("debug").join(name),
    ]
    .into_iter()
    .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
    .max();
    let Some((_, path)) = found else {
        panic!("{name} is not built: run `make build` (or cargo build -p layerfs -p bakery)")
    };
    if let Some(source) = newer_source(&path) {
        let release = path.parent().is_some_and(|dir| dir.ends_with("release"));
        panic!(
            "{} is older than {source}: run `cargo build{} -p layerfs -p bakery`",
            path.display(),
            if release { " --release" } else { "" },
        );
    }
    path
}

/// A source that changed after `program` was built; cargo lists the sources beside the program.
fn newer_source(program: &Path) -> Option<String> {
    let built = program.metadata().ok()?.modified().ok()?;
    let list = std::fs::read_to_string(program.with_extension("d")).ok()?;
    let (_, sources) = list.lines().next()?.split_once(": ")?;
    let newer = |source: &&str| {
        let changed = Path::new(source)
            .metadata()
            .and_then(|about| about.modified());
        changed.is_ok_and(|changed| changed > built)
    };
    sources.split(' ').find(newer).map(str::to_owned)
}

#[test]
fn a_program_older_than_its_sources_is_seen() {
    let room = tempfile::tempdir().expect("temporary directory");
    let [program, list, one, two] =
        ["program", "program.d", "one.rs", "two.rs"].map(|name| room.path().join(name));
    for path in [&one, &two, &program] {
        std::fs::write(path, "").expect("file");
    }
    let sources = format!(
        "{}: {} {}\n",
        program.display(),
        one.display(),
        two.display()
    );
    std::fs::write(list, sources).expect("list");
    let set = |path: &Path, seconds: u64| {
        let file = std::fs::File::options()
            .write(true)
            .open(path)
            .expect("file");
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        file.set_modified(time).expect("time");
    };
    set(&one, 5);
    set(&two, 5);
    set(&program, 7);
    assert_eq!(newer_source(&program), None);
    set(&two, 9);
    assert_eq!(newer_source(&program), Some(two.display().to_string()));
}

/// Runs to the end; a failure panics with the output.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Bake the tree at `source` into a new layer.
pub(crate) fn bake(source: &Path, layer: &Path) {
    run(Command::new(program("bakery"))
        .arg("-q")
        .arg("bake")
        .arg("-o")
        .arg(layer)
        .arg(source));
}

/// Sends a signal to a process; returns true if it ends within this number of seconds.
pub(crate) fn ends_after(pid: u32, signal: Signal, seconds: i64) -> bool {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("pid");
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("pidfd");
    rustix::process::kill_process(pid, signal).expect("kill");
    let limit = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let mut ends = [PollFd::new(&handle, PollFlags::IN)];
    rustix::event::poll(&mut ends, Some(&limit)) == Ok(1)
}
