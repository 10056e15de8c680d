//! A session on a mount of layerfs: the programs, the kernel, root.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

pub(crate) use crate::harness::mount::{Bench as Room, attribute_name};
use crate::harness::mount::{Mount, Overlay};
pub(crate) use crate::harness::programs::bake;
use crate::session::paths::Paths;
use crate::session::{
    Attached, Attr, Changes, Entry, FallocateFlags, Handle, New, OFlags, Object, Parts, Protection,
    RenameFlags, Result, Session, Space, User,
};

/// Read: a test counts on pages that stay in memory. Write: a test makes the kernel forget.
pub(crate) static PAGE_CACHE: RwLock<()> = RwLock::new(());

/// Mount options of the two modes.
pub(crate) const MODES: [&str; 2] = ["", "passthrough"];

/// The kernel adds requests to the calls.
pub(crate) const IN_PROCESS: bool = false;
/// Options of the model test.
pub(crate) const MODEL_OPTIONS: &str = "";
/// Cases of the model test.
pub(crate) const MODEL_CASES: usize = 6;

/// A mount and the directory that it is on.
struct Mounted {
    paths: Paths,
    mount: Box<dyn Mountable>,
    log: PathBuf,
}

/// A mount that ends and begins again; it ends when dropped.
trait Mountable: Send + Sync {
    fn attach(&self);
    fn detach(&self);
    fn status(&self) -> serde_json::Value;
}

impl Mountable for Mount {
    fn attach(&self) {
        self.recover();
    }

    fn detach(&self) {
        Mount::detach(self);
    }

    fn status(&self) -> serde_json::Value {
        Mount::status(self)
    }
}

impl Mountable for Overlay {
    fn attach(&self) {
        Overlay::attach(self);
    }

    fn detach(&self) {
        Overlay::detach(self);
    }

    fn status(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// A new directory to mount on.
fn mountpoint(room: &Room) -> PathBuf {
    let mut names = (0..).map(|number| format!("m{number}"));
    let name = names.find(|name| !room.path(name).exists());
    room.dir(&name.unwrap_or_default())
}

/// Mount these parts in `room`.
pub(crate) fn begin(room: &Room, parts: Parts) -> std::result::Result<Box<dyn Attached>, String> {
    let at = mountpoint(room);
    let log = at.with_extension("log");
    let layers: Vec<String> = parts
        .layers
        .iter()
        .map(|p| p.display().to_string())
        .collect();
    let mut options = format!("lowerdir={},log={}", layers.join(":"), log.display());
    if let Some((upper, work)) = &parts.upper {
        options += &format!(",upperdir={},workdir={}", upper.display(), work.display());
    }
    if !parts.options.is_empty() {
        options += &format!(",{}", parts.options);
    }
    let mount = match parts.options.contains("wait=0") {
        // The test may expect a refusal.
        true => Mount::or_refusal(&at, options)?,
        false => Mount::with_options(&at, options),
    };
    Ok(Box::new(Mounted {
        paths: Paths::new(&at),
        mount: Box::new(mount),
        log,
    }))
}

/// Kernel overlayfs over a plain directory.
pub(crate) fn overlayfs(
    room: &Room,
    lower: &Path,
    upper: &Path,
    work: &Path,
) -> Option<Box<dyn Attached>> {
    let at = mountpoint(room);
    Some(Box::new(Mounted {
        paths: Paths::new(&at),
        mount: Box::new(Overlay::new(&at, lower, upper, work)),
        log: PathBuf::new(),
    }))
}

impl Attached for Mounted {
    fn detach(&self) {
        self.paths.close_all();
        self.mount.detach();
    }

    fn attach(&self) {
        self.mount.attach();
    }

    fn status(&self) -> serde_json::Value {
        self.mount.status()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn forget(&self) {
        let _alone = PAGE_CACHE.write();
        std::fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    }
}

impl Session for Mounted {
    fn open(&self, path: &Path, flags: OFlags, mode: u32) -> Result<Handle> {
        self.paths.open(path, flags, mode)
    }

    fn close(&self, handle: Handle) {
        self.paths.close(handle);
    }

    fn read(&self, handle: Handle, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.paths.read(handle, offset, len)
    }

    fn write(&self, handle: Handle, offset: u64, data: &[u8]) -> Result<usize> {
        self.paths.write(handle, offset, data)
    }

    fn stat(&self, of: Object<'_>) -> Result<Attr> {
        self.paths.stat(of)
    }

    fn change(&self, of: Object<'_>, changes: &Changes) -> Result<()> {
        self.paths.change(of, changes)
    }

    fn make(&self, path: &Path, new: New<'_>) -> Result<()> {
        self.paths.make(path, new)
    }

    fn remove(&self, path: &Path, directory: bool) -> Result<()> {
        self.paths.remove(path, directory)
    }

    fn rename(&self, from: &Path, to: &Path, flags: RenameFlags) -> Result<()> {
        self.paths.rename(from, to, flags)
    }

    fn read_link(&self, path: &Path) -> Result<Vec<u8>> {
        self.paths.read_link(path)
    }

    fn list(&self, handle: Handle, cookie: u64, most: usize) -> Result<Vec<Entry>> {
        self.paths.list(handle, cookie, most)
    }

    fn xattr(&self, path: &Path, name: &str) -> Result<Vec<u8>> {
        self.paths.xattr(path, name)
    }

    fn xattr_names(&self, path: &Path) -> Result<Vec<String>> {
        self.paths.xattr_names(path)
    }

    fn set_xattr(&self, path: &Path, name: &str, value: Option<&[u8]>) -> Result<()> {
        self.paths.set_xattr(path, name, value)
    }

    fn allocate(&self, handle: Handle, flags: FallocateFlags, range: Range<u64>) -> Result<()> {
        self.paths.allocate(handle, flags, range)
    }

    fn seek(&self, handle: Handle, offset: u64, hole: bool) -> Result<u64> {
        self.paths.seek(handle, offset, hole)
    }

    fn copy(&self, from: (Handle, u64), to: (Handle, u64), len: usize) -> Result<usize> {
        self.paths.copy(from, to, len)
    }

    fn sync(&self, handle: Handle) -> Result<()> {
        self.paths.sync(handle)
    }

    fn space(&self) -> Result<Space> {
        self.paths.space()
    }

    fn protect(&self, path: &Path, protection: Protection) -> Result<()> {
        self.paths.protect(path, protection)
    }

    fn of(&self, user: &User) -> Box<dyn Session> {
        self.paths.of(user)
    }
}
