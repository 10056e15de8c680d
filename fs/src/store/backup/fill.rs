//! Fills the backup in the background: slowly, verified, continuing where an earlier mount stopped.

mod layer;

use std::io::{Read, Write};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use layerfmt::{Digest, Layer};
use wire::manifest::{Manifest, ObjectRef};
use wire::paths::ObjectPath;

use super::Backup;
use crate::net::error::FetchError;
use crate::net::exchange::{Ask, STALL_PATIENT};
use crate::net::fetcher::Fetcher;
use crate::net::object::Object;
use crate::net::records::Records;

/// Length of one request for a plain file.
const STEP_LEN: u64 = 1 << 20;
/// Space left free for others.
const SPARE_LEN: u64 = 64 << 20;

/// The reason why filling stopped.
#[derive(Debug, thiserror::Error)]
enum FillStop {
    #[error("the backup's storage: {0}")]
    Storage(#[from] std::io::Error),
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("{0}")]
    Damaged(String),
    #[error("the mount is ending")]
    Closed,
}

/// Fills `backup` with all objects of `records`. Runs on its own thread; ends when the revision is
/// complete, the storage fails or the mount ends.
pub(crate) fn run(
    backup: &Arc<Backup>,
    fetcher: &Weak<Fetcher>,
    records: &Records,
    update: Option<Arc<dyn Remade>>,
) {
    let filler = Filler {
        backup,
        fetcher,
        update,
        manifest: &records.verified.manifest,
    };
    match filler.fill(records) {
        Ok(()) => {
            backup.state.set(format!(
                "complete: revision {}",
                records.verified.head.revision
            ));
            tracing::info!(
                revision = records.verified.head.revision,
                "the backup is complete"
            );
        }
        Err(FillStop::Closed) => {}
        Err(FillStop::Storage(error)) => backup.fail(&error),
        Err(error) => {
            tracing::warn!(%error, "the backup could not be completed");
            backup.state.set(format!("stopped: {error}"));
        }
    }
}

/// Gives raw chunks that are made on this machine.
pub(crate) trait Remade: Send + Sync {
    /// The raw bytes of the chunk called `digest`, if they can be made.
    ///
    /// # Errors
    /// The mount ends.
    fn raw(&self, fetcher: &Fetcher, digest: &Digest) -> Result<Option<Bytes>, FetchError>;
}

struct Filler<'a> {
    backup: &'a Arc<Backup>,
    fetcher: &'a Weak<Fetcher>,
    manifest: &'a Manifest,
    update: Option<Arc<dyn Remade>>,
}

