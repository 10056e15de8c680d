//! Boot traces and boot reports from clients, stored in the spool for the pack builder and for
//! users.
//!
//! Anybody on the network can post here, so everything is bounded: one post's length, their number
//! per revision, the space of all. When the space is used up, the oldest of the profile that uses
//! the most are deleted, so a client that floods one system does not affect the others. A trace can
//! only make a boot pack better or worse, never wrong: a pack's bytes are verified like any others.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::limits;

/// The reason why a post was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// Enough of this revision are here.
    #[error("the revision already has {0}")]
    Enough(usize),
    /// The spool cannot be written.
    #[error("cannot store it in {path}: {source}")]
    Spool {
        /// The affected file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// Limits on the stored posts of one kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Posts of one revision.
    pub per_revision: usize,
    /// True if a further post replaces the oldest, false if it is refused.
    pub newest_win: bool,
    /// Bytes of all.
    pub len: u64,
}

/// The limits of traces, from [`limits`].
pub(crate) const TRACES: Bounds = Bounds {
    per_revision: limits::TRACES_PER_REVISION_MAX,
    newest_win: false,
    len: limits::TRACES_LEN_MAX,
};
/// The limits of boot reports, from [`limits`].
pub(crate) const REPORTS: Bounds = Bounds {
    per_revision: limits::REPORTS_PER_REVISION_MAX,
    newest_win: true,
    len: limits::REPORTS_LEN_MAX,
};

/// A directory of posts of one kind: `<system>/<profile>/<revision>/<ulid>`.
#[derive(Debug)]
pub(crate) struct Posts {
    root: PathBuf,
    bounds: Bounds,
    /// Bytes in the directory; counted at start and updated here.
    len: Mutex<u64>,
}

impl Posts {
    /// Opens the directory, making it if needed.
    ///
    /// # Errors
    /// It can neither be read nor made.
    pub(crate) fn open(root: PathBuf, bounds: Bounds) -> std::io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        let mut files = Vec::new();
        files_below(&root, DEPTH, &mut files)?;
        let len = files.iter().map(|file| file.len).sum();
        Ok(Self {
            root,
            bounds,
            len: Mutex::new(len),
        })
    }

    /// Stores one post; names are checked by the caller.
    pub(crate) fn put(
        &self,
        system: &str,
        profile: &str,
        revision: u64,
        body: &[u8],
    ) -> Result<(), PostError> {
        let directory = self
            .root
            .join(system)
            .join(profile)
            .join(revision.to_string());
        let failed = |source| PostError::Spool {
            path: directory.clone(),
            source,
        };
        // One post at a time: the counts below must stay valid during the write.
        let mut len = self.len.lock().unwrap_or_else(PoisonError::into_inner);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let mut here = Vec::new();
        files_below(&directory, 0, &mut here).map_err(failed)?;
        if here.len() >= self.bounds.per_revision {
            if !self.bounds.newest_win {
                return Err(PostError::Enough(self.bounds.per_revision));
            }
            let keep = self.bounds.per_revision.saturating_sub(1);
            let gone = remove_oldest(here, |left, _| left > keep).map_err(failed)?;
            *len = len.saturating_sub(gone);
        }
        if len.saturating_add(body.len() as u64) > self.bounds.len {
            let mut all = Vec::new();
            files_below(&self.root, DEPTH, &mut all).map_err(failed)?;
            // Deletes an eighth at once, so that not each post causes a walk.
            let keep = (self.bounds.len / 8 * 7).saturating_sub(body.len() as u64);
            *len = all.iter().map(|file| file.len).sum();
            let history = self.root.join(system).join(profile);
            let gone =
                remove_from_largest(all, &history, body.len() as u64, keep).map_err(failed)?;
            *len = len.saturating_sub(gone);
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.root).map_err(failed)?;
        file.write_all(body).map_err(failed)?;
        file.persist_noclobber(directory.join(ulid::Ulid::generate().to_string()))
            .map_err(|error| failed(error.error))?;
        *len += body.len() as u64;
        Ok(())
    }
}

/// Directories above the posts: system, profile, revision.
const DEPTH: usize = 3;

#[derive(Debug)]
struct Post {
    path: PathBuf,
    len: u64,
}

/// The files in a directory, not deeper than `depth`.
fn files_below(directory: &Path, depth: usize, found: &mut Vec<Post>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let path = entry.path();
        if meta.is_dir() && depth > 0 {
            files_below(&path, depth - 1, found)?;
        } else if meta.is_file() {
            let len = meta.len();
            found.push(Post { path, len });
        }
    }
    Ok(())
}

