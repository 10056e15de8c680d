//! The writable directory: a real overlayfs upper. Kernel overlayfs can read uppers of layerfs, and
//! vice versa (docs/SEMANTICS.md U1).

mod index;
pub mod marks;
pub(crate) mod numbering;
pub mod origins;
mod place;
pub mod work;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::mount::MountFlags;

use self::marks::Marks;
use self::place::{AccessTimes, OwnMount};
use self::work::Work;
use crate::sys::object::At;
use crate::sys::{Errno, Result, handle};

/// The reason why an upper cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpperError {
    /// A directory is missing or cannot be opened.
    #[error("{what} {path}: {source}: give an existing directory that this user may write")]
    Open {
        /// `upperdir` or `workdir`.
        what: &'static str,
        /// The affected path.
        path: PathBuf,
        /// The system's error.
        source: Errno,
    },
    /// upper and work are not on one file system.
    #[error(
        "workdir {work} is not on the file system of upperdir {upper}: renames between them must be atomic"
    )]
    Apart {
        /// The upper directory.
        upper: PathBuf,
        /// The work directory.
        work: PathBuf,
    },
    /// One is inside the other.
    #[error(
        "upperdir {upper} and workdir {work} must be two directories, neither inside the other"
    )]
    Nested {
        /// The upper directory.
        upper: PathBuf,
        /// The work directory.
        work: PathBuf,
    },
    /// The file system lacks something.
    #[error(
        "the file system of upperdir {path} is unsuitable: {lacks} ({source}): use ext4, xfs, btrfs or tmpfs"
    )]
    Unfit {
        /// The upper directory.
        path: PathBuf,
        /// The missing feature.
        lacks: &'static str,
        /// The system's error.
        source: Errno,
    },
    /// overlayfs maintained an index, and some of its files have names that the upper does not
    /// have.
    #[error(
        "workdir {work} has an index of overlayfs (index=on): {count} changed files have further names in the lower, which would show the old content here: bake the upper onto its lower (bakery bake UPPER --base …), or mount it once with overlayfs and replace those names by copies"
    )]
    Indexed {
        /// The work directory.
        work: PathBuf,
        /// Number of files.
        count: usize,
    },
    /// Another mount uses the work directory.
    #[error(
        "workdir {work} is in use by another mount (process {holder}): unmount that first; if `findmnt -t fuse.layerfs` does not \
         show it, it is in another mount namespace (a container, a service): `lsns -t mnt` lists them"
    )]
    Busy {
        /// The work directory.
        work: PathBuf,
        /// The holder, from its own record.
        holder: String,
    },
}

/// An upper in use.
#[derive(Debug)]
pub struct Upper {
    root: Arc<OwnedFd>,
    /// The staging area.
    pub work: Work,
    /// The names of our attributes.
    pub marks: Marks,
    path: PathBuf,
    rename_whiteout: bool,
    uses_numbers_once: bool,
    access_times: Option<AccessTimes>,
}

impl Upper {
    /// Opens and tests an upper: locks its work directory, removes leftovers, probes the file
    /// system.
    ///
    /// # Errors
    /// It is unusable: the reason and the remedy.
    pub fn open(
        upper: &Path,
        work: &Path,
        wait: std::time::Duration,
    ) -> std::result::Result<Upper, UpperError> {
        let open = |what, path: &Path| {
            rustix::fs::open(
                path,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(|source| UpperError::Open {
                what,
                path: path.to_owned(),
                source,
            })
        };
        let root = open("upperdir", upper)?;
        let base = open("workdir", work)?;
        check_places(upper, work, &root, &base)?;
        let (root, base, access_times) = match OwnMount::new(upper, work, [&root, &base]) {
            Some(own) => {
                let (root, base, times) = own.split([root, base]);
                (root, base, Some(times))
            }
            None => (root, base, None),
        };
        // In the work directory: the root keeps its times.
        let marks = Marks::probe(&base).map_err(|(lacks, source)| UpperError::Unfit {
            path: upper.to_owned(),
            lacks,
            source,
        })?;
        let indexed = index::unfinished(&base).map_err(|source| UpperError::Open {
            what: "workdir",
            path: work.join("index"),
            source,
        })?;
        if indexed > 0 {
            return Err(UpperError::Indexed {
                work: work.to_owned(),
                count: indexed,
            });
        }
        let work = Work::enter(base, work, wait)?;
        let unfit = |lacks| {
            move |source| UpperError::Unfit {
                path: upper.to_owned(),
                lacks,
                source,
            }
        };
        let temporary = work.name();
        work.make_whiteout(&temporary)
            .map_err(unfit("whiteouts (mknod c 0 0) are refused"))?;
        work.remove(&temporary)
            .map_err(unfit("files cannot be removed"))?;
        let mut upper = Upper {
            uses_numbers_once: handle::uses_numbers_once(&root),
            root: Arc::new(root),
            work,
            marks,
            path: upper.to_owned(),
            rename_whiteout: true,
            access_times,
        };
        upper.rename_whiteout = upper.probe_rename_whiteout();
        Ok(upper)
    }

    /// The upper's root directory.
    pub fn root(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.root)
    }

