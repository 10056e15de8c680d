//! The merged file system: one method per operation, no FUSE types. A request passes from here to
//! the upper ([`crate::upper`]) or the lower ([`crate::lower`]).
//!
//! Locks, in the order they are taken: the data lock of a file, the tree, a descriptor cache. No method waits
//! for the network, so no lock is held for it: an operation that needs remote bytes changes nothing and names
//! them ([`far`]); the caller repeats it when they are local.

mod attributes;
mod change_time;
mod cookie;
mod copy_data;
mod copy_up;
mod create;
mod data;
mod descriptors;
mod exchange;
pub mod far;
mod handles;
mod hot;
mod listing;
mod load;
mod lookup;
mod moved;
mod protection;
mod refusal;
mod remove;
mod rename;
pub mod reply;
mod rows;
mod spool;
pub mod tree;
mod xattr;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

pub use self::create::Make;
use self::descriptors::Descriptors;
pub use self::exchange::{Conflict, ExchangeError, Ours, Planned, Stale, Switched, Theirs};
use self::far::Failure;
pub use self::far::{Far, FarChunks, Need, Rows, Stop};
use self::handles::Whereabouts;
pub use self::protection::Protection;
use self::refusal::FaultLog;
use self::reply::{NodeId, Numbers, ROOT_ID};
use self::rows::RowCounts;
use self::spool::Spools;
pub use self::spool::{Offer, Spool};
use self::tree::{Node, Tree};
use crate::error::Result;
use crate::lower::Lower;
use crate::sys::object::At;
use crate::sys::{Errno, process};
use crate::upper::Upper;

/// Longest name, bytes.
pub const NAME_LEN_MAX: usize = 255;
/// Locks for copying and truncating data; a file's is chosen by its number.
const DATA_LOCKS: usize = 64;
/// Parts of the cache of open files.
const FILE_SHARDS: usize = 16;
/// Maximum number of open files in one part: all parts leave room in a table of 4,096 for
/// directories and other descriptors.
const FILES_OPEN_MAX: u64 = 224;

/// Pauses of a request that finds no space while removed files are still held, in order,
/// milliseconds.
const ROOM_PAUSES_MS: [u64; 5] = [1, 4, 16, 64, 256];

/// The choices of a mount that the file system itself depends on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Do not force data to the disk at copy-up.
    pub volatile: bool,
    /// Open descriptors the caches may hold.
    pub descriptors_max: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            volatile: false,
            descriptors_max: 1024,
        }
    }
}

/// The file system of a mount.
#[derive(Debug)]
pub struct LayerFs {
    /// The flattened stack. It is exchanged while the tree is locked for writing; code that holds
    /// the tree reads one revision.
    lower: ArcSwap<Lower>,
    upper: Option<Upper>,
    settings: Settings,
    numbers: Numbers,
    tree: RwLock<Tree>,
    /// Number of lookups of each row by the kernel.
    row_lookups: RowCounts,
    /// Directories whose listings the kernel may have stored: 1.
    row_listings: RowCounts,
    /// Held during a switch to another revision.
    switching: Mutex<()>,
    directories: Mutex<Descriptors>,
    files: Vec<Mutex<Descriptors>>,
    data_locks: Vec<Mutex<()>>,
    spools: Arc<Spools>,
    /// For file handles.
    whereabouts: Mutex<Whereabouts>,
    /// Generations for an upper whose file system has none.
    next_generation: AtomicU32,
    /// [`Tree::names_lost`] when a request last waited in vain for room.
    room_awaited: AtomicU64,
    faults: FaultLog,
}

