//! Errors of verification.

use std::fmt;

use crate::manifest::RecordError;
use layerfmt::Digest;

/// The reason why a record was rejected. The message of every variant names the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustError {
    /// The bytes are not a valid record.
    Malformed(RecordError),
    /// The `allowed_signers` text cannot be used.
    AllowedSigners {
        /// Counted from 1.
        line: usize,
        /// The fault of the record.
        what: String,
    },
    /// The signature is damaged, of another kind, or does not fit the payload.
    BadSignature(String),
    /// Signed for another purpose.
    WrongNamespace {
        /// The expected namespace.
        wanted: &'static str,
        /// The purpose for which it was signed.
        found: String,
    },
    /// Signed by a key that is not trusted, at least not for this name.
    UnknownKey {
        /// `SHA256:…` as `ssh-keygen -l` prints it.
        fingerprint: String,
        /// The record that the key signed.
        signed: String,
    },
    /// Signed by a key that has been withdrawn.
    RevokedKey {
        /// The name of the key in the keyset.
        name: String,
    },
    /// Signed outside the validity period of the key.
    KeyNotValid {
        /// The name or fingerprint of the key.
        name: String,
        /// When the record was issued.
        issued_at: u64,
        /// The reader's clock.
        now: u64,
    },
    /// Past its end.
    Expired {
        /// `head`, `keyset` or `ring record`.
        record: &'static str,
        /// The time of expiry.
        expires_at: u64,
        /// The reader's clock.
        now: u64,
    },
    /// Older than a record that this reader has already seen.
    RolledBack {
        /// `head`, `keyset` or `ring record`.
        record: &'static str,
        /// The newest number seen.
        seen: u64,
        /// The number offered.
        offered: u64,
    },
    /// A sound record of something else.
    WrongName {
        /// The requested name.
        wanted: String,
        /// The name in the record.
        found: String,
    },
    /// Bytes that are not the ones the signed record names.
    WrongDigest {
        /// The kind of the record.
        record: &'static str,
        /// The expected digest.
        wanted: Digest,
        /// The actual digest.
        found: Digest,
    },
    /// A store without any keyset.
    NoKeyset,
}

impl From<RecordError> for TrustError {
    fn from(error: RecordError) -> Self {
        TrustError::Malformed(error)
    }
}

impl std::error::Error for TrustError {}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustError::Malformed(error) => write!(f, "{error}; the server or the link is broken"),
            TrustError::AllowedSigners { line, what } => {
                write!(f, "allowed_signers line {line}: {what}")
            }
            TrustError::BadSignature(what) => write!(f, "bad signature: {what}"),
            TrustError::WrongNamespace { wanted, found } => {
                write!(f, "signed for '{found}', not for '{wanted}'")
            }
            TrustError::UnknownKey {
                fingerprint,
                signed,
            } => write!(
                f,
                "{signed} is signed by {fingerprint}, which no trusted key allows; if this key is \
                 correct, add it (bakery key add) or renew the client's allowed_signers"
            ),
            TrustError::RevokedKey { name } => write!(
                f,
                "signed by key '{name}', which is revoked; the bakery must sign again (bakery key \
                 rotate)"
            ),
            TrustError::KeyNotValid {
                name,
                issued_at,
                now,
            } => write!(
                f,
                "signed at {issued_at} by key '{name}' outside its validity period (now {now}); \
                 check the clock, or sign again (bakery key rotate)"
            ),
            TrustError::Expired {
                record,
                expires_at,
                now,
            } => write!(
                f,
                "the {record} expired at {expires_at} (now {now}); check the clock, or the bakery \
                 has stopped renewing it"
            ),
            TrustError::RolledBack {
                record,
                seen,
                offered,
            } => write!(
                f,
                "the server offers {record} {offered}, but {seen} was seen before: an old copy of \
                 the store, or an attack"
            ),
            TrustError::WrongName { wanted, found } => {
                write!(f, "asked for {wanted}, got {found}")
            }
            TrustError::WrongDigest {
                record,
                wanted,
                found,
            } => {
                write!(
                    f,
                    "the {record} has digest {found}, the signed record names {wanted}"
                )
            }
            TrustError::NoKeyset => write!(
                f,
                "the store has no keyset and no trusted key may sign heads by itself; \
                 run bakery init"
            ),
        }
    }
}
