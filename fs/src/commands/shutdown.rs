//! `/run/initramfs/shutdown {poweroff|reboot|halt|kexec}`: the last program of a machine whose root
//! is a layerfs mount, under that name.
//!
//! systemd-shutdown has ended every process and moved here, with the old root on `/oldroot`; the
//! daemon still serves it. The program unmounts it, so that the daemon flushes and ends, then
//! performs the action. It does not return. `initrd/shutdown` is the same for other initramfs.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::WaitOptions;
use rustix::system::RebootCommand;

use crate::mount_table;

/// The name under which the program acts as shutdown.
pub(crate) const NAME: &str = "shutdown";

const OLD_ROOT: &str = "/oldroot";
/// Mount points of the upper, the cache and the backup.
const STORAGE: &str = "/layerfs";
/// The mount of the daemon, if the kernel's overlayfs stacks the upper over it.
const LOWER: &str = "/layerfs/lower";
const PAUSE: Duration = Duration::from_millis(100);
/// Maximum number of attempts to unmount the root, and of checks of the daemon; a pause follows
/// each.
const UNMOUNTS_MAX: u32 = 20;
const LOOKS_MAX: u32 = 50;

/// Releases the root and ends the machine.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    if rustix::process::getpid() != rustix::process::Pid::INIT {
        let said = "layerfs: shutdown is the last program of a machine: only process 1 may run it";
        let _ = writeln!(std::io::stderr(), "{said}");
        return ExitCode::from(2);
    }
    if !Path::new("/proc/mounts").exists() {
        let _ = rustix::mount::mount("proc", "/proc", "proc", MountFlags::empty(), None);
    }
    release_root();
    release(LOWER, UnmountFlags::empty());
    if !daemon_ended() {
        say("the daemon did not end in 5 s: continuing");
    }
    release(STORAGE, UnmountFlags::empty());
    rustix::fs::sync();
    let asked = arguments
        .get(1)
        .map_or("poweroff", |asked| asked.to_str().unwrap_or("poweroff"));
    say(&format!("root released, {asked}"));
    let command = match asked {
        "reboot" => RebootCommand::Restart,
        "halt" => RebootCommand::Halt,
        "kexec" => RebootCommand::Kexec,
        _ => RebootCommand::PowerOff,
    };
    let fallback = match command {
        RebootCommand::Kexec => RebootCommand::Restart,
        _ => RebootCommand::PowerOff,
    };
    for command in [command, fallback] {
        let _ = rustix::system::reboot(command);
        std::thread::sleep(Duration::from_secs(5));
    }
    // The first process must not end.
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Unmounts file systems below the root first. The upper, the cache and the backup are among them,
/// and the daemon still writes to them: they are detached, and end with the daemon.
fn release_root() {
    release(OLD_ROOT, UnmountFlags::empty());
    for point in mounted(OLD_ROOT) {
        if point != Path::new(OLD_ROOT) {
            let _ = rustix::mount::unmount(&point, UnmountFlags::DETACH);
        }
    }
    for _ in 0..UNMOUNTS_MAX {
        if mounted(OLD_ROOT).is_empty() {
            return;
        }
        release(OLD_ROOT, UnmountFlags::empty());
        std::thread::sleep(PAUSE);
    }
    say("the root is still in use: detaching it");
    release(OLD_ROOT, UnmountFlags::DETACH);
}

fn release(below: &str, flags: UnmountFlags) {
    for point in mounted(below) {
        let _ = rustix::mount::unmount(&point, flags);
    }
}

fn mounted(below: &str) -> Vec<PathBuf> {
    let mounts = std::fs::read("/proc/mounts").unwrap_or_default();
    mount_table::points_below(&mounts, Path::new(below))
}

/// The daemon ends when its mount is gone; it gets some time to finish its writes.
fn daemon_ended() -> bool {
    for _ in 0..LOOKS_MAX {
        // The first process inherits all orphans: ended ones remain until they are waited for.
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let alive = processes
            .filter_map(|process| std::fs::read(process.path().join("comm")).ok())
            .any(|name| name.starts_with(b"layerfs") || name.starts_with(b"@layerfs"));
        if !alive {
            return true;
        }
        std::thread::sleep(PAUSE);
    }
    false
}

/// Writes to the kernel's log, or to the console.
fn say(text: &str) {
    let line = format!("layerfs: {text}\n");
    for place in ["/dev/kmsg", "/dev/console"] {
        let file = std::fs::OpenOptions::new().write(true).open(place);
        if file.is_ok_and(|mut file| file.write_all(line.as_bytes()).is_ok()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_the_first_process_ends_the_machine() {
        assert_eq!(
            format!("{:?}", run(&["shutdown".into(), "reboot".into()])),
            format!("{:?}", ExitCode::from(2))
        );
    }
}
