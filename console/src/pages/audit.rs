//! The audit log.

use askama::Template;
use axum::Extension;
use axum::extract::RawQuery;

use super::Answer;
use crate::accounts::Role;
use crate::audit::Entry;
use crate::text::query_text;
use crate::web::{Frame, Visitor, html};

/// Maximum number of lines that the page reads, and that it shows.
const READ_MAX: usize = 4000;
const SHOWN_MAX: usize = 300;

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    s: Frame,
    entries: Vec<Entry>,
    who: String,
}

/// The page with the last lines of the log.
pub(crate) async fn audit(
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor
        .work(move |visitor| {
            visitor.require(Role::Admin)?;
            let who = query_text(query.as_deref(), "who");
            let mut entries = visitor.app.audit.tail(READ_MAX)?;
            entries.retain(|entry| who.is_empty() || entry.who == who);
            entries.truncate(SHOWN_MAX);
            html(&AuditPage {
                s: visitor.frame(visitor.language.text("Audit log")),
                entries,
                who,
            })
        })
        .await
}
