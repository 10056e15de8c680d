//! The keys that may publish, and the expiry of heads.

use askama::Template;
use axum::Extension;
use wire::manifest::Signer;

use super::Answer;
use crate::problem::Problem;
use crate::text::now;
use crate::web::{Frame, Visitor, html};

/// Seconds before the end of a validity at which the page warns.
const SOON_S: u64 = 30 * 86_400;

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage {
    s: Frame,
    keys: Vec<(Signer, bool)>,
    roots: Vec<String>,
    version: u64,
    expires: Option<u64>,
    lifetime: String,
    heads: Vec<(String, u64, bool)>,
    has_root: bool,
    may_sign: String,
}

/// The keyset, with warnings about keys and records that expire soon.
pub(crate) async fn keys(Extension(visitor): Extension<Visitor>) -> Answer {
    visitor
        .work(|visitor| {
            let history = visitor.app.history()?;
            let own = visitor
                .app
                .options
                .globals
                .keys()
                .map_err(|error| Problem::failed(format!("{error:#}")))?;
            let keyset = history.keyset();
            let soon = |end: Option<u64>| end.is_some_and(|end| end < now() + SOON_S);
            let mut heads = Vec::new();
            for name in history.names()? {
                let head = history.require_head(&name)?;
                if let Some(end) = head.head.expires_at {
                    let late = end < now() + (end.saturating_sub(head.head.issued_at)) / 4;
                    heads.push((name.to_string(), end, late));
                }
            }
            let lifetime = own.lifetime().ok().flatten();
            html(&KeysPage {
                s: visitor.frame(visitor.language.text("Keys")),
                keys: keyset
                    .keys
                    .iter()
                    .map(|key| (key.clone(), soon(key.valid_before) && !key.revoked))
                    .collect(),
                roots: keyset.roots.clone(),
                version: keyset.version,
                expires: keyset.expires_at,
                lifetime: lifetime
                    .map(|age| bakery::human::age(age.as_secs()))
                    .unwrap_or_default(),
                heads,
                has_root: own.directory().join("root").exists(),
                may_sign: own
                    .head()
                    .err()
                    .map(|error| bakery::human::causes(&error))
                    .unwrap_or_default(),
            })
        })
        .await
}
