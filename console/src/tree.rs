//! Changed paths as a tree that opens and closes without scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bakery::graft::TreeChange;

use crate::catalog::Language;
use crate::graph::escape;
use crate::text::{percent, visible};

/// Maximum number of paths on a page.
pub(crate) const SHOWN_MAX: usize = 2000;
/// Number of paths up to which all directories are open.
const OPEN_MAX: usize = 150;

/// A directory of changed paths.
#[derive(Debug, Default)]
struct Branch<'c> {
    change: Option<&'c TreeChange>,
    below: BTreeMap<&'c [u8], Branch<'c>>,
    count: usize,
}

impl<'c> Branch<'c> {
    fn add(&mut self, change: &'c TreeChange) {
        let mut branch = self;
        for part in change
            .bytes
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
        {
            branch.count += 1;
            branch = branch.below.entry(part).or_default();
        }
        branch.change = Some(change);
    }
}

/// The tree as HTML. `content` is the URL of the page of one path, up to the path.
pub(crate) fn draw(changes: &[TreeChange], content: &str, language: Language) -> String {
    let mut root = Branch::default();
    for change in changes.iter().take(SHOWN_MAX) {
        root.add(change);
    }
    let mut out = String::from("<ul class=\"tree\">");
    let drawing = Drawing {
        content,
        language,
        is_open: changes.len() <= OPEN_MAX,
    };
    drawing.children(&root, &mut out);
    out.push_str("</ul>");
    out
}

/// The tree without links, for changes that are not published.
pub(crate) fn plain(changes: &[TreeChange], language: Language) -> String {
    draw(changes, "", language)
}

struct Drawing<'d> {
    content: &'d str,
    language: Language,
    is_open: bool,
}

impl Drawing<'_> {
    fn children(&self, branch: &Branch<'_>, out: &mut String) {
        for (name, child) in &branch.below {
            self.item(name, child, out);
        }
    }

    fn item(&self, name: &[u8], branch: &Branch<'_>, out: &mut String) {
        // A directory with one entry and no change of its own shares a line with that entry.
        let mut path = visible(name);
        let mut last = branch;
        while let (None, 1, Some((name, child))) =
            (last.change, last.below.len(), last.below.first_key_value())
        {
            path.push('/');
            path.push_str(&visible(name));
            last = child;
        }
        let line = match last.change {
            Some(change) => self.change(change, &path),
            None => format!("<span class=\"path\">{}/</span>", escape(&path)),
        };
        if last.below.is_empty() {
            let _ = write!(out, "<li>{line}</li>");
            return;
        }
        let open = if self.is_open { " open" } else { "" };
        let _ = write!(
            out,
            "<li><details{open}><summary>{line} <span class=\"dim\">{}</span></summary><ul>",
            last.count
        );
        self.children(last, out);
        out.push_str("</ul></details></li>");
    }

    fn change(&self, change: &TreeChange, path: &str) -> String {
        let class = match change.mark {
            '+' => "added",
            '-' => "deleted",
            _ => "changed",
        };
        let what = words(&change.what, self.language);
        if self.content.is_empty() {
            return format!(
                "<span class=\"badge {class}\">{}</span> <span class=\"path\">{}</span> <span class=\"dim\">{}</span>",
                escape(&change.mark.to_string()),
                escape(path),
                escape(&what)
            );
        }
        format!(
            "<span class=\"badge {class}\">{}</span> <a class=\"path\" href=\"{}{}\">{}</a> <span class=\"dim\">{}</span>",
            escape(&change.mark.to_string()),
            escape(self.content),
            percent(&change.bytes),
            escape(path),
            escape(&what)
        )
    }
}

/// The description of a change, translated part by part.
pub(crate) fn words(what: &str, language: Language) -> String {
    if language == Language::English {
        return what.to_owned();
    }
    let pieces = what.split(" and ").map(|piece| {
        for stem in STEMS {
            if let Some(rest) = piece.strip_prefix(stem) {
                let rest = rest.replacen(" to ", " → ", 1);
                return format!("{}{rest}", language.text(stem));
            }
        }
        language.text(piece).to_owned()
    });
    pieces.collect::<Vec<_>>().join(", ")
}

/// The beginnings of descriptions that end with values.
const STEMS: [&str; 3] = [
    mark("changed its target to "),
    mark("changed the mode "),
    mark("changed the owner to "),
];

/// The whole descriptions.
#[cfg(test)]
const WHOLE: [&str; 14] = [
    mark("added a directory"),
    mark("added a file"),
    mark("added a symbolic link"),
    mark("added a device"),
    mark("added a pipe"),
    mark("added a socket"),
    mark("deleted the directory"),
    mark("deleted the file"),
    mark("deleted the symbolic link"),
    mark("deleted the device"),
    mark("changed the content"),
    mark("changed the device number"),
    mark("changed the attributes"),
    mark("changed things inside"),
];

/// Marks a text for the catalog.
const fn mark(text: &'static str) -> &'static str {
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &[u8], mark: char) -> TreeChange {
        TreeChange {
            mark,
            path: String::from_utf8_lossy(path).into_owned(),
            bytes: path.to_vec(),
            what: "changed the mode 0644 to 0600 and changed the content".into(),
        }
    }

    #[test]
    fn names_are_text_and_never_markup() {
        let changes = [
            change(b"srv/<script>alert(1)</script>", '+'),
            change(b"srv/\xff\"onload=", '*'),
            change(b"etc/x", '-'),
        ];
        let drawn = draw(&changes, "/compare/file?path=", Language::English);
        assert!(
            !drawn.contains("<script") && !drawn.contains("\"onload"),
            "{drawn}"
        );
        assert!(
            drawn.contains("\\xff&quot;onload=") && drawn.contains("path=srv/%FF%22onload%3D"),
            "{drawn}"
        );
        assert!(
            drawn.contains("etc/x"),
            "one thing in a directory is one line"
        );
    }

    #[test]
    fn descriptions_are_translated() {
        let russian = words(&change(b"x", '*').what, Language::Russian);
        assert!(
            russian.contains("0644 → 0600") && !russian.contains("changed"),
            "{russian}"
        );
        for whole in WHOLE {
            assert_ne!(words(whole, Language::Russian), whole);
        }
    }
}
