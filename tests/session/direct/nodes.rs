//! Nodes with the kernel's look-up count, and the resolution of paths.

use std::collections::{HashMap, VecDeque};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex};

use layerfs::filesystem::LayerFs;
use layerfs::filesystem::reply::{NodeId, ROOT_ID};

use super::rights;
use super::{Attr, DIRECTORY, Direct, Errno, Result, SYMLINK, TYPE};

/// Symbolic links that one path may follow (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// One look-up of a node. Dropping it sends FORGET.
pub(super) struct Node {
    fs: Arc<LayerFs>,
    pub(super) id: NodeId,
    /// The attributes of the look-up: the kernel has them cached and asks no more for a path.
    pub(super) about: Attr,
    /// Made by this call.
    pub(super) is_new: bool,
}

impl Node {
    /// A node whose look-up the file system has counted.
    pub(super) fn looked_up(fs: &Arc<LayerFs>, about: Attr) -> Arc<Node> {
        Arc::new(Node {
            fs: Arc::clone(fs),
            id: about.ino,
            about,
            is_new: false,
        })
    }

    /// Counts like [`Node::looked_up`], for an object that was just made.
    pub(super) fn made(fs: &Arc<LayerFs>, about: Attr) -> Arc<Node> {
        Arc::new(Node {
            fs: Arc::clone(fs),
            id: about.ino,
            about,
            is_new: true,
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.id != ROOT_ID {
            self.fs.forget(self.id, 1);
        }
    }
}

/// The objects that the kernel has cached: those looked up last, each once.
pub(super) struct Memory {
    cached: Mutex<Cached>,
    most: usize,
}

#[derive(Default)]
struct Cached {
    nodes: HashMap<NodeId, Arc<Node>>,
    order: VecDeque<NodeId>,
}

impl Memory {
    pub(super) fn new(most: usize) -> Memory {
        Memory {
            cached: Mutex::default(),
            most,
        }
    }

    fn add(&self, node: &Arc<Node>) {
        if self.most == 0 {
            return;
        }
        let mut cached = self.cached.lock().unwrap();
        if cached.nodes.contains_key(&node.id) {
            return;
        }
        cached.nodes.insert(node.id, Arc::clone(node));
        cached.order.push_back(node.id);
        let evicted = match cached.order.len() > self.most {
            true => cached.order.pop_front(),
            false => None,
        };
        let evicted = evicted.and_then(|id| cached.nodes.remove(&id));
        drop(cached);
        drop(evicted);
    }

    /// Evicts one object.
    pub(super) fn evict(&self, id: NodeId) {
        let mut cached = self.cached.lock().unwrap();
        cached.order.retain(|known| *known != id);
        let evicted = cached.nodes.remove(&id);
        drop(cached);
        drop(evicted);
    }

    /// Evicts all objects.
    pub(super) fn clear(&self) {
        let evicted = std::mem::take(&mut *self.cached.lock().unwrap());
        drop(evicted);
    }
}

impl Direct {
    /// LOOKUP.
    pub(super) fn look_up(&self, parent: &Node, name: &[u8]) -> Result<Option<Arc<Node>>> {
        let fs = self.fs()?;
        let Some(about) = fs.lookup(parent.id, name)? else {
            return Ok(None);
        };
        let node = Node::looked_up(&fs, about);
        self.shared.memory.add(&node);
        Ok(Some(node))
    }

    fn root(&self) -> Result<Arc<Node>> {
        let fs = self.fs()?;
        let about = fs.getattr(ROOT_ID)?;
        Ok(Node::looked_up(&fs, about))
    }

    /// The directory above `node`.
    pub(super) fn above(&self, node: &Node) -> Result<Arc<Node>> {
        let fs = self.fs()?;
        let about = fs.lookup_parent(node.id)?;
        Ok(Node::looked_up(&fs, about))
    }

    /// The object at `path`; a symbolic link at the end itself.
    pub(super) fn walk(&self, path: &Path) -> Result<Arc<Node>> {
        self.resolve(self.root()?, path, false, &mut LINKS_MAX.clone())
    }

    /// The object at `path` from a directory; `follow` a symbolic link at the end.
    fn resolve(
        &self,
        from: Arc<Node>,
        path: &Path,
        follow: bool,
        links: &mut usize,
    ) -> Result<Arc<Node>> {
        let mut at = from;
        let mut parts = path.components().peekable();
        while let Some(part) = parts.next() {
            let name = match part {
                Component::RootDir => {
                    at = self.root()?;
                    continue;
                }
                Component::ParentDir => {
                    self.search(&at)?;
                    at = self.above(&at)?;
                    continue;
                }
                Component::Normal(name) => name.as_bytes(),
                _ => continue,
            };
            self.search(&at)?;
            let node = self.look_up(&at, name)?.ok_or(Errno::NOENT)?;
            let is_link = node.about.mode & TYPE == SYMLINK;
            if is_link && (follow || parts.peek().is_some()) {
                *links = links.checked_sub(1).ok_or(Errno::LOOP)?;
                let target = self.fs()?.readlink(node.id)?;
                let target = Path::new(std::ffi::OsStr::from_bytes(&target));
                at = self.resolve(at, target, true, links)?;
            } else {
                at = node;
            }
        }
        Ok(at)
    }

    /// `node` is a directory that the caller may search.
    pub(super) fn search(&self, node: &Node) -> Result<()> {
        if node.about.mode & TYPE != DIRECTORY {
            return Err(Errno::NOTDIR);
        }
        self.check(&node.about, rights::wanted(false, false, true))
    }

    /// The directory in which `path` is, or would be, and its name there.
    pub(super) fn parent<'p>(&self, path: &'p Path) -> Result<(Arc<Node>, &'p [u8])> {
        let name = path.file_name().ok_or(Errno::EXIST)?;
        let above = path.parent().unwrap_or(Path::new(""));
        let parent = self.resolve(self.root()?, above, true, &mut LINKS_MAX.clone())?;
        self.search(&parent)?;
        Ok((parent, name.as_bytes()))
    }
}
