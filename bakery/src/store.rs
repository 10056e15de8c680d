//! The store: immutable objects under names that describe them.
//!
//! Everything depends on one primitive: *create if absent*. Only the advisory hints are
//! overwritten, so a local directory, S3 and memory give the same guarantees ([`check`] tests
//! them). Layout: [`key`]. This interface of the store blocks; [`Store::objects`] is the other.

pub mod check;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
pub mod guard;
pub mod key;
mod local;
mod location;
pub mod ownership;
mod remote;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::TryStreamExt as _;
use layerfmt::{Digest, Layer};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};

pub use error::{Result, StoreError};
pub use key::Key;
use location::StorePlace;

use crate::work_directory::WorkDirectory;

/// The result of an attempt to create an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is ours.
    New,
    /// Another writer's object existed before.
    Exists,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Key of the object.
    pub key: Key,
    /// Length in bytes.
    pub len: u64,
    /// When it was written, by the store's clock.
    pub modified: SystemTime,
}

/// A store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    location: String,
    /// The directory, if the objects are plain files.
    root: Option<PathBuf>,
    /// Directory of copies of remote objects, while the store is open.
    copies: Option<Arc<WorkDirectory>>,
}

impl Store {
    /// Open an existing store: a directory, or `s3://bucket[/prefix]` with the usual `AWS_…`
    /// variables (`AWS_ENDPOINT`, `AWS_ALLOW_HTTP` for one of your own).
    ///
    /// # Errors
    /// When there is none, or it cannot be reached.
    pub fn open(location: &str) -> Result<Store> {
        let store = Store::attach(location)?;
        match store.len(&Key::marker())? {
            Some(_) => Ok(store),
            None => Err(StoreError::NotAStore(location.into())),
        }
    }

    /// Opens a store like [`Store::open`], and creates it if it does not exist.
    ///
    /// # Errors
    /// The place cannot be made or reached, or cannot keep the store's promise.
    pub fn create(location: &str) -> Result<Store> {
        if let StorePlace::Directory(path) = StorePlace::of(location)? {
            local::make_root(path)?;
        }
        let store = Store::attach(location)?;
        check::require_sound(&store)?;
        store.create_object(&Key::marker(), Bytes::from_static(b"{\"format\":1}\n"))?;
        Ok(store)
    }

    /// Opens the store without checking that it is one: for `store check`.
    ///
    /// # Errors
    /// The location cannot be used.
    pub fn attach(location: &str) -> Result<Store> {
        match StorePlace::of(location)? {
            StorePlace::Bucket(bucket) => remote::attach(location, bucket),
            StorePlace::Directory(path) => local::attach(location, path),
        }
    }

    /// An empty store in memory, for tests. It lives as long as its last clone.
    ///
    /// # Errors
    /// When no directory for copies can be made.
    pub fn memory() -> Result<Store> {
        let store = Store {
            objects: Arc::new(InMemory::new()),
            location: "memory".into(),
            root: None,
            copies: Some(make_copies()?),
        };
        store.create_object(&Key::marker(), Bytes::from_static(b"{\"format\":1}\n"))?;
        Ok(store)
    }

    /// The location under which the store was opened.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The directory, if the objects are plain files.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The asynchronous interface of the same store.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Create an object unless one of that name is there: the one primitive.
    ///
    /// # Errors
    /// When the store refused for another reason.
    pub fn create_object(&self, key: &Key, bytes: Bytes) -> Result<Created> {
        let (objects, path) = (Arc::clone(&self.objects), key.path());
        let options = PutOptions::from(PutMode::Create);
        let sent = bytes.clone();
        let result =
            worker::wait(async move { objects.put_opts(&path, sent.into(), options).await });
        match result {
            Ok(_) => {
                self.inherit(key)?;
                Ok(Created::New)
            }
            Err(object_store::Error::AlreadyExists { .. }) if self.root.is_some() => {
                Ok(Created::Exists)
            }
            // The retry after a lost answer finds the object of its own first attempt.
            Err(object_store::Error::AlreadyExists { .. }) => {
                let found = self.get(key, bytes.len() as u64).ok().flatten();
                Ok(if found == Some(bytes) {
                    Created::New
                } else {
                    Created::Exists
                })
            }
            Err(error) => Err(failed("cannot write", key, error)),
        }
    }

    /// Stores a file under a name that identifies its content. On a local store the file itself is
    /// linked, so its bytes must not change afterwards; it may be removed. An existing object is
    /// not an error.
    ///
    /// # Errors
    /// The file cannot be read or the store refused.
    pub(crate) fn put_file(&self, key: &Key, file: &Path) -> Result<()> {
        match &self.root {
            Some(root) => local::link(root, key, file),
            None => remote::upload(self, key, file),
        }
    }

    /// Write an advisory object, whatever was there before.
    ///
    /// # Errors
    /// When the store refused.
    pub fn overwrite(&self, key: &Key, bytes: Bytes) -> Result<()> {
        let (objects, path) = (Arc::clone(&self.objects), key.path());
        worker::wait(async move { objects.put(&path, bytes.into()).await })
            .map_err(|error| failed("cannot write", key, error))?;
        self.inherit(key)
    }

    /// A new object of a local store belongs to the account that owns the store.
    fn inherit(&self, key: &Key) -> Result<()> {
        self.root
            .as_ref()
            .map_or(Ok(()), |root| local::inherit(root, key))
    }

