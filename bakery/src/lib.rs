//! bakery, the server of layerfs: it turns trees into layers, keeps them in signed
//! histories and serves them to the machines that boot from them.
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`], [`commands`], [`globals`] | the command line: one file per verb |
//! | [`source`] | trees from outside as one stream of entries |
//! | [`assemble`], [`overlay`], [`bake`] | entries to a layer |
//! | [`machine`] | what belongs to one machine, in a tree that many boot |
//! | [`initrd`] | an initramfs made from a system's own tree |
//! | [`history`], [`publish`], [`graft`] | signed revisions; the next one; a layer on another tree |
//! | [`sweep`], [`scrub`] | deleting what nobody reaches; verifying the rest |
//! | [`purge`] | a path taken out of history |
//! | [`keys`], [`clock`] | who signs, and when |
//! | [`store`], [`replica`] | objects by name, and who may create them; a store copied elsewhere |
//! | [`output`], [`progress`], [`human`] | what a person or a script reads on a terminal |
//! | [`serve`] | the store over HTTP |
//! | [`netboot`] | boot menus and dnsmasq's configuration |
//! | [`jobs`] | the spool: what arrived, is baked, was baked |
//! | [`boots`], [`traces`] | how long the boots of each revision took, and what they touched |
//! | [`authorize`], [`receive`] | who may push; taking a push |
//! | [`watch`] | from what arrives to what is published |
//! | [`sys`] | the few direct system calls |

pub mod assemble;
pub mod authorize;
pub mod bake;
pub mod boots;
pub mod cli;
pub mod client;
pub mod clock;
pub mod commands;
pub mod globals;
pub mod graft;
pub mod history;
pub mod human;
pub mod initrd;
pub mod jobs;
pub mod keys;
pub mod machine;
pub mod netboot;
pub mod output;
pub mod overlay;
pub mod pack;
pub mod progress;
pub mod publish;
pub mod purge;
pub mod receive;
pub mod replica;
pub mod scrub;
pub mod serve;
pub mod source;
pub mod store;
pub mod sweep;
pub mod sys;
pub mod system_check;
pub mod traces;
pub mod unpack;
pub mod watch;
