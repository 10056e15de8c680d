//! Objects of the store, opened for sending.
//!
//! A store in a local directory is served from mapped files, kept open: the connection sends large
//! parts from the file itself (`stream`), small ones from the mapping. Any other store is streamed,
//! range by range.

use std::fs::{File, Metadata};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lru::LruCache;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _};

use wire::paths::ObjectPath;

use super::limits;
use super::shared_answers::SharedAnswers;
use crate::sys::sending::MappedFiles;

/// The reason why an object cannot be sent.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ObjectError {
    /// The store has no such object.
    #[error("no such object in the store")]
    Missing,
    /// The store could not be read.
    #[error("cannot read {path} in the store: {message}")]
    Store {
        /// The object's path.
        path: String,
        /// The message of the store.
        message: String,
    },
}

/// An object that exists, of known length.
#[derive(Debug, Clone)]
pub(crate) enum ServedObject {
    /// The whole object, mapped.
    Mapped(Bytes),
    /// An object of a remote store.
    Remote {
        /// The place of the object.
        store: Arc<dyn ObjectStore>,
        /// Its path there.
        path: object_store::path::Path,
        /// Length of the object.
        len: u64,
    },
}

impl ServedObject {
    /// The object's length in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Mapped(bytes) => bytes.len() as u64,
            Self::Remote { len, .. } => *len,
        }
    }

    /// These bytes as a response body; the range is inside the object.
    pub(crate) async fn body(&self, range: Range<u64>) -> Result<Body, ObjectError> {
        match self {
            Self::Mapped(bytes) => Ok(Body::from(cut(bytes, &range))),
            Self::Remote { store, path, .. } => {
                let options = GetOptions {
                    range: Some(GetRange::Bounded(range)),
                    ..GetOptions::default()
                };
                let answer = store.get_opts(path, options).await;
                let answer = answer.map_err(|error| failed(path.as_ref(), &error))?;
                Ok(Body::from_stream(answer.into_stream()))
            }
        }
    }

    /// These places as one response body; they are inside the object.
    pub(crate) fn body_of_places(&self, places: Vec<Range<u64>>) -> Body {
        let step = match self {
            Self::Mapped(_) => u64::MAX,
            Self::Remote { .. } => limits::PIECE_LEN,
        };
        let pieces = places.into_iter().flat_map(move |place| {
            let next = move |piece: &Range<u64>| {
                let start = piece.end;
                (start < place.end).then(|| start..start.saturating_add(step).min(place.end))
            };
            let first = place.start..place.start.saturating_add(step).min(place.end);
            std::iter::successors(Some(first), next)
        });
        let object = self.clone();
        Body::from_stream(futures::stream::iter(pieces).then(move |piece| {
            let object = object.clone();
            async move { object.bytes(piece).await }
        }))
    }

    /// These bytes in memory; the range is inside the object.
    pub(crate) async fn bytes(&self, range: Range<u64>) -> Result<Bytes, ObjectError> {
        match self {
            Self::Mapped(bytes) => Ok(cut(bytes, &range)),
            Self::Remote { store, path, .. } => store
                .get_range(path, range)
                .await
                .map_err(|error| failed(path.as_ref(), &error)),
        }
    }
}

fn cut(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    let end = usize::try_from(range.end)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
    bytes.slice(start..end)
}

fn failed(path: &str, error: &object_store::Error) -> ObjectError {
    match error {
        object_store::Error::NotFound { .. } => ObjectError::Missing,
        other => ObjectError::Store {
            path: path.to_owned(),
            message: other.to_string(),
        },
    }
}

#[derive(Debug, Clone)]
struct Kept {
    bytes: Bytes,
    stamp: FileStamp,
    checked: Instant,
}

/// The fields of a stat that identify a file and its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    fn of(meta: &Metadata) -> Self {
        FileStamp {
            device: meta.dev(),
            inode: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// The store as the server sees it.
#[derive(Debug)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    directory: Option<PathBuf>,
    open: Mutex<LruCache<String, Kept>>,
    files: MappedFiles,
    reads: SharedAnswers<String, Result<Bytes, ObjectError>>,
    listings: SharedAnswers<String, Result<Vec<ObjectPath>, ObjectError>>,
}