    /// The bytes of a small object; `None` if there is none.
    ///
    /// # Errors
    /// When it is longer than `len_max`, or cannot be read.
    pub fn get(&self, key: &Key, len_max: u64) -> Result<Option<Bytes>> {
        let (objects, path) = (Arc::clone(&self.objects), key.path());
        let result = worker::wait(async move {
            let found = objects.get(&path).await?;
            let len = found.meta.size;
            if len > len_max {
                Ok(Err(len))
            } else {
                found.bytes().await.map(Ok)
            }
        });
        match result {
            Ok(Ok(bytes)) => Ok(Some(bytes)),
            Ok(Err(len)) => Err(StoreError::TooLong {
                key: key.clone(),
                len,
                len_max,
            }),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("cannot read", key, error)),
        }
    }

    /// The bytes of a small object that must be there.
    ///
    /// # Errors
    /// The errors of [`Store::get`], and [`StoreError::Missing`].
    pub fn require(&self, key: &Key, len_max: u64) -> Result<Bytes> {
        self.get(key, len_max)?
            .ok_or_else(|| StoreError::Missing(key.clone()))
    }

    /// The length of an object; `None` if it does not exist.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn len(&self, key: &Key) -> Result<Option<u64>> {
        Ok(self.entry(key)?.map(|entry| entry.len))
    }

    /// Length and age of an object; `None` if it does not exist.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn entry(&self, key: &Key) -> Result<Option<ObjectEntry>> {
        let (objects, path) = (Arc::clone(&self.objects), key.path());
        match worker::wait(async move { objects.head(&path).await }) {
            Ok(meta) => Ok(Some(ObjectEntry {
                key: key.clone(),
                len: meta.size,
                modified: meta.last_modified.into(),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("cannot ask for", key, error)),
        }
    }

    /// All objects below a directory of the layout, in name order.
    ///
    /// # Errors
    /// When the store cannot list.
    pub fn list(&self, below: &str) -> Result<Vec<ObjectEntry>> {
        let objects = Arc::clone(&self.objects);
        let prefix = object_store::path::Path::from(below);
        let listed =
            worker::wait(async move { objects.list(Some(&prefix)).try_collect::<Vec<_>>().await });
        let listed = listed.map_err(|error| StoreError::Failed {
            doing: "cannot list",
            key: below.into(),
            source: error.into(),
        })?;
        let mut entries: Vec<ObjectEntry> = listed
            .into_iter()
            .map(|meta| ObjectEntry {
                key: Key::from_listing(&meta.location),
                len: meta.size,
                modified: meta.last_modified.into(),
            })
            .collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    /// Deletes an object. A missing one is not an error.
    ///
    /// # Errors
    /// The store refused.
    pub fn delete(&self, key: &Key) -> Result<()> {
        let (objects, path) = (Arc::clone(&self.objects), key.path());
        match worker::wait(async move { objects.delete(&path).await }) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("cannot delete", key, error)),
        }
    }

    /// A fresh directory, on a local store on the store's own file system, for files that will be
    /// put into the store. It is removed when the value is dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn staging(&self) -> Result<WorkDirectory> {
        let made = match &self.root {
            // `sweep_staging` removes what a killed process left there.
            Some(root) => tempfile::Builder::new()
                .prefix("layer-")
                .tempdir_in(local::staging(root)?)
                .map(WorkDirectory::from),
            None => WorkDirectory::new("bakery-layer-"),
        };
        let place = Path::new(&self.location);
        made.map_err(|error| local::failed("cannot make a directory for", place, error))
    }

    /// Delete files that killed processes left on their way into a local store.
    ///
    /// # Errors
    /// When the store's directory cannot be read.
    pub(crate) fn sweep_staging(&self, grace: std::time::Duration) -> Result<()> {
        self.root
            .as_ref()
            .map_or(Ok(()), |root| local::sweep_staging(root, grace))
    }

    /// A file with the bytes of an object: the store's own, or a copy made on first use.
    ///
    /// # Errors
    /// [`StoreError::Missing`], or when it cannot be copied.
    pub fn file(&self, key: &Key) -> Result<PathBuf> {
        match &self.root {
            Some(root) => {
                let file = root.join(key.as_str());
                if file.is_file() {
                    Ok(file)
                } else {
                    Err(StoreError::Missing(key.clone()))
                }
            }
            None => remote::copy_once(self, key),
        }
    }

    /// Copy the bytes of an object to a new file of ours.
    ///
    /// # Errors
    /// [`StoreError::Missing`], or when it cannot be copied.
    pub fn fetch(&self, key: &Key, to: &Path) -> Result<()> {
        match &self.root {
            Some(root) => local::fetch(root, key, to),
            None => remote::fetch(self, key, to),
        }
    }

    /// Opens a layer, index or pack of the store and checks that it has the digest of its name.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Damaged`], or it cannot be read.
    pub fn open_layer(&self, key: &Key, digest: &Digest) -> Result<Layer> {
        let damaged = |what: String| StoreError::Damaged {
            key: key.clone(),
            what,
        };
        let layer = Layer::map(&self.file(key)?).map_err(|e| damaged(e.to_string()))?;
        if layer.digest() == *digest {
            return Ok(layer);
        }
        Err(damaged(format!(
            "its superblock has digest {}",
            layer.digest()
        )))
    }
}

/// Succeeds if a location can be that of a store, before any access to it.
///
/// # Errors
/// It is neither a directory nor a bucket; the message gives both forms.
pub(crate) fn require_location(location: &str) -> Result<()> {
    StorePlace::of(location).map(drop)
}

fn failed(doing: &'static str, key: &Key, error: object_store::Error) -> StoreError {
    StoreError::Failed {
        doing,
        key: key.to_string(),
        source: error.into(),
    }
}

fn make_copies() -> Result<Arc<WorkDirectory>> {
    WorkDirectory::new("bakery-copies-")
        .map(Arc::new)
        .map_err(|error| StoreError::Failed {
            doing: "cannot make a directory for copies in",
            key: std::env::temp_dir().display().to_string(),
            source: error.into(),
        })
}

#[cfg(test)]
mod tests;
