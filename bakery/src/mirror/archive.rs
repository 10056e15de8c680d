//! Histories as one file, for a site without a network connection: a tar archive with the layout of a store.
//!
//! The archive is read like a server: unpacked, then followed as any other origin, so nothing in
//! it is trusted.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;

use layerfmt::tree::Time;
use serde::Serialize;
use wire::manifest::ProfileName;
use wire::paths::{Class, ObjectPath};
use wire::tar::header::{BLOCK_LEN, Header};
use wire::tar::sparse::{LeadingMap, Segments, SparseRecords, checked};
use wire::tar::stream::Stream;
use wire::tar::{Archive, ArchiveEntry, ArchiveKind, records};

use super::delta::Delta;
use super::{MirrorError, Result, file_error, merged};
use crate::history::{History, HistoryError, objects};
use crate::limits;
use crate::store::{Key, Store};
use crate::update_pack::leading_to;

/// Kinds of tar headers: a regular file, and records about the next entry.
const FILE: u8 = b'0';
const RECORDS: u8 = b'x';

/// The result of an export.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Exported {
    /// Revisions in the archive, with their objects.
    pub revisions: u64,
    /// Objects in the archive.
    pub objects: u64,
    /// Length of the archive, bytes.
    pub bytes: u64,
}

/// The revisions that the reader of an export lacks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ExportedPart {
    /// The reader has this revision, so the objects of it and of earlier ones are left out; 0: it has
    /// none.
    pub since: u64,
    /// Chunks that the update pack from `since` makes, and indexes that follow from the layers, are
    /// left out too. The reader must make exactly the same bytes.
    pub is_delta: bool,
}

/// Writes histories with all that they need to `out`.
///
/// # Errors
/// A history cannot be read, the update pack of a delta does not exist, or the archive cannot be
/// written.
pub(crate) fn export(
    history: &History,
    names: &[ProfileName],
    wanted: ExportedPart,
    out: &Path,
) -> Result<Exported> {
    let file = File::create(out).map_err(file_error(out))?;
    let mut writer = Writer {
        store: history.store(),
        archive: Archive::new(BufWriter::new(file)),
        place: out,
        seen: BTreeSet::new(),
        exported: Exported::default(),
    };
    for version in 1..=history.keyset().version {
        writer.add(&Key::keyset(version))?;
    }
    for name in names {
        writer.history(history, name, wanted)?;
    }
    let Writer {
        archive,
        mut exported,
        ..
    } = writer;
    let file = archive.finish().map_err(file_error(out))?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error);
    let file = file.map_err(file_error(out))?;
    file.sync_all().map_err(file_error(out))?;
    exported.bytes = file.metadata().map_err(file_error(out))?.len();
    Ok(exported)
}

struct Writer<'w> {
    store: &'w Store,
    archive: Archive<BufWriter<File>>,
    place: &'w Path,
    seen: BTreeSet<Key>,
    exported: Exported,
}

impl Writer<'_> {
    fn history(
        &mut self,
        history: &History,
        name: &ProfileName,
        wanted: ExportedPart,
    ) -> Result<()> {
        let since = wanted.since;
        let mut revisions = history.log(name, usize::MAX)?;
        revisions.reverse();
        let newest = revisions.last().map_or(0, |revision| revision.number());
        if since >= newest && since > 0 {
            let wanted = format!("{name}@{since}");
            return Err(HistoryError::NoRevision { wanted, newest }.into());
        }
        let (old, new): (Vec<_>, Vec<_>) = revisions.iter().partition(|it| it.number() <= since);
        let known: BTreeSet<Key> = old
            .iter()
            .filter(|revision| revision.number() == since)
            .flat_map(|revision| objects(&revision.manifest).map(|(key, _)| key))
            .collect();
        let mut delta = match wanted.is_delta {
            true => Some(Delta::of(history, name, (since, newest))?),
            false => None,
        };
        for revision in &new {
            let made = delta
                .as_ref()
                .map(|_| merged::indexes(history, &revision.manifest));
            let made = made.unwrap_or_default();
            let swept = Key::swept(name, revision.number());
            if self.store.len(&swept)?.is_some() {
                self.add(&swept)?;
            }
            for (key, _) in objects(&revision.manifest) {
                let is_made = || key.digest().is_some_and(|it| made.contains_key(&it));
                if known.contains(&key) || self.store.len(&key)?.is_none() || is_made() {
                    continue;
                }
                match delta
                    .as_mut()
                    .and_then(|delta| delta.ranges(self.store, &key))
                {
                    Some(ranges) => self.add_ranges(&key, Some(&ranges))?,
                    None => self.add(&key)?,
                }
            }
            self.exported.revisions += 1;
        }
        if since > 0 {
            for offer in leading_to(self.store, name, newest)? {
                if offer.record.from.revision == since {
                    self.add(&offer.key)?;
                }
            }
        }
        let pairs = revisions.iter().zip(revisions.iter().skip(1));
        for (before, after) in pairs.filter(|(_, after)| after.number() > since) {
            let to = after.manifest.by_layers().digest;
            for from in [
                before.manifest.by_layers().digest,
                after.manifest.index.digest,
            ] {
                let key = Key::delta(&to, &from);
                if self.store.len(&key)?.is_some() {
                    self.add(&key)?;
                }
            }
        }
        for revision in &revisions {
            self.add(&Key::manifest(&revision.head.manifest.digest))?;
            self.add(&Key::head(name, revision.number()))?;
        }
        for record in history.ring_log(name)?.iter().rev() {
            self.add(&Key::ring(name, record.number))?;
        }
        self.add(&Key::hint(name))
    }

    fn add(&mut self, key: &Key) -> Result<()> {
        self.add_ranges(key, None)
    }

    /// Adds an object, or only these ranges of it.
    fn add_ranges(&mut self, key: &Key, ranges: Option<&[Range<u64>]>) -> Result<()> {
        if !self.seen.insert(key.clone()) {
            return Ok(());
        }
        let place = self.store.file(key)?;
        let mut file = File::open(&place).map_err(file_error(&place))?;
        let len = file.metadata().map_err(file_error(&place))?.len();
        let data = ranges.map_or_else(|| vec![Range { start: 0, end: len }], <[_]>::to_vec);
        let entry = ArchiveEntry {
            path: key.as_str().as_bytes(),
            kind: ArchiveKind::File(len, ranges),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time { sec: 0, nsec: 0 },
            xattrs: &[],
        };
        let written = self.archive.append_with(&entry, |out, _| {
            for range in data {
                file.seek(SeekFrom::Start(range.start))?;
                io::copy(&mut (&mut file).take(range.end - range.start), out)?;
            }
            Ok(())
        });
        written.map_err(file_error(self.place))?;
        self.exported.objects += 1;
        Ok(())
    }
}

