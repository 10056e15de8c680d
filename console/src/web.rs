//! The surroundings of every page: the visitor, forms, answers, headers and the guard.

mod answer;
mod assets;
mod form;
mod guard;
mod visitor;

pub(crate) use answer::{fragment, html, redirect, with_notice};
pub(crate) use assets::asset;
pub(crate) use form::Form;
pub(crate) use guard::{clear_session, guard, session_cookie};
pub(crate) use visitor::{Frame, Visitor};
