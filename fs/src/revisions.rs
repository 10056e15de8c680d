//! The other revisions of a mounted system, to which a running mount can switch.

use layerfmt::Index;

use crate::lower::LowerParts;

/// The reason why a revision cannot be used, in words.
pub(crate) type Refusal = String;

/// Where other revisions come from.
pub trait Revisions: Send + Sync + std::fmt::Debug {
    /// Finds a revision: `[SYSTEM[/PROFILE]][@REV]`, the newest without a number, and the mounted
    /// system without a name. Waits for a server for a limited time.
    ///
    /// # Errors
    /// No server has a valid revision of this name.
    fn find(&self, wanted: &str) -> Result<Box<dyn FoundRevision>, Refusal>;

    /// The name of the mounted revision: `SYSTEM/PROFILE@REV`.
    fn mounted(&self) -> String;
}

/// A revision whose records are here and verified.
pub trait FoundRevision: Send + std::fmt::Debug {
    /// Its name: `SYSTEM/PROFILE@REV`.
    fn name(&self) -> String;

    /// Which of kernel, initramfs and kernel parameters differ from those that the mount began with:
    /// they take effect with the next start.
    fn boot_differences(&self) -> Vec<&'static str>;

    /// Fetches its index.
    ///
    /// # Errors
    /// No server has it.
    fn open(self: Box<Self>) -> Result<Box<dyn Revision>, Refusal>;
}

/// A revision, verified and ready to be mounted.
pub trait Revision: Send + std::fmt::Debug {
    /// Its index.
    fn index(&self) -> &Index;

    /// The digest of its index.
    fn digest(&self) -> [u8; 32];

    /// The mounted revision by its layers, if it is mounted by an index with a boot pack.
    fn base(&self) -> Option<&Index>;

    /// The parts of the lower, for `index`, which also has chunks of earlier revisions.
    fn parts(&self, index: &Index) -> LowerParts;

    /// It is mounted now: the next start needs its records.
    fn mounted(self: Box<Self>);
}
