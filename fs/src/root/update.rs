//! The local side of update packs: the older revision to start from, and the records that prove raw
//! chunks.

mod old;
mod saved;

pub(super) use crate::chunks::update::Old;
pub(super) use old::old;
pub(super) use saved::{load, save};
