//! Update packs: what a reader of one merged index needs to become a reader of another
//! (`docs/FORMAT.md` §18).
//!
//! A pack is a preamble, a signed record (its grammar is not of this crate), a head and frames: the
//! new INDEX and *units* of new chunks, each one zstd frame with content of the old revision as its
//! prefix. [`Head`] is what the head says, checked by itself; [`Plan`] is the same checked against
//! both indexes; [`Plan::apply`] makes chunks.

mod code;
mod head;
mod plan;

pub use code::{UnitEncoder, decode_index, encode_index};
pub use head::{
    HEADER_LEN, Head, IndexFrame, Made, PREAMBLE_LEN, Preamble, Span, UNIT_CODEC_ZSTD, Unit,
};
pub use plan::{Plan, Ready};
