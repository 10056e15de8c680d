//! The people who are logged in. Sessions are in memory: a restart ends them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use subtle::ConstantTimeEq as _;

use crate::text::{hex, now, random, unhex};

/// Seconds without a request after which a session ends.
const IDLE_S: u64 = 2 * 3600;
/// Seconds after which every session ends.
const AGE_S: u64 = 12 * 3600;
/// Maximum number of sessions; for one more, the one that was idle longest ends.
const SESSIONS_MAX: usize = 4096;
/// Bytes of a key.
const KEY_LEN: usize = 32;

#[derive(Debug, Clone)]
struct Session {
    name: String,
    key: [u8; KEY_LEN],
    began: u64,
    seen: u64,
}

/// All sessions, by the digest of their cookie.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<blake3::Hash, Session>>);

/// The person behind a request.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// The name of the account.
    pub(crate) name: String,
    /// The key of the session, against forged requests.
    key: [u8; KEY_LEN],
}

impl Member {
    /// A token for one page. Each has a mask of its own, so that compressed pages do not betray the
    /// key.
    pub(crate) fn token(&self) -> String {
        let mask = random::<KEY_LEN>().unwrap_or_default();
        let masked = mask.iter().zip(self.key).map(|(mask, key)| mask ^ key);
        format!("{}{}", hex(&mask), hex(&masked.collect::<Vec<u8>>()))
    }

    /// True if a token is of this session.
    pub(crate) fn knows(&self, token: &str) -> bool {
        let bytes = unhex(token).unwrap_or_default();
        let Some((mask, masked)) = bytes.split_at_checked(KEY_LEN) else {
            return false;
        };
        let key: Vec<u8> = mask
            .iter()
            .zip(masked)
            .map(|(mask, byte)| mask ^ byte)
            .collect();
        bytes.len() == 2 * KEY_LEN && bool::from(key.ct_eq(&self.key))
    }
}

impl Sessions {
    fn all(&self) -> MutexGuard<'_, HashMap<blake3::Hash, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session; returns the value of its cookie, which is always new.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn begin(&self, name: &str) -> std::io::Result<String> {
        let cookie = hex(&random::<32>()?);
        let session = Session {
            name: name.to_owned(),
            key: random()?,
            began: now(),
            seen: now(),
        };
        let mut all = self.all();
        all.retain(|_, one| one.is_alive());
        if all.len() >= SESSIONS_MAX {
            let oldest = all
                .iter()
                .min_by_key(|(_, one)| one.seen)
                .map(|(key, _)| *key);
            oldest.and_then(|key| all.remove(&key));
        }
        all.insert(blake3::hash(cookie.as_bytes()), session);
        Ok(cookie)
    }

    /// The member of a cookie, if its session has not ended. Only a request by a person extends it:
    /// pages also send requests by themselves.
    pub(crate) fn member(&self, cookie: &str, is_person: bool) -> Option<Member> {
        let mut all = self.all();
        let session = all.get_mut(&blake3::hash(cookie.as_bytes()))?;
        if !session.is_alive() {
            return None;
        }
        if is_person {
            session.seen = now();
        }
        Some(Member {
            name: session.name.clone(),
            key: session.key,
        })
    }

    /// Ends a session.
    pub(crate) fn end(&self, cookie: &str) {
        self.all().remove(&blake3::hash(cookie.as_bytes()));
    }

    /// Ends every session of an account.
    pub(crate) fn end_all(&self, name: &str) {
        self.all().retain(|_, one| one.name != name);
    }
}

impl Session {
    fn is_alive(&self) -> bool {
        let now = now();
        now < self.began + AGE_S && now < self.seen + IDLE_S
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_are_of_one_session() {
        let sessions = Sessions::default();
        let [one, other] = ["ann", "bob"].map(|name| sessions.begin(name).unwrap());
        let [one, other] = [one, other].map(|cookie| sessions.member(&cookie, true).unwrap());
        let token = one.token();
        assert_ne!(token, one.token());
        assert!(one.knows(&token) && !other.knows(&token));
        for wrong in ["", "00", &token[2..], &"0".repeat(128)] {
            assert!(!one.knows(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_session_ends() {
        let sessions = Sessions::default();
        let cookie = sessions.begin("ann").unwrap();
        assert_eq!(sessions.member(&cookie, true).unwrap().name, "ann");
        sessions.end(&cookie);
        assert!(sessions.member(&cookie, true).is_none());
        let cookie = sessions.begin("ann").unwrap();
        sessions.end_all("ann");
        assert!(sessions.member(&cookie, true).is_none());
        assert!(sessions.member("", true).is_none());
    }
}
