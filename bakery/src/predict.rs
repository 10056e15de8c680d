//! Predicts the pages that the first boot of a system reads, from its merged index and small reads
//! of its files: for a boot pack before any boot has sent a trace.
//!
//! A prediction can only make a boot faster or slower, never wrong, so it never fails: a file that
//! is missing, damaged or hostile is skipped. All input is untrusted; [`crate::limits`] has the
//! bounds.

mod boot_files;
mod boot_tree;
mod elf_pages;
mod hwdb;
mod inits;
mod kernel_modules;
mod scripts;
mod settings;
mod systemd;
mod unit_file;
mod units;

use layerfmt::{Digest, Index, StoredChunks};
use wire::trace::BootTrace;

use self::boot_files::BootFiles;
use self::boot_tree::BootTree;

/// The trace that the first boot of a tree is expected to send. `others` are paths that boots of
/// other systems read, in their order.
pub(crate) fn predict(
    index: &Index,
    chunks: &dyn StoredChunks,
    tree: Digest,
    others: &[String],
) -> BootTrace {
    let boot_tree = BootTree::new(index, chunks);
    let mut files = BootFiles::new(&boot_tree);
    inits::add(&mut files);
    for path in others {
        files.any(path);
    }
    BootTrace {
        tree,
        touches: files.into_touches(),
    }
}

#[cfg(test)]
mod tests;
