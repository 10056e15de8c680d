//! New keys in place of old ones.

use std::path::Path;

use super::super::wording::Wording;
use super::{newest, show};
use crate::clock;
use crate::globals::Globals;
use crate::keys::{self, Keys, RecordSigner};
use crate::output;
use crate::publish::Publisher;
use crate::store::Store;

/// Adds the new key, signs every history with it and removes the old key. Each step may be repeated
/// after a crash.
pub(super) fn rotate(
    globals: &Globals,
    store: &Store,
    keys: &Keys,
    root: &RecordSigner,
    wording: &Wording,
) -> anyhow::Result<()> {
    let (old, new) = (keys.head()?, keys.new_head()?);
    let old_line = old.public_line().to_owned();
    let anchors = keys.anchors()?;
    let known = newest(store, keys)?
        .keys
        .iter()
        .any(|key| key.key == new.public_line());
    if !known {
        keys::amend(store, &anchors, root, |keyset| {
            let mine = keyset.keys.iter().find(|key| key.key == old_line).cloned();
            let mut entry = mine.unwrap_or_else(|| keys::signer_of("bakery", &old_line));
            entry.name = format!(
                "{}-{}",
                entry.name.split('-').next().unwrap_or("bakery"),
                keyset.version + 1
            );
            entry.key = new.public_line().into();
            keyset.keys.push(entry);
            Ok(())
        })?;
    }
    let publisher = Publisher::open(store.clone(), keys)?.with_signer(new);
    for name in publisher.history().names()? {
        if publisher.history().signer_line(&name, None)?.as_deref() == Some(&old_line) {
            let revision = publisher.resign(&name, &wording.author(), &resign_text(wording))?;
            output::note(globals, &format!("published {}", revision.name()));
        }
        if publisher.history().ring_signer_line(&name)?.as_deref() == Some(&old_line) {
            publisher.renew_rings(&name, &wording.author())?;
        }
    }
    publisher.renew_values(&wording.author(), |key| key == old_line)?;
    let keyset = keys::amend(store, &anchors, root, |keyset| {
        if let Some(entry) = keyset.keys.iter_mut().find(|key| key.key == old_line) {
            entry.valid_before = Some(clock::now());
        }
        Ok(())
    })?;
    keys.adopt_new_head()?;
    show(globals, &keyset)
}

/// Replaces the root key. Each step may be repeated after a crash.
pub(super) fn rotate_root(
    globals: &Globals,
    store: &Store,
    keys: &Keys,
    old: &RecordSigner,
    new: Option<&Path>,
) -> anyhow::Result<()> {
    let signer = match new {
        Some(file) => RecordSigner::open(file)?,
        None => keys.new_root()?,
    };
    let (from, to) = (old.public_line(), signer.public_line());
    anyhow::ensure!(from != to, "the new root key is the old one");
    let keyset = keys::hand_over(store, &keys.anchors()?, old, &signer)?;
    keys.replace_anchor(from, to)?;
    if new.is_none() {
        keys.adopt_new_root()?;
    }
    show(globals, &keyset)?;
    let trusted = keys.directory().join("allowed_signers");
    output::note(
        globals,
        &format!(
            "the root key is {to}. Machines that trust the old one keep working; {} has only the \
             new one: rebuild their initramfs (`bakery initrd SYSTEM`) and restart them, at once \
             if the old key was stolen",
            trusted.display()
        ),
    );
    Ok(())
}

/// The message of revisions that a new key signs.
pub(super) fn resign_text(wording: &Wording) -> String {
    if wording.message.is_empty() {
        "sign anew".into()
    } else {
        wording.message.clone()
    }
}
