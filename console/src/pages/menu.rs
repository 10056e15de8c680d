//! The boot menu: its entries, their parameters, and the text that loaders receive.

use askama::Template;
use axum::Extension;
use axum::extract::RawQuery;
use bakery::netboot::{Choices, Menu, MenuChoice, grub, ipxe};

use super::Answer;
use crate::text::query_text;
use crate::web::{Frame, Visitor, html};

/// Seconds before `bakery serve` starts the first entry, by default.
const TIMEOUT_S: u32 = 10;

#[derive(Template)]
#[template(path = "menu.html")]
struct MenuPage {
    s: Frame,
    entries: Vec<OfferedEntry>,
    /// Histories without an entry, each with the reason.
    unbootable: Vec<(String, String)>,
    ipxe: String,
    grub: String,
    name: String,
    cmdline: String,
    url: String,
}

/// The first entry of a history.
struct OfferedEntry {
    name: String,
    label: String,
    cmdline: String,
    revision: u64,
}

/// Entries and preview; with a name and parameters, as they would be with these.
pub(crate) async fn menu(
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor
        .work(move |visitor| {
            let name = query_text(query.as_deref(), "name");
            let cmdline = query_text(query.as_deref(), "cmdline");
            let history = visitor.app.history()?;
            let (mut choices, mut entries) = (Choices::default(), Vec::new());
            let mut unbootable = Vec::new();
            for history_name in history.names()? {
                let head = history.require_head(&history_name)?;
                let mut manifest = head.manifest.clone();
                if history_name.to_string() == name && !cmdline.is_empty() {
                    manifest.cmdline.clone_from(&cmdline);
                }
                match MenuChoice::of(&manifest) {
                    Ok(choice) => {
                        entries.push(OfferedEntry {
                            name: history_name.to_string(),
                            label: choice.label.clone(),
                            cmdline: manifest.cmdline.clone(),
                            revision: head.number(),
                        });
                        choices.newest.push(choice);
                    }
                    Err(why) => {
                        unbootable.push((history_name.to_string(), why.clone()));
                        choices.unbootable.push(why);
                    }
                }
            }
            let menu = Menu {
                base: visitor
                    .app
                    .options
                    .menu_url
                    .trim_end_matches('/')
                    .to_owned(),
                timeout: TIMEOUT_S,
                again: None,
            };
            html(&MenuPage {
                s: visitor.frame(visitor.language.text("Boot menu")),
                entries,
                ipxe: ipxe(&menu, &choices),
                grub: grub(&menu, &choices),
                unbootable,
                url: menu.base,
                name,
                cmdline,
            })
        })
        .await
}
