//! Assembles entries in any order into a tree of changes.
//!
//! Missing parents are created, hard links wait for their target, whiteouts in all spellings become
//! whiteouts, and excluded entries are dropped. Questions that only a base can answer (the content
//! of a redirected directory, the bytes of a metadata-only copy) are left to [`crate::overlay`].

mod error;
mod insert;
mod links;
mod lists;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use layerfmt::tree::{Kind, Metadata, Node, NodeId, ROOT, Tree, Xattrs};

use source::accounts::Accounts;
use source::whiteout::{self, Links, Marks, Spelling};
use source::{Body, Data, Entry, EntryPath, Source, SourceError, acl, private_attributes};
use wire::exclude::Excludes;

pub use error::AssembleError;

/// The assembled contents of one source.
#[derive(Debug)]
pub struct Assembly<C> {
    /// The tree of changes.
    pub tree: Tree<C>,
    /// Directories the source did not list itself: only their place is known.
    pub implied: HashSet<NodeId>,
    /// Directories that were moved, with overlayfs' redirect value: their lower contents are at another path.
    pub redirects: HashMap<NodeId, Box<[u8]>>,
    /// Files that have metadata of their own and the bytes of the file below.
    pub metacopies: HashMap<NodeId, (EntryPath, Option<Box<[u8]>>)>,
    /// Files with the number of names that overlayfs counted.
    pub links: HashMap<NodeId, (EntryPath, Links)>,
    /// The root has the mark that overlayfs leaves with an index.
    pub has_index: bool,
    /// Entries that were read and excluded.
    pub seen: Seen,
}

/// Counters and notes of the input.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Number of entries read.
    pub entries: u64,
    /// Whiteouts among them.
    pub whiteouts: u64,
    /// Excluded entries, by the matching pattern, with the first paths as examples.
    pub excluded: Vec<Excluded>,
    /// Total number of excluded entries.
    pub excluded_count: u64,
    /// Notes of the source for the report.
    pub notes: Vec<String>,
}

/// One excluded entry.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Excluded {
    /// Path of the entry.
    pub path: String,
    /// The matching pattern.
    pub pattern: String,
}

/// Most excluded entries listed one by one; more are only counted.
pub(crate) const EXCLUDED_LISTED_MAX: usize = 10_000;

/// Interpretation of the marks of a writable layer in a source: devices 0:0, `.wh.` names,
/// attributes such as `trusted.overlay.opaque`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Ordinary content: the source is a whole tree, and the marks are those of the containers in it.
    Whole,
    /// Changes to the tree below.
    Changes,
}

/// Reads the bytes of a regular file and returns the tree's record of them.
pub trait Contents {
    /// The tree's record of a file's content.
    type Content;

    /// Reads one file's bytes.
    ///
    /// # Errors
    /// They cannot be read or stored.
    fn take(
        &mut self,
        source: &str,
        path: &EntryPath,
        data: Data<'_>,
    ) -> Result<Self::Content, AssembleError>;
}

struct Assembler<'e, C> {
    source: String,
    reading: Reading,
    excludes: &'e Excludes,
    tree: Tree<C>,
    implied: HashSet<NodeId>,
    redirects: HashMap<NodeId, Box<[u8]>>,
    metacopies: HashMap<NodeId, (EntryPath, Option<Box<[u8]>>)>,
    links: HashMap<NodeId, (EntryPath, Links)>,
    has_index: bool,
    seen: Seen,
    /// Hard links whose target has not been read yet.
    waiting: Vec<(EntryPath, EntryPath)>,
    /// Excluded paths, with a flag for whiteouts: links may point to them.
    left_out: HashMap<EntryPath, bool>,
    xattr_sets: HashSet<Arc<Xattrs>>,
    lists: lists::Lists,
}

/// Reads a source to its end. `below` gives the users and groups of the tree that this one changes, when they are
/// needed.
///
/// # Errors
/// The source cannot be read exactly, or contradicts itself; the message names the entry.
pub fn assemble<C: Contents>(
    source: &mut dyn Source,
    reading: Reading,
    excludes: &Excludes,
    contents: &mut C,
    below: &dyn Fn() -> Result<Accounts, AssembleError>,
) -> Result<Assembly<C::Content>, AssembleError> {
    let root = Metadata {
        mode: 0o755,
        ..Metadata::default()
    };
    let mut assembler = Assembler {
        source: source.name().to_owned(),
        reading,
        excludes,
        tree: Tree::new(root),
        implied: HashSet::from([ROOT]),
        redirects: HashMap::new(),
        metacopies: HashMap::new(),
        links: HashMap::new(),
        has_index: false,
        seen: Seen::default(),
        waiting: Vec::new(),
        left_out: HashMap::new(),
        xattr_sets: HashSet::new(),
        lists: lists::Lists::default(),
    };
    while let Some(entry) = source.next_entry()? {
        assembler.seen.entries += 1;
        if !assembler.entry(entry, contents)? {
            source.left_out();
        }
    }
    assembler.seen.notes = source.notes();
    assembler.join_links()?;
    assembler.name_lists(below)?;
    Ok(Assembly {
        tree: assembler.tree,
        implied: assembler.implied,
        redirects: assembler.redirects,
        metacopies: assembler.metacopies,
        links: assembler.links,
        has_index: assembler.has_index,
        seen: assembler.seen,
    })
}

