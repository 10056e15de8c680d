//! The chain of trust of a revision: root keys → keyset → head → manifest.
//!
//! Everything here is a pure function of bytes, of `now` and of the numbers that the reader has
//! seen before (`high_water`); clocks and files belong to the caller. Signatures are SSHSIG, the
//! format of `ssh-keygen -Y sign`. The digests below the manifest (index, then chunk) are checked
//! when these are fetched.

mod allowed_signers;
mod bundle;
mod chain;
mod envelope;
mod error;
mod ring;
mod values;

pub use allowed_signers::AllowedSigners;
pub use bundle::{BUNDLE_LEN_MAX, Bundle, Verified};
pub use chain::{
    HighWater, VerifiedHead, verify_head, verify_kept_update, verify_keysets, verify_manifest,
    verify_previous, verify_update,
};
pub use envelope::{ENVELOPE_LEN_MAX, Envelope, public_key_line};
pub use error::TrustError;
pub use ring::{VerifiedRings, verify_previous_rings, verify_ring_head, verify_rings};
pub use values::{VerifiedValues, verify_values};

/// SSHSIG namespace of head records.
pub const HEAD_NAMESPACE: &str = "layerfs-head@v1";
/// SSHSIG namespace of ring records.
pub const RING_NAMESPACE: &str = "layerfs-ring@v1";
/// SSHSIG namespace of values records.
pub const VALUES_NAMESPACE: &str = "layerfs-values@v1";
/// SSHSIG namespace of the records of update packs.
pub const UPDATE_NAMESPACE: &str = "layerfs-update@v1";
/// SSHSIG namespace of keysets.
pub const KEYSET_NAMESPACE: &str = "layerfs-keyset@v1";
/// The principal that a root key must have in `allowed_signers` to sign keysets.
pub const KEYSET_PRINCIPAL: &str = "keyset";

#[cfg(test)]
mod tests;
