//! The merged file system in this process. The session does the kernel's part of each call.
//!
//! Like the kernel it resolves paths one name at a time, checks permissions (the mount option
//! `default_permissions`), passes caller and umask, keeps a table of open files, serializes changes
//! of one file and of names, caches nodes, and counts the look-ups of each node until it forgets
//! them. It has no page cache, no ACL check, no locks and no mappings.

mod names;
mod nodes;
mod rights;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use layerfmt::{Layer, LayerSet};
use layerfs::chunks::ChunkSource;
use layerfs::filesystem::reply::Caller;
use layerfs::filesystem::{Conflict, LayerFs, Settings, Stop};
use layerfs::lower::{Lower, LowerParts};
use layerfs::metrics::Operation;
use layerfs::stack::Stack;
use layerfs::status::Fixed;
use layerfs::upper::Upper;

use self::nodes::{Memory, Node};
use super::memory::MemoryChunks;
use super::{
    Attached, Attr, Changes, Entry, Errno, FallocateFlags, Handle, New, NewTime, OFlags, Object,
    Parts, Protection, RenameFlags, Result, Session, Space, User,
};

const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const SGID: u32 = 0o2000;
/// Locks of files, one by their numbers.
const INODE_LOCKS: usize = 64;
/// The time for which a mount waits for the work directory.
const WAIT: Duration = Duration::from_secs(10);

/// A session in this process.
pub(crate) struct Direct {
    shared: Arc<Shared>,
    user: User,
}

/// The decoded chunks of the stack with this digest.
type Decoded = Mutex<Option<([u8; 32], Arc<MemoryChunks>)>>;

struct Shared {
    parts: Mutex<Parts>,
    mount: RwLock<Option<Mounted>>,
    open: Mutex<HashMap<Handle, Opened>>,
    next: AtomicU64,
    /// Held while names change.
    names: Mutex<()>,
    inodes: Vec<Mutex<()>>,
    memory: Memory,
    /// All layers that were mounted.
    #[allow(dead_code, reason = "only the tests in the process switch")]
    layers: Mutex<BTreeSet<PathBuf>>,
    /// The decoded chunks, with the option `memory`: they outlive an attachment, as the layers do.
    chunks: Decoded,
    log: fn() -> String,
}

#[derive(Clone)]
struct Mounted {
    fs: Arc<LayerFs>,
    began: Instant,
}

/// An open file.
#[derive(Clone)]
struct Opened {
    node: Arc<Node>,
    flags: OFlags,
}

impl Direct {
    /// A session on these parts. It caches up to `remembers` nodes that nobody uses. `log` returns
    /// the lines so far.
    ///
    /// # Errors
    /// The fault of the parts.
    pub(crate) fn begin(
        parts: Parts,
        remembers: usize,
        log: fn() -> String,
    ) -> std::result::Result<Direct, String> {
        // As the daemon does: the umask of a request is the caller's.
        rustix::process::umask(rustix::fs::Mode::empty());
        let groups = rustix::process::getgroups().unwrap_or_default();
        let chunks = Decoded::default();
        let direct = Direct {
            shared: Arc::new(Shared {
                mount: RwLock::new(Some(mount(&parts, &chunks)?)),
                chunks,
                layers: Mutex::default(),
                parts: Mutex::new(parts),
                open: Mutex::default(),
                next: AtomicU64::new(0),
                names: Mutex::default(),
                inodes: (0..INODE_LOCKS).map(|_| Mutex::default()).collect(),
                memory: Memory::new(remembers),
                log,
            }),
            user: User {
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
                groups: groups.into_iter().map(|gid| gid.as_raw()).collect(),
                umask: 0,
            },
        };
        Ok(direct)
    }

    #[allow(dead_code, reason = "only the tests in the process switch")]
    /// The session shows other layers from now on, with the same upper; returns the conflicts. With
    /// some of them, it stays as it is without `force`; the second result tells.
    pub(crate) fn switch(&self, layers: &[PathBuf], force: bool) -> (Vec<Conflict>, bool) {
        let fs = self.fs().unwrap();
        let mut parts = self.shared.parts.lock().unwrap();
        let base_first: Vec<PathBuf> = layers.iter().rev().cloned().collect();
        let stack = Stack::open(&base_first).unwrap();
        let planned = fs
            .plan_switch(None, &stack.index, &stack.digest().0)
            .unwrap();
        let conflicts = planned.conflicts().to_vec();
        let is_lossy = conflicts.iter().any(|conflict| conflict.forbids);
        if is_lossy || (!conflicts.is_empty() && !force) {
            fs.give_up_switch();
            return (conflicts, false);
        }
        // The chunks of files that are open may be in layers of earlier revisions.
        let mut known = self.shared.layers.lock().unwrap();
        known.extend(layers.iter().chain(&parts.layers).cloned());
        let known = known
            .iter()
            .map(|path| Arc::new(Layer::open(path).unwrap()));
        let lower = LowerParts {
            source: Arc::new(LayerSet::new(known)),
            control: Arc::clone(&fs.lower().control),
            layers: layer_names(&stack),
        };
        fs.carry_out_switch(planned, lower).unwrap();
        parts.layers = layers.to_vec();
        (conflicts, true)
    }

