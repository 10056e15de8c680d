//! Roots on a server: faults, mirrors, trust, packs, caches, backups, links. Real mounts, every byte compared.

mod boots;
mod client;
mod contact;
mod early;
mod faults;
mod hostile_packs;
mod kills;
mod links;
mod mirror;
mod offline;
mod packs;
pub(crate) mod predicted;
mod reads;
pub(crate) mod rehearse;
mod replay;
mod server;
mod silent;
mod site;
mod switches;
mod trust;
mod updates;