impl Filler<'_> {
    fn fill(&self, records: &Records) -> Result<(), FillStop> {
        self.check_space()?;
        let layers = self.manifest.layers.iter().chain(&self.manifest.borrowed);
        for layer in layers {
            self.layer(Object::layer(&layer.digest), layer)?;
        }
        if let Some(pack) = &self.manifest.pack
            && let Err(error) = self.layer(Object::pack(&pack.digest), pack)
        {
            match error {
                // A revision is complete without its pack: the index without the pack is stored as
                // well.
                FillStop::Fetch(_) | FillStop::Damaged(_) => {
                    tracing::warn!(%error, "the backup has no boot pack");
                }
                other => return Err(other),
            }
        }
        for index in [Some(&self.manifest.index), self.manifest.plain.as_ref()]
            .into_iter()
            .flatten()
        {
            self.index(index)?;
        }
        for file in self.manifest.kernel.iter().chain(&self.manifest.initrd) {
            self.boot_file(file)?;
        }
        self.publish(records)
    }

    /// The mount, unless it has ended.
    fn fetcher(&self) -> Result<Arc<Fetcher>, FillStop> {
        let fetcher = self.fetcher.upgrade().ok_or(FillStop::Closed)?;
        if fetcher.inner.queue().is_closed() {
            return Err(FillStop::Closed);
        }
        if self.backup.is_broken() {
            return Err(FillStop::Closed);
        }
        Ok(fetcher)
    }

    fn check_space(&self) -> Result<(), FillStop> {
        let dir = &self.backup.dir;
        let missing: u64 = (self.manifest.layers.iter().chain(&self.manifest.borrowed))
            .map(|layer| (ObjectPath::Layer(layer.digest), layer.len))
            .chain(
                self.manifest
                    .pack
                    .iter()
                    .map(|pack| (ObjectPath::Pack(pack.digest), pack.len)),
            )
            .map(|(object, len)| {
                let path = object.to_string();
                if dir.file(&path).is_ok() {
                    0
                } else {
                    len.saturating_sub(self.started(&path))
                }
            })
            .sum();
        let free = dir.free()?.saturating_sub(SPARE_LEN);
        if missing > free {
            let what = format!("{} MiB needed, {} MiB free", missing >> 20, free >> 20);
            return Err(std::io::Error::new(std::io::ErrorKind::StorageFull, what).into());
        }
        Ok(())
    }

    /// Bytes of space that an earlier attempt already uses.
    fn started(&self, path: &str) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let part = self
            .backup
            .dir
            .file(&format!("{path}.part"))
            .and_then(|file| file.metadata());
        part.map_or(0, |meta| meta.blocks() * 512)
    }

    fn index(&self, reference: &wire::manifest::IndexRef) -> Result<(), FillStop> {
        if self.backup.index(&reference.digest).is_some() {
            return Ok(());
        }
        for _ in 0..3 {
            let object = ObjectPath::Index(reference.digest);
            let bytes = self.range(&object.url(), 0, reference.head_len)?;
            let sound = Layer::from_vec(bytes.clone())
                .is_ok_and(|layer| layer.digest() == reference.digest);
            if sound {
                return Ok(self.backup.dir.write(&object.to_string(), &bytes)?);
            }
        }
        Err(FillStop::Damaged(format!(
            "index {} is damaged",
            reference.digest
        )))
    }

    fn boot_file(&self, reference: &ObjectRef) -> Result<(), FillStop> {
        let object = ObjectPath::Boot(reference.digest);
        let path = object.to_string();
        if self.has_digest(&path, &reference.digest) {
            return Ok(());
        }
        let part_path = format!("{path}.part");
        let mut part = self.backup.dir.part(&part_path)?;
        part.set_len(0)?;
        let mut at = 0;
        while at < reference.len {
            let len = STEP_LEN.min(reference.len - at);
            part.write_all(&self.range(&object.url(), at, len)?)?;
            at += len;
        }
        part.sync_all()?;
        if !self.has_digest(&part_path, &reference.digest) {
            self.backup.dir.remove(&part_path)?;
            return Err(FillStop::Damaged(format!("{path} is damaged")));
        }
        Ok(self.backup.dir.rename(&part_path, &path)?)
    }

    fn has_digest(&self, path: &str, digest: &Digest) -> bool {
        let Ok(mut file) = self.backup.dir.file(path) else {
            return false;
        };
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Digest::from(hasher.finalize()) == *digest,
                Ok(len) => hasher.update(buffer.get(..len).unwrap_or_default()),
                Err(_) => return false,
            };
        }
    }

    /// Fetches a range of a file, without a time limit; an object that no server has is an error.
    fn range(&self, path: &str, offset: u64, len: u64) -> Result<Vec<u8>, FillStop> {
        let len_max = usize::try_from(len).unwrap_or(usize::MAX);
        let ask = Ask::range(path, offset..offset.saturating_add(len), STALL_PATIENT);
        let mut failures = 0;
        loop {
            let fetcher = self.fetcher()?;
            let error = match fetcher.get_whole(&ask, len_max) {
                Ok((_, bytes)) => return Ok(bytes),
                Err(FetchError::Closed) => return Err(FillStop::Closed),
                Err(error) => error,
            };
            failures += 1;
            if error.is_missing() && failures >= 3 {
                return Err(error.into());
            }
            let wait = fetcher.inner.mirrors.wait(failures);
            drop(fetcher);
            std::thread::sleep(wait);
        }
    }

    /// Publishes a complete revision: the records, and last the mark.
    fn publish(&self, records: &Records) -> Result<(), FillStop> {
        let damaged = |error: wire::trust::TrustError| FillStop::Damaged(error.to_string());
        let (bundle, head, dir) = (&records.bundle, &records.verified.head, &self.backup.dir);
        for keyset in &bundle.keysets {
            let record = wire::manifest::Keyset::parse(keyset.payload.as_bytes())
                .map_err(|error| FillStop::Damaged(error.to_string()))?;
            dir.write(
                &ObjectPath::Keyset(record.version).to_string(),
                &keyset.render().map_err(damaged)?,
            )?;
        }
        if let Some(rings) = &bundle.rings {
            let record = wire::manifest::RingRecord::parse(rings.payload.as_bytes())
                .map_err(|error| FillStop::Damaged(error.to_string()))?;
            let path = ObjectPath::Ring(record.name(), record.number);
            dir.write(&path.to_string(), &rings.render().map_err(damaged)?)?;
        }
        dir.write(
            &ObjectPath::Manifest(head.manifest.digest).to_string(),
            bundle.manifest.as_bytes(),
        )?;
        let envelope = bundle.head.render().map_err(damaged)?;
        dir.write(
            &ObjectPath::Head(head.name(), head.revision).to_string(),
            &envelope,
        )?;
        dir.write(
            &ObjectPath::Hint(head.name()).to_string(),
            head.revision.to_string().as_bytes(),
        )?;
        self.backup.sweep(head.revision);
        Ok(())
    }
}