    /// The file system, also for requests of the kernel that are no calls of a program.
    pub(crate) fn fs(&self) -> Result<Arc<LayerFs>> {
        let mount = self.shared.mount.read().unwrap();
        let mounted = mount.as_ref().ok_or(Errno::NOTCONN)?;
        Ok(Arc::clone(&mounted.fs))
    }

    fn caller(&self) -> Caller {
        Caller {
            uid: self.user.uid,
            gid: self.user.gid,
            pid: std::process::id(),
        }
    }

    /// The caller, unless it is root.
    fn unprivileged(&self) -> Option<Caller> {
        (self.user.uid != 0).then(|| self.caller())
    }

    fn opened(&self, handle: Handle) -> Result<Opened> {
        let open = self.shared.open.lock().unwrap();
        open.get(&handle).cloned().ok_or(Errno::BADF)
    }

    fn opened_to_write(&self, handle: Handle) -> Result<Opened> {
        let opened = self.opened(handle)?;
        match opened.flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
            true => Ok(opened),
            false => Err(Errno::BADF),
        }
    }

    fn change_names(&self) -> MutexGuard<'_, ()> {
        self.shared.names.lock().unwrap()
    }

    fn change_inode(&self, id: u64) -> MutexGuard<'_, ()> {
        self.shared.inodes[id as usize % INODE_LOCKS]
            .lock()
            .unwrap()
    }

    fn change_node(&self, node: &Node, changes: &Changes) -> Result<()> {
        let fs = self.fs()?;
        let _inode = self.change_inode(node.id);
        let set = fs.setattr(node.id, changes, self.caller());
        stopped(&fs, node.id, Operation::Setattr, set).map(drop)
    }

    /// A new or an old file for open(2).
    fn open_node(&self, path: &Path, flags: OFlags, mode: u32) -> Result<Arc<Node>> {
        if !flags.contains(OFlags::CREATE) {
            return self.walk(path);
        }
        let (parent, name) = self.parent(path)?;
        let _names = self.change_names();
        match self.look_up(&parent, name)? {
            Some(_) if flags.contains(OFlags::EXCL) => Err(Errno::EXIST),
            Some(node) => Ok(node),
            None => self.create(&parent, name, REGULAR | (mode & 0o7777), (0, 0)),
        }
    }
}

fn mount(parts: &Parts, chunks: &Decoded) -> std::result::Result<Mounted, String> {
    let mut layers = parts.layers.clone();
    layers.reverse();
    let stack = Stack::open(&layers).map_err(|error| error.to_string())?;
    let wait = match parts.options.contains("wait=0") {
        true => Duration::ZERO,
        false => WAIT,
    };
    let upper = match &parts.upper {
        Some((upper, work)) => {
            Some(Upper::open(upper, work, wait).map_err(|error| error.to_string())?)
        }
        None => None,
    };
    let digest = stack.digest();
    let source: Arc<dyn ChunkSource> = match parts.options.contains("memory") {
        true => {
            let mut decoded = chunks.lock().unwrap();
            if decoded.as_ref().is_none_or(|(of, _)| *of != digest.0) {
                let chunks = MemoryChunks::of(&stack.index, &*stack.source);
                *decoded = Some((digest.0, Arc::new(chunks)));
            }
            decoded
                .as_ref()
                .map(|(_, chunks)| Arc::clone(chunks))
                .unwrap()
        }
        false => Arc::clone(&stack.source),
    };
    let lower = Lower::new(Arc::clone(&stack.index), source, &digest.0, 32 << 20)
        .with_layers(layer_names(&stack));
    let settings = Settings {
        volatile: true,
        // Few, so that they are closed and opened again.
        descriptors_max: 128,
    };
    let fs = LayerFs::new(lower, upper, settings).map_err(|errno| errno.to_string())?;
    Ok(Mounted {
        fs: Arc::new(fs),
        began: Instant::now(),
    })
}

fn layer_names(stack: &Stack) -> Vec<(String, u64)> {
    let layers = stack.layers.iter();
    layers.map(|l| (l.digest.to_string(), l.file_len)).collect()
}

