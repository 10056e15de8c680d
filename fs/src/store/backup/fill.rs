//! Fills the backup in the background: slowly, verified, continuing where an earlier mount stopped.

use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use layerfmt::layout::superblock::{SUPERBLOCK_LEN, Superblock};
use layerfmt::update::stored_again;
use layerfmt::{Chunk, ChunkFile, Digest, Layer};
use wire::manifest::{Manifest, ObjectRef};
use wire::paths::ObjectPath;

use super::part::Part;
use super::{Backup, lock};
use crate::limits::SECTIONS_LEN_MAX;
use crate::net::error::FetchError;
use crate::net::exchange::{Ask, STALL_PATIENT};
use crate::net::fetcher::Fetcher;
use crate::net::object::{ChunkRange, Object};
use crate::net::records::Records;

/// Pieces on their way at once.
const AHEAD_MAX: usize = 32;
/// Interval of the checks for more room.
const LOOK: Duration = Duration::from_millis(100);
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
                // A revision is complete without its pack: the index without it is here as well.
                FillStop::Fetch(error) => tracing::warn!(%error, "the backup has no boot pack"),
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

    /// Space that an earlier attempt already uses.
    fn started(&self, path: &str) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let part = self
            .backup
            .dir
            .file(&format!("{path}.part"))
            .and_then(|file| file.metadata());
        part.map_or(0, |meta| meta.blocks() * 512)
    }

    fn layer(&self, object: Object, reference: &ObjectRef) -> Result<(), FillStop> {
        if self.backup.attach(&object.path, reference.len) {
            return Ok(());
        }
        let path = object.path.trim_start_matches('/').to_owned();
        let part_path = format!("{path}.part");
        let file = self.backup.dir.part(&part_path)?;
        let part = Arc::new(Part::new(file));
        let object = Arc::new(object);
        let chunks = self.sections(&object, reference, &part)?;
        part.recover(&chunks);
        lock(&self.backup.parts).insert(object.path.clone(), Arc::clone(&part));
        self.chunks(&object, &chunks, &part)?;
        part.file.set_len(reference.len)?;
        part.file.sync_all()?;
        let whole = Layer::from_file(part.file.try_clone()?)
            .map_err(|e| FillStop::Damaged(e.to_string()))?;
        if whole.digest() != reference.digest {
            return Err(FillStop::Damaged(format!(
                "{path} differs from the manifest"
            )));
        }
        self.backup.dir.rename(&part_path, &path)?;
        self.backup.attach(&object.path, reference.len);
        lock(&self.backup.parts).remove(&object.path);
        Ok(())
    }

    /// Superblock and sections, verified and written; returns the layer's own chunks.
    fn sections(
        &self,
        object: &Object,
        reference: &ObjectRef,
        part: &Part,
    ) -> Result<Vec<Chunk>, FillStop> {
        let damaged = |what: &str| FillStop::Damaged(format!("{}: {what}", object.path));
        let mut last = damaged("no undamaged copy");
        for _ in 0..3 {
            let head = self.range(&object.path, 0, SUPERBLOCK_LEN as u64)?;
            if Digest::of(&head) != reference.digest {
                last = damaged("its superblock has another digest");
                continue;
            }
            let superblock =
                Superblock::decode(&head).map_err(|e| FillStop::Damaged(e.to_string()))?;
            let sections_len = superblock.file_len.saturating_sub(superblock.data_end);
            if superblock.file_len != reference.len || sections_len > SECTIONS_LEN_MAX {
                return Err(damaged("its length differs from the manifest"));
            }
            part.file.set_len(superblock.file_len)?;
            part.file.write_all_at(&head, 0)?;
            let mut at = superblock.data_end;
            while at < superblock.file_len {
                let len = STEP_LEN.min(superblock.file_len - at);
                part.file
                    .write_all_at(&self.range(&object.path, at, len)?, at)?;
                at += len;
            }
            match Layer::from_file(part.file.try_clone()?) {
                Ok(layer) => {
                    let own = layer
                        .index()
                        .chunks()
                        .filter(|chunk| chunk.source == ChunkFile::Own);
                    return Ok(own.collect());
                }
                Err(error) => last = FillStop::Damaged(error.to_string()),
            }
        }
        Err(last)
    }

    /// Fetches every chunk that the part does not have, through the mount's queue: after all
    /// demand, verified, from any server, and once even if a reader needs it too.
    fn chunks(&self, object: &Arc<Object>, chunks: &[Chunk], part: &Part) -> Result<(), FillStop> {
        loop {
            let missing: Vec<&Chunk> = chunks
                .iter()
                .filter(|chunk| !part.has(chunk.offset))
                .collect();
            self.backup.state.set(format!(
                "filling: {} chunks of {} missing",
                missing.len(),
                object.path
            ));
            if missing.is_empty() {
                return Ok(());
            }
            for chunk in missing {
                if let Some(stored) = self.made_by_update(chunk)? {
                    part.write(chunk.offset, &stored)?;
                    continue;
                }
                let piece = ChunkRange {
                    object: Arc::clone(object),
                    offset: chunk.offset,
                    len: chunk.stored_len,
                    digest: chunk.digest,
                };
                loop {
                    let fetcher = self.fetcher()?;
                    if fetcher.suggested() < AHEAD_MAX {
                        fetcher.suggest(&piece);
                        break;
                    }
                    drop(fetcher);
                    std::thread::sleep(LOOK);
                }
            }
            while self.fetcher()?.suggested() > 0 {
                std::thread::sleep(LOOK);
            }
            // The writer thread has the last ones in its queue.
            std::thread::sleep(LOOK);
        }
    }

    /// The stored bytes of a chunk that the update pack makes, if compressing its raw bytes as a bake
    /// or a boot pack does gives exactly these.
    fn made_by_update(&self, chunk: &Chunk) -> Result<Option<Vec<u8>>, FillStop> {
        let Some(update) = self.update.as_ref() else {
            return Ok(None);
        };
        let raw = update.raw(&*self.fetcher()?, &chunk.digest)?;
        Ok(raw.and_then(|raw| stored_again(chunk, &raw)))
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

    /// Everything is here: the records, and last the mark.
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
