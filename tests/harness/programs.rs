//! Paths of the built programs; running and ending them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

/// The program `name`: beside this test or in `target/release`, whichever is newer.
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
    match found {
        Some((_, path)) => path,
        None => {
            panic!("{name} is not built: run `make build` (or cargo build -p layerfs -p bakery)")
        }
    }
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
