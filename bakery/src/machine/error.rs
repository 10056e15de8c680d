//! Errors of removing one machine's data.

use layerfmt::tree::TreeError;

use crate::assemble::AssembleError;
use crate::initrd::InitrdError;
use source::PathError;

/// The reason why a tree cannot become one that many machines boot.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A file cannot be stored.
    #[error(transparent)]
    Content(#[from] AssembleError),
    /// A path that cannot be in a tree.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The tree cannot be read.
    #[error(transparent)]
    Read(#[from] InitrdError),
    /// A name that cannot be in a tree.
    #[error("{0:?} cannot be the name of a file")]
    Name(String),
    /// The tree is too large.
    #[error(transparent)]
    Tree(#[from] TreeError),
}
