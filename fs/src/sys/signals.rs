//! Waiting for the signals that end a daemon.
#![allow(unsafe_code)]

/// The signals that ask the daemon to unmount and end.
const ENDING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

fn ending_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initializes the set, sigaddset changes an initialized one.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in ENDING {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

/// Blocks the ending signals in this thread and in all threads that it starts later.
pub(crate) fn hold() {
    let set = ending_set();
    // SAFETY: `set` is initialized; the old mask is not requested.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Waits for one of the blocked signals; returns its number.
pub(crate) fn wait() -> i32 {
    let set = ending_set();
    let mut signal = 0;
    // SAFETY: both pointers are valid for the call.
    unsafe {
        libc::sigwait(&raw const set, &raw mut signal);
    }
    signal
}
