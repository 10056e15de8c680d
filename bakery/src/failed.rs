//! An error together with the operation that failed.

use std::error::Error;

/// The operation that failed, and the error of it.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct Failed<E: Error + 'static> {
    /// The operation that failed.
    pub doing: String,
    /// The underlying error.
    pub source: E,
}

/// Names the operation that failed.
pub(crate) trait Doing<T, E: Error + 'static> {
    /// Adds the operation to the error.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failed<E>>;
}

impl<T, E: Error + 'static> Doing<T, E> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failed<E>> {
        self.map_err(|source| Failed {
            doing: what(),
            source,
        })
    }
}
