//! Stores the contents of files while the source is read.

use std::io::{self, Read};

use layerfmt::{Content, ErrorKind, LayerWriter};
use wire::secrets;

use crate::assemble::{AssembleError, Contents};
use crate::limits::MACHINE_FILE_LEN_MAX;
use crate::machine::{self, MachineFiles};
use source::{Data, EntryPath, SourceError};

/// Most warnings listed one by one.
const WARNINGS_MAX: usize = 1000;

/// A layer being written, file by file.
pub(super) struct Stored<'p> {
    writer: LayerWriter,
    progress: &'p dyn Fn(u64),
    is_upload: bool,
    warnings: Vec<String>,
    files: MachineFiles,
}

impl<'p> Stored<'p> {
    /// With `is_upload`, the entries are the changes of one machine.
    pub(super) fn new(writer: LayerWriter, progress: &'p dyn Fn(u64), is_upload: bool) -> Self {
        Stored {
            writer,
            progress,
            is_upload,
            warnings: Vec::new(),
            files: MachineFiles::new(),
        }
    }

    /// The files that were stored and have data of one machine.
    pub(super) fn take_files(&mut self) -> MachineFiles {
        std::mem::take(&mut self.files)
    }

    pub(super) fn finish(self) -> (LayerWriter, Vec<String>) {
        (self.writer, self.warnings)
    }
}

impl Contents for Stored<'_> {
    type Content = Content;

    fn take(
        &mut self,
        source: &str,
        path: &EntryPath,
        data: Data<'_>,
    ) -> Result<Content, AssembleError> {
        let is_read = machine::is_read(path);
        let mut watched = Watched {
            inner: data.reader,
            progress: self.progress,
            failure: None,
            head: Vec::new(),
            head_len: match is_read {
                true => MACHINE_FILE_LEN_MAX,
                false => secrets::HEAD_LEN,
            },
        };
        let added = self
            .writer
            .add_file(data.size, &data.segments, &mut watched);
        if let Some(failure) = watched.failure {
            let problem = match failure.kind() {
                io::ErrorKind::UnexpectedEof => "the archive is truncated inside this file",
                _ => "cannot read this file's data",
            };
            return Err(SourceError::new(source, problem)
                .entry(path)
                .cause(failure)
                .into());
        }
        let head = watched.head;
        let content = added.map_err(|error| AssembleError::Content {
            doing: match error.kind() {
                ErrorKind::Io => "cannot write the layer".to_owned(),
                _ => format!("{source}: entry \"{path}\""),
            },
            source: error,
        })?;
        let start = head.get(..secrets::HEAD_LEN).unwrap_or(&head);
        let suspicion = match self.is_upload {
            true => secrets::suspicion_of_change(path.as_bytes(), start),
            false => secrets::suspicion(path.as_bytes(), start),
        };
        if let Some(why) = suspicion
            && self.warnings.len() < WARNINGS_MAX
        {
            self.warnings.push(format!("{path}: {why}"));
        }
        if is_read {
            self.files.insert(path.as_bytes().into(), head);
        }
        Ok(content)
    }
}

/// A reader that distinguishes its own failures from the writer's, and records the start of the
/// file.
struct Watched<'r> {
    inner: &'r mut dyn Read,
    progress: &'r dyn Fn(u64),
    failure: Option<io::Error>,
    head: Vec<u8>,
    /// Number of bytes at the start that are remembered.
    head_len: usize,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                (self.progress)(count as u64);
                let missing = self.head_len.saturating_sub(self.head.len()).min(count);
                self.head
                    .extend_from_slice(buffer.get(..missing).unwrap_or_default());
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(error);
                Err(kind.into())
            }
        }
    }
}