/// The answer to a call about `id`, with its fault in the log. Local bytes are never far.
fn stopped<T>(
    fs: &LayerFs,
    id: u64,
    operation: Operation,
    done: std::result::Result<T, Stop>,
) -> Result<T> {
    done.map_err(|stop| match stop {
        Stop::Failed(error) => fs.refuse(operation, id, &error),
        Stop::Far(_) => panic!("local bytes are far"),
    })
}

impl Session for Direct {
    fn open(&self, path: &Path, flags: OFlags, mode: u32) -> Result<Handle> {
        let node = self.open_node(path, flags, mode)?;
        let about = self.fs()?.getattr(node.id)?;
        let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
        match about.mode & TYPE {
            SYMLINK => return Err(Errno::LOOP),
            DIRECTORY if writes || flags.contains(OFlags::CREATE) => return Err(Errno::ISDIR),
            DIRECTORY => {}
            _ if flags.contains(OFlags::DIRECTORY) => return Err(Errno::NOTDIR),
            REGULAR => {}
            kind => panic!("a session in the process does not open {kind:o}"),
        }
        if !node.is_new {
            let reads = !flags.contains(OFlags::WRONLY);
            self.check(&about, rights::wanted(reads, writes, false))?;
            if flags.contains(OFlags::TRUNC) {
                let changes = Changes {
                    size: Some(0),
                    ..Changes::default()
                };
                self.change_node(&node, &changes)?;
            }
        }
        let handle = self.shared.next.fetch_add(1, Ordering::Relaxed);
        self.shared
            .open
            .lock()
            .unwrap()
            .insert(handle, Opened { node, flags });
        Ok(handle)
    }

    fn close(&self, handle: Handle) {
        let opened = self.shared.open.lock().unwrap().remove(&handle);
        drop(opened);
    }

    fn read(&self, handle: Handle, offset: u64, len: usize) -> Result<Vec<u8>> {
        let opened = self.opened(handle)?;
        if opened.flags.contains(OFlags::WRONLY) {
            return Err(Errno::BADF);
        }
        let mut data = Vec::new();
        let (fs, id) = (self.fs()?, opened.node.id);
        let read = fs.read(id, offset, len, &mut data);
        stopped(&fs, id, Operation::Read, read)?;
        Ok(data)
    }

    fn write(&self, handle: Handle, offset: u64, data: &[u8]) -> Result<usize> {
        let opened = self.opened_to_write(handle)?;
        let (fs, id) = (self.fs()?, opened.node.id);
        let _inode = self.change_inode(id);
        let offset = match opened.flags.contains(OFlags::APPEND) {
            true => fs.getattr(id)?.size,
            false => offset,
        };
        let written = fs.write(id, offset, data, self.unprivileged());
        stopped(&fs, id, Operation::Write, written)
    }

    fn stat(&self, of: Object<'_>) -> Result<Attr> {
        match of {
            Object::Name(path) => Ok(self.walk(path)?.about),
            Object::Open(handle) => Ok(self.fs()?.getattr(self.opened(handle)?.node.id)?),
        }
    }

    fn change(&self, of: Object<'_>, changes: &Changes) -> Result<()> {
        let node = match of {
            Object::Name(path) => self.walk(path)?,
            Object::Open(handle) if changes.size.is_some() => {
                self.opened_to_write(handle).map_err(|_| Errno::INVAL)?.node
            }
            Object::Open(handle) => self.opened(handle)?.node,
        };
        let about = self.fs()?.getattr(node.id)?;
        let by_name = matches!(of, Object::Name(_));
        let changes = self.permitted(&about, *changes, by_name)?;
        self.change_node(&node, &changes)
    }

    fn make(&self, path: &Path, new: New<'_>) -> Result<()> {
        self.make_name(path, new)
    }

    fn remove(&self, path: &Path, directory: bool) -> Result<()> {
        self.remove_name(path, directory)
    }

    fn rename(&self, from: &Path, to: &Path, flags: RenameFlags) -> Result<()> {
        self.rename_name(from, to, flags)
    }

    fn read_link(&self, path: &Path) -> Result<Vec<u8>> {
        let (node, fs) = (self.walk(path)?, self.fs()?);
        match node.about.mode & TYPE {
            SYMLINK => Ok(fs.readlink(node.id)?),
            _ => Err(Errno::INVAL),
        }
    }

    fn list(&self, handle: Handle, cookie: u64, most: usize) -> Result<Vec<Entry>> {
        let (opened, fs) = (self.opened(handle)?, self.fs()?);
        let (mut entries, mut listed) = (Vec::new(), Vec::new());
        // The kernel asks for attributes at the start of a listing, and when it misses them.
        let plus = cookie == 0;
        fs.readdir(opened.node.id, cookie, plus, &mut |item| {
            if entries.len() == most {
                return false;
            }
            listed.extend(item.attr.map(|about| Node::looked_up(&fs, about)));
            entries.push(Entry {
                name: item.name.to_vec(),
                ino: item.ino,
                cookie: item.cookie,
            });
            true
        })?;
        drop(listed);
        Ok(entries)
    }

