//! Files that stay open over a switch to another revision.

use super::Session;
use super::files::{Files as _, Open};

const REGULAR: u32 = 0o100_000;
const TYPE: u32 = 0o170_000;

/// A file that is open.
pub(crate) struct Kept<'s, S: Session> {
    file: Open<'s, S>,
    path: String,
}

impl<'s, S: Session> Kept<'s, S> {
    /// Opens `path` if it is a file that can be read.
    pub(crate) fn open(session: &'s S, path: &str) -> Option<Self> {
        let about = session.about(path).ok()?;
        let is_file = about.mode & TYPE == REGULAR;
        let file = is_file.then(|| session.open_read(path).ok())??;
        Some(Kept {
            file,
            path: path.to_owned(),
        })
    }

    /// All bytes of the file.
    pub(crate) fn content(&self) -> Vec<u8> {
        self.file.read(0, usize::MAX).unwrap()
    }

    /// Checks that the file has its content of before a switch. `follows`: a file of the upper whose data
    /// is in the lower shows the data of the other revision while it has a name.
    pub(crate) fn assert_content(&self, before: &[u8], follows: bool) {
        let is_named = self.file.stat().unwrap().nlink > 0;
        let is_same = self.content() == before;
        assert!(
            is_same || (follows && is_named),
            "{} has other content",
            self.path
        );
    }
}
