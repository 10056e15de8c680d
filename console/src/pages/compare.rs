//! Two revisions side by side, and the lines of one file in both.

use askama::Template;
use axum::Extension;
use axum::extract::RawQuery;
use axum::http::HeaderMap;
use bakery::content_diff::{self, Side};
use bakery::graft::changes;
use bakery::human;
use wire::manifest::RevisionName;

use super::Answer;
use super::revision::{Shown, compared};
use crate::problem::{Problem, Result};
use crate::text::{query_text, query_value, visible};
use crate::tree;
use crate::web::{Frame, Visitor, html};

/// Maximum number of lines of a difference on one page.
const LINES_MAX: usize = 5000;

#[derive(Template)]
#[template(path = "compare.html")]
struct ComparePage {
    s: Frame,
    from: String,
    to: String,
    names: Vec<String>,
    result: Option<Shown>,
}

/// The changes between any two revisions.
pub(crate) async fn compare(
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor
        .work(move |visitor| {
            let query = query.as_deref();
            let (from, to) = (query_text(query, "from"), query_text(query, "to"));
            let snapshot = visitor.app.snapshot()?;
            let names = snapshot
                .histories
                .iter()
                .map(|line| format!("{}@{}", line.name, line.newest));
            let result = match from.is_empty() || to.is_empty() {
                true => None,
                false => {
                    let history = visitor.app.history()?;
                    let (one, other) = (
                        history.revision(&named(&from)?)?,
                        history.revision(&named(&to)?)?,
                    );
                    Some(compared(visitor, &history, &one, &other))
                }
            };
            html(&ComparePage {
                s: visitor.frame(visitor.language.text("Compare")),
                names: names.collect(),
                from,
                to,
                result,
            })
        })
        .await
}

/// A revision that a person named.
pub(crate) fn named(text: &str) -> Result<RevisionName> {
    text.parse()
        .map_err(|error| Problem::bad(format!("“{text}”: {error}")))
}

#[derive(Template)]
#[template(path = "file.html")]
struct FilePage {
    s: Frame,
    from: String,
    to: String,
    path: String,
    what: String,
    lines: Vec<(&'static str, String)>,
    is_cut: bool,
}

#[derive(Template)]
#[template(path = "lines.html")]
struct Lines {
    s: Frame,
    lines: Vec<(&'static str, String)>,
    is_cut: bool,
}

/// The lines of one path that differ. A script asks for the lines only.
pub(crate) async fn file(
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let is_part = headers.contains_key("hx-request");
    visitor
        .work(move |visitor| file_page(visitor, query.as_deref(), is_part))
        .await
}

fn file_page(visitor: &Visitor, query: Option<&str>, is_part: bool) -> Answer {
    let (from, to) = (query_text(query, "from"), query_text(query, "to"));
    let path = query_value(query, "path").unwrap_or_default();
    let history = visitor.app.history()?;
    let (one, other) = (
        history.revision(&named(&from)?)?,
        history.revision(&named(&to)?)?,
    );
    let (before, after) = (
        history.merged(&one.manifest)?,
        history.merged(&other.manifest)?,
    );
    let found = changes(&before, &after)?;
    let Some(change) = found.iter().find(|change| change.bytes == path) else {
        return Err(Problem::absent(format!(
            "/{} does not differ",
            visible(&path)
        )));
    };
    let side = |revision, merged| Side {
        history: &history,
        revision,
        merged,
    };
    let content = content_diff::of(change, &side(one, before), &side(other, after));
    let content = content.map_err(|error| Problem::failed(human::causes(&error)))?;
    let lines: Vec<(&'static str, String)> =
        content.lines.lines().take(LINES_MAX).map(classed).collect();
    let is_cut = content.lines.lines().nth(LINES_MAX).is_some();
    let s = visitor.frame(&format!("/{}", visible(&path)));
    if is_part {
        return html(&Lines { s, lines, is_cut });
    }
    html(&FilePage {
        s,
        what: tree::words(&change.what, visitor.language),
        path: visible(&path),
        from,
        to,
        lines,
        is_cut,
    })
}

/// A line of a unified difference with its class.
fn classed(line: &str) -> (&'static str, String) {
    let class = match line.as_bytes().first() {
        Some(b'+') if !line.starts_with("+++") => "ins",
        Some(b'-') if !line.starts_with("---") => "del",
        Some(b'@') => "hunk",
        Some(b'+' | b'-') => "head",
        _ => "same",
    };
    (class, visible(line.as_bytes()))
}
