//! Attaching the file system to a directory and answering until it is unmounted.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::{Config, MountOption, Session, SessionACL};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::fuse::{Adapter, Mounted};
use crate::mount_table;

/// Read-ahead of the mount, KiB: the length of the largest request; local layers use several
/// requests.
const READ_AHEAD_KIB: u32 = 1024;

/// Mount point and options of a mount.
#[derive(Debug, Clone)]
pub(crate) struct MountPlace {
    /// An existing directory.
    pub mountpoint: PathBuf,
    /// The name in the mount table.
    pub name: String,
    /// Flags such as `ro` and `nosuid`.
    pub flags: MountFlags,
    /// Threads that answer requests.
    pub threads: usize,
}

/// The reason why a mount is impossible.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// No FUSE in this kernel.
    #[error("/dev/fuse: {0}: load the module (modprobe fuse)")]
    NoFuse(Errno),
    /// mount(2) refused.
    #[error("mount on {path}: {source}")]
    Mount {
        /// The affected path.
        path: PathBuf,
        /// The system's error.
        source: Errno,
    },
    /// The kernel has ended the connection of the mount.
    #[error(
        "the kernel has ended the connection of {0} (a request time-out of fs.fuse, or an abort by hand): all of its files give ENOTCONN until it is mounted again"
    )]
    Aborted(PathBuf),
    /// The kernel or fusermount3 refused.
    #[error("FUSE: {0}")]
    Fuse(std::io::Error),
}

/// An attached mount, not yet answering.
#[derive(Debug)]
pub(crate) struct Attached {
    session: Session<Mounted>,
    mountpoint: PathBuf,
    /// `major:minor` of the mount, if there is a /proc to find it in.
    pub device: Option<String>,
}

/// Removes the mount of a dead daemon at `path`; returns true if there was one.
pub(crate) fn remove_dead_mount(path: &Path) -> bool {
    match rustix::fs::stat(path) {
        Err(Errno::NOTCONN) => {
            tracing::info!(path = %path.display(), "removing the mount of a dead daemon");
            rustix::mount::unmount(path, UnmountFlags::DETACH).is_ok()
        }
        _ => false,
    }
}

/// Attaches `adapter` to its place.
///
/// # Errors
/// The kernel or fusermount3 refuses the mount.
pub(crate) fn attach(mut adapter: Adapter, place: &MountPlace) -> Result<Attached, SessionError> {
    let path = &place.mountpoint;
    let mut config = Config::default();
    config.n_threads = Some(place.threads);
    config.acl = SessionACL::All;
    let opened = rustix::fs::open(c"/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let device = match opened {
        Ok(device) => device,
        // fusermount3 may open it for us.
        Err(Errno::ACCESS | Errno::PERM) => return attach_as_user(adapter, place, config),
        Err(errno) => return Err(SessionError::NoFuse(errno)),
    };
    match mount(&device, place, adapter.read_len_max()) {
        Ok(()) => {
            adapter.idmapped = true;
            let pages = Arc::clone(&adapter.pages);
            let session = Session::from_fd(Mounted::new(adapter), device, SessionACL::All, config)
                .map_err(SessionError::Fuse)?;
            pages.connect(session.notifier(), session.as_fd());
            let device = mount_table::device_now(path);
            if let Some(read_ahead) = device.as_deref().and_then(ReadAhead::of) {
                read_ahead.set_usual();
            }
            Ok(Attached {
                session,
                mountpoint: path.clone(),
                device,
            })
        }
        Err(Errno::PERM) => attach_as_user(adapter, place, config),
        Err(source) => Err(SessionError::Mount {
            path: path.clone(),
            source,
        }),
    }
}

fn mount(device: &OwnedFd, place: &MountPlace, read_len_max: u32) -> Result<(), Errno> {
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,allow_other,max_read={read_len_max}",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    let data = std::ffi::CString::new(data).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(
        &place.name[..],
        &place.mountpoint,
        mount_table::TYPE,
        place.flags,
        data.as_c_str(),
    )
}

