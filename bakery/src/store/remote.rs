//! The store as a bucket: uploads and downloads files.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::{ObjectStoreExt as _, WriteMultipart};

use super::local::failed as file_failed;
use super::{Key, Result, Store, StoreError, failed, make_copies, worker};

/// Up to this length an object is one request, which can be refused if the name is taken.
const SINGLE_PUT_LEN_MAX: u64 = 16 << 20;
/// Length of a part of a longer one. S3 allows 10,000 parts: 160 GB.
const PART_LEN: usize = 16 << 20;
/// Number of parts that are sent at the same time.
const PARTS_IN_FLIGHT: usize = 4;
/// Longest time of retries: a store that fails over (30 s for SeaweedFS' master) must not fail a
/// publish.
const RETRY_FOR: Duration = Duration::from_secs(120);
/// Longest time of one request, which has at most one part.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(feature = "s3")]
pub(super) fn attach(location: &str, bucket: &str) -> Result<Store> {
    use object_store::aws::AmazonS3Builder;
    use object_store::prefix::PrefixStore;
    use object_store::{ClientOptions, RetryConfig};

    let (bucket, prefix) = bucket.split_once('/').unwrap_or((bucket, ""));
    if bucket.is_empty() {
        return Err(StoreError::Location(format!(
            "'{location}' names no bucket"
        )));
    }
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    super::location::require_credentials(location, set)?;
    let allow_http = std::env::var("AWS_ALLOW_HTTP").is_ok_and(|v| v == "true" || v == "1");
    let retry = RetryConfig {
        retry_timeout: RETRY_FOR,
        ..RetryConfig::default()
    };
    let client = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_allow_http(allow_http);
    let bucket = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retry)
        .with_client_options(client)
        .build()
        .map_err(|e| StoreError::Failed {
            doing: "cannot use the store (set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, \
                    AWS_ENDPOINT)",
            key: location.into(),
            source: e.into(),
        })?;
    let objects: Arc<dyn object_store::ObjectStore> = if prefix.is_empty() {
        Arc::new(bucket)
    } else {
        Arc::new(PrefixStore::new(bucket, prefix))
    };
    Ok(Store {
        objects,
        location: location.into(),
        root: None,
        copies: Some(make_copies()?),
    })
}

#[cfg(not(feature = "s3"))]
pub(super) fn attach(location: &str, _bucket: &str) -> Result<Store> {
    Err(StoreError::Location(format!(
        "'{location}': this bakery was built without S3; build it with --features s3"
    )))
}

/// Sends a file. A long one cannot be refused by its name: the name identifies the content, so the
/// same bytes may be written twice.
pub(super) fn upload(store: &Store, key: &Key, file: &Path) -> Result<()> {
    let unreadable = |e| file_failed("cannot read", file, e);
    let mut opened = File::open(file).map_err(unreadable)?;
    let len = opened.metadata().map_err(unreadable)?.len();
    if len <= SINGLE_PUT_LEN_MAX {
        let mut bytes = Vec::new();
        opened.read_to_end(&mut bytes).map_err(unreadable)?;
        return store.create_object(key, Bytes::from(bytes)).map(drop);
    }
    if store.len(key)? == Some(len) {
        return Ok(());
    }
    let (objects, path) = (Arc::clone(store.objects()), key.path());
    let sent = worker::wait(async move {
        let upload = objects.put_multipart(&path).await?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_LEN);
        loop {
            let read = tokio::task::spawn_blocking(move || {
                let mut part = Vec::with_capacity(PART_LEN);
                let read = (&mut opened).take(PART_LEN as u64).read_to_end(&mut part);
                read.map(|_| (opened, part))
            });
            let part = match read.await.map_err(std::io::Error::other) {
                Ok(Ok((file, part))) => {
                    opened = file;
                    part
                }
                Ok(Err(error)) | Err(error) => {
                    parts.abort().await?;
                    let source = error.into();
                    return Err(object_store::Error::Generic {
                        store: "file",
                        source,
                    });
                }
            };
            if part.is_empty() {
                return parts.finish().await;
            }
            parts.wait_for_capacity(PARTS_IN_FLIGHT).await?;
            parts.put(Bytes::from(part));
        }
    });
    sent.map(drop)
        .map_err(|error| failed("cannot upload", key, error))
}

/// A local copy of an object, made once per open store.
pub(super) fn copy_once(store: &Store, key: &Key) -> Result<PathBuf> {
    let Some(copies) = &store.copies else {
        return Err(StoreError::Missing(key.clone()));
    };
    let target = copies.path().join(key.as_str().replace('/', "-"));
    if target.is_file() {
        return Ok(target);
    }
    let partial = tempfile::Builder::new()
        .prefix("copy-")
        .tempdir_in(copies.path())
        .map_err(|error| file_failed("cannot make a file in", copies.path(), error))?;
    let file = partial.path().join("object");
    fetch(store, key, &file)?;
    std::fs::rename(&file, &target).map_err(|error| file_failed("cannot write", &target, error))?;
    Ok(target)
}

/// Copies an object to a new file.
pub(super) fn fetch(store: &Store, key: &Key, to: &Path) -> Result<()> {
    let mut file = File::create_new(to).map_err(|error| file_failed("cannot write", to, error))?;
    let (objects, path) = (Arc::clone(store.objects()), key.path());
    let fetched = worker::wait(async move {
        let mut stream = objects.get(&path).await?.into_stream();
        while let Some(bytes) = stream.next().await {
            let written = file.write_all(&bytes?);
            written.map_err(|error| object_store::Error::Generic {
                store: "copies",
                source: error.into(),
            })?;
        }
        Ok(())
    });
    match fetched {
        Err(object_store::Error::NotFound { .. }) => Err(StoreError::Missing(key.clone())),
        fetched => fetched.map_err(|error| failed("cannot copy", key, error)),
    }
}
