//! Statements of `docs/SEMANTICS.md` that need no kernel: S4.2 is `s4_2_…`. Each test runs on a mount (`tests/suite.rs`, root)
//! and in the process (`fs/tests/direct`, any user). The other statements are in `tests/kernel`.

mod attributes;
mod changes;
pub(crate) mod crowds;
mod errors;
mod listings;
mod names;
mod races;
mod rights;

use std::path::{Path, PathBuf};

pub(crate) use crate::session::files::Files;
pub(crate) use crate::session::{Attached, Attr, Errno, Object, Parts, User, mark};
pub(crate) use crate::transport::MODES;
use crate::transport::{self, Room};

/// A session over one layer, with an upper.
pub(crate) struct Fixture {
    pub(crate) fs: Box<dyn Attached>,
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) layer: PathBuf,
    pub(crate) room: Room,
}

impl Fixture {
    /// `fill` makes the lower tree.
    pub(crate) fn new(fill: impl FnOnce(&Path)) -> Fixture {
        Fixture::with(fill, "")
    }

    /// With further options.
    pub(crate) fn with(fill: impl FnOnce(&Path), options: &str) -> Fixture {
        let room = Room::new();
        let lower = room.dir("lower");
        fill(&lower);
        let layer = room.path("base.layer");
        transport::bake(&lower, &layer);
        let (upper, work) = (room.dir("u"), room.dir("w"));
        let parts = Parts {
            layers: vec![layer.clone()],
            upper: Some((upper.clone(), work.clone())),
            options: options.to_owned(),
        };
        Fixture {
            fs: transport::begin(&room, parts).unwrap(),
            upper,
            work,
            layer,
            room,
        }
    }

    /// The session ends and begins again.
    pub(crate) fn again(&self) {
        self.fs.detach();
        self.fs.attach();
    }

    /// Another session in the same room.
    pub(crate) fn other(
        &self,
        layer: &Path,
        upper: Option<(&Path, &Path)>,
        options: &str,
    ) -> Result<Box<dyn Attached>, String> {
        let parts = Parts {
            layers: vec![layer.to_owned()],
            upper: upper.map(|(upper, work)| (upper.to_owned(), work.to_owned())),
            options: options.to_owned(),
        };
        transport::begin(&self.room, parts)
    }

    /// Names left in the work directory.
    pub(crate) fn leftovers(&self) -> usize {
        std::fs::read_dir(self.work.join("work")).unwrap().count()
    }

    /// The value of one of our own attributes in the upper.
    pub(crate) fn marked(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        xattr(&self.upper.join(path), &mark(name))
    }
}

/// An attribute of users, where the file system has them.
pub(crate) fn attribute() -> &'static str {
    transport::attribute_name("user.x", "trusted.x")
}

/// Bytes that do not compress to nothing.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| ((i * i) >> 3) as u8 ^ (i >> 11) as u8)
        .collect()
}

/// The value of an attribute of a file of the machine.
pub(crate) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let len = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value)
}

/// Set an attribute of a file of the machine.
pub(crate) fn set_xattr(path: &Path, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty())
}

/// A test that root alone can run says so and ends.
pub(crate) fn lacks_root(statement: &str) -> bool {
    let lacks = !crate::session::is_root();
    if lacks {
        println!("needs root: {statement}");
    }
    lacks
}

/// An ordinary user: another one than root, or the one of this process.
pub(crate) fn ordinary(umask: u32) -> User {
    let own = (rustix::process::geteuid(), rustix::process::getegid());
    let (uid, gid) = match own.0.is_root() {
        true => (4242, 4243),
        false => (own.0.as_raw(), own.1.as_raw()),
    };
    User {
        uid,
        gid,
        groups: Vec::new(),
        umask,
    }
}
