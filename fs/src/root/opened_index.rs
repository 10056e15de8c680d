//! The index of a revision, as it was fetched for a switch.

use std::sync::Arc;

use layerfmt::{Index, Layer};

use crate::chunks::update::MadeIndex;

/// An index that was fetched.
#[derive(Debug)]
pub(super) struct OpenedIndex {
    pub(super) index: Arc<Index>,
    /// The fetched file.
    pub(super) whole: Option<Layer>,
    /// The index delta that made it.
    pub(super) made: Option<MadeIndex>,
}

impl OpenedIndex {
    /// From the whole file.
    pub(super) fn whole(layer: Layer) -> OpenedIndex {
        OpenedIndex {
            index: Arc::clone(layer.index()),
            whole: Some(layer),
            made: None,
        }
    }

    /// From an index delta.
    pub(super) fn made(made: MadeIndex) -> OpenedIndex {
        OpenedIndex {
            index: Arc::clone(&made.index),
            whole: None,
            made: Some(made),
        }
    }
}
