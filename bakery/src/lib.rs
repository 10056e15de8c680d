//! bakery, the server of layerfs: it turns trees into layers, keeps them in signed
//! histories and serves them to the machines that boot from them.
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`], [`commands`] | the command line: one file per verb |
//! | [`source`] | trees from outside as one stream of entries |
//! | [`sys`] | the few direct system calls |
//! | [`output`], [`progress`] | what a person or a script reads on a terminal |

pub mod cli;
pub mod commands;
pub mod output;
pub mod progress;
pub mod source;
pub mod sys;
