//! The histories of a store.

use wire::manifest::ProfileName;
use wire::paths::{Class, ObjectPath};

use super::{History, Result};
use crate::store::Key;

impl History {
    /// Every history of the store that has not been removed, in name order.
    ///
    /// # Errors
    /// When the store cannot list.
    pub fn names(&self) -> Result<Vec<ProfileName>> {
        let mut open = Vec::new();
        for name in self.all_names()? {
            if !self.is_removed(&name)? {
                open.push(name);
            }
        }
        Ok(open)
    }

    /// Every history of the store, the removed ones too.
    ///
    /// # Errors
    /// When the store cannot list.
    pub(crate) fn all_names(&self) -> Result<Vec<ProfileName>> {
        let mut names: Vec<ProfileName> = Vec::new();
        for entry in self.store.list(Class::Head.directory())? {
            let Some(ObjectPath::Head(name, _)) = entry.key.object() else {
                continue;
            };
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// True if a history was closed by `profile remove`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn is_removed(&self, name: &ProfileName) -> Result<bool> {
        Ok(self.store.len(&Key::removed(name))?.is_some())
    }
}
