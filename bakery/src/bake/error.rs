//! Errors of a bake.

use std::io;

use layerfmt::FormatError;
use layerfmt::tree::TreeError;

use crate::assemble::AssembleError;
use crate::failed::Failed;
use crate::machine::MachineError;
use crate::overlay::OverlayError;

/// The reason why no layer can be made from a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BakeError {
    /// The source cannot be read exactly, or does not form a tree.
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
    #[error(transparent)]
    Layer(#[from] Failed<FormatError>),
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] Failed<io::Error>),
}
