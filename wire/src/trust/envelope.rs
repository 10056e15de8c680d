//! A record and its SSHSIG signature in one JSON object.

use serde::{Deserialize, Serialize};
use ssh_key::public::KeyData;
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use super::error::TrustError;
use crate::manifest::RecordError;

/// Largest envelope, bytes: twice the largest keyset, as JSON escapes every quote.
pub const ENVELOPE_LEN_MAX: usize = 1 << 20;
/// Longest armored signature, bytes: one of ed25519 has 300.
const SIGNATURE_LEN_MAX: usize = 4096;

/// `{"payload":"…","signature":"-----BEGIN SSH SIGNATURE-----…"}`.
///
/// The payload is the exact text that was signed, so `ssh-keygen -Y verify` can check it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// A canonical record.
    pub payload: String,
    /// The armored SSHSIG signature of the payload's bytes.
    pub signature: String,
}

impl Envelope {
    /// Signs `payload` with an unlocked key.
    ///
    /// # Errors
    /// The key is not a plain ed25519 key, or is locked by a passphrase.
    pub fn sign(payload: &[u8], namespace: &str, key: &PrivateKey) -> Result<Envelope, TrustError> {
        require_ed25519(key.public_key().key_data())?;
        let signature = key
            .sign(namespace, HashAlg::Sha512, payload)
            .and_then(|signature| signature.to_pem(LineEnding::LF))
            .map_err(|e| TrustError::BadSignature(format!("cannot sign: {e}")))?;
        Envelope::seal(payload, signature)
    }

    /// Combines a payload with a signature made elsewhere (an agent, `ssh-keygen -Y sign`).
    ///
    /// # Errors
    /// When the payload is not text.
    pub fn seal(payload: &[u8], signature: String) -> Result<Envelope, TrustError> {
        let payload = std::str::from_utf8(payload).map_err(|_| malformed("payload is not text"))?;
        Ok(Envelope {
            payload: payload.into(),
            signature,
        })
    }

    /// Reads an envelope without verifying the signature.
    ///
    /// # Errors
    /// The bytes are not an envelope.
    pub fn parse(bytes: &[u8]) -> Result<Envelope, TrustError> {
        if bytes.len() > ENVELOPE_LEN_MAX {
            return Err(malformed("larger than any signed record"));
        }
        serde_json::from_slice(bytes).map_err(|e| malformed(&e.to_string()))
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// Never for an envelope made by this module.
    pub fn render(&self) -> Result<Vec<u8>, TrustError> {
        serde_json::to_vec(self).map_err(|e| malformed(&e.to_string()))
    }

    /// Verifies the signature and returns its key. The caller decides on the validity of the key.
    ///
    /// # Errors
    /// The signature is damaged, not ed25519, for another namespace or of other bytes.
    pub fn signed_by(&self, namespace: &'static str) -> Result<PublicKey, TrustError> {
        let bad = |what: &str| TrustError::BadSignature(what.into());
        if self.signature.len() > SIGNATURE_LEN_MAX {
            return Err(bad("longer than any ed25519 signature"));
        }
        let signature = SshSig::from_pem(self.signature.as_bytes())
            .map_err(|e| TrustError::BadSignature(e.to_string()))?;
        require_ed25519(signature.public_key())?;
        if signature.namespace() != namespace {
            let found = signature.namespace().chars().take(64).collect();
            return Err(TrustError::WrongNamespace {
                wanted: namespace,
                found,
            });
        }
        let key = PublicKey::new(signature.public_key().clone(), "");
        key.verify(namespace, self.payload.as_bytes(), &signature)
            .map_err(|_| bad("it does not fit the payload"))?;
        Ok(key)
    }
}

/// `ssh-ed25519 BASE64` of a key, its form in keysets.
///
/// # Errors
/// The key is of another kind.
pub fn public_key_line(key: &PublicKey) -> Result<String, TrustError> {
    require_ed25519(key.key_data())?;
    PublicKey::new(key.key_data().clone(), "")
        .to_openssh()
        .map(|line| line.trim_end().to_owned())
        .map_err(|e| TrustError::BadSignature(e.to_string()))
}

fn require_ed25519(key: &KeyData) -> Result<(), TrustError> {
    match key {
        KeyData::Ed25519(_) => Ok(()),
        _ => Err(TrustError::BadSignature(
            "not a plain ed25519 key; make one with ssh-keygen -t ed25519".into(),
        )),
    }
}

fn malformed(what: &str) -> TrustError {
    TrustError::Malformed(RecordError::new("signed record", what))
}
