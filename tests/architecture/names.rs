//! No type name stands for two types that a reader can meet in one crate.

use std::collections::{BTreeMap, BTreeSet};

use super::{CRATES, sources};

/// Crates of ours whose types others import.
const LIBRARIES: [&str; 3] = ["layerfmt", "wire", "fleet"];

/// An alias with this name is the custom of the language: `Result` with the error of the module.
const CUSTOM: [&str; 1] = ["Result"];

#[test]
fn no_type_name_stands_for_two_types() {
    let mut found = Vec::new();
    let mut count = 0;
    for dir in CRATES {
        let sources: Vec<(String, String)> = sources(dir)
            .into_iter()
            .map(|(path, text)| (path.to_string_lossy().into_owned(), text))
            .filter(|(path, _)| !path.ends_with("tests.rs"))
            .collect();
        let names = names(&sources);
        count += names.len();
        found.extend(doubled(&names).map(|(name, homes)| format!("{dir}: {name}: {homes:?}")));
    }
    assert!(count > 500, "{count}: the types have moved");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn doubled_names_are_found() {
    let file = |path: &str, text: &str| (String::from(path), String::from(text));
    let of = |files: &[(String, String)]| -> Vec<String> {
        doubled(&names(files))
            .map(|(name, _)| name.clone())
            .collect()
    };
    let state = file(
        "a/state.rs",
        "pub(crate) struct State {\n}\nstruct Other;\n",
    );
    assert!(of(std::slice::from_ref(&state)).is_empty());
    assert_eq!(of(&[state, file("a/b.rs", "enum State {}\n")]), ["State"]);

    let head = file(
        "a/head.rs",
        "use wire::manifest::{Head, Keyset};\npub struct Chunk;\n",
    );
    assert!(of(std::slice::from_ref(&head)).is_empty());
    let imports = file("a/c.rs", "use layerfmt::update::{\n    Head, Chunk,\n};\n");
    assert_eq!(of(&[head.clone(), imports]), ["Chunk", "Head"]);
    let alias = "use layerfmt::update::{Head as UpdateHead};\nuse layerfmt::Chunk as _;\n";
    assert!(of(&[head, file("a/d.rs", alias)]).is_empty());

    let own = "mod fleet;\nuse fleet::Address;\n";
    assert!(of(&[file("a/serve.rs", own), file("a/f.rs", "enum Address {}\n")]).is_empty());
}

/// A type in a comment is marked as code. What has no marks is a word of the language: a rename of
/// the type must not change it.
#[test]
fn a_type_in_a_comment_is_marked_as_code() {
    let mut found = Vec::new();
    for dir in CRATES {
        let sources: Vec<(String, String)> = sources(dir)
            .into_iter()
            .map(|(path, text)| (path.to_string_lossy().into_owned(), text))
            .collect();
        let names = names(&sources);
        for (path, text) in &sources {
            found.extend(unmarked(text, &names).map(|line| format!("{path}: {line}")));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn unmarked_types_are_found() {
    let names = Names::from([("RingChange".into(), BTreeSet::new())]);
    let found = |text| unmarked(text, &names).count();
    assert_eq!(found("/// RingChange nothing; print the changes\n"), 1);
    assert_eq!(
        found("/// A [`RingChange`] or `RingChange`, a ring's change.\n"),
        0
    );
    assert_eq!(found("/// [`new`](ring::RingChange::new)\n"), 0);
    assert_eq!(found("/// RingChange: print the changes\n"), 1);
    assert_eq!(found("//! ```\n//! RingChange::new()\n//! ```\n"), 0);
}

/// The doc comments that have the name of a type, of two words or more, outside of code.
fn unmarked<'t>(text: &'t str, names: &Names) -> impl Iterator<Item = &'t str> {
    let mut is_code = false;
    text.lines().map(str::trim).filter(move |line| {
        let Some(prose) = line.strip_prefix("///").or(line.strip_prefix("//!")) else {
            return false;
        };
        if prose.trim_start().starts_with("```") {
            is_code = !is_code;
            return false;
        }
        let outside: String = prose.split('`').step_by(2).collect();
        // A path, as in the target of a link, is one word and no name.
        let words = outside.split(|c: char| !c.is_alphanumeric() && c != ':');
        let mut words = words.map(|word| word.trim_matches(':'));
        !is_code
            && words.any(|word| {
                word.chars().filter(|c| c.is_uppercase()).count() > 1
                    && word.chars().any(char::is_lowercase)
                    && names.contains_key(word)
            })
    })
}

type Names = BTreeMap<String, BTreeSet<String>>;

fn doubled(names: &Names) -> impl Iterator<Item = (&String, &BTreeSet<String>)> {
    names
        .iter()
        .filter(|(name, homes)| homes.len() > 1 && !CUSTOM.contains(&name.as_str()))
}

/// The names of types, with the files that define them and the crates from which they come.
fn names(sources: &[(String, String)]) -> Names {
    let mut names = Names::new();
    let mut add = |name: &str, home: &str| {
        let homes = names.entry(name.to_owned()).or_default();
        homes.insert(home.to_owned());
    };
    for (path, text) in sources {
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for name in code.lines().filter_map(defined) {
            add(name, path);
        }
        for library in LIBRARIES {
            if code
                .lines()
                .any(|line| line.ends_with(&format!("mod {library};")))
            {
                continue;
            }
            for import in imports(code, library) {
                add(&import, library);
            }
        }
    }
    names
}

/// The name of the type that this line defines at the top level of a file.
fn defined(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub").map_or(line, |rest| {
        let rest = rest.trim_start();
        match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            Some((_, rest)) => rest.trim_start(),
            None => rest,
        }
    });
    let (keyword, rest) = line.split_once(' ')?;
    if !["struct", "enum", "trait", "union", "type"].contains(&keyword) {
        return None;
    }
    rest.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

/// The types that `code` imports from `library`, under the names that it gives them.
fn imports(code: &str, library: &str) -> Vec<String> {
    let mut found = Vec::new();
    for begin in [
        format!("\nuse {library}::"),
        format!("\npub use {library}::"),
    ] {
        let code = format!("\n{code}");
        for statement in code.split(begin.as_str()).skip(1) {
            let paths = statement.split(';').next().unwrap_or_default();
            for path in paths.split([',', '{', '}']) {
                let words: Vec<&str> = path.split([' ', ':', '\n']).collect();
                let name = words.iter().rev().find(|word| !word.is_empty());
                found.extend(
                    name.filter(|name| name.starts_with(char::is_uppercase))
                        .filter(|name| name.chars().any(char::is_lowercase))
                        .map(|name| (*name).to_owned()),
                );
            }
        }
    }
    found
}
