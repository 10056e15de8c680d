//! bakery, the server of layerfs: turns trees into layers, stores them in signed histories and
//! serves them to the machines that boot from them.
//!
//! | module | task |
//! |---|---|
//! | [`cli`], [`commands`], [`globals`] | the command line: one file per command |
//! | [`assemble`], [`overlay`], [`bake`] | turn entries into a layer |
//! | [`machine`] | removes data of one machine from a tree that many boot |
//! | [`initrd`] | builds an initramfs from a system's own tree |
//! | [`history`], [`publish`], [`graft`] | read signed revisions; make the next one; apply a layer to another tree |
//! | [`content_diff`] | the lines in which a file of two revisions differs |
//! | [`sweep`], [`scrub`] | delete unreachable objects; verify the rest |
//! | [`purge`] | removes a path from history |
//! | [`keys`], [`clock`] | signing keys and times |
//! | [`store`], [`replica`] | named objects, created once; copies of a store |
//! | [`output`], [`progress`], [`human`] | output for users and scripts |
//! | [`failed`] | the operation that failed, beside its error |
//! | [`serve`] | serves the store over HTTP |
//! | [`mirror`] | follows the histories of another store; histories as one file |
//! | [`update_pack`] | encodes a revision against an older one |
//! | [`pairs`] | finds the old file that a new file resembles |
//! | [`ring`] | changes of the rings of a history |
//! | [`notice`] | notices of automatic changes |
//! | [`netboot`] | boot menus and the configuration of dnsmasq |
//! | [`jobs`] | the spool of pushes |
//! | [`predict`], [`rehearse`] | predict the pages of a first boot; boot a revision here to learn them |
//! | [`boots`], [`traces`] | boot times and boot traces of each revision |
//! | [`authorize`], [`receive`] | permissions to push; receive a push |
//! | [`watch`] | bakes and publishes pushes |
//! | [`sys`] | direct system calls |

pub mod assemble;
pub(crate) mod authorize;
pub mod bake;
pub mod boots;
pub mod cli;
pub(crate) mod client;
pub mod clock;
pub(crate) mod commands;
pub mod content_diff;
pub mod failed;
pub mod globals;
pub mod graft;
pub mod history;
pub mod human;
pub(crate) mod initrd;
pub mod jobs;
pub mod keys;
pub(crate) mod limits;
pub(crate) mod machine;
pub(crate) mod mirror;
pub mod netboot;
pub(crate) mod notice;
pub(crate) mod output;
pub mod overlay;
pub(crate) mod pack;
pub(crate) mod pairs;
pub(crate) mod predict;
pub(crate) mod progress;
pub mod publish;
pub(crate) mod purge;
pub(crate) mod receive;
pub(crate) mod rehearse;
pub(crate) mod replica;
pub mod ring;
pub mod scrub;
pub(crate) mod serve;
pub mod store;
pub mod sweep;
pub(crate) mod sys;
pub(crate) mod system_check;
pub(crate) mod traces;
pub(crate) mod unpack;
pub mod update_pack;
pub(crate) mod watch;
pub mod work_directory;