impl Objects {
    /// True if the objects are files of a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.directory.is_some()
    }

    /// `directory` is the directory of the store's objects, if they are files.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, directory: Option<PathBuf>) -> Self {
        let most = NonZeroUsize::new(limits::OPEN_OBJECTS_MAX).unwrap_or(NonZeroUsize::MIN);
        Self {
            store,
            directory,
            open: Mutex::new(LruCache::new(most)),
            files: MappedFiles::default(),
            reads: SharedAnswers::default(),
            listings: SharedAnswers::default(),
        }
    }

    /// The mappings that objects are sent from.
    pub(crate) fn files(&self) -> &MappedFiles {
        &self.files
    }

    /// Opens an immutable object.
    pub(crate) async fn open(&self, path: &str) -> Result<ServedObject, ObjectError> {
        let Some(directory) = &self.directory else {
            let place = object_store::path::Path::from(path);
            let head = self.store.head(&place).await;
            let len = head.map_err(|error| failed(path, &error))?.size;
            return Ok(ServedObject::Remote {
                store: Arc::clone(&self.store),
                path: place,
                len,
            });
        };
        if let Some(kept) = self.kept(directory, path) {
            return Ok(ServedObject::Mapped(kept));
        }
        let (bytes, stamp) =
            map(&self.files, &directory.join(path)).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => ObjectError::Missing,
                _ => ObjectError::Store {
                    path: path.to_owned(),
                    message: error.to_string(),
                },
            })?;
        let kept = Kept {
            bytes: bytes.clone(),
            stamp,
            checked: Instant::now(),
        };
        self.lock().put(path.to_owned(), kept);
        Ok(ServedObject::Mapped(bytes))
    }

    /// Reads a small object that may appear or change: heads, keysets, hints. Requests of the same
    /// moment share one look at the store.
    pub(crate) async fn read(&self, path: &str) -> Result<Bytes, ObjectError> {
        let path = path.to_owned();
        let look = read(Arc::clone(&self.store), path.clone());
        self.reads.get(path, look).await
    }

    /// The objects below a directory; stray files are passed over. Requests of the same moment share
    /// one look at the store.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<ObjectPath>, ObjectError> {
        let prefix = prefix.to_owned();
        let look = list(Arc::clone(&self.store), prefix.clone());
        self.listings.get(prefix, look).await
    }

    fn kept(&self, directory: &Path, path: &str) -> Option<Bytes> {
        let mut open = self.lock();
        let kept = open.get_mut(path)?;
        if kept.checked.elapsed() > limits::OPEN_OBJECT_RECHECK {
            let same = std::fs::metadata(directory.join(path))
                .is_ok_and(|meta| FileStamp::of(&meta) == kept.stamp);
            if !same {
                open.pop(path);
                return None;
            }
            kept.checked = Instant::now();
        }
        Some(kept.bytes.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<String, Kept>> {
        // The cache holds no invariant a panicking holder could have broken.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(store: Arc<dyn ObjectStore>, path: String) -> Result<Bytes, ObjectError> {
    let place = object_store::path::Path::from(path.as_str());
    let answer = store.get(&place).await;
    let answer = answer.map_err(|error| failed(&path, &error))?;
    if answer.meta.size > limits::RECORD_LEN_MAX {
        return Err(ObjectError::Store {
            message: format!("{} bytes are too many for a record", answer.meta.size),
            path,
        });
    }
    answer.bytes().await.map_err(|error| failed(&path, &error))
}

async fn list(store: Arc<dyn ObjectStore>, prefix: String) -> Result<Vec<ObjectPath>, ObjectError> {
    let place = object_store::path::Path::from(prefix.as_str());
    let listed = store.list(Some(&place));
    listed
        .try_filter_map(|meta| async move { Ok(ObjectPath::parse(meta.location.as_ref())) })
        .try_collect()
        .await
        .map_err(|error| ObjectError::Store {
            path: prefix,
            message: error.to_string(),
        })
}

fn map(files: &MappedFiles, path: &Path) -> std::io::Result<(Bytes, FileStamp)> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    let stamp = FileStamp::of(&meta);
    Ok((files.map(file)?, stamp))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::memory::InMemory;
    use object_store::throttle::{ThrottleConfig, ThrottledStore};

    use super::*;

    /// From a remote store, in pieces.
    #[test]
    fn places_are_sent_in_their_order_from_any_store() {
        let bytes: Vec<u8> = (0..600_000_u32).map(|at| (at % 251) as u8).collect();
        let (store, path) = (
            Arc::new(InMemory::new()),
            object_store::path::Path::from("x"),
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            store.put(&path, bytes.clone().into()).await.unwrap();
            let remote = ServedObject::Remote {
                store,
                path,
                len: 600_000,
            };
            for object in [ServedObject::Mapped(bytes.clone().into()), remote] {
                let places = vec![5..300_000, 1..2, 599_999..600_000];
                let wanted: Vec<u8> = (places.iter())
                    .flat_map(|place| &bytes[place.start as usize..place.end as usize])
                    .copied()
                    .collect();
                let body = object.body_of_places(places);
                let sent = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                assert_eq!(sent, wanted);
            }
        });
    }

    /// `docs/HTTP.md`: "No answer comes from a look that began before its request."
    #[tokio::test]
    async fn a_record_that_changes_during_a_look_is_read_again() {
        let slow = ThrottleConfig {
            wait_get_per_byte: Duration::from_millis(100),
            ..ThrottleConfig::default()
        };
        let memory = Arc::new(InMemory::new());
        let store = Arc::new(ThrottledStore::new(Arc::clone(&memory), slow));
        let objects = Objects::new(store, None);
        let path = object_store::path::Path::from("hint");
        memory.put(&path, "1".into()).await.unwrap();
        let mut before = Box::pin(objects.read("hint"));
        assert!(futures::poll!(&mut before).is_pending());
        memory.put(&path, "2".into()).await.unwrap();
        let after = futures::future::join_all((0..50).map(|_| objects.read("hint")));
        let (_, after) = tokio::join!(before, after);
        assert!(after.into_iter().all(|read| read.unwrap() == "2"));
    }

    #[test]
    fn a_file_rewritten_in_place_is_another() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"one").unwrap();
        let stamp = || FileStamp::of(&std::fs::metadata(file.path()).unwrap());
        let before = stamp();
        assert_eq!(before, stamp());
        let modified = file.as_file().metadata().unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(file.path(), b"two").unwrap();
        file.as_file().set_modified(modified).unwrap();
        let after = stamp();
        assert_eq!((after.inode, after.len), (before.inode, before.len));
        assert_eq!(after.modified, before.modified);
        assert_ne!(after, before);
    }
}
