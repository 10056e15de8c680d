//! Errors of a bake.

use std::io;

use layerfmt::FormatError;
use layerfmt::tree::TreeError;

use crate::assemble::AssembleError;
use crate::machine::MachineError;
use crate::overlay::OverlayError;

/// The reason why a source does not become a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BakeError {
    /// The source cannot be read exactly, or does not make a tree.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The data of one machine cannot be removed.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The changes do not fit the base.
    #[error("cannot apply {name} to its base")]
    Overlay {
        /// Name of the source.
        name: String,
        /// The underlying error.
        source: OverlayError,
    },
    /// The tree of the layer cannot be made.
    #[error("cannot apply {name} to its base")]
    Tree {
        /// Name of the source.
        name: String,
        /// The underlying error.
        source: TreeError,
    },
    /// The base or the layer is damaged or cannot be written.
    #[error("{doing}")]
    Layer {
        /// The operation that failed.
        doing: String,
        /// The underlying error.
        source: FormatError,
    },
    /// A file cannot be read or written.
    #[error("{doing}")]
    Io {
        /// The operation that failed.
        doing: String,
        /// The underlying error.
        source: io::Error,
    },
}

/// Names the operation that failed.
pub(super) trait BakeContext<T> {
    /// Converts to a [`BakeError`] that names the failed operation.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, BakeError>;
}

impl<T> BakeContext<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, BakeError> {
        self.map_err(|source| BakeError::Io {
            doing: what(),
            source,
        })
    }
}

impl<T> BakeContext<T> for Result<T, FormatError> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, BakeError> {
        self.map_err(|source| BakeError::Layer {
            doing: what(),
            source,
        })
    }
}
