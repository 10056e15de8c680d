//! Confines the programs that parse hostile images for us.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, UnshareFlags};

/// Resource limits of a confined program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Confinement {
    /// Address space, bytes.
    pub memory_len_max: u64,
    /// Processor time, seconds.
    pub processor_seconds_max: u64,
    /// Longest file it may write, bytes.
    pub written_len_max: u64,
}

impl Confinement {
    /// The same limits for a program that writes a file which it is given.
    #[must_use]
    pub(crate) fn that_writes(self) -> Self {
        Confinement {
            written_len_max: 16 << 40,
            ..self
        }
    }
}

impl Default for Confinement {
    fn default() -> Self {
        // squashfs-tools-ng and libarchive stay below 100 MiB; xz dictionaries add up to 64 MiB.
        Confinement {
            memory_len_max: 2 << 30,
            processor_seconds_max: 4 * 3600,
            written_len_max: 0,
        }
    }
}

/// Makes `command` start without network, environment, inherited descriptors beyond the three
/// standard ones, and capabilities beyond those for reading its input; it cannot gain any, and
/// dumps no core. The limits of `confinement` bound its files, memory and time.
pub(crate) fn confine(command: &mut Command, confinement: Confinement) {
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8");
    command.current_dir("/");
    // SAFETY: between fork and exec only the forking thread exists, so functions that take a lock
    // or allocate must not be called. `in_child` makes plain system calls on copied values and
    // neither allocates nor locks.
    unsafe {
        command.pre_exec(move || in_child(confinement));
    }
}

fn in_child(confinement: Confinement) -> io::Result<()> {
    let fixed = |limit: u64| Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    setrlimit(Resource::As, fixed(confinement.memory_len_max))?;
    setrlimit(Resource::Cpu, fixed(confinement.processor_seconds_max))?;
    setrlimit(Resource::Core, fixed(0))?;
    setrlimit(Resource::Fsize, fixed(confinement.written_len_max))?;
    setrlimit(Resource::Nofile, fixed(64))?;
    rustix::thread::set_no_new_privs(true)?;
    // A separate, empty network namespace. Not every kernel or container allows one. SAFETY:
    // namespaces only; after fork the descriptor table is not shared.
    let alone = |flags| unsafe { rustix::thread::unshare_unsafe(flags) };
    if alone(UnshareFlags::NEWNET | UnshareFlags::NEWIPC).is_err() {
        let _ = alone(UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWIPC);
    }
    // Root keeps its user id, so that it can read its files, but no capabilities over others.
    for capability in CapabilitySet::all().iter() {
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    // SAFETY: the call has three integer arguments. Descriptors 0 to 2 are unchanged; the others
    // are marked close-on-exec, which keeps the pipe on which std reports a failed exec.
    let closed = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    // Kernels before 5.11 lack the flag; std opens everything close-on-exec anyway.
    let _ = closed;
    Ok(())
}
