//! Creates objects as another user: the file system user and group of this thread.
//!
//! The upper's own file system then applies its rules (set-group-ID directories, default ACLs)
//! exactly as if the caller had written there, and an object is never visible with a wrong owner.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::sync::OnceLock;

use rustix::thread::CapabilitySet;

thread_local! {
    /// True if this thread keeps its capabilities when its file system user changes.
    static KEEPS_CAPABILITIES: Cell<Option<bool>> = const { Cell::new(None) };
}

/// `SECBIT_NO_SETUID_FIXUP` of <linux/securebits.h>.
const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;

fn keep_capabilities() -> bool {
    KEEPS_CAPABILITIES.with(|kept| {
        kept.get().unwrap_or_else(|| {
            // SAFETY: prctl with integer arguments only; it changes a flag of the calling thread.
            let done =
                unsafe { libc::prctl(libc::PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) }
                    == 0;
            kept.set(Some(done));
            done
        })
    })
}

/// Proof that this thread acts for another user; dropping it restores the thread's own identity.
#[derive(Debug)]
pub(crate) struct Assumed {
    /// The identity to restore; `None` if nothing was changed.
    before: Option<(libc::uid_t, libc::gid_t)>,
    /// True if objects that are created meanwhile already belong to the requested user.
    pub owns: bool,
}

/// The user and group of this process; they do not change while a mount lives.
pub(crate) fn own() -> (u32, u32) {
    static OWN: OnceLock<(u32, u32)> = OnceLock::new();
    *OWN.get_or_init(|| {
        (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        )
    })
}

/// Acts for `uid`, `gid` until the result is dropped. If that is impossible, `owns` is false and
/// the caller changes the owner of new objects.
pub(crate) fn assume(uid: u32, gid: u32) -> Assumed {
    let (own_uid, own_gid) = own();
    if (uid, gid) == (own_uid, own_gid) {
        return Assumed {
            before: None,
            owns: true,
        };
    }
    if own_uid != 0 || !keep_capabilities() {
        return Assumed {
            before: None,
            owns: false,
        };
    }
    // SAFETY: both calls take integers and change the calling thread only.
    unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
    }
    Assumed {
        before: Some((own_uid, own_gid)),
        owns: true,
    }
}

/// Runs `work` without the right to keep set-user-ID and set-group-ID on a written file
/// (CAP_FSETID). Files that the kernel opens meanwhile stay without it.
///
/// # Errors
/// EPERM if this thread may not drop a capability.
pub(crate) fn without_fsetid<T>(work: impl FnOnce() -> T) -> std::io::Result<T> {
    let before = rustix::thread::capabilities(None)?;
    let mut reduced = before;
    reduced.effective -= CapabilitySet::FSETID;
    rustix::thread::set_capabilities(None, reduced)?;
    let done = work();
    rustix::thread::set_capabilities(None, before)?;
    Ok(done)
}

impl Drop for Assumed {
    fn drop(&mut self) {
        if let Some((uid, gid)) = self.before {
            // SAFETY: as in `assume`; going back to the process's own identity cannot fail.
            unsafe {
                libc::setfsuid(uid);
                libc::setfsgid(gid);
            }
        }
    }
}
