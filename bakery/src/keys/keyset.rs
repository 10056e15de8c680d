//! The keysets of a store: read, and continued by one version.

use bytes::Bytes;
use layerfmt::manifest::{Keyset, RECORD_FORMAT, Signer as KeysetSigner};
use layerfmt::trust::{
    AllowedSigners, ENVELOPE_LEN_MAX, KEYSET_NAMESPACE, TrustError, verify_keysets,
};

use super::{KeyError, Signer};
use crate::clock;
use crate::store::{Created, Key, Store};

/// The newest keyset, checked from the first on; `None` if the store has none.
///
/// # Errors
/// When the chain does not hold or the store fails.
pub fn newest(store: &Store, anchors: &AllowedSigners) -> Result<Option<Keyset>, KeyError> {
    let mut envelopes = Vec::new();
    for entry in store.list("keysets")? {
        envelopes.push(store.require(&entry.key, ENVELOPE_LEN_MAX as u64)?);
    }
    if envelopes.is_empty() {
        return Ok(None);
    }
    let envelopes = envelopes.iter().map(|bytes| &bytes[..]);
    Ok(Some(verify_keysets(envelopes, anchors, clock::now(), 0)?))
}

/// The entry of a key that signs everything.
pub fn signer_of(name: &str, public_line: &str) -> KeysetSigner {
    KeysetSigner {
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
pub fn first(store: &Store, root: &Signer, head: &Signer) -> Result<Keyset, KeyError> {
    let keys = vec![signer_of("bakery", head.public_line())];
    let keyset = Keyset {
        expires_at: None,
        format: RECORD_FORMAT,
        issued_at: clock::now(),
        keys,
        roots: vec![],
        version: 1,
    };
    publish(store, root, &keyset).map(|()| keyset)
}

/// Publish the next keyset: the newest with `change` made to it.
///
/// # Errors
/// When there is none to change, `change` refuses, or somebody else was first.
pub fn amend(
    store: &Store,
    anchors: &AllowedSigners,
    root: &Signer,
    change: impl FnOnce(&mut Keyset) -> Result<(), KeyError>,
) -> Result<Keyset, KeyError> {
    let mut keyset = newest(store, anchors)?.ok_or(TrustError::NoKeyset)?;
    change(&mut keyset)?;
    keyset.version += 1;
    keyset.issued_at = keyset.issued_at.max(clock::now());
    publish(store, root, &keyset)?;
    // Nobody may be left with a keyset that nobody accepts: read it as clients will.
    newest(store, anchors)?.ok_or(KeyError::Trust(TrustError::NoKeyset))
}

fn publish(store: &Store, root: &Signer, keyset: &Keyset) -> Result<(), KeyError> {
    let payload = keyset.render().map_err(TrustError::from)?;
    let envelope = root.sign(KEYSET_NAMESPACE, &payload)?.render()?;
    match store.create_object(&Key::keyset(keyset.version), Bytes::from(envelope))? {
        Created::New => Ok(()),
        Created::Exists => Err(KeyError::Keyset(format!(
            "keyset {} was published by somebody else meanwhile; try again",
            keyset.version
        ))),
    }
}
