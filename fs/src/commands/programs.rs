//! Directories of programs that a site provides: checks and hooks.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Interval of the looks at a program that runs.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The executable files in `directory`, by name. None, if there is no such directory.
pub(super) fn listed(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut programs: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            std::fs::metadata(path)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
        .collect();
    programs.sort();
    programs
}

/// True if a program succeeds within `limit`; after that it is killed.
pub(super) fn succeeds(program: &mut Command, limit: Duration) -> bool {
    let Ok(mut child) = program.spawn() else {
        return false;
    };
    let since = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if since.elapsed() < limit => std::thread::sleep(LOOK_EVERY),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}
