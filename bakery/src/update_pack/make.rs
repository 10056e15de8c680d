//! Encodes a pack and stores it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::num::NonZero;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use layerfmt::update::{
    IndexEffort, MadeChunk, Preamble, Unit, UnitEncoder, UpdateHead, encode_index,
};
use layerfmt::{Chunk, Digest};
use serde::Serialize;
use wire::manifest::{RECORD_FORMAT, RevisionName, UpdateEnd, UpdateHeadRef, UpdateRecord};
use wire::trust::UPDATE_NAMESPACE;

use super::compressed::Trials;
use super::hot::{HotChunks, HotPlace};
use super::offer::{is_there, read_head};
use super::reuse::{self, ReusedUnit};
use super::scripted;
use super::sources::{Decoder, End};
use super::units::{UnitDraft, plan};
use super::{Result, UpdateError, require_pair};
use crate::clock;
use crate::history::History;
use crate::keys::RecordSigner;
use crate::pairs::Files;
use crate::store::Key;

/// zstd level. The bakery encodes a pack once, when it is idle, and sends it to every client.
const LEVEL: i32 = 19;
/// Largest number of parallel encoders. Each holds a unit, its prefix and zstd's tables.
const ENCODERS_MAX: usize = 8;

/// The result of making an update pack.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Made {
    /// The revision that it starts from.
    pub from: String,
    /// The revision that it leads to.
    pub to: String,
    /// Its name in the store.
    pub object: String,
    /// Length of the file, bytes.
    pub bytes: u64,
    /// Bytes that a client of the old revision fetches without the pack.
    pub plain_bytes: u64,
    /// The part of `bytes` that holds the new index.
    pub index_bytes: u64,
    /// The part of `bytes` that holds hot chunks.
    pub hot_bytes: u64,
    /// Number of chunks that it makes.
    pub chunks: u64,
    /// Raw length of these chunks, bytes.
    pub raw_bytes: u64,
    /// Number of new chunks that it omits, because encoding does not make them smaller.
    pub chunks_left_out: u64,
    /// Stored length of these, bytes: a client fetches them besides the pack.
    pub left_out_bytes: u64,
    /// Number of its units that were encoded for another pack.
    pub units_reused: u64,
    /// True if the store already had the pack.
    pub was_there: bool,
}

/// Makes the update pack from `from` to `to`, and stores it if the store does not have it.
///
/// # Errors
/// When the revisions are not a pair, a revision cannot be read, or the store fails.
pub fn make(
    history: &History,
    signer: &RecordSigner,
    from: &RevisionName,
    to: &RevisionName,
) -> Result<Made> {
    let (older, newer) = (history.revision(from)?, history.revision(to)?);
    let name = require_pair(&older, &newer)?;
    let (old, new) = (End::of(history, &older)?, End::of(history, &newer)?);
    let store = history.store();
    let key = Key::update(&name, newer.number(), older.number());
    let report = |head: &UpdateHead, bytes, was_there| Made {
        from: older.name().to_string(),
        to: newer.name().to_string(),
        object: key.to_string(),
        bytes,
        was_there,
        ..counts(head, &old, &new)
    };
    if is_there(history, &newer, &older)? {
        let file = store.file(&key)?;
        // A damaged pack is made again.
        if let Ok(head) = read_head(&file) {
            return Ok(report(&head, file.metadata()?.len(), true));
        }
    }
    let staging = store.staging()?;
    let files = Files::of(&old.index);
    let hot = HotChunks::of(&old, &new, &files);
    let reused = reuse::units(history, &name, &old, &new, &hot)?;
    let made = reused.iter().flat_map(|reused| &reused.unit.made);
    let drafts = plan(&old, &new, &files, &hot, made.map(|made| made.digest))?;
    let encoded = encode(
        (&old, &new),
        &reused,
        &drafts,
        &staging.path().join("frames"),
    )?;
    let (head, raw_len) = encoded.head.encode()?;
    let end = |end: &End, revision| UpdateEnd {
        index: end.reference.digest,
        revision,
    };
    let record = UpdateRecord {
        format: RECORD_FORMAT,
        frames_len: encoded.head.frames_len(),
        from: end(&old, older.number()),
        head: UpdateHeadRef {
            digest: Digest::of(&head),
            len: u32::try_from(head.len()).unwrap_or(u32::MAX),
            raw_len,
        },
        issued_at: clock::now(),
        plain_len: plain_len(&old, &new),
        profile: name.profile.clone(),
        system: name.system.clone(),
        to: end(&new, newer.number()),
    };
    let envelope = signer.sign(UPDATE_NAMESPACE, &record.render()?)?.render()?;
    let path = staging.path().join("update");
    let bytes = assemble(&path, &envelope, &head, encoded.frames)?;
    // After a purge the store may have a pack of the old revisions under this name.
    store.delete(&key)?;
    store.put_file(&key, &path)?;
    Ok(Made {
        units_reused: reused.len() as u64,
        ..report(&encoded.head, bytes, false)
    })
}

