//! bakery-console: the web page of a bakery, for the people who run it.
//!
//! Pages are rendered here and work without scripts; every action calls the functions of the
//! command line (`bakery`'s library). `docs/CONSOLE.md` is the specification.
//!
//! | module | task |
//! |---|---|
//! | [`options`] | the command line |
//! | [`text`], [`catalog`] | words for people: bytes made visible, times, translations |
//! | [`accounts`], [`sessions`], [`lockout`] | users, passwords, roles; who is logged in; limits on attempts |
//! | [`audit`] | the record of every action |
//! | [`tasks`], [`uploads`] | long operations; files sent by browsers |
//! | [`problem`] | an error with its status |
//! | [`state`], [`snapshot`], [`chains`] | everything that requests share; what the overview shows; histories in memory |
//! | [`web`] | answers, forms, headers and the guard of every request |
//! | [`plot`], [`graph`], [`tree`] | drawings and lists of changed paths |
//! | [`pages`] | one file for each page |
//! | [`server`] | routes, listener, TLS |

pub(crate) mod accounts;
pub(crate) mod audit;
pub(crate) mod catalog;
pub(crate) mod chains;
pub(crate) mod graph;
pub(crate) mod lockout;
pub mod options;
pub(crate) mod pages;
pub(crate) mod plot;
pub(crate) mod problem;
pub mod server;
pub(crate) mod sessions;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod tasks;
pub(crate) mod text;
pub(crate) mod tree;
pub(crate) mod uploads;
pub(crate) mod web;
