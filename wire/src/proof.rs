//! Proofs of hellos: the code of a room's token, and the signature of a machine's key.
//!
//! `docs/FLEET.md` (F7) is the specification. A proof is the last key of the hello's JSON object and
//! covers the bytes before it, so that readers that do not know it drop it.

use crate::machine_key::{PublicKey, SecretKey, hex, unhex};

/// Context of the key that a token makes.
const TOKEN_CONTEXT: &str = "layerfs room token v1";
/// Beginnings of the two keys.
const TOKEN: &str = ",\"token\":\"";
const SIGNATURE: &str = ",\"signature\":\"";

/// The token of a room: a text that its machines and the server have.
#[derive(Clone)]
pub struct RoomToken([u8; 32]);

impl std::fmt::Debug for RoomToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoomToken").finish_non_exhaustive()
    }
}

impl RoomToken {
    /// The token in a text; white space at its ends does not count. `None` if it is shorter than 16
    /// bytes.
    #[must_use]
    pub fn of(text: &str) -> Option<RoomToken> {
        let text = text.trim();
        (text.len() >= 16).then(|| RoomToken(blake3::derive_key(TOKEN_CONTEXT, text.as_bytes())))
    }

    fn code(&self, bytes: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, bytes)
    }
}

/// Appends proofs to an encoded hello.
#[must_use]
pub fn append(hello: Vec<u8>, token: Option<&RoomToken>, key: Option<&SecretKey>) -> Vec<u8> {
    let mut hello = hello;
    if let Some(token) = token {
        let code = token.code(&hello);
        put(&mut hello, TOKEN, code.as_bytes());
    }
    if let Some(key) = key {
        let signature = key.sign(&hello);
        put(&mut hello, SIGNATURE, &signature);
    }
    hello
}

fn put(hello: &mut Vec<u8>, name: &str, proof: &[u8]) {
    hello.pop();
    hello.extend_from_slice(name.as_bytes());
    hello.extend_from_slice(hex(proof).as_bytes());
    hello.extend_from_slice(b"\"}");
}

/// The proofs of a received hello.
#[derive(Debug, Default)]
pub struct Proofs {
    token: Option<(Vec<u8>, [u8; 32])>,
    signature: Option<(Vec<u8>, [u8; 64])>,
}

impl Proofs {
    /// Reads the proofs at the end of a hello.
    #[must_use]
    pub fn of(hello: &[u8]) -> Proofs {
        let signature = take::<64>(hello, SIGNATURE);
        let before = signature
            .as_ref()
            .map_or(hello, |(bytes, _)| bytes.as_slice());
        let token = take::<32>(before, TOKEN);
        Proofs { token, signature }
    }

    /// True if the sender has the token.
    #[must_use]
    pub fn has(&self, token: &RoomToken) -> bool {
        // The comparison of hashes takes the same time for all.
        let same =
            |(bytes, code): &(Vec<u8>, [u8; 32])| token.code(bytes) == blake3::Hash::from(*code);
        self.token.as_ref().is_some_and(same)
    }

    /// True if the hello has a signature.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.signature.is_some()
    }

    /// True if the holder of a key signed the hello.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let valid = |(bytes, signature): &(Vec<u8>, [u8; 64])| key.verify(bytes, signature).is_ok();
        self.signature.as_ref().is_some_and(valid)
    }
}

/// Takes the last key of an object, if it has this name and `N` bytes; returns the object without
/// it.
fn take<const N: usize>(hello: &[u8], name: &str) -> Option<(Vec<u8>, [u8; N])> {
    let digits = hello.strip_suffix(b"\"}")?;
    let (rest, digits) = digits.split_at_checked(digits.len().checked_sub(2 * N)?)?;
    let bytes = unhex(std::str::from_utf8(digits).ok()?)?;
    let mut before = rest.strip_suffix(name.as_bytes())?.to_vec();
    before.push(b'}');
    Some((before, bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::{Hello, Step};
    use crate::machine::Identity;

    fn hello() -> Vec<u8> {
        let who = Identity::of_words("4c4c4544-0042-3510-8051-b4c04f564433", "", "");
        Hello::new(who, Step::Mounted).encode().unwrap()
    }

    /// docs/FLEET.md F7.2, F7.3: a proof is of one token or key, and of one hello.
    #[test]
    fn proofs_are_of_their_token_and_key() {
        let token = RoomToken::of("correct horse battery\n").unwrap();
        let other = RoomToken::of("correct horse batterz").unwrap();
        let key = SecretKey::of(&[1; 32]);
        let stranger = SecretKey::of(&[2; 32]);
        for (with_token, with_key) in [(true, true), (true, false), (false, true), (false, false)] {
            let token_given = with_token.then_some(&token);
            let said = append(hello(), token_given, with_key.then_some(&key));
            // A reader that knows no proofs drops them.
            assert_eq!(
                Hello::decode(&said).unwrap(),
                Hello::decode(&hello()).unwrap()
            );
            let proofs = Proofs::of(&said);
            assert_eq!(proofs.has(&token), with_token);
            assert!(!proofs.has(&other));
            assert_eq!(proofs.is_signed_by(&key.public()), with_key);
            assert!(!proofs.is_signed_by(&stranger.public()));
            let changed = String::from_utf8(said)
                .unwrap()
                .replace("mounted", "healthy");
            let proofs = Proofs::of(changed.as_bytes());
            assert!(!proofs.has(&token) && !proofs.is_signed_by(&key.public()));
        }
        assert!(RoomToken::of("too short").is_none());
    }

    #[test]
    fn hostile_ends_are_no_proofs() {
        for end in ["", "}", "\"}", ",\"signature\":\"00\"}", "\u{e9}\"}"] {
            let proofs = Proofs::of(end.as_bytes());
            assert!(!proofs.is_signed());
        }
        let zeros = format!("{{{SIGNATURE}{}\"}}", "0".repeat(128));
        let key = SecretKey::of(&[1; 32]).public();
        assert!(!Proofs::of(zeros.as_bytes()).is_signed_by(&key));
    }
}