/// Writes preamble, record, head and frames to a file; returns its length.
fn assemble(path: &Path, record: &[u8], head: &[u8], mut frames: File) -> Result<u64> {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let preamble = Preamble {
        record_len: len(record),
        head_len: len(head),
    };
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&preamble.encode())?;
    file.write_all(record)?;
    file.write_all(head)?;
    frames.seek(SeekFrom::Start(0))?;
    std::io::copy(&mut frames, &mut file)?;
    let file = file.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// The head of a pack, and its frames in a file.
struct Encoded {
    head: UpdateHead,
    frames: File,
}

/// The part of a report that `head` and the revisions determine.
fn counts(head: &UpdateHead, old: &End, new: &End) -> Made {
    let hot = head.units.iter().take(head.hot_count as usize);
    let made = head.units.iter().flat_map(|unit| &unit.made);
    let made: HashSet<Digest> = made.map(|made| made.digest).collect();
    let (inside, left_out): (Vec<Chunk>, Vec<Chunk>) =
        missing(old, new).partition(|chunk| made.contains(&chunk.digest));
    Made {
        plain_bytes: plain_len(old, new),
        index_bytes: head.index_len(),
        hot_bytes: hot.map(|unit| u64::from(unit.stored_len)).sum(),
        chunks: inside.len() as u64,
        raw_bytes: inside.iter().map(|chunk| u64::from(chunk.raw_len)).sum(),
        chunks_left_out: left_out.len() as u64,
        left_out_bytes: left_out.iter().map(|it| u64::from(it.stored_len)).sum(),
        ..Made::default()
    }
}

/// The chunks of `new` that `old` lacks, each once.
fn missing<'e>(old: &End, new: &'e End) -> impl Iterator<Item = Chunk> + 'e {
    let mut have = old.digests();
    new.index
        .chunks()
        .filter(move |chunk| have.insert(chunk.digest))
}

/// The number of bytes that a client of `old` fetches for `new` without a pack: the index and every
/// new chunk.
fn plain_len(old: &End, new: &End) -> u64 {
    let chunks: u64 = missing(old, new)
        .map(|chunk| u64::from(chunk.stored_len))
        .sum();
    chunks + new.reference.head_len
}

/// An encoded unit.
struct Done {
    unit: Unit,
    frame: Vec<u8>,
}

