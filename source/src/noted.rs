//! A source with a note on the choice of it.

use super::{Entry, Source, SourceError};

/// A source that reports a note besides its own.
pub(crate) struct NotedSource {
    pub(crate) source: Box<dyn Source>,
    pub(crate) note: Option<String>,
}

impl Source for NotedSource {
    fn next_entry(&mut self) -> Result<Option<Entry<'_>>, SourceError> {
        self.source.next_entry()
    }

    fn name(&self) -> &str {
        self.source.name()
    }

    fn left_out(&mut self) -> bool {
        self.source.left_out()
    }

    fn notes(&mut self) -> Vec<String> {
        let mut notes: Vec<String> = self.note.take().into_iter().collect();
        notes.extend(self.source.notes());
        notes
    }
}
