//! Requests of the daemon to the kernel about its own process.
#![allow(unsafe_code)]

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use rustix::thread::LinkNameSpaceType;

/// Enters another mount namespace, a file like `/proc/PID/ns/mnt`. Only while there is one thread.
///
/// # Errors
/// ENOENT, EINVAL if it is another kind of file, EPERM.
pub(crate) fn enter_mount_namespace(path: &Path) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mount = Some(LinkNameSpaceType::Mount);
    rustix::thread::move_into_link_name_space(file.as_fd(), mount)
}

/// Raises the limit of open descriptors as far as allowed; returns the current limit.
pub(crate) fn raise_descriptor_limit(wanted: u64) -> u64 {
    let have = rustix::process::getrlimit(Resource::Nofile);
    let ceiling = have.maximum.unwrap_or(u64::MAX);
    let attempts = [
        Rlimit {
            current: Some(wanted),
            maximum: Some(wanted.max(ceiling)),
        },
        Rlimit {
            current: Some(wanted.min(ceiling)),
            maximum: have.maximum,
        },
    ];
    for attempt in attempts {
        if rustix::process::setrlimit(Resource::Nofile, attempt).is_ok() {
            break;
        }
    }
    rustix::process::getrlimit(Resource::Nofile)
        .current
        .unwrap_or(u64::MAX)
}

/// See [`descriptor_limit`]; 0 if unknown.
static DESCRIPTOR_LIMIT: AtomicU64 = AtomicU64::new(0);

/// The maximum number of descriptors of this process when it was last read: other processes may
/// change it.
pub(crate) fn descriptor_limit() -> u64 {
    match DESCRIPTOR_LIMIT.load(Ordering::Relaxed) {
        0 => learn_descriptor_limit(),
        known => known,
    }
}

/// Reads the maximum number of descriptors of this process.
pub(crate) fn learn_descriptor_limit() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let limit = limit.current.unwrap_or(u64::MAX);
    DESCRIPTOR_LIMIT.store(limit, Ordering::Relaxed);
    limit
}

/// Makes the kernel's table of open descriptors long enough for `count` at once. With one thread
/// that is free; with more, each growth of the table blocks the opening call until all processors
/// have passed (7 to 17 ms). Failure has no other effect.
pub(crate) fn reserve_descriptors(count: u64) {
    let Ok(last) = i32::try_from(count.saturating_sub(1)) else {
        return;
    };
    let Ok(any) = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else {
        return;
    };
    if let Err(error) = rustix::io::fcntl_dupfd_cloexec(&any, last) {
        tracing::debug!(%error, "cannot reserve descriptors: their table grows on demand");
    }
}

/// The supplementary groups of another process; none if it has ended or there is no /proc.
pub(crate) fn groups_of(pid: u32) -> Vec<u32> {
    // Relative to the descriptor directory, the working directory of a daemon: `/` may be its own
    // mount.
    status_numbers(&status_of(pid), "Groups:")
}

/// The user and the group by which the kernel judges another process's accesses to files.
pub(crate) fn ids_of(pid: u32) -> Option<(u32, u32)> {
    let status = status_of(pid);
    let file_system = |line| status_numbers(&status, line).get(3).copied();
    Some((file_system("Uid:")?, file_system("Gid:")?))
}

fn status_of(pid: u32) -> String {
    std::fs::read_to_string(format!("../../{pid}/status")).unwrap_or_default()
}

