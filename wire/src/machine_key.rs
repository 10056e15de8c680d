//! The key of a machine: its public part, sealed values that only the machine opens, and signatures
//! of its hellos.
//!
//! `docs/PROTOCOL.md` §10 is the specification. A key is a secret of 32 bytes on the machine's own
//! disk. Sealing is X25519 with ChaCha20-Poly1305, signatures are Ed25519; the two secrets are
//! derived from the one on the disk.

use std::fmt;
use std::str::FromStr;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use curve25519_dalek::MontgomeryPoint;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

/// Contexts of the derived keys.
const OPEN_CONTEXT: &str = "layerfs machine key v1: X25519";
const SIGN_CONTEXT: &str = "layerfs machine key v1: Ed25519";
const SEAL_CONTEXT: &str = "layerfs machine key v1: sealed value";
const FINGERPRINT_CONTEXT: &str = "layerfs machine key v1: fingerprint";
/// Length of a secret and of each public part, bytes.
pub const SECRET_LEN: usize = 32;
/// Bytes that sealing adds: the public part of the one-time key, and the tag.
pub const SEAL_LEN: usize = SECRET_LEN + 16;

/// The value is not sealed to this key and this name, or it is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MachineKeyError {
    /// Not hexadecimal digits of the right length.
    #[error("not a machine key: 128 hexadecimal digits")]
    Malformed,
    /// The value cannot be opened.
    #[error("the value is sealed to another key or another name, or it is damaged")]
    Closed,
    /// The value cannot be sealed.
    #[error("the machine's key is not usable")]
    Unusable,
    /// A signature is not valid.
    #[error("the signature is not of this machine's key")]
    BadSignature,
}

/// The public part of a machine's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PublicKey {
    seal: [u8; SECRET_LEN],
    verify: [u8; SECRET_LEN],
}

impl PublicKey {
    /// A short name of the key that people compare: 8 groups of 4 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = blake3::derive_key(FINGERPRINT_CONTEXT, &self.bytes());
        let digits = hex(digest.get(..16).unwrap_or_default());
        let groups: Vec<&str> = (0..8)
            .filter_map(|at| digits.get(at * 4..at * 4 + 4))
            .collect();
        groups.join("-")
    }

    fn bytes(&self) -> Vec<u8> {
        [self.seal, self.verify].concat()
    }

    /// Seals a value so that only the holder of the secret opens it, and only under this name.
    /// `once` is random and used for nothing else.
    ///
    /// # Errors
    /// The key is not a point of the curve with a large order.
    pub fn seal(
        &self,
        name: &str,
        value: &[u8],
        once: [u8; SECRET_LEN],
    ) -> Result<Vec<u8>, MachineKeyError> {
        let public = MontgomeryPoint::mul_base_clamped(once).to_bytes();
        let shared = MontgomeryPoint(self.seal).mul_clamped(once).to_bytes();
        if shared == [0; SECRET_LEN] {
            return Err(MachineKeyError::Unusable);
        }
        let cipher = cipher(&public, &self.seal, &shared);
        let payload = Payload {
            msg: value,
            aad: name.as_bytes(),
        };
        let closed = cipher.encrypt(&Nonce::default(), payload);
        let mut sealed = public.to_vec();
        sealed.extend(closed.map_err(|_| MachineKeyError::Unusable)?);
        Ok(sealed)
    }

    /// Verifies a signature.
    ///
    /// # Errors
    /// The signature is not of this key and these bytes.
    pub fn verify(&self, bytes: &[u8], signature: &[u8; 64]) -> Result<(), MachineKeyError> {
        let key =
            VerifyingKey::from_bytes(&self.verify).map_err(|_| MachineKeyError::BadSignature)?;
        key.verify_strict(bytes, &Signature::from_bytes(signature))
            .map_err(|_| MachineKeyError::BadSignature)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.bytes()))
    }
}

impl FromStr for PublicKey {
    type Err = MachineKeyError;

    fn from_str(text: &str) -> Result<Self, MachineKeyError> {
        let bytes = unhex(text).ok_or(MachineKeyError::Malformed)?;
        let (seal, verify) = bytes
            .split_at_checked(SECRET_LEN)
            .ok_or(MachineKeyError::Malformed)?;
        Ok(PublicKey {
            seal: seal.try_into().map_err(|_| MachineKeyError::Malformed)?,
            verify: verify.try_into().map_err(|_| MachineKeyError::Malformed)?,
        })
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = MachineKeyError;

    fn try_from(text: String) -> Result<Self, MachineKeyError> {
        text.parse()
    }
}

/// The secret of a machine.
pub struct SecretKey {
    open: [u8; SECRET_LEN],
    sign: SigningKey,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").finish_non_exhaustive()
    }
}