/// An ordinary user: through fusermount3, for that user alone.
fn attach_as_user(
    adapter: Adapter,
    place: &MountPlace,
    mut config: Config,
) -> Result<Attached, SessionError> {
    config.acl = SessionACL::Owner;
    config.mount_options = vec![
        MountOption::FSName(place.name.clone()),
        MountOption::Subtype("layerfs".to_owned()),
        MountOption::DefaultPermissions,
        MountOption::CUSTOM(format!("max_read={}", adapter.read_len_max())),
    ];
    let mut left = place.flags - MountFlags::NOSUID - MountFlags::NODEV;
    for (flag, option) in [
        (MountFlags::RDONLY, MountOption::RO),
        (MountFlags::NOEXEC, MountOption::NoExec),
        (MountFlags::NOATIME, MountOption::NoAtime),
        (MountFlags::SYNCHRONOUS, MountOption::Sync),
        (MountFlags::DIRSYNC, MountOption::DirSync),
    ] {
        if left.contains(flag) {
            left -= flag;
            config.mount_options.push(option);
        }
    }
    if !left.is_empty() {
        tracing::warn!(flags = ?left, "fusermount3 does not accept these flags: the mount does not have them");
    }
    let pages = Arc::clone(&adapter.pages);
    let session = Session::new(Mounted::new(adapter), &place.mountpoint, &config)
        .map_err(SessionError::Fuse)?;
    pages.connect(session.notifier(), session.as_fd());
    let device = mount_table::device_now(&place.mountpoint);
    Ok(Attached {
        session,
        mountpoint: place.mountpoint.clone(),
        device,
    })
}

impl Attached {
    /// Answer requests until the file system is unmounted.
    ///
    /// # Errors
    /// When the connection to the kernel breaks, or is ended by it.
    pub(crate) fn serve(self) -> Result<(), SessionError> {
        let ended = self.session.run();
        let aborted = ended
            .as_ref()
            .is_err_and(|error| error.raw_os_error() == Some(libc::ECONNABORTED));
        // A time-out ends the connection like an unmount, but the mount stays.
        let table = mount_table::read().unwrap_or_default();
        let device = self.device.as_deref();
        if aborted || device.is_some_and(|device| mount_table::lists(&table, device)) {
            return Err(SessionError::Aborted(self.mountpoint));
        }
        ended.map_err(SessionError::Fuse)
    }
}

/// The kernel's read-ahead for one mount. Open from the start: later there may be no `/sys`.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    file: std::fs::File,
}

impl ReadAhead {
    /// That of the mount with this `major:minor`. Failing costs only speed.
    pub(crate) fn of(device: &str) -> Option<ReadAhead> {
        let path = format!("/sys/class/bdi/{device}/read_ahead_kb");
        match std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
        {
            Ok(file) => Some(ReadAhead { file }),
            Err(error) => {
                tracing::debug!(path, %error, "read-ahead stays small");
                None
            }
        }
    }

    /// The current read-ahead in KiB.
    pub(crate) fn get(&self) -> Option<u32> {
        use std::os::unix::fs::FileExt as _;
        let mut text = [0; 16];
        let len = self.file.read_at(&mut text, 0).ok()?;
        std::str::from_utf8(text.get(..len)?)
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Sets it, KiB. Holds for files opened from then on.
    pub(crate) fn set(&self, kib: u32) {
        use std::os::unix::fs::FileExt as _;
        if let Err(error) = self.file.write_all_at(kib.to_string().as_bytes(), 0) {
            tracing::debug!(%error, "read-ahead stays as it is");
        }
    }

    /// Sets it to the length of the largest request: the protocol offers at most 128 KiB.
    pub(crate) fn set_usual(&self) {
        self.set(READ_AHEAD_KIB);
    }
}
