//! The systems of the store: a page for browsers, lines for terminals.

use std::fmt::Write as _;

use wire::paths::Request;

use super::Menu;

/// The newest revision of one history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageEntry {
    /// The name as `SYSTEM[/PROFILE]`.
    pub name: String,
    /// The newest revision.
    pub revision: u64,
    /// When it was made, for people; empty if its record cannot be read.
    pub time: String,
    /// The first line of its message.
    pub message: String,
}

/// One line a history.
#[must_use]
pub(crate) fn plain(entries: &[PageEntry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let PageEntry {
            name,
            revision,
            time,
            message,
        } = entry;
        let line = format!("  {name:<24} revision {revision}  {time}  {message}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if entries.is_empty() {
        text.push_str("  no systems yet: `bakery import SYSTEM SOURCE` makes the first one\n");
    }
    text
}

/// The page at `/`.
#[must_use]
pub(crate) fn page(menu: &Menu, entries: &[PageEntry]) -> String {
    let base = escape(&menu.base);
    let mut rows = String::new();
    for entry in entries {
        let (name, time) = (escape(&entry.name), escape(&entry.time));
        let menu = match entry.name.parse() {
            Ok(name) => Request::IpxeProfile(name).to_string(),
            Err(_) => continue,
        };
        let (revision, message) = (entry.revision, escape(&entry.message));
        let _ = writeln!(
            rows,
            "<tr><td><a href=\"{menu}\">{name}</a></td><td>{revision}</td><td>{time}</td><td>{message}</td></tr>"
        );
    }
    if entries.is_empty() {
        rows.push_str(
            "<tr><td colspan=4>no systems yet: <code>bakery import SYSTEM SOURCE</code> makes the first one</td></tr>\n",
        );
    }
    let [ipxe, grub, pxelinux] = [Request::Ipxe, Request::Grub, Request::Pxelinux];
    let [systems, metrics] = [Request::Systems, Request::Metrics];
    format!(
        "<!DOCTYPE html>\n<html lang=en><meta charset=utf-8><title>layerfs</title>\n\
         <style>body{{font-family:sans-serif;margin:2em}}td,th{{text-align:left;padding:.2em 1em .2em 0}}</style>\n\
         <h1>layerfs</h1>\n<table><tr><th>system</th><th>revision</th><th>made</th><th>message</th></tr>\n{rows}</table>\n\
         <p>Menus of boot loaders: <a href=\"{ipxe}\">iPXE</a>, <a href=\"{grub}\">GRUB</a>, \
         <a href=\"{pxelinux}\">pxelinux</a>. <a href=\"{systems}\">Systems as JSON</a>, \
         <a href=\"{metrics}\">metrics</a>.</p>\n\
         <p>Mount one: <code>layerfs mount {base}/SYSTEM DIRECTORY</code></p>\n</html>\n"
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_text_not_markup() {
        let menu = Menu {
            base: "http://srv:8080".into(),
            timeout: 3,
            again: None,
        };
        let entry = PageEntry {
            name: "kiosk".into(),
            revision: 3,
            time: "2026-11-25 06:15 UTC".into(),
            message: "<script>alert(\"&\")</script>".into(),
        };
        let html = page(&menu, std::slice::from_ref(&entry));
        assert!(
            !html.contains("<script>") && html.contains("&lt;script&gt;alert(&quot;&amp;&quot;)"),
            "{html}"
        );
        assert!(
            html.contains("layerfs mount http://srv:8080/SYSTEM"),
            "{html}"
        );
        assert!(plain(&[entry]).contains("kiosk                    revision 3  2026-11-25"));
        assert!(plain(&[]).contains("bakery import"));
    }
}
