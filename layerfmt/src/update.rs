//! Update packs: they take a reader from one merged index to a later one (`docs/FORMAT.md` §18).
//!
//! A pack is a preamble, a signed record (`wire` defines it), a head, and frames: the new INDEX and
//! *units* of new chunks. Each frame is one zstd frame with contents of the old revision as its
//! prefix. [`UpdateHead`] is the head, checked by itself; [`UpdatePlan`] is the head checked against both
//! indexes; [`UpdatePlan::apply`] makes chunks.

mod addresses;
mod again;
mod code;
mod head;
mod plan;
mod recipe;
mod runs;
mod script;
#[cfg(feature = "remake")]
mod sys;

pub use again::stored_again;
pub use code::{IndexEffort, UnitEncoder, decode_index, decode_index_after, encode_index};
pub use head::{
    HEADER_LEN, IndexFrame, MadeChunk, PREAMBLE_LEN, Preamble, Span, UNIT_CODEC_REMADE,
    UNIT_CODEC_RUNS, UNIT_CODEC_X86, UNIT_CODEC_ZSTD, Unit, UpdateHead,
};
pub use plan::{Ready, UpdatePlan};
pub use recipe::{PackRecipe, inflate_start, zstd_frame};
pub use runs::Run;
pub use script::{Script, ScriptCopy, ScriptPart};
