//! Statements of `docs/SEMANTICS.md` that need a kernel, a mount or programs: S4.2 is `s4_2_…`. The others are in
//! `tests/semantics`.

mod attacks;
mod attributes;
mod changes;
mod crowds;
mod descriptors;
mod errors;
mod generic;
mod handles;
mod listings;
mod mounting;
mod numbers;
mod races;
mod refusals;
mod rights;
mod stacked;

use std::path::{Path, PathBuf};

use crate::harness::mount::{Bench, Mount};
use crate::harness::programs::bake;

/// A mount over one layer, with an upper.
pub(crate) struct Fixture {
    pub(crate) mount: Mount,
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) layer: PathBuf,
    pub(crate) bench: Bench,
}

impl Fixture {
    /// `fill` makes the lower tree.
    pub(crate) fn new(fill: impl FnOnce(&Path)) -> Fixture {
        Fixture::with(fill, "")
    }

    /// With further mount options.
    pub(crate) fn with(fill: impl FnOnce(&Path), options: &str) -> Fixture {
        let bench = Bench::new();
        let lower = bench.dir("lower");
        fill(&lower);
        let layer = bench.path("base.layer");
        bake(&lower, &layer);
        let (upper, work, at) = (bench.dir("u"), bench.dir("w"), bench.dir("m"));
        let log = bench.path("log");
        let options = format!(
            "lowerdir={},upperdir={},workdir={},log={}{}{options}",
            layer.display(),
            upper.display(),
            work.display(),
            log.display(),
            if options.is_empty() { "" } else { "," },
        );
        Fixture {
            mount: Mount::with_options(&at, options),
            upper,
            work,
            layer,
            bench,
        }
    }

    /// A path in the mount.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.mount.at.join(path)
    }

    /// Names left in the work directory.
    pub(crate) fn leftovers(&self) -> usize {
        std::fs::read_dir(self.work.join("work"))
            .expect("work directory")
            .count()
    }
}

/// Incompressible bytes.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| ((i * i) >> 3) as u8 ^ (i >> 11) as u8)
        .collect()
}

/// The value of an attribute, if there.
pub(crate) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let len = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value)
}

/// Set an attribute.
pub(crate) fn set_xattr(path: &Path, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty())
}