/// A lock that survives a panic: guarded data is changed only after the system calls that may fail.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LayerFs {
    /// Puts an upper over a stack; without one the mount is read-only.
    ///
    /// # Errors
    /// The error of the upper's file system.
    pub fn new(lower: Lower, upper: Option<Upper>, settings: Settings) -> Result<LayerFs> {
        let directories = (settings.descriptors_max / 2).clamp(16, 1 << 16);
        let files = (settings.descriptors_max / 4 / FILE_SHARDS as u64).clamp(4, FILES_OPEN_MAX);
        let row_count = lower.index.inode_count();
        let numbering = upper
            .as_ref()
            .and_then(|upper| upper.numbering(lower.origins.stack(), row_count))
            // All rows get other numbers.
            .filter(|_| lower.index.await_whole());
        let (lower, numbers) = match numbering {
            Some(known) => (lower.renumbered(&known), Numbers::from(known.base)),
            None => (lower, Numbers::new(row_count)),
        };
        let fs = LayerFs {
            numbers,
            lower: ArcSwap::from_pointee(lower),
            upper,
            settings,
            tree: RwLock::new(Tree::default()),
            row_lookups: RowCounts::new(numbers.rows_max()),
            row_listings: RowCounts::new(numbers.rows_max()),
            switching: Mutex::new(()),
            directories: Mutex::new(Descriptors::new(directories)),
            files: (0..FILE_SHARDS)
                .map(|_| Mutex::new(Descriptors::new(files)))
                .collect(),
            data_locks: (0..DATA_LOCKS).map(|_| Mutex::new(())).collect(),
            spools: Arc::default(),
            whereabouts: Mutex::default(),
            next_generation: AtomicU32::new(crate::sys::handle::first_unused()),
            room_awaited: AtomicU64::new(0),
            faults: FaultLog::default(),
        };
        if fs.upper.is_some() {
            fs.load_root()?;
            fs.finish_links();
        }
        Ok(fs)
    }

    /// The flattened stack in use.
    pub fn lower(&self) -> Guard<Arc<Lower>> {
        self.lower.load()
    }

    /// The upper, to change something.
    fn upper(&self) -> Result<&Upper> {
        self.upper.as_ref().ok_or(Errno::ROFS.into())
    }

    /// True if there is an upper.
    pub(crate) fn is_writable(&self) -> bool {
        self.upper.is_some()
    }

    /// The upper's path when the mount began.
    pub(crate) fn upper_path(&self) -> Option<&std::path::Path> {
        self.upper.as_ref().map(Upper::path)
    }

    /// Makes access times of the upper follow the flags of the mount.
    pub(crate) fn keep_access_times(&self, flags: rustix::mount::MountFlags) {
        if let Some(upper) = &self.upper {
            upper.keep_access_times(flags);
        }
    }

    fn read_tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_tree(&self) -> RwLockWriteGuard<'_, Tree> {
        self.tree.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of objects of the upper that the kernel knows.
    pub fn node_count(&self) -> usize {
        self.read_tree().len()
    }

    /// Runs `work`, retrying on ENOSPC while unlinked files are still held: the kernel's FORGET
    /// arrives only after the unlink, and its space may already be requested. Files that stay open
    /// are waited for once, not by each request. The tree is not locked, and `work` is short: no
    /// copy of a file's data.
    fn with_room<T, E: Failure>(
        &self,
        work: impl Fn() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let lacks_room = |done: &std::result::Result<T, E>| {
            let failure = done.as_ref().err().and_then(Failure::code);
            failure == Some(Errno::NOSPC)
        };
        let mut removed = 0;
        for pause in ROOM_PAUSES_MS.map(Duration::from_millis) {
            let done = work();
            if !lacks_room(&done) {
                return done;
            }
            let tree = self.read_tree();
            removed = tree.names_lost;
            if !tree.has_nameless() || removed == self.room_awaited.load(Ordering::Relaxed) {
                return work();
            }
            drop(tree);
            std::thread::sleep(pause);
        }
        let done = work();
        if lacks_room(&done) {
            self.room_awaited.store(removed, Ordering::Relaxed);
        }
        done
    }

    /// Runs `work`; if no descriptor is left, again after closing the cached ones.
    fn with_descriptors<T, E: Failure>(
        &self,
        work: impl Fn() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        match work() {
            Err(failure) if failure.lacks_descriptor() => {}
            done => return done,
        }
        process::learn_descriptor_limit();
        let mut dropped = lock(&self.directories).take_all();
        for shard in &self.files {
            dropped.extend(lock(shard).take_all());
        }
        drop(dropped);
        work()
    }

    fn data_lock(&self, id: NodeId) -> Result<MutexGuard<'_, ()>> {
        let slot = usize::try_from(id % DATA_LOCKS as u64).unwrap_or(0);
        self.data_locks.get(slot).map(lock).ok_or(Errno::IO.into())
    }

    fn file_shard(&self, id: NodeId) -> Option<MutexGuard<'_, Descriptors>> {
        let slot = usize::try_from(id % FILE_SHARDS as u64).unwrap_or(0);
        self.files.get(slot).map(lock)
    }

    /// The open file of a node all of whose data is in the upper.
    fn open_file(&self, id: NodeId) -> Option<Arc<OwnedFd>> {
        self.file_shard(id)?.get(id)
    }

    fn keep_file(&self, id: NodeId, file: &Arc<OwnedFd>) {
        let dropped = self
            .file_shard(id)
            .and_then(|mut shard| shard.keep(id, file));
        drop(dropped);
    }

    fn drop_file(&self, id: NodeId) {
        let file = self.file_shard(id).and_then(|mut shard| shard.take(id));
        drop(file);
    }

    fn drop_descriptors(&self, id: NodeId) {
        let file = self.file_shard(id).and_then(|mut shard| shard.take(id));
        let directory = lock(&self.directories).take(id);
        drop((file, directory));
    }

    /// The open upper directory of node `id`, which is in the tree.
    fn directory(&self, tree: &Tree, id: NodeId) -> Result<Arc<OwnedFd>> {
        let upper = self.upper()?;
        // Goes up to a directory that is open, then down again. This is a loop, because a user's tree may be
        // too deep for recursion.
        let (mut at, mut below) = (id, Vec::new());
        let mut directory = loop {
            if at == ROOT_ID {
                break upper.root();
            }
            if let Some(fd) = lock(&self.directories).get(at) {
                break fd;
            }
            let node = tree.get(at).ok_or(Errno::STALE)?;
            match (node.names.first(), &node.orphan, &node.aside) {
                (Some((parent, name)), ..) => {
                    below.push((at, name));
                    at = *parent;
                }
                (None, Some(fd), _) => break Arc::clone(fd),
                (None, None, Some(name)) => {
                    let work = upper.work.directory();
                    let open = || upper.open_directory(work, name);
                    break Arc::new(self.with_descriptors(open)?);
                }
                (None, None, None) => return Err(Errno::NOENT.into()),
            }
        };
        while let Some((id, name)) = below.pop() {
            let open = || upper.open_directory(&directory, name);
            directory = Arc::new(self.with_descriptors(open)?);
            let dropped = lock(&self.directories).keep(id, &directory);
            drop(dropped);
        }
        Ok(directory)
    }

    /// Location of the upper's object of `node`.
    fn at<'t>(&self, tree: &'t Tree, id: NodeId, node: &'t Node) -> Result<At<'t>> {
        if id == ROOT_ID {
            return Ok(At::Open(self.upper()?.root()));
        }
        if !node.in_upper {
            return Err(Errno::STALE.into());
        }
        match (node.names.first(), &node.orphan, &node.aside) {
            (Some((parent, name)), ..) => Ok(At::Name(self.directory(tree, *parent)?, name)),
            (None, Some(fd), _) => Ok(At::Open(Arc::clone(fd))),
            (None, None, Some(name)) => {
                let work = self.upper()?.work.directory();
                Ok(At::Name(Arc::clone(work), name))
            }
            (None, None, None) => Err(Errno::STALE.into()),
        }
    }

    fn lookups<'a>(&'a self, id: NodeId, node: Option<&'a Node>) -> Option<&'a AtomicU32> {
        match self.numbers.row_of(id) {
            Some(row) => self.row_lookups.get(row),
            None => node.map(|node| &node.lookups),
        }
    }
}