impl SecretKey {
    /// The keys that a secret makes.
    #[must_use]
    pub fn of(secret: &[u8; SECRET_LEN]) -> SecretKey {
        SecretKey {
            open: blake3::derive_key(OPEN_CONTEXT, secret),
            sign: SigningKey::from_bytes(&blake3::derive_key(SIGN_CONTEXT, secret)),
        }
    }

    /// The public part.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey {
            seal: MontgomeryPoint::mul_base_clamped(self.open).to_bytes(),
            verify: self.sign.verifying_key().to_bytes(),
        }
    }

    /// Opens a value that is sealed to this key under this name.
    ///
    /// # Errors
    /// It is sealed to another key or name, or damaged.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, MachineKeyError> {
        let (public, closed) = sealed
            .split_at_checked(SECRET_LEN)
            .ok_or(MachineKeyError::Closed)?;
        let public: [u8; SECRET_LEN] = public.try_into().map_err(|_| MachineKeyError::Closed)?;
        let shared = MontgomeryPoint(public).mul_clamped(self.open).to_bytes();
        let own = MontgomeryPoint::mul_base_clamped(self.open).to_bytes();
        let payload = Payload {
            msg: closed,
            aad: name.as_bytes(),
        };
        let opened = cipher(&public, &own, &shared).decrypt(&Nonce::default(), payload);
        opened.map_err(|_| MachineKeyError::Closed)
    }

    /// Signs bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.sign.sign(bytes).to_bytes()
    }
}

/// The cipher of one sealed value. Its key is used once, so its nonce is zero.
fn cipher(once: &[u8], to: &[u8], shared: &[u8]) -> ChaCha20Poly1305 {
    let material = [once, to, shared].concat();
    ChaCha20Poly1305::new(&Key::from(blake3::derive_key(SEAL_CONTEXT, &material)))
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of lower-case hexadecimal digits.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SecretKey {
        SecretKey::of(&[seed; SECRET_LEN])
    }

    /// docs/PROTOCOL.md M6: only the machine's key opens a value, and only under its name.
    #[test]
    fn only_the_key_and_the_name_open_a_value() {
        let (one, other) = (key(1), key(2));
        let sealed = one.public().seal("a/wifi", b"hunter2", [7; 32]).unwrap();
        assert_eq!(sealed.len(), 7 + SEAL_LEN);
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(one.open("a/wifi", &sealed).unwrap(), b"hunter2");
        assert_eq!(one.open("b/wifi", &sealed), Err(MachineKeyError::Closed));
        assert_eq!(other.open("a/wifi", &sealed), Err(MachineKeyError::Closed));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            // The top bit of a point does not count: the cipher's key has it.
            assert_eq!(
                one.open("a/wifi", &damaged),
                Err(MachineKeyError::Closed),
                "{at}"
            );
        }
        assert_eq!(
            one.open("a/wifi", &sealed[..20]),
            Err(MachineKeyError::Closed)
        );
        let again = one.public().seal("a/wifi", b"hunter2", [8; 32]).unwrap();
        assert_ne!(again, sealed);
    }

    #[test]
    fn a_key_without_strength_seals_nothing() {
        let weak: PublicKey = "00".repeat(64).parse().unwrap();
        assert_eq!(
            weak.seal("a", b"x", [7; 32]),
            Err(MachineKeyError::Unusable)
        );
        assert_eq!(
            weak.verify(b"x", &[0; 64]),
            Err(MachineKeyError::BadSignature)
        );
    }

    #[test]
    fn a_signature_is_of_its_key_and_bytes() {
        let (one, other) = (key(1), key(2));
        let signature = one.sign(b"hello");
        assert_eq!(one.public().verify(b"hello", &signature), Ok(()));
        assert!(one.public().verify(b"hellp", &signature).is_err());
        assert!(other.public().verify(b"hello", &signature).is_err());
    }

    #[test]
    fn a_public_key_has_one_spelling() {
        let public = key(3).public();
        let text = public.to_string();
        assert_eq!(text.parse(), Ok(public));
        assert_eq!(public.fingerprint().len(), 39);
        assert_ne!(public.fingerprint(), key(4).public().fingerprint());
        for wrong in [
            "",
            "00",
            &text.to_uppercase(),
            &text[1..],
            &format!("{text}00"),
        ] {
            assert!(wrong.parse::<PublicKey>().is_err(), "{wrong}");
        }
    }
}
