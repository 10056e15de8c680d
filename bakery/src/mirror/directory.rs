//! An origin that is a directory with the layout of a store.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use wire::manifest::ProfileName;
use wire::paths::{Class, ObjectPath};

use super::{MirrorError, MirrorOrigin, Result, file_error};

/// Bytes read at a time.
const STEP_LEN: u64 = 1 << 20;

/// A directory with the layout of a store.
#[derive(Debug)]
pub(crate) struct DirectoryOrigin {
    root: PathBuf,
    name: String,
}

impl DirectoryOrigin {
    pub(crate) fn new(root: PathBuf, name: String) -> DirectoryOrigin {
        DirectoryOrigin { root, name }
    }

    fn open(&self, path: &ObjectPath) -> Result<Option<File>> {
        let place = self.root.join(path.to_string());
        match File::open(&place) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file_error(&place)(error)),
        }
    }

    fn failed(&self, path: &ObjectPath, error: &io::Error) -> MirrorError {
        MirrorError::Origin {
            origin: self.name.clone(),
            what: format!("{path}: {error}"),
        }
    }
}

impl MirrorOrigin for DirectoryOrigin {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn profiles(&mut self) -> Result<Option<Vec<ProfileName>>> {
        let heads = self.root.join(Class::Head.directory());
        let mut found = Vec::new();
        for system in names(&heads)? {
            for profile in names(&heads.join(&system))? {
                found.push(ProfileName::new(&system, &profile)?);
            }
        }
        Ok(Some(found))
    }

    fn read(&mut self, path: &ObjectPath, len_max: usize) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(len_max as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.failed(path, &error))?;
        if bytes.len() > len_max {
            return Err(self.failed(path, &io::Error::other("it is too long")));
        }
        Ok(Some(bytes))
    }

    fn range(
        &mut self,
        path: &ObjectPath,
        range: Range<u64>,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<bool> {
        let Some(file) = self.open(path)? else {
            return Ok(false);
        };
        let mut at = range.start;
        while at < range.end {
            let len = STEP_LEN.min(range.end - at);
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            file.read_exact_at(&mut bytes, at)
                .and_then(|()| sink(&bytes))
                .map_err(|error| self.failed(path, &error))?;
            at += len;
        }
        Ok(true)
    }

    fn is_local(&self) -> bool {
        true
    }

    fn len(&mut self, path: &ObjectPath) -> Result<Option<u64>> {
        let Some(file) = self.open(path)? else {
            return Ok(None);
        };
        let metadata = file.metadata();
        let metadata = metadata.map_err(|error| self.failed(path, &error))?;
        Ok(Some(metadata.len()))
    }
}

/// The names in a directory, in order; none if it does not exist.
fn names(place: &std::path::Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(file_error(place))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(file_error(place))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}
