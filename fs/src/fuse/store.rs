//! Stores the boot pack's pages in the kernel's page cache (NOTIFY_STORE).
//!
//! Such a page could replace data that a program has just written through a mapping, so this
//! happens only while the mount is unused: `layerfs initramfs warm --before-use` promises this, in the
//! initramfs, between the mount and the hand-over. The daemon checks it as far as it can.

use std::collections::HashSet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// The kernel does not know FUSE_NOTIFY_PRUNE.
    cannot_prune: AtomicBool,
}

/// FUSE_NOTIFY_INVAL_ENTRY.
const INVAL_ENTRY: u32 = 3;
/// FUSE_NOTIFY_PRUNE (Linux 6.18).
const PRUNE: u32 = 9;
/// Length of the head of a message to the kernel (`fuse_out_header`), and of what follows it here
/// (`fuse_notify_inval_entry_out`, `fuse_notify_prune_out`), bytes.
const HEADS_LEN: usize = 16 + 16;
/// Objects in one message.
const PRUNED_AT_ONCE: usize = 512;

/// A message to the kernel with this code, up to what follows `fuse_out_header`.
fn message(code: u32, len: usize) -> Result<Vec<u8>, Errno> {
    let mut message = Vec::with_capacity(len);
    let len = u32::try_from(len).map_err(|_| Errno::NAMETOOLONG)?;
    message.extend_from_slice(&len.to_ne_bytes());
    message.extend_from_slice(&code.to_ne_bytes());
    message.extend_from_slice(&0_u64.to_ne_bytes());
    Ok(message)
}

/// Makes the kernel forget the names of objects that nobody uses. Unlike [`forget_name`] it leaves the
/// attributes of their directories valid. EINVAL: it cannot do that.
fn forget_unused(device: &OwnedFd, objects: &[NodeId]) -> Result<(), Errno> {
    for objects in objects.chunks(PRUNED_AT_ONCE) {
        let mut message = message(PRUNE, HEADS_LEN + size_of_val(objects))?;
        let count = u32::try_from(objects.len()).map_err(|_| Errno::INVAL)?;
        message.extend_from_slice(&count.to_ne_bytes());
        message.extend_from_slice(&0_u32.to_ne_bytes());
        message.extend_from_slice(&0_u64.to_ne_bytes());
        for object in objects {
            message.extend_from_slice(&object.to_ne_bytes());
        }
        rustix::io::write(device, &message)?;
    }
    Ok(())
}

/// Makes the kernel forget name `name` of directory `dir`. ENOENT: it does not know that name, which
/// [`Notifier::inval_entry`] does not tell.
fn forget_name(device: &OwnedFd, dir: NodeId, name: &[u8]) -> Result<(), Errno> {
    let name_len = u32::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
    let mut message = message(INVAL_ENTRY, HEADS_LEN + name.len() + 1)?;
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
            cannot_prune: AtomicBool::new(false),
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

    /// The connection to the kernel.
    pub(super) fn device(&self) -> Option<&OwnedFd> {
        self.device.get()
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
    pub(super) fn forget(&self, fs: &LayerFs, stale: &Stale) {
        let Some((notifier, device)) = self.notifier.get().zip(self.device.get()) else {
            return;
        };
        let mut failed = None;
        // Objects in use keep their names here, and lose them below.
        if !self.cannot_prune.load(Ordering::Relaxed)
            && let Err(errno) = forget_unused(device, &stale.former)
        {
            tracing::debug!(%errno, "the kernel does not prune");
            self.cannot_prune.store(true, Ordering::Relaxed);
        }
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
        // A listing that is stored is stale although the attributes of its directory may be the same.
        let listings = stale.listings.iter();
        let listings = listings.filter(|id| fs.forget_listing(**id));
        let directories = stale.directories.iter().chain(listings);
        let directories = directories.filter(|id| !marked.contains(id));
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
