//! The update packs of the origin: used for the mirror's own chunks, and offered to its clients.

use std::path::PathBuf;

use wire::manifest::{ProfileName, RevisionName};
use wire::paths::ObjectPath;

use super::follow::Mirror;
use super::parts::{PartialObjects, in_order};
use super::update::Updates;
use super::{Mirrored, Result, file_error};
use crate::history::History;
use crate::store::Key;
use crate::update_pack::verify_file;

impl Mirror<'_> {
    /// Before revision `next` is brought: `updates` has the chunks of the revision before, which the
    /// mirror has, and those that an update pack makes of them. That is the pack to `next`; without
    /// one the pack to `newest`, which then serves all revisions up to it.
    pub(super) fn know_chunks(
        &mut self,
        history: &History,
        name: &ProfileName,
        (next, newest): (u64, u64),
        updates: &mut Updates,
    ) -> Result<()> {
        let base = next - 1;
        if base == 0 {
            return Ok(());
        }
        let is_served = updates.leads_to() >= next;
        let mut ways = vec![(next, base)];
        if !is_served && next < newest {
            ways.push((newest, base));
        }
        if !is_served && self.origin.is_local() {
            // An export for a reader with an older revision.
            ways.extend((1..base).rev().map(|from| (newest, from)));
        }
        let mut found = None;
        for (to, from) in ways {
            if let Some(place) = self.update_file(history, name, (to, from))? {
                found = Some((from, (place, to)));
                break;
            }
        }
        if found.is_none() && is_served {
            return Ok(());
        }
        let (from, pack) = found.map_or((base, None), |(from, pack)| (from, Some(pack)));
        let old = RevisionName {
            name: name.clone(),
            revision: Some(from),
        };
        updates.know(history, &old, pack);
        Ok(())
    }

    /// The file of an update pack, verified; `None` if the origin has none that can be used.
    fn update_file(
        &mut self,
        history: &History,
        name: &ProfileName,
        (to, from): (u64, u64),
    ) -> Result<Option<PathBuf>> {
        let path = ObjectPath::Update(name.clone(), to, from);
        self.verified_file(history, name, &path)
    }

    /// The file of an update pack or an index delta, verified.
    fn verified_file(
        &mut self,
        history: &History,
        name: &ProfileName,
        path: &ObjectPath,
    ) -> Result<Option<PathBuf>> {
        let Some(len) = self.origin.len(path)? else {
            return Ok(None);
        };
        let place = PartialObjects::of(self.store)?.place(path);
        for _ in 0..2 {
            if !in_order(self.origin, (path, len), &place)? {
                return Ok(None);
            }
            match verify_file(&place, Some((history, name))) {
                Ok(_) => return Ok(Some(place)),
                // The rest of another pack under the same name: begun anew.
                Err(error) => tracing::info!(%error, %path, "an update pack is not used"),
            }
            std::fs::remove_file(&place).map_err(file_error(&place))?;
        }
        Ok(None)
    }

    /// Copies the index deltas to the newest revision, for the clients of the mirror.
    pub(super) fn offer_deltas(
        &mut self,
        history: &History,
        name: &ProfileName,
        mirrored: &mut Mirrored,
    ) -> Result<()> {
        let revisions = history.log(name, self.options.updates.saturating_add(1))?;
        let Some(newest) = revisions.first() else {
            return Ok(());
        };
        let to = newest.manifest.by_layers().digest;
        let before = revisions.iter().skip(1);
        let before = before.map(|revision| revision.manifest.by_layers().digest);
        for from in before.chain([newest.manifest.index.digest]) {
            let key = Key::delta(&to, &from);
            if from == to || self.store.len(&key)?.is_some() {
                continue;
            }
            let path = ObjectPath::Delta(to, from);
            if let Some(place) = self.verified_file(history, name, &path)? {
                self.store.put_file(&key, &place)?;
                std::fs::remove_file(&place).map_err(file_error(&place))?;
                mirrored.objects += 1;
                mirrored.bytes += self.store.len(&key)?.unwrap_or(0);
            }
        }
        Ok(())
    }

    /// Copies the update packs to the newest revision, for the clients of the mirror.
    pub(super) fn offer_updates(
        &mut self,
        history: &History,
        name: &ProfileName,
        newest: u64,
        mirrored: &mut Mirrored,
    ) -> Result<()> {
        let first = newest.saturating_sub(self.options.updates as u64).max(1);
        for from in (first..newest).rev() {
            let key = Key::update(name, newest, from);
            if self.store.len(&key)?.is_some() {
                continue;
            }
            if let Some(place) = self.update_file(history, name, (newest, from))? {
                self.store.put_file(&key, &place)?;
                std::fs::remove_file(&place).map_err(file_error(&place))?;
                mirrored.objects += 1;
                mirrored.bytes += self.store.len(&key)?.unwrap_or(0);
            }
        }
        Ok(())
    }
}