/// Encodes `drafts`, and puts their units and those of `reused` together.
fn encode(
    (old, new): (&End, &End),
    reused: &[ReusedUnit],
    drafts: &[UnitDraft],
    path: &Path,
) -> Result<Encoded> {
    let mut frames = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    let index = encode_index(&old.index, &new.index, IndexEffort::Small)?;
    if let Some((_, stored)) = &index {
        frames.write_all(stored)?;
    }
    let mut encoded = Encoded {
        head: UpdateHead {
            from: old.reference.digest,
            to: new.reference.digest,
            index: index.map(|(frame, _)| frame),
            hot_count: 0,
            units: Vec::new(),
        },
        frames,
    };
    let done = encode_all(old, new, drafts)?;
    let done = drafts.iter().zip(done).filter_map(|(draft, done)| {
        let done = done?;
        Some((draft.hot, MadeUnit::Done(done)))
    });
    let reused = reused.iter().map(|unit| (unit.hot, MadeUnit::Reused(unit)));
    let mut units: Vec<(Option<HotPlace>, MadeUnit<'_>)> = reused.chain(done).collect();
    // In the order of a boot; the others in the order in which they were planned.
    units.sort_by_key(|(hot, _)| (hot.is_none(), *hot));
    for (hot, unit) in units {
        let (unit, frame) = unit.parts()?;
        encoded.add(unit, &frame, hot.is_some())?;
    }
    Ok(encoded)
}

/// A unit for a pack.
enum MadeUnit<'u> {
    Reused(&'u ReusedUnit),
    Done(Done),
}

impl MadeUnit<'_> {
    fn parts(self) -> Result<(Unit, Vec<u8>)> {
        match self {
            MadeUnit::Reused(reused) => Ok((reused.unit.clone(), reused.frame()?)),
            MadeUnit::Done(done) => Ok((done.unit, done.frame)),
        }
    }
}

impl Encoded {
    fn add(&mut self, unit: Unit, frame: &[u8], is_hot: bool) -> Result<()> {
        self.frames.write_all(frame)?;
        self.head.hot_count += u32::from(is_hot);
        self.head.units.push(unit);
        Ok(())
    }
}

/// Encodes all drafts in parallel; `None` where the plain chunks are smaller.
fn encode_all(old: &End, new: &End, drafts: &[UnitDraft]) -> Result<Vec<Option<Done>>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(drafts.len()));
    let trials = Trials::default();
    let lock = || {
        done.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    let worker = || -> Result<()> {
        let (mut before, mut after) = (old.decoder(), new.decoder());
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(draft) = drafts.get(at) else {
                return Ok(());
            };
            let unit = encode_one(draft, new, (&mut before, &mut after), &trials)?;
            lock().push((at, unit));
        }
    };
    let count = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let workers = (0..count.min(ENCODERS_MAX)).map(|_| scope.spawn(worker));
        let workers: Vec<_> = workers.collect();
        let lost = |_| {
            Err(UpdateError::Pair(String::from(
                "encoding the update pack failed",
            )))
        };
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(lost))
    })?;
    let mut done = done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, unit)| unit).collect())
}

fn encode_one(
    draft: &UnitDraft,
    new: &End,
    (before, after): (&mut Decoder<'_>, &mut Decoder<'_>),
    trials: &Trials,
) -> Result<Option<Done>> {
    let (mut raws, mut made, mut plain_len) = (Vec::new(), Vec::new(), 0);
    for row in &draft.chunks {
        let bytes = after.raw(*row)?;
        let chunk = new.index.chunk(*row);
        made.push(MadeChunk {
            digest: chunk.map_or_else(Digest::default, |chunk| chunk.digest),
            raw_digest: Digest::of(&bytes),
        });
        raws.push(bytes);
        plain_len += chunk.map_or(0, |chunk| chunk.stored_len as usize);
    }
    let encoder = UnitEncoder::new(LEVEL);
    let encoded = scripted::encode(draft, &raws, before, trials, encoder)?;
    let frame = encoded.stored;
    if frame.len() >= plain_len {
        return Ok(None);
    }
    Ok(Some(Done {
        unit: Unit {
            stored_len: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            digest: Digest::of(&frame),
            codec: encoded.codec,
            made,
            prefix: encoded.prefix,
        },
        frame,
    }))
}
