//! The pages, one file for each.

pub(crate) mod accounts;
pub(crate) mod action;
pub(crate) mod audit;
pub(crate) mod compare;
pub(crate) mod entrance;
mod fetch;
pub(crate) mod import;
pub(crate) mod jobs;
pub(crate) mod keys;
mod machine_values;
pub(crate) mod machines;
pub(crate) mod menu;
pub(crate) mod overview;
pub(crate) mod publish;
pub(crate) mod revision;
pub(crate) mod rings;
pub(crate) mod store;
pub(crate) mod system;
pub(crate) mod tasks;

use axum::response::Response;

use crate::problem::Result;

/// The answer of a page.
pub(crate) type Answer = Result<Response>;
