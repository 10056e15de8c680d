//! The cost of one FUSE message for a file system that does nothing, which is the minimum for every
//! case made of messages.
//!
//! `floor [THREADS]`
//!
//! A mount that answers "no such file" for every name, and a process that looks up 20,000 names,
//! five times. Prints the microseconds for each lookup. Needs root. Restrict the CPUs with taskset,
//! as for compare.py.

use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use layerfs_benches::fixture::Failure;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

const NAMES: u32 = 20_000;
const ROUNDS: u32 = 5;

// From <linux/fuse.h>.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const INIT: u32 = 26;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;
/// Length of a request's header, bytes.
const IN_HEADER_LEN: usize = 40;
const INIT_OUT_LEN: usize = 64;
const ATTR_OUT_LEN: usize = 104;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = match arguments.next().as_deref() {
        Some("ask") => arguments.next().map_or(Ok(()), |root| ask(&root)),
        None => serve(1),
        Some(threads) => match threads.parse() {
            Ok(threads) => serve(threads),
            Err(_) => Err(format!("'{threads}' is not a number of threads").into()),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ask(root: &str) -> Result<(), Failure> {
    for round in 0..ROUNDS {
        let began = Instant::now();
        for number in 0..NAMES {
            let found = rustix::fs::stat(format!("{root}/{round}-{number}"));
            if !matches!(found, Err(Errno::NOENT)) {
                return Err("a name was found, or the mount is gone".into());
            }
        }
        let each = began.elapsed().as_secs_f64() / f64::from(NAMES);
        writeln!(io::stdout(), "{:.2}", each * 1e6)?;
    }
    Ok(())
}

fn serve(threads: u32) -> Result<(), Failure> {
    let root = std::env::temp_dir().join(format!("floor-{}", std::process::id()));
    std::fs::create_dir(&root)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let device = Arc::new(rustix::fs::open(c"/dev/fuse", flags, Mode::empty())?);
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions",
        device.as_raw_fd()
    );
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount(
        "floor",
        &root,
        "fuse.floor",
        MountFlags::empty(),
        options.as_c_str(),
    )?;
    for _ in 0..threads.max(1) {
        let device = Arc::clone(&device);
        std::thread::spawn(move || answer_all(&device));
    }
    let asked = measure(&root);
    rustix::mount::unmount(&root, UnmountFlags::DETACH)?;
    std::fs::remove_dir(&root)?;
    asked
}

fn measure(root: &Path) -> Result<(), Failure> {
    let mut asks = Command::new(std::env::current_exe()?);
    match asks.arg("ask").arg(root).status()?.success() {
        true => Ok(()),
        false => Err("the asking process failed".into()),
    }
}

fn answer_all(device: &OwnedFd) {
    let mut request = vec![0; (1 << 20) + 4096];
    loop {
        let read = rustix::io::read(device, &mut request[..]);
        match read.map(|len| request.get(..len).unwrap_or_default()) {
            Ok(request) if request.len() >= IN_HEADER_LEN => {
                if !answer(device, request) {
                    return;
                }
            }
            Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => {}
            _ => return,
        }
    }
}

/// The number at `at`, 0 behind the end.
fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u32::from_le_bytes(*word))
}

/// `len` zeros, but for these numbers at these places.
fn body(len: usize, words: &[(usize, u32)]) -> Vec<u8> {
    let mut body = vec![0; len];
    for (at, word) in words {
        if let Some(place) = body.get_mut(*at..at + 4) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }
    body
}

/// Answers one request; false after the last.
fn answer(device: &OwnedFd, request: &[u8]) -> bool {
    let minor = word(request, IN_HEADER_LEN + 4);
    let (error, body) = match word(request, 4) {
        FORGET | BATCH_FORGET => return true,
        DESTROY => return false,
        // The kernel's own version, writes of 128 KiB.
        INIT => (0, body(INIT_OUT_LEN, &[(0, 7), (4, minor), (20, 1 << 17)])),
        // Of the root, for an hour.
        GETATTR => {
            let root = [(0, 3600), (16, 1), (76, 0o40755), (80, 2)];
            (0, body(ATTR_OUT_LEN, &root))
        }
        LOOKUP => (-Errno::NOENT.raw_os_error(), Vec::new()),
        _ => (-Errno::NOSYS.raw_os_error(), Vec::new()),
    };
    let mut reply = Vec::with_capacity(16 + body.len());
    reply.extend_from_slice(&u32::try_from(16 + body.len()).unwrap_or(0).to_le_bytes());
    reply.extend_from_slice(&error.to_le_bytes());
    reply.extend_from_slice(request.get(8..16).unwrap_or_default());
    reply.extend_from_slice(&body);
    let _ = rustix::io::write(device, &reply);
    true
}