    /// True if its file system uses no inode number twice (see [`handle::uses_numbers_once`]).
    pub(crate) fn uses_numbers_once(&self) -> bool {
        self.uses_numbers_once
    }

    /// Makes access times follow `flags`; without permission for a private mount they follow the
    /// file system's mount.
    pub(crate) fn keep_access_times(&self, flags: MountFlags) {
        let kept = match &self.access_times {
            Some(times) => times.keep(flags),
            None => Err(Errno::PERM),
        };
        if let Err(error) = kept {
            tracing::debug!(%error, "access times follow the options of the upper's own mount");
        }
    }

    /// Its path when the mount began; for messages only.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Open directory `name` in `dir`, staying inside the upper.
    ///
    /// # Errors
    /// As openat2(2).
    pub(crate) fn open_directory(&self, dir: &Arc<OwnedFd>, name: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        At::Name(Arc::clone(dir), name).as_owner(|| {
            rustix::fs::openat2(
                dir,
                name,
                flags,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS,
            )
        })
    }

    /// Replaces `name` in `dir` by a whiteout, atomically for others. The object moves to the work
    /// directory, under the returned name.
    ///
    /// # Errors
    /// The errors of renameat2(2).
    pub(crate) fn replace_by_whiteout(&self, dir: &OwnedFd, name: &[u8]) -> Result<Box<[u8]>> {
        let temporary = self.work.name();
        if self.rename_whiteout {
            self.work
                .take(dir, name, &temporary, rustix::fs::RenameFlags::WHITEOUT)?;
        } else {
            self.work.make_whiteout(&temporary)?;
            let swapped = self
                .work
                .put(&temporary, dir, name, rustix::fs::RenameFlags::EXCHANGE);
            if let Err(errno) = swapped {
                let _ = self.work.remove(&temporary);
                return Err(errno);
            }
        }
        Ok(temporary)
    }

    /// Removes leftovers in the work directory under `name`. The next mount removes the rest.
    pub(crate) fn clear_aside(&self, name: &[u8]) {
        match self.work.remove_all(name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => tracing::warn!(%errno, "a leftover remains in the work directory"),
        }
    }

    /// True if a rename can leave a whiteout in the same step.
    pub(crate) fn renames_with_whiteout(&self) -> bool {
        self.rename_whiteout
    }

    /// Creates a whiteout at a free name.
    ///
    /// # Errors
    /// The errors of mknod(2).
    pub(crate) fn make_whiteout(&self, dir: &OwnedFd, name: &[u8]) -> Result<()> {
        rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
    }

    /// Mark a directory as hiding all names of the lower.
    ///
    /// # Errors
    /// The errors of setxattr(2).
    pub(crate) fn set_opaque(&self, at: &At<'_>) -> Result<()> {
        at.set_xattr(&self.marks.opaque, b"y", XattrFlags::empty())
    }

    fn probe_rename_whiteout(&self) -> bool {
        let (first, second) = (self.work.name(), self.work.name());
        let base = self.work.directory();
        let tried = self.work.make_whiteout(&first).and_then(|()| {
            rustix::fs::renameat_with(
                base,
                &first[..],
                base,
                &second[..],
                rustix::fs::RenameFlags::WHITEOUT,
            )
        });
        let _ = self.work.remove(&first);
        let _ = self.work.remove(&second);
        tried.is_ok()
    }
}

fn check_places(
    upper: &Path,
    work: &Path,
    root: &OwnedFd,
    base: &OwnedFd,
) -> std::result::Result<(), UpperError> {
    let stat = |fd: &OwnedFd| rustix::fs::statat(fd, c"", AtFlags::EMPTY_PATH);
    let unreadable = |source| UpperError::Open {
        what: "upperdir",
        path: upper.to_owned(),
        source,
    };
    let (one, two) = (
        stat(root).map_err(unreadable)?,
        stat(base).map_err(unreadable)?,
    );
    if one.st_dev != two.st_dev {
        return Err(UpperError::Apart {
            upper: upper.to_owned(),
            work: work.to_owned(),
        });
    }
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (real_upper, real_work) = (real(upper), real(work));
    if real_upper.starts_with(&real_work) || real_work.starts_with(&real_upper) {
        return Err(UpperError::Nested {
            upper: upper.to_owned(),
            work: work.to_owned(),
        });
    }
    Ok(())
}
