//! A source with notes on the choice of it.

use super::{Entry, Source, SourceError};

/// A source that reports notes before its own.
pub(crate) struct NotedSource {
    pub(crate) source: Box<dyn Source>,
    pub(crate) notes: Vec<String>,
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
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.source.notes());
        notes
    }
}
