//! The layout of a layer file: constants and fixed records. `docs/FORMAT.md` explains them and a
//! test compares its tables with this module.

pub mod chunk;
pub mod columns;
pub mod inode;
pub mod superblock;
