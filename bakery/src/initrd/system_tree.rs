//! Reads the system's own tree, from any place, and follows links inside it.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::{Result, refuse};
use crate::failed::Doing as _;
use crate::limits::{LINK_HOPS_MAX, SYSTEM_FILE_LEN_MAX};

/// An object of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SystemNode {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link and its target.
    Link(String),
    /// A device, fifo or socket.
    Other,
}

/// A readable tree. Paths are relative to its root, without a leading slash, with no `.` or `..`;
/// implementations need not follow links: [`resolve`] does.
pub(crate) trait SystemTree {
    /// The object at this path, without following the last name; `None` if there is none.
    ///
    /// # Errors
    /// The tree cannot be read.
    fn node(&self, path: &str) -> Result<Option<SystemNode>>;

    /// The names in a directory, sorted; names that are not UTF-8 are skipped.
    ///
    /// # Errors
    /// The tree cannot be read.
    fn names(&self, path: &str) -> Result<Vec<String>>;

    /// A regular file's bytes.
    ///
    /// # Errors
    /// It cannot be read, or is longer than [`SYSTEM_FILE_LEN_MAX`].
    fn bytes(&self, path: &str) -> Result<Vec<u8>>;

    /// When a directory or file was last changed, in seconds since 1970.
    ///
    /// # Errors
    /// The tree cannot be read.
    fn modified(&self, path: &str) -> Result<i64>;
}

/// The path without links that `path` leads to inside the tree; `None` when it leads nowhere.
///
/// # Errors
/// The tree cannot be read, or the links run in a circle.
pub(crate) fn resolve(tree: &dyn SystemTree, path: &str) -> Result<Option<String>> {
    let mut done: Vec<String> = Vec::new();
    let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut hops = 0;
    while let Some(name) = todo.pop() {
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                done.pop();
                continue;
            }
            _ => done.push(name),
        }
        match tree.node(&done.join("/"))? {
            None => return Ok(None),
            Some(SystemNode::Link(target)) => {
                hops += 1;
                if hops > LINK_HOPS_MAX {
                    refuse!("/{path}: too many symbolic links");
                }
                done.pop();
                if target.starts_with('/') {
                    done.clear();
                }
                todo.extend(target.split('/').rev().map(str::to_owned));
            }
            Some(_) => {}
        }
    }
    Ok(Some(done.join("/")))
}

/// A regular file's bytes, links followed; `None` if it does not exist.
///
/// # Errors
/// The errors of [`SystemTree::bytes`].
pub(crate) fn read(tree: &dyn SystemTree, path: &str) -> Result<Option<Vec<u8>>> {
    let Some(real) = resolve(tree, path)? else {
        return Ok(None);
    };
    match tree.node(&real)? {
        Some(SystemNode::File) => tree.bytes(&real).map(Some),
        _ => Ok(None),
    }
}

/// Names in a directory, links followed; empty if it does not exist.
///
/// # Errors
/// The tree cannot be read.
pub(crate) fn list(tree: &dyn SystemTree, path: &str) -> Result<Vec<String>> {
    let Some(real) = resolve(tree, path)? else {
        return Ok(Vec::new());
    };
    match tree.node(&real)? {
        Some(SystemNode::Directory) => tree.names(&real),
        _ => Ok(Vec::new()),
    }
}

/// A tree in a directory of this machine.
#[derive(Debug)]
pub(crate) struct DirectoryTree {
    root: PathBuf,
}

impl DirectoryTree {
    /// # Errors
    /// It is not a directory.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            refuse!("{} is not a directory", root.display());
        }
        Ok(Self {
            root: root.to_owned(),
        })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl SystemTree for DirectoryTree {
    fn node(&self, path: &str) -> Result<Option<SystemNode>> {
        let at = self.at(path);
        let kind = match fs::symlink_metadata(&at) {
            Ok(metadata) => metadata.file_type(),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(error)
                    .doing(|| format!("cannot stat {}", at.display()))
                    .map_err(Into::into);
            }
        };
        Ok(Some(if kind.is_dir() {
            SystemNode::Directory
        } else if kind.is_file() {
            SystemNode::File
        } else if kind.is_symlink() {
            let target =
                fs::read_link(&at).doing(|| format!("cannot read the link {}", at.display()))?;
            SystemNode::Link(target.to_string_lossy().into_owned())
        } else {
            SystemNode::Other
        }))
    }

    fn names(&self, path: &str) -> Result<Vec<String>> {
        let at = self.at(path);
        let mut names = Vec::new();
        for entry in fs::read_dir(&at).doing(|| format!("cannot list {}", at.display()))? {
            if let Ok(name) = entry
                .doing(|| format!("cannot list {}", at.display()))?
                .file_name()
                .into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        let at = self.at(path);
        let file = fs::File::open(&at).doing(|| format!("cannot open {}", at.display()))?;
        let mut bytes = Vec::new();
        file.take(SYSTEM_FILE_LEN_MAX + 1)
            .read_to_end(&mut bytes)
            .doing(|| format!("cannot read {}", at.display()))?;
        if bytes.len() as u64 > SYSTEM_FILE_LEN_MAX {
            refuse!("{} is too large for an initramfs", at.display());
        }
        Ok(bytes)
    }

    fn modified(&self, path: &str) -> Result<i64> {
        let at = self.at(path);
        Ok(fs::metadata(&at)
            .doing(|| format!("cannot stat {}", at.display()))?
            .mtime())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/lib/modules")).unwrap();
        fs::write(root.join("usr/lib/file"), "inside").unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/usr/lib/file", root.join("absolute")).unwrap();
        symlink("../../../../lib/file", root.join("usr/up")).unwrap();
        symlink("circle", root.join("circle")).unwrap();
        let tree = DirectoryTree::open(root).unwrap();
        assert_eq!(
            resolve(&tree, "lib/modules").unwrap().unwrap(),
            "usr/lib/modules"
        );
        for path in ["absolute", "usr/up", "/lib/../lib/./file"] {
            assert_eq!(read(&tree, path).unwrap().unwrap(), b"inside", "{path}");
        }
        assert_eq!(read(&tree, "lib/none").unwrap(), None);
        assert_eq!(read(&tree, "lib").unwrap(), None);
        assert_eq!(list(&tree, "lib").unwrap(), ["file", "modules"]);
        assert!(resolve(&tree, "circle").is_err());
    }
}