/// Deletes posts, oldest first (their names are ULIDs), while `too_much` of their number and length
/// is left; returns the number of deleted bytes.
fn remove_oldest(
    mut posts: Vec<Post>,
    too_much: impl Fn(usize, u64) -> bool,
) -> std::io::Result<u64> {
    posts.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    let total: u64 = posts.iter().map(|post| post.len).sum();
    let (mut left, mut left_len) = (posts.len(), total);
    for post in posts {
        if !too_much(left, left_len) {
            break;
        }
        match std::fs::remove_file(&post.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        left -= 1;
        left_len -= post.len;
    }
    Ok(total - left_len)
}

/// Deletes posts until `keep` bytes are left: each time the oldest one of the history that stores
/// the most. `newcomer` is the directory of a history that is about to get so many more bytes.
/// Returns the number of deleted bytes.
fn remove_from_largest(
    mut posts: Vec<Post>,
    newcomer: &Path,
    coming: u64,
    keep: u64,
) -> std::io::Result<u64> {
    posts.sort_by(|a, b| a.path.file_name().cmp(&b.path.file_name()));
    let mut left: u64 = posts.iter().map(|post| post.len).sum();
    let before = left;
    let mut histories: HashMap<PathBuf, (u64, VecDeque<Post>)> = HashMap::new();
    histories.entry(newcomer.to_owned()).or_default().0 = coming;
    for post in posts {
        // Above the file: revision, history.
        let history = post.path.ancestors().nth(2).unwrap_or(&post.path);
        let (len, posts) = histories.entry(history.to_owned()).or_default();
        *len += post.len;
        posts.push_back(post);
    }
    while left > keep {
        let having = histories
            .values_mut()
            .filter(|(_, posts)| !posts.is_empty());
        let Some((len, posts)) = having.max_by_key(|(len, _)| *len) else {
            break;
        };
        let Some(post) = posts.pop_front() else { break };
        match std::fs::remove_file(&post.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        *len -= post.len;
        left -= post.len;
    }
    Ok(before - left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut found = Vec::new();
        files_below(directory, DEPTH, &mut found).unwrap();
        let mut names: Vec<String> = found
            .iter()
            .map(|post| std::fs::read_to_string(&post.path).unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn enough_traces_of_a_revision_refuse_more_and_the_count_survives() {
        let spool = tempfile::tempdir().unwrap();
        let traces = Posts::open(spool.path().join("traces"), TRACES).unwrap();
        for _ in 0..limits::TRACES_PER_REVISION_MAX {
            traces.put("kiosk", "main", 7, b"0123456789").unwrap();
        }
        let more = traces.put("kiosk", "main", 7, b"x");
        assert!(matches!(more, Err(PostError::Enough(_))));
        traces.put("kiosk", "main", 8, b"x").unwrap();
        let expected = limits::TRACES_PER_REVISION_MAX as u64 * 10 + 1;
        assert_eq!(*traces.len.lock().unwrap(), expected);
        let again = Posts::open(spool.path().join("traces"), TRACES).unwrap();
        assert_eq!(*again.len.lock().unwrap(), expected);
    }

    #[test]
    fn the_newest_reports_of_a_revision_stay() {
        let spool = tempfile::tempdir().unwrap();
        let bounds = Bounds {
            per_revision: 3,
            ..REPORTS
        };
        let reports = Posts::open(spool.path().join("boots"), bounds).unwrap();
        for body in ["a", "b", "c", "d", "e"] {
            reports.put("kiosk", "main", 7, body.as_bytes()).unwrap();
            // Names of one millisecond have no order.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        reports.put("kiosk", "main", 8, b"other").unwrap();
        assert_eq!(names(&spool.path().join("boots")), ["c", "d", "e", "other"]);
        assert_eq!(*reports.len.lock().unwrap(), 8);
    }

    #[test]
    fn who_floods_one_system_takes_nothing_from_another() {
        let spool = tempfile::tempdir().unwrap();
        let bounds = Bounds { len: 80, ..TRACES };
        let traces = Posts::open(spool.path().join("traces"), bounds).unwrap();
        for revision in 1..=3 {
            traces
                .put("quiet", "main", revision, b"quiet67890")
                .unwrap();
        }
        for revision in 1..=40 {
            traces.put("loud", "main", revision, b"loud567890").unwrap();
        }
        // A later post finds room as well.
        traces.put("late", "main", 1, b"late567890").unwrap();
        let left = names(&spool.path().join("traces"));
        let of = |name: &str| left.iter().filter(|body| body.starts_with(name)).count();
        assert_eq!((of("quiet"), of("late")), (3, 1), "{left:?}");
        assert!(of("loud") >= 3, "{left:?}");
    }

    #[test]
    fn when_the_space_is_used_up_the_oldest_go() {
        let spool = tempfile::tempdir().unwrap();
        let bounds = Bounds { len: 80, ..TRACES };
        let traces = Posts::open(spool.path().join("traces"), bounds).unwrap();
        for revision in 1..=9 {
            let body = format!("{revision}234567890");
            traces
                .put("kiosk", "main", revision, body.as_bytes())
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let left = names(&spool.path().join("traces"));
        assert_eq!(left.len(), 7, "{left:?}");
        assert!(
            left[0].starts_with('3') && left[6].starts_with('9'),
            "{left:?}"
        );
        assert_eq!(*traces.len.lock().unwrap(), 70);
    }
}
