//! Other tasks of the machine, seen through `/proc`.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// SIGKILL in the masks of `status`. A deadly signal of another kind shows as this one in each thread.
const KILLED: u64 = 1 << 8;

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskState {
    /// It is running.
    Lives,
    /// It ends as soon as the kernel can end it.
    Dies,
    /// The task does not exist.
    Gone,
}

/// `/proc` as it was when this was opened: no path is looked up later.
#[derive(Debug)]
pub(crate) struct Tasks {
    proc: OwnedFd,
}

impl Tasks {
    /// Opens `/proc`, if it is that of our own PID namespace.
    pub(crate) fn open() -> Option<Tasks> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open(c"/proc", flags, Mode::empty()).ok()?;
        let own = rustix::fs::readlinkat(&proc, c"self", Vec::new()).ok()?;
        let pid = std::process::id().to_string();
        (own.as_bytes() == pid.as_bytes()).then_some(Tasks { proc })
    }

    /// The state of the task with this number.
    pub(crate) fn state(&self, tid: u32) -> TaskState {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let path = format!("{tid}/status");
        let status = rustix::fs::openat(&self.proc, path, flags, Mode::empty()).and_then(|file| {
            let mut text = Vec::with_capacity(4096);
            while rustix::io::read(&file, rustix::buffer::spare_capacity(&mut text))? > 0 {
                text.reserve(1024);
            }
            Ok(text)
        });
        match status {
            Ok(text) if is_killed(&text) => TaskState::Dies,
            Err(Errno::NOENT | Errno::SRCH) => TaskState::Gone,
            _ => TaskState::Lives,
        }
    }
}

fn is_killed(status: &[u8]) -> bool {
    let lines = status.split(|byte| *byte == b'\n');
    let masks = lines.filter_map(|line| {
        line.strip_prefix(b"SigPnd:\t")
            .or_else(|| line.strip_prefix(b"ShdPnd:\t"))
    });
    masks
        .filter_map(|mask| std::str::from_utf8(mask).ok())
        .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .any(|mask| mask & KILLED != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_lives_dies_and_is_gone() {
        let tasks = Tasks::open().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        assert_eq!(tasks.state(child.id()), TaskState::Lives);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(tasks.state(child.id()), TaskState::Gone);
        assert!(is_killed(
            b"Name:\tx\nSigPnd:\t0000000000000100\nShdPnd:\t0\n"
        ));
        assert!(is_killed(b"SigPnd:\t0\nShdPnd:\t0000000000000102\n"));
        assert!(!is_killed(
            b"SigPnd:\t0000000000004000\nShdPnd:\t0\nSigBlk:\t100\n"
        ));
    }
}