impl<C> Assembler<'_, C> {
    fn wrong(&self, path: &EntryPath, problem: impl Into<String>) -> SourceError {
        SourceError::new(&self.source, problem).entry(path)
    }

    /// Adds one entry; false if it was excluded.
    fn entry(
        &mut self,
        entry: Entry<'_>,
        contents: &mut impl Contents<Content = C>,
    ) -> Result<bool, AssembleError> {
        let Entry {
            path,
            mut meta,
            body,
        } = entry;
        let changes = self.reading == Reading::Changes;
        let spelling = match changes {
            true => whiteout::spelling(&path).map_err(|problem| {
                self.wrong(&path, format!("a whiteout of nothing: {problem}"))
            })?,
            false => Spelling::Plain,
        };
        match spelling {
            Spelling::Plain => {}
            Spelling::Bookkeeping => return Ok(true),
            Spelling::Opaque(directory) => {
                if !self.leaves_out(&directory, true, false) {
                    self.opaque(&directory)?;
                }
                return Ok(true);
            }
            Spelling::Whiteout(gone) => {
                self.whiteout(&gone)?;
                return Ok(true);
            }
        }
        let named = acl::NamedAcl::take(&mut meta);
        let marks = match changes {
            true => {
                whiteout::take_marks(&mut meta).map_err(|problem| self.wrong(&path, problem))?
            }
            false => Marks::default(),
        };
        let is_whiteout = match &body {
            Body::Char(0, 0) => changes,
            Body::File(data) => marks.whiteout && data.size == 0,
            _ => false,
        };
        if is_whiteout {
            return Ok(self.whiteout(&path)?);
        }
        let body = match marks.overridden {
            Some(truth) => truth
                .apply(&mut meta, body)
                .map_err(|problem| self.wrong(&path, problem))?,
            None => body,
        };
        let is_directory = matches!(body, Body::Directory);
        self.has_index |= path.is_root() && marks.origin;
        let is_socket = matches!(body, Body::Socket) && self.excludes.leave_out_sockets();
        if is_socket {
            self.leave_out(&path, "sockets", false);
        }
        if is_socket || self.leaves_out(&path, is_directory, false) {
            return Ok(false);
        }
        self.shares(&mut meta);
        let (place, is_link) = (path.clone(), matches!(body, Body::HardLink(_)));
        let links = marks.links.filter(|_| !is_directory && !is_link);
        self.object(path, meta, body, marks, contents)?;
        if is_link || (named.is_empty() && links.is_none()) {
            // Excluded link targets have their own list and count.
            return Ok(true);
        }
        if let Some(id) = self.tree.resolve(place.as_bytes()) {
            if let Some(links) = links {
                self.links.insert(id, (place.clone(), links));
            }
            self.lists_wait(id, place, named)?;
        }
        Ok(true)
    }

    fn object(
        &mut self,
        path: EntryPath,
        meta: Metadata,
        body: Body<'_>,
        marks: Marks,
        contents: &mut impl Contents<Content = C>,
    ) -> Result<(), AssembleError> {
        let kind = match body {
            Body::Directory => {
                let id = self.directory(&path, meta, marks.opaque)?;
                if let Some(redirect) = marks.redirect {
                    self.redirects.insert(id, redirect);
                }
                return Ok(());
            }
            Body::HardLink(target) => return Ok(self.link(path, target)?),
            Body::File(data) if marks.metacopy => {
                let empty = Data {
                    size: 0,
                    segments: Vec::new(),
                    reader: &mut std::io::empty(),
                };
                // It has the right length but not its bytes: these are in the lower file.
                drop(data);
                let placeholder = contents.take(&self.source, &path, empty)?;
                let id = self.leaf(
                    &path,
                    Node {
                        meta,
                        kind: Kind::File(placeholder),
                    },
                )?;
                self.metacopies.insert(id, (path, marks.redirect));
                return Ok(());
            }
            Body::File(data) => {
                // Before its bytes are stored.
                self.free_place(&path)?;
                let mut listening = self.lists.listen(&path, data.reader);
                let data = Data {
                    size: data.size,
                    segments: data.segments,
                    reader: &mut listening,
                };
                Kind::File(contents.take(&self.source, &path, data)?)
            }
            Body::Symlink(target) => Kind::Symlink(target),
            Body::Char(major, minor) => {
                let (major, minor) = marks.device.unwrap_or((major, minor));
                Kind::Char(major, minor)
            }
            Body::Block(major, minor) => Kind::Block(major, minor),
            Body::Fifo => Kind::Fifo,
            Body::Socket => Kind::Socket,
        };
        self.leaf(&path, Node { meta, kind })?;
        Ok(())
    }

    /// True if the excludes match `path`; then it is recorded.
    fn leaves_out(&mut self, path: &EntryPath, is_directory: bool, is_whiteout: bool) -> bool {
        if path.is_root() {
            return false;
        }
        let Some(pattern) = self.excludes.pattern_for(path.as_bytes(), is_directory) else {
            return false;
        };
        let pattern = pattern.to_owned();
        self.leave_out(path, &pattern, is_whiteout);
        true
    }

    fn leave_out(&mut self, path: &EntryPath, pattern: &str, is_whiteout: bool) {
        self.seen.excluded_count += 1;
        if self.seen.excluded.len() < EXCLUDED_LISTED_MAX {
            self.seen.excluded.push(Excluded {
                path: path.to_string(),
                pattern: pattern.to_owned(),
            });
        }
        self.left_out.insert(path.clone(), is_whiteout);
    }

    /// Removes private attributes, and gives equal sets one place in memory.
    fn shares(&mut self, meta: &mut Metadata) {
        private_attributes::remove(meta);
        let Some(set) = &meta.xattrs else { return };
        match self.xattr_sets.get(set) {
            Some(known) => meta.xattrs = Some(Arc::clone(known)),
            None => {
                self.xattr_sets.insert(Arc::clone(set));
            }
        }
    }
}