    fn xattr(&self, path: &Path, name: &str) -> Result<Vec<u8>> {
        let (node, fs) = (self.walk(path)?, self.fs()?);
        self.check_xattr(&node.about, name, false)?;
        Ok(fs.getxattr(node.id, name.as_bytes())?)
    }

    fn xattr_names(&self, path: &Path) -> Result<Vec<String>> {
        let node = self.walk(path)?;
        let list = self.fs()?.listxattr(node.id, self.caller())?;
        let names = list
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty());
        Ok(names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect())
    }

    fn set_xattr(&self, path: &Path, name: &str, value: Option<&[u8]>) -> Result<()> {
        let (node, fs) = (self.walk(path)?, self.fs()?);
        self.check_xattr(&fs.getattr(node.id)?, name, true)?;
        let _inode = self.change_inode(node.id);
        match value {
            Some(value) => fs.setxattr(node.id, name.as_bytes(), value, 0, self.caller())?,
            None => fs.removexattr(node.id, name.as_bytes())?,
        }
        Ok(())
    }

    fn allocate(&self, handle: Handle, flags: FallocateFlags, range: Range<u64>) -> Result<()> {
        let (opened, fs) = (self.opened_to_write(handle)?, self.fs()?);
        let _inode = self.change_inode(opened.node.id);
        let len = range.end - range.start;
        let by = self.unprivileged();
        let id = opened.node.id;
        let done = fs.fallocate(id, range.start, len, flags.bits(), by);
        stopped(&fs, id, Operation::Fallocate, done)
    }

    fn seek(&self, handle: Handle, offset: u64, hole: bool) -> Result<u64> {
        Ok(self
            .fs()?
            .seek(self.opened(handle)?.node.id, offset, hole)?)
    }

    fn copy(&self, from: (Handle, u64), to: (Handle, u64), len: usize) -> Result<usize> {
        let (source, target) = (self.opened(from.0)?, self.opened_to_write(to.0)?);
        let _inode = self.change_inode(target.node.id);
        let (from, to) = ((source.node.id, from.1), (target.node.id, to.1));
        let fs = self.fs()?;
        let copied = fs.copy_range(from, to, len as u64, self.unprivileged());
        stopped(&fs, to.0, Operation::CopyRange, copied)
    }

    fn sync(&self, handle: Handle) -> Result<()> {
        Ok(self.fs()?.fsync(self.opened(handle)?.node.id, false)?)
    }

    fn space(&self) -> Result<Space> {
        Ok(self.fs()?.statfs()?)
    }

    fn protect(&self, path: &Path, protection: Protection) -> Result<()> {
        let (node, fs) = (self.walk(path)?, self.fs()?);
        self.check_owner(&fs.getattr(node.id)?)?;
        let _inode = self.change_inode(node.id);
        Ok(fs.protect(node.id, protection)?)
    }

    fn of(&self, user: &User) -> Box<dyn Session> {
        Box::new(Direct {
            shared: Arc::clone(&self.shared),
            user: user.clone(),
        })
    }
}

impl Attached for Direct {
    fn detach(&self) {
        let open = std::mem::take(&mut *self.shared.open.lock().unwrap());
        drop(open);
        self.shared.memory.clear();
        let ended = self.shared.mount.write().unwrap().take();
        if let Some(ended) = ended {
            let users = Arc::strong_count(&ended.fs);
            assert_eq!(users, 1, "a node or a call outlives its session");
        }
    }

    fn attach(&self) {
        let parts = self.shared.parts.lock().unwrap().clone();
        let began = mount(&parts, &self.shared.chunks).unwrap();
        *self.shared.mount.write().unwrap() = Some(began);
    }

    fn status(&self) -> serde_json::Value {
        let mounted = self.shared.mount.read().unwrap().clone().unwrap();
        let fixed = Fixed {
            mode: "default",
            threads: 1,
            began: mounted.began,
            mounted_ms: 0,
            request_timeout: None,
        };
        let status =
            layerfs::status::gather(&mounted.fs, &layerfs::metrics::Requests::default(), &fixed);
        serde_json::to_value(status).unwrap()
    }

    fn log(&self) -> String {
        (self.shared.log)()
    }

    fn forget(&self) {
        self.shared.memory.clear();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.open.lock().unwrap().clear();
        self.memory.clear();
    }
}

/// True if only times change, to the present.
fn touches(changes: &Changes) -> bool {
    [changes.atime, changes.mtime]
        .iter()
        .flatten()
        .all(|time| *time == NewTime::Now)
}
