//! ACLs that name users and groups: their numbers are known only after the whole archive was read.

use std::io::Read;

use layerfmt::tree::{Metadata, NodeId};

use super::{AssembleError, Assembler};
use crate::limits::WAITING_ACLS_MAX;
use source::accounts::Accounts;
use source::limits::ACCOUNTS_LEN_MAX;
use source::{EntryPath, SourceError, acl};

/// ACLs by name that wait for their numbers, and the files that hold the names.
#[derive(Debug, Default)]
pub(super) struct Lists {
    waiting: Vec<(NodeId, EntryPath, Vec<acl::NamedAcl>)>,
    passwd: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
}

impl Lists {
    /// Copies the content if `path` is one of the files with names.
    pub(super) fn listen<'r>(
        &'r mut self,
        path: &EntryPath,
        reader: &'r mut dyn Read,
    ) -> Listening<'r> {
        let heard = match path.as_bytes() {
            b"etc/passwd" => Some(self.passwd.insert(Vec::new())),
            b"etc/group" => Some(self.group.insert(Vec::new())),
            _ => None,
        };
        Listening { reader, heard }
    }
}

/// A reader that records its bytes.
pub(super) struct Listening<'r> {
    reader: &'r mut dyn Read,
    heard: Option<&'r mut Vec<u8>>,
}

impl Read for Listening<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if let Some(heard) = &mut self.heard {
            let room = ACCOUNTS_LEN_MAX.saturating_sub(heard.len()).min(count);
            heard.extend_from_slice(buffer.get(..room).unwrap_or_default());
        }
        Ok(count)
    }
}

impl<C> Assembler<'_, C> {
    /// Records the ACLs of an object that was added to the tree.
    pub(super) fn lists_wait(
        &mut self,
        id: NodeId,
        path: EntryPath,
        named: Vec<acl::NamedAcl>,
    ) -> Result<(), SourceError> {
        if named.is_empty() {
            return Ok(());
        }
        if self.lists.waiting.len() >= WAITING_ACLS_MAX {
            let problem = "too many ACLs with names; pack with bsdtar, which writes numbers";
            return Err(self.wrong(&path, problem));
        }
        self.lists.waiting.push((id, path, named));
        Ok(())
    }

    /// Gives every ACL its numbers: from the archive's own files, else from those of `below`.
    pub(super) fn name_lists(
        &mut self,
        below: &dyn Fn() -> Result<Accounts, AssembleError>,
    ) -> Result<(), AssembleError> {
        let lists = std::mem::take(&mut self.lists);
        if lists.waiting.is_empty() {
            return Ok(());
        }
        let own = Accounts::read(
            lists.passwd.as_deref().unwrap_or_default(),
            lists.group.as_deref().unwrap_or_default(),
        );
        let (users, groups) = (lists.passwd.is_some(), lists.group.is_some());
        let below = match users && groups {
            true => Accounts::default(),
            false => below()?,
        };
        let accounts = below.under(own, users, groups);
        for (id, path, named) in lists.waiting {
            let Some(meta) = self.tree.node(id).map(|node| node.meta.clone()) else {
                continue;
            };
            let meta =
                numbered(meta, &named, &accounts).map_err(|problem| self.wrong(&path, problem))?;
            if let Some(node) = self.tree.node_mut(id) {
                node.meta = meta;
            }
        }
        Ok(())
    }
}

fn numbered(
    mut meta: Metadata,
    named: &[acl::NamedAcl],
    accounts: &Accounts,
) -> Result<Metadata, String> {
    let mut xattrs = meta.xattrs.as_deref().cloned().unwrap_or_default();
    for list in named {
        let value = acl::from_text(&list.text, list.kind(), accounts).map_err(|e| e.to_string())?;
        let Some(value) = value else { continue };
        if list.kind() == acl::AclKind::Access
            && let Some(permissions) = acl::permissions(&value)
        {
            meta.mode = meta.mode & 0o7000 | permissions;
        }
        xattrs.insert(list.attribute.clone().into(), value.into());
    }
    meta.xattrs = (!xattrs.is_empty()).then(|| std::sync::Arc::new(xattrs));
    Ok(meta)
}