/// Unpacks an archive that [`export`] wrote to the directory `to`. Only names of the layout are
/// taken.
///
/// # Errors
/// The archive cannot be read, or is not one of these.
pub(crate) fn unpack(archive: &Path, to: &Path) -> Result<()> {
    let input = File::open(archive).map_err(file_error(archive))?;
    let mut stream = Stream::new(BufReader::new(input), limits::EXPORT_LEN_MAX);
    let wrong = |what: String| MirrorError::Origin {
        origin: archive.display().to_string(),
        what,
    };
    let (mut count, mut next) = (0, Next::default());
    while let Some(block) = stream.block_or_end().map_err(file_error(archive))? {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let header = Header::parse(&block).map_err(|error| wrong(error.to_string()))?;
        let len = header.size().map_err(|error| wrong(error.to_string()))?;
        if header.kind() == RECORDS && len <= limits::EXPORT_RECORDS_LEN_MAX {
            stream.open(len);
            let mut data = Vec::new();
            stream
                .by_ref()
                .take(len)
                .read_to_end(&mut data)
                .map_err(file_error(archive))?;
            stream.skip().map_err(file_error(archive))?;
            next = Next::of(&data).map_err(wrong)?;
            continue;
        }
        let Next {
            path,
            len: long,
            sparse,
        } = std::mem::take(&mut next);
        let len = long.unwrap_or(len);
        let path = sparse.name.or(path).unwrap_or_else(|| header.path());
        let path = String::from_utf8(path).unwrap_or_default();
        let object = ObjectPath::parse(&path)
            .filter(|object| header.kind() == FILE && is_carried(object.class()));
        let object = object.ok_or_else(|| {
            wrong(format!(
                "'{path}' is not an object of an export: write one with `bakery export`"
            ))
        })?;
        let place = to.join(object.to_string());
        let directory = place.parent().unwrap_or(to);
        std::fs::create_dir_all(directory).map_err(file_error(directory))?;
        stream.open(len);
        let mut file = File::create(&place).map_err(file_error(&place))?;
        let (size, segments) = match sparse.size {
            Some(size) => (size, segments(&mut stream, size, len).map_err(wrong)?),
            None => (len, vec![(0, len)]),
        };
        file.set_len(size).map_err(file_error(&place))?;
        for (offset, len) in segments {
            file.seek(SeekFrom::Start(offset))
                .map_err(file_error(&place))?;
            let copied = io::copy(&mut stream.by_ref().take(len), &mut file);
            if copied.map_err(file_error(archive))? != len {
                return Err(wrong("the archive ends early".into()));
            }
        }
        stream.skip().map_err(file_error(archive))?;
        count += 1;
    }
    if count == 0 {
        return Err(wrong("the archive is empty".into()));
    }
    Ok(())
}

/// The map before the data of a sparse file of `size` bytes, whose entry has `len` bytes.
fn segments(
    stream: &mut Stream<BufReader<File>>,
    size: u64,
    len: u64,
) -> std::result::Result<Segments, String> {
    let (mut map, mut map_len) = (LeadingMap::default(), 0);
    loop {
        let mut block = [0; BLOCK_LEN];
        map_len += BLOCK_LEN as u64;
        let read = stream.read_exact(&mut block);
        read.map_err(|error| format!("a sparse map: {error}"))?;
        if map.feed(&block)? {
            return checked(&map.segments(), size, len.saturating_sub(map_len));
        }
    }
}

/// Fields of the next entry that do not fit into its header.
#[derive(Default)]
struct Next {
    path: Option<Vec<u8>>,
    len: Option<u64>,
    /// Of a layer in a delta: its true name and length.
    sparse: SparseRecords,
}

impl Next {
    fn of(mut data: &[u8]) -> std::result::Result<Next, String> {
        let mut next = Next::default();
        while !data.is_empty() {
            let (key, value, rest) = records::record(data)?;
            match key {
                b"path" => next.path = records::text(value)?,
                b"size" => next.len = records::natural(value)?,
                b"GNU.sparse.name" => next.sparse.name = records::text(value)?,
                b"GNU.sparse.realsize" => next.sparse.size = records::natural(value)?,
                _ => {}
            }
            data = rest;
        }
        Ok(next)
    }
}

/// True for the classes that an export holds.
fn is_carried(class: Class) -> bool {
    Class::CONTENT.contains(&class)
        || matches!(
            class,
            Class::Keyset
                | Class::Head
                | Class::Ring
                | Class::Update
                | Class::Delta
                | Class::Hint
                | Class::Swept
        )
}