/// The numbers in the line of `status` that begins with `name`.
fn status_numbers(status: &str, name: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let words = line.unwrap_or_default().split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

/// `PR_SET_IO_FLUSHER` of <linux/prctl.h>.
const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// Tells memory reclaim that this process writes data out, so that it never waits for itself.
///
/// # Errors
/// EINVAL on kernels before 5.6, EPERM without CAP_SYS_RESOURCE.
pub(crate) fn set_io_flusher() -> Result<(), Errno> {
    // SAFETY: prctl with integer arguments only.
    let done = unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Keep every page of the process in memory, those to come as well.
///
/// # Errors
/// ENOMEM or EPERM: the limit of locked memory.
pub(crate) fn lock_memory() -> Result<(), Errno> {
    rustix::mm::mlockall(
        rustix::mm::MlockAllFlags::CURRENT
            | rustix::mm::MlockAllFlags::FUTURE
            | rustix::mm::MlockAllFlags::ONFAULT,
    )?;
    LOCKED.store(true, Ordering::Relaxed);
    Ok(())
}

/// True after [`lock_memory`].
static LOCKED: AtomicBool = AtomicBool::new(false);
/// Locked memory begins at a multiple of this length.
const PAGE_LEN: usize = 4096;

/// Allocations from this length on get pages of their own, bytes.
const OWN_PAGES_LEN: libc::c_int = 32 << 10;

/// Makes the allocator give large blocks pages of their own, and all threads one heap: locked memory can be
/// returned only by unmapping it. The kernel makes no 2 MiB pages of small ones. To be called before threads
/// start.
pub(crate) fn keep_heap_small() {
    HEAP_START.store(heap_end(), Ordering::Relaxed);
    // SAFETY: integer arguments only; unsupported requests fail without effect.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES_LEN);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Makes all threads use one heap, also in a mount that is not the root: the buffers of a unit of an update pack
/// have some MiB, and each heap keeps those of its threads. To be called before threads start.
pub(crate) fn keep_one_heap() {
    // SAFETY: integer arguments only; unsupported requests fail without effect.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Length of a large block, bytes: what the allocator starts with.
const LARGE_LEN: libc::c_int = 128 << 10;

/// Gives large blocks pages of their own from now on, whatever was freed before: tables that grow are then not
/// copied, and their pages return to the kernel.
pub(crate) fn keep_large_apart() {
    // The root of a machine has a lower limit already.
    if HEAP_START.load(Ordering::Relaxed) != 0 {
        return;
    }
    // SAFETY: integer arguments only; an unsupported request fails without effect.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_LEN);
    }
}

/// End of the heap when [`keep_heap_small`] was called; nearly all of it follows. 0: it was not
/// called.
static HEAP_START: AtomicUsize = AtomicUsize::new(0);

fn heap_end() -> usize {
    // SAFETY: a query that moves nothing.
    unsafe { libc::sbrk(0) as usize }
}

/// Returns unused memory of the allocator to the kernel, also of a locked heap
/// ([`keep_heap_small`], [`lock_memory`]), which is temporarily unlocked.
pub(crate) fn return_memory() {
    let start = HEAP_START
        .load(Ordering::Relaxed)
        .next_multiple_of(PAGE_LEN);
    let heap = (start as *mut libc::c_void, heap_end().saturating_sub(start));
    let is_locked = LOCKED.load(Ordering::Relaxed) && start > 0 && heap.1 > 0;
    // SAFETY: locks change no memory, and the allocator holds its own lock; new mappings are
    // locked like all future ones.
    unsafe {
        let unlocked = is_locked && libc::munlock(heap.0, heap.1) == 0;
        libc::malloc_trim(0);
        let len = heap_end().saturating_sub(start).min(heap.1);
        if unlocked && libc::mlock2(heap.0, len, libc::MLOCK_ONFAULT) != 0 {
            tracing::warn!(errno = %last_error(), "part of the heap is no longer locked");
        }
    }
}

/// Excludes this process from the out-of-memory killer.
///
/// # Errors
/// EACCES without CAP_SYS_RESOURCE, ENOENT without /proc.
pub(crate) fn spare_from_oom() -> Result<(), Errno> {
    let file = rustix::fs::open(
        "/proc/self/oom_score_adj",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::io::write(&file, b"-1000").map(drop)
}

/// Replace standard input and output by `quiet`, standard error by `errors`.
///
/// # Errors
/// EMFILE and the like.
pub(crate) fn replace_standard(quiet: &OwnedFd, errors: &OwnedFd) -> Result<(), Errno> {
    for (from, to) in [
        (quiet, libc::STDIN_FILENO),
        (quiet, libc::STDOUT_FILENO),
        (errors, libc::STDERR_FILENO),
    ] {
        // SAFETY: both are descriptors; the old file of `to` is closed, and no object owns it.
        if unsafe { libc::dup2(from.as_raw_fd(), to) } < 0 {
            return Err(last_error());
        }
    }
    Ok(())
}

/// Makes this process end (SIGTERM) together with its parent, or stops that.
pub(crate) fn end_with_parent(ends: bool) {
    let signal = ends.then_some(rustix::process::Signal::TERM);
    let _ = rustix::process::set_parent_process_death_signal(signal);
}

/// Milliseconds since the kernel's start, on the clock that systemd's timestamps are of.
pub(crate) fn since_start_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (
        u64::try_from(now.tv_sec).unwrap_or(0),
        u64::try_from(now.tv_nsec).unwrap_or(0),
    );
    seconds
        .saturating_mul(1000)
        .saturating_add(nanos / 1_000_000)
}

/// Priority of the threads that answer: a client waits for each of them.
const NICE: i32 = -10;

/// Raises the priority of the threads that answer: on a busy machine a request otherwise waits for its turn.
///
/// # Errors
/// EACCES without CAP_SYS_NICE.
pub(crate) fn answer_first() -> Result<(), Errno> {
    rustix::process::setpriority_process(None, NICE)
}

/// Requests real-time priority: for a thread that computes little and wakes many.
///
/// # Errors
/// EPERM without CAP_SYS_NICE, or if the control group has no real-time share.
pub(crate) fn run_to_the_wait() -> Result<(), Errno> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter lives through the call.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}
