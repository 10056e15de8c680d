//! The keysets of a store: read, and continued by one version.

use bytes::Bytes;
use wire::manifest::{Keyset, RECORD_FORMAT, Signer};
use wire::trust::{
    AllowedSigners, ENVELOPE_LEN_MAX, Envelope, KEYSET_NAMESPACE, TrustError, public_key_line,
    verify_keysets,
};

use super::{KeyError, RecordSigner};
use crate::clock;
use crate::store::{Created, Key, Store};

/// The newest keyset, checked from the first on; `None` if the store has none.
///
/// # Errors
/// When the chain does not hold or the store fails.
pub fn newest(store: &Store, anchors: &AllowedSigners) -> Result<Option<Keyset>, KeyError> {
    let envelopes = envelopes(store)?;
    if envelopes.is_empty() {
        return Ok(None);
    }
    let envelopes = envelopes.iter().map(|bytes| &bytes[..]);
    Ok(Some(verify_keysets(envelopes, anchors, clock::now(), 0)?))
}

fn envelopes(store: &Store) -> Result<Vec<Bytes>, KeyError> {
    let mut envelopes = Vec::new();
    for entry in store.list(wire::paths::Class::Keyset.directory())? {
        envelopes.push(store.require(&entry.key, ENVELOPE_LEN_MAX as u64)?);
    }
    Ok(envelopes)
}

/// The entry of a key that signs everything.
pub(crate) fn signer_of(name: &str, public_line: &str) -> Signer {
    Signer {
        key: public_line.into(),
        name: name.into(),
        revoked: false,
        systems: vec!["*".into()],
        valid_after: None,
        valid_before: None,
    }
}

/// Publish the first keyset of a new store.
///
/// # Errors
/// When the store has one already or fails.
pub fn first(store: &Store, root: &RecordSigner, head: &RecordSigner) -> Result<Keyset, KeyError> {
    let keys = vec![signer_of("bakery", head.public_line())];
    let keyset = Keyset {
        expires_at: None,
        format: RECORD_FORMAT,
        issued_at: clock::now(),
        keys,
        roots: vec![],
        version: 1,
    };
    let envelope = signed(root, &keyset)?;
    create(store, &keyset, envelope).map(|()| keyset)
}

/// Publishes the next keyset: the newest with `change` applied.
///
/// # Errors
/// There is none to change, `change` refuses, or another process was first.
pub fn amend(
    store: &Store,
    anchors: &AllowedSigners,
    root: &RecordSigner,
    change: impl FnOnce(&mut Keyset) -> Result<(), KeyError>,
) -> Result<Keyset, KeyError> {
    let mut keyset = newest(store, anchors)?.ok_or(TrustError::NoKeyset)?;
    change(&mut keyset)?;
    keyset.version += 1;
    keyset.issued_at = keyset.issued_at.max(clock::now());
    let envelope = signed(root, &keyset)?;
    // A keyset must be acceptable to readers: it is verified as by clients before it is published.
    let mut chain = envelopes(store)?;
    chain.push(envelope.clone());
    let chain = chain.iter().map(|bytes| &bytes[..]);
    let read = verify_keysets(chain, anchors, clock::now(), 0)?;
    create(store, &keyset, envelope)?;
    Ok(read)
}

/// Passes the right to sign keysets from `old` to `new`: a keyset signed by `old` that names `new`,
/// then one signed by `new`, with which readers begin that trust only `new`. Completes an
/// interrupted rotation.
///
/// # Errors
/// `old` may not sign keysets, or the store fails.
pub(crate) fn hand_over(
    store: &Store,
    anchors: &AllowedSigners,
    old: &RecordSigner,
    new: &RecordSigner,
) -> Result<Keyset, KeyError> {
    let named = vec![new.public_line().to_owned()];
    let mut keyset = newest(store, anchors)?.ok_or(TrustError::NoKeyset)?;
    if keyset.roots != named {
        keyset = amend(store, anchors, old, |keyset| {
            keyset.roots.clone_from(&named);
            Ok(())
        })?;
    }
    let envelope = store.require(&Key::keyset(keyset.version), ENVELOPE_LEN_MAX as u64)?;
    let signed_by = Envelope::parse(&envelope)?.signed_by(KEYSET_NAMESPACE)?;
    if public_key_line(&signed_by)? != new.public_line() {
        keyset = amend(store, anchors, new, |_| Ok(()))?;
    }
    Ok(keyset)
}

fn signed(root: &RecordSigner, keyset: &Keyset) -> Result<Bytes, KeyError> {
    let payload = keyset.render().map_err(TrustError::from)?;
    Ok(Bytes::from(
        root.sign(KEYSET_NAMESPACE, &payload)?.render()?,
    ))
}

fn create(store: &Store, keyset: &Keyset, envelope: Bytes) -> Result<(), KeyError> {
    match store.create_object(&Key::keyset(keyset.version), envelope)? {
        Created::New => Ok(()),
        Created::Exists => Err(KeyError::Keyset(format!(
            "keyset {} was published by another process meanwhile; try again",
            keyset.version
        ))),
    }
}
