//! Translations: the English text is the key, a catalog of gettext gives the translation.

use std::collections::HashMap;
use std::sync::OnceLock;

/// The Russian catalog.
const RUSSIAN: &str = include_str!("../po/ru.po");

/// A language of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Language {
    /// The language of the source.
    #[default]
    English,
    /// From `po/ru.po`.
    Russian,
}

/// Translations with one form, or with the three forms of Russian.
#[derive(Debug, Default)]
struct Catalog {
    single: HashMap<String, String>,
    plural: HashMap<String, Vec<String>>,
}

impl Catalog {
    fn read(text: &str) -> Result<Catalog, String> {
        let options = polib::po_file::POParseOptions::default();
        let parsed = polib::po_file::parse_from_reader_with_option(text.as_bytes(), &options);
        let parsed = parsed.map_err(|error| error.to_string())?;
        let mut catalog = Catalog::default();
        for message in parsed.messages() {
            if !message.is_translated() || message.is_fuzzy() {
                continue;
            }
            let key = message.msgid().to_owned();
            if message.is_plural() {
                let forms = message.msgstr_plural().cloned().unwrap_or_default();
                catalog.plural.insert(key, forms);
            } else {
                let text = message.msgstr().unwrap_or_default();
                catalog.single.insert(key, text.to_owned());
            }
        }
        Ok(catalog)
    }

    fn russian() -> &'static Catalog {
        static READ: OnceLock<Catalog> = OnceLock::new();
        READ.get_or_init(|| {
            Catalog::read(RUSSIAN).unwrap_or_else(|error| {
                tracing::error!("the Russian catalog cannot be read: {error}");
                Catalog::default()
            })
        })
    }
}

/// The plural form of Russian for a number.
fn russian_form(count: u64) -> usize {
    let (tens, ones) = (count % 100, count % 10);
    match (tens, ones) {
        (11..=14, _) => 2,
        (_, 1) => 0,
        (_, 2..=4) => 1,
        _ => 2,
    }
}

impl Language {
    /// The code for `<html lang>`.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Russian => "ru",
        }
    }

    /// The language of a code.
    pub(crate) fn of(code: &str) -> Option<Language> {
        match code {
            "en" => Some(Language::English),
            "ru" => Some(Language::Russian),
            _ => None,
        }
    }

    /// The first known language of an `Accept-Language` header.
    pub(crate) fn accepted(header: &str) -> Language {
        let mut codes = header.split(',').map(str::trim);
        let known = codes.find_map(|code| Language::of(code.get(..2)?));
        known.unwrap_or_default()
    }

    /// The translation of a text.
    pub(crate) fn text(self, english: &str) -> &str {
        match self {
            Language::English => english,
            Language::Russian => Catalog::russian()
                .single
                .get(english)
                .map_or(english, String::as_str),
        }
    }

    /// The translation of a text with a number, which replaces `{}`.
    pub(crate) fn count(self, count: u64, one: &str, many: &str) -> String {
        let english = if count == 1 { one } else { many };
        let form = match self {
            Language::English => english,
            Language::Russian => {
                let forms = Catalog::russian().plural.get(one);
                let form = forms.and_then(|forms| forms.get(russian_form(count)));
                form.map_or(english, String::as_str)
            }
        };
        form.replace("{}", &count.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn russian_has_three_forms() {
        for (count, form) in [
            (1, 0),
            (2, 1),
            (5, 2),
            (11, 2),
            (21, 0),
            (22, 1),
            (111, 2),
            (0, 2),
        ] {
            assert_eq!(russian_form(count), form, "{count}");
        }
    }

    #[test]
    fn the_browser_chooses() {
        assert_eq!(
            Language::accepted("ru-RU,ru;q=0.9,en;q=0.8"),
            Language::Russian
        );
        assert_eq!(Language::accepted("de,en;q=0.8"), Language::English);
        assert_eq!(Language::accepted(""), Language::English);
    }

    /// The first argument of each call `NAME(… "text"` in a source.
    fn keys(source: &str, call: &str, found: &mut BTreeSet<String>) {
        for (place, _) in source.match_indices(call) {
            let rest = &source[place + call.len()..];
            let is_field = source[..place].ends_with("Field::");
            if let Some(text) = rest.strip_prefix('"').filter(|_| !is_field) {
                let end = text.find('"').unwrap();
                found.insert(text[..end].to_owned());
            }
        }
    }

    fn used() -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut single, mut plural) = (BTreeSet::new(), BTreeSet::new());
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut open = vec![root.join("src"), root.join("templates")];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else if !path.ends_with("catalog.rs") {
                    let source = std::fs::read_to_string(path).unwrap();
                    for call in [".t(", "text(", "mark("] {
                        keys(&source, call, &mut single);
                    }
                    for part in source
                        .split(".n(")
                        .skip(1)
                        .chain(source.split(".count(").skip(1))
                    {
                        let call = part.split(')').next().unwrap_or_default();
                        if let Some(text) = call.split('"').nth(1) {
                            plural.insert(text.to_owned());
                        }
                    }
                }
            }
        }
        let roles = crate::accounts::Role::ALL.map(crate::accounts::Role::word);
        let states = fleet::record::State::ALL.map(fleet::record::State::word);
        let jobs = bakery::jobs::SpoolState::ALL.map(bakery::jobs::SpoolState::name);
        let steps = wire::hello::Step::ALL.map(wire::hello::Step::word);
        let words = roles.into_iter().chain(states).chain(jobs).chain(steps);
        single.extend(words.map(str::to_owned));
        (single, plural)
    }

    #[test]
    fn every_text_has_a_russian_translation() {
        let catalog = Catalog::read(RUSSIAN).unwrap();
        let (single, plural) = used();
        assert!(
            single.len() > 100 && plural.len() > 2,
            "{} {}",
            single.len(),
            plural.len()
        );
        let missing: Vec<&String> = single
            .iter()
            .filter(|key| !catalog.single.contains_key(*key))
            .collect();
        assert!(missing.is_empty(), "po/ru.po lacks {missing:#?}");
        let missing: Vec<&String> = plural
            .iter()
            .filter(|key| !catalog.plural.contains_key(*key))
            .collect();
        assert!(
            missing.is_empty(),
            "po/ru.po lacks the plurals {missing:#?}"
        );
        for (key, forms) in &catalog.plural {
            assert_eq!(forms.len(), 3, "{key}");
        }
    }
}
