//! Stores the boot pack's pages in the kernel's page cache (NOTIFY_STORE).
//!
//! Such a page could replace data that a program has just written through a mapping, so this
//! happens only while the mount is unused: `layerfs initramfs warm --before-use` promises this, in the
//! initramfs, between the mount and the hand-over. The daemon checks it as far as it can.

use std::collections::HashSet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fuser::{INodeNo, Notifier};
use rustix::io::Errno;

use crate::filesystem::reply::NodeId;
use crate::filesystem::{LayerFs, Stale};
use crate::metrics::Requests;
/// Maximum pause of the pack: on a slower link the boot continues without waiting.
const PATIENCE: Duration = Duration::from_millis(30);
/// The offset of an invalidation that leaves the pages.
const ATTRIBUTES_ONLY: i64 = -1;
/// Time after which the daemon no longer assumes that the mount is unused.
const USED_AFTER: Duration = Duration::from_secs(60);

/// Stores pages in the kernel's page cache for one mount.
#[derive(Debug)]
pub(crate) struct PageStore {
    began: Instant,
    requests: Arc<Requests>,
    notifier: OnceLock<Notifier>,
    /// The connection to the kernel.
    device: OnceLock<OwnedFd>,
}

/// FUSE_NOTIFY_INVAL_ENTRY.
const INVAL_ENTRY: u32 = 3;
/// Length of the head of a message to the kernel (`fuse_out_header`), and of what follows it here
/// (`fuse_notify_inval_entry_out`), bytes.
const HEADS_LEN: usize = 16 + 16;

/// Makes the kernel forget name `name` of directory `dir`. ENOENT: it does not know that name, which
/// [`Notifier::inval_entry`] does not tell.
fn forget_name(device: &OwnedFd, dir: NodeId, name: &[u8]) -> Result<(), Errno> {
    let name_len = u32::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
    let mut message = Vec::with_capacity(HEADS_LEN + name.len() + 1);
    let len = u32::try_from(HEADS_LEN + name.len() + 1).map_err(|_| Errno::NAMETOOLONG)?;
    message.extend_from_slice(&len.to_ne_bytes());
    message.extend_from_slice(&INVAL_ENTRY.to_ne_bytes());
    message.extend_from_slice(&0_u64.to_ne_bytes());
    message.extend_from_slice(&dir.to_ne_bytes());
    message.extend_from_slice(&name_len.to_ne_bytes());
    message.extend_from_slice(&0_u32.to_ne_bytes());
    message.extend_from_slice(name);
    message.push(0);
    rustix::io::write(device, &message).map(drop)
}

impl PageStore {
    /// For the mount whose requests are counted in `requests`.
    pub(super) fn new(requests: Arc<Requests>) -> PageStore {
        PageStore {
            began: Instant::now(),
            requests,
            notifier: OnceLock::new(),
            device: OnceLock::new(),
        }
    }

    /// Called when the mount is connected to the kernel.
    pub(super) fn connect(&self, notifier: Notifier, device: BorrowedFd<'_>) {
        let _ = self.notifier.set(notifier);
        match device.try_clone_to_owned() {
            Ok(device) => drop(self.device.set(device)),
            Err(error) => tracing::warn!(%error, "this mount cannot switch"),
        }
    }

    /// Makes the kernel read the attributes of `id` again: they changed without the kernel.
    pub(super) fn forget_attributes(&self, id: NodeId) {
        if let Some(notifier) = self.notifier.get() {
            // The kernel may not know the object any more.
            let _ = notifier.inval_inode(INodeNo(id), ATTRIBUTES_ONLY, 0);
        }
    }

    /// Makes the kernel forget what another revision changed. May wait for requests that the kernel
    /// has sent: the caller holds no lock.
    pub(super) fn forget(&self, stale: &Stale) {
        let Some((notifier, device)) = self.notifier.get().zip(self.device.get()) else {
            return;
        };
        let mut failed = None;
        // The kernel marks attributes and listing of a directory as old when it forgets a name in it.
        // To forget the directory itself would make it ask for the ACLs too, at the next use.
        let mut marked = HashSet::new();
        for (dir, name) in &stale.names {
            match forget_name(device, *dir, name) {
                Ok(()) => drop(marked.insert(*dir)),
                Err(Errno::NOENT) => {}
                Err(errno) => failed = failed.or(Some(errno.into())),
            }
        }
        let directories = stale.directories.iter().filter(|id| !marked.contains(id));
        for id in directories.chain(&stale.pages) {
            failed = failed.or(notifier.inval_inode(INodeNo(*id), 0, 0).err());
        }
        for id in &stale.attributes {
            failed = failed.or(notifier.inval_inode(INodeNo(*id), ATTRIBUTES_ONLY, 0).err());
        }
        if let Some(error) = failed {
            tracing::warn!(%error, "the kernel may show names of the revision before");
        }
    }

    /// Stores the pages of the pack's files, in the order of the pack, as long as it arrives;
    /// returns the number of files in digits. `None` once the mount is in use.
    pub(super) fn answer(&self, fs: &LayerFs) -> Option<Vec<u8>> {
        let notifier = self.notifier.get()?;
        if self.requests.changed() || self.began.elapsed() > USED_AFTER {
            return None;
        }
        let stored = fs.hot_pages(PATIENCE, &mut |id, offset, bytes| {
            // The kernel may have forgotten the file: then it reads the page on demand.
            let _ = notifier.store(INodeNo(id), offset, bytes);
        });
        Some(stored.to_string().into_bytes())
    }
}
