//! Incomplete objects: files that survive a stop and are continued later.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use wire::paths::{Class, ObjectPath};

use super::object::layer;
use super::update::Updates;
use super::{MirrorOrigin, Mirrored, Result, file_error, key_of, parts_directory};
use crate::replica;
use crate::store::Store;

/// The files of a store that are not complete yet.
#[derive(Debug)]
pub(super) struct PartialObjects {
    directory: PathBuf,
}

impl PartialObjects {
    pub(super) fn of(store: &Store) -> Result<PartialObjects> {
        Ok(PartialObjects {
            directory: parts_directory(store)?,
        })
    }

    /// The file of an object that is not complete yet.
    pub(super) fn place(&self, path: &ObjectPath) -> PathBuf {
        self.directory.join(path.to_string().replace('/', "_"))
    }

    /// Brings one object of `len` bytes into the store; false if the origin does not have it.
    pub(super) fn bring(
        &self,
        origin: &mut dyn MirrorOrigin,
        store: &Store,
        (path, len): (&ObjectPath, u64),
        updates: &mut Updates,
        mirrored: &mut Mirrored,
    ) -> Result<bool> {
        let place = self.place(path);
        let found = match path.class() {
            Class::Layer | Class::Pack => layer(origin, (path, len), &place, updates)?,
            _ => in_order(origin, (path, len), &place)?,
        };
        if !found {
            return Ok(false);
        }
        let key = key_of(path);
        if let Err(what) = replica::verify_object(&key, &place) {
            // The next round begins it again from the start.
            std::fs::remove_file(&place).map_err(file_error(&place))?;
            return Err(super::MirrorError::Damaged {
                origin: origin.name(),
                path: path.to_string(),
                what,
            });
        }
        // An object of another length remained after the disk was full.
        if store.len(&key)?.is_some() {
            store.delete(&key)?;
        }
        store.put_file(&key, &place)?;
        std::fs::remove_file(&place).map_err(file_error(&place))?;
        mirrored.objects += 1;
        mirrored.bytes += len;
        Ok(true)
    }
}

/// Opens the file of an incomplete object.
pub(super) fn open(place: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(place)
        .map_err(file_error(place))
}

/// Fetches an object from its first byte to its last; continues where the file ends.
pub(super) fn in_order(
    origin: &mut dyn MirrorOrigin,
    (path, len): (&ObjectPath, u64),
    place: &Path,
) -> Result<bool> {
    let mut file = open(place)?;
    let failed = file_error(place);
    let there = file.metadata().and_then(|metadata| {
        let there = metadata.len();
        if there > len {
            file.set_len(0)?;
        }
        Ok(if there > len { 0 } else { there })
    });
    let there = there.map_err(failed)?;
    file.seek(SeekFrom::Start(there))
        .map_err(file_error(place))?;
    let found =
        there == len || origin.range(path, there..len, &mut |bytes| file.write_all(bytes))?;
    Ok(found)
}
