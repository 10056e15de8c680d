//! No import circles between the top-level modules ("rooms") of a crate.
//!
//! The finder reads every `crate::…` and `super::…` path of the sources, in `use` lines and in bodies.
//! Code for tests (`#[cfg(test)]`, `tests.rs`, `…_tests.rs`) may import anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Imports between rooms: from, to, and the files that import.
type Arrows = BTreeMap<(String, String), BTreeSet<PathBuf>>;

#[test]
fn rooms_import_in_one_direction() {
    let mut wrong = Vec::new();
    for dir in super::CRATES {
        let arrows = arrows(&super::sources(dir), Path::new(dir));
        assert!(!arrows.is_empty(), "no imports in {dir}");
        for circle in circles(&arrows) {
            let imports = within(&arrows, &circle);
            wrong.push(format!("{dir}: a circle of {circle:?}:\n{imports}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `fs/src/lib.rs` lists its rooms; each imports only rooms that stand after it.
#[test]
fn rooms_of_the_mount_stand_in_their_order() {
    let src = Path::new("fs/src");
    let files = super::sources("fs/src");
    let lib = files.iter().find(|(path, _)| path == &src.join("lib.rs"));
    let (_, text) = lib.unwrap();
    let head = text.lines().take_while(|line| line.starts_with("//!"));
    let head: String = head.collect();
    let names = head.split("[`").skip(1);
    let order: Vec<&str> = names.filter_map(|rest| rest.split('`').next()).collect();
    let rooms = files.iter().filter_map(|(path, _)| room(path, src));
    let rooms: BTreeSet<String> = rooms.collect();
    let listed: BTreeSet<String> = order.iter().map(|room| (*room).to_owned()).collect();
    assert_eq!(listed, rooms, "the rooms and the list in lib.rs");
    let wrong = against(&arrows(&files, src), &order);
    assert!(wrong.is_empty(), "against the order of lib.rs: {wrong:#?}");
    // The check sees an arrow that goes up.
    let up = [(PathBuf::from("fs/src/sys.rs"), "use crate::cli;".to_owned())];
    let rooms = [files.as_slice(), &up].concat();
    assert_eq!(against(&arrows(&rooms, src), &order).len(), 1);
}

/// The arrows that go up in `order`.
fn against(arrows: &Arrows, order: &[&str]) -> Vec<String> {
    let place = |room: &String| order.iter().position(|listed| listed == room);
    let up = arrows
        .iter()
        .filter(|((from, to), _)| place(from) >= place(to));
    up.map(|((from, to), files)| format!("{from} -> {to}: {files:?}"))
        .collect()
}

/// The finder finds circles in a sample.
#[test]
fn the_finder_sees_circles() {
    let file = |path: &str, text: &str| (PathBuf::from("src").join(path), text.to_owned());
    let find = |files: &[(PathBuf, String)]| circles(&arrows(files, Path::new("src")));
    let lib = || {
        file(
            "lib.rs",
            "pub mod a; pub mod b; pub mod c;\npub use b::{B, sub::deep as D};",
        )
    };

    // One direction: no circle, however often a room imports itself.
    let straight = [
        lib(),
        file("a.rs", "use crate::{a::x, b::{y, z}};\nuse self::sub::q;"),
        file(
            "a/sub.rs",
            "use super::x; use super::super::b::y; use crate::a;",
        ),
        file(
            "b.rs",
            "//! use crate::a;\n/* crate::a */ const S: &str = \"crate::a\"; const R: &str = r#\"crate::a\"#;",
        ),
    ];
    assert_eq!(find(&straight), Vec::<Vec<String>>::new());
    let two = vec![vec!["a".to_owned(), "b".to_owned()]];
    // A `use` line, a group, a path in a body, `super`, and a name that lib.rs exports.
    for back in [
        "use crate::a::x;",
        "use crate::{\n    c,\n    a::{x, y},\n};",
        "fn f<'a>(c: char) -> u32 { if c == '\"' { 0 } else { crate :: a::x('\\'') } }",
        "use super::a;",
        "pub use super::{c::d, a::x};",
        "#[cfg(not(test))]\nuse crate::a;",
    ] {
        let mut files = straight.to_vec();
        files.push(file(
            "b/inner.rs",
            &back.replace("super::", "super::super::"),
        ));
        assert_eq!(find(&files), two, "{back}");
    }
    let exported = [
        lib(),
        file("a.rs", "use crate::D;"),
        file("b.rs", "use crate::a;"),
    ];
    assert_eq!(find(&exported), two);
    // Tests may import anything.
    for test in [
        "#[cfg(test)]\nmod tests { use crate::a; fn f() { { } } }",
        "#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests;",
        "#[cfg(any(test, feature = \"x\"))]\nuse crate::a;",
    ] {
        let mut files = straight.to_vec();
        files.push(file("b/inner.rs", test));
        files.push(file("b/tests.rs", "use crate::a;"));
        files.push(file("b/x_tests.rs", "use crate::a;"));
        assert_eq!(find(&files), Vec::<Vec<String>>::new(), "{test}");
    }
    // A longer circle, and a second circle.
    let long = [
        file("a.rs", "use crate::b;"),
        file("b.rs", "use crate::c;"),
        file("c.rs", "use crate::a; use crate::d;"),
        file("d.rs", "use crate::e;"),
        file("e.rs", "use crate::d; use crate::f;"),
        file("f.rs", ""),
    ];
    assert_eq!(find(&long), [vec!["a", "b", "c"], vec!["d", "e"]]);
}

/// The arrows inside one circle, for a person.
fn within(arrows: &Arrows, circle: &[String]) -> String {
    let mut text = String::new();
    for ((from, to), files) in arrows {
        if circle.contains(from) && circle.contains(to) {
            let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
            text += &format!("  {from} -> {to}: {}\n", files.join(" "));
        }
    }
    text
}

/// All imports between the rooms of the crate with these sources.
fn arrows(files: &[(PathBuf, String)], src: &Path) -> Arrows {
    let rooms: BTreeSet<String> = files
        .iter()
        .filter_map(|(path, _)| room(path, src))
        .collect();
    let root = files.iter().find(|(path, _)| path == &src.join("lib.rs"));
    let exports = root.map_or_else(BTreeMap::new, |(_, text)| exports(text, &rooms));
    let mut arrows = Arrows::new();
    for (path, text) in files {
        let name = path.file_stem().unwrap().to_string_lossy();
        if name == "tests" || name.ends_with("_tests") {
            continue;
        }
        let Some(from) = room(path, src) else {
            continue;
        };
        let depth = path.strip_prefix(src).unwrap().components().count();
        for name in names_of_the_crate(&without_tests(&tokens(text)), depth) {
            let to = if rooms.contains(&name) {
                Some(&name)
            } else {
                exports.get(&name)
            };
            if let Some(to) = to.filter(|to| **to != from) {
                let files = arrows.entry((from.clone(), to.clone())).or_default();
                files.insert(path.clone());
            }
        }
    }
    arrows
}

/// The top-level module of a file; `None` for the crate's root.
fn room(path: &Path, src: &Path) -> Option<String> {
    let first = path.strip_prefix(src).ok()?.components().next()?;
    let name = first.as_os_str().to_str()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    (!["lib", "main", "bin"].contains(&name)).then(|| name.to_owned())
}

/// Names that the crate's root re-exports, and their rooms.
fn exports(text: &str, rooms: &BTreeSet<String>) -> BTreeMap<String, String> {
    let tokens = tokens(text);
    let mut found = BTreeMap::new();
    for (at, window) in tokens.windows(2).enumerate() {
        if window[0] != "use" || !rooms.contains(&window[1]) {
            continue;
        }
        let rest = &tokens[at + 2..];
        let end = rest.iter().position(|t| t == ";").unwrap_or(rest.len());
        for (at, token) in rest[..end].iter().enumerate() {
            if rest
                .get(at + 1)
                .is_none_or(|next| [",", "}", ";"].contains(&next.as_str()))
            {
                found.insert(token.clone(), window[1].clone());
            }
        }
    }
    found
}

/// The first names of all paths that begin at the crate's root. `depth`: 1 for `src/a.rs`, 2 for `src/a/b.rs`.
fn names_of_the_crate(tokens: &[String], depth: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = at.checked_sub(1).map(|before| tokens[before].as_str());
        let begins = before != Some("::");
        let mut up = 0;
        while begins
            && tokens.get(at + 2 * up).is_some_and(|t| t == "super")
            && tokens.get(at + 2 * up + 1).is_some_and(|t| t == "::")
        {
            up += 1;
        }
        let root = begins && tokens[at] == "crate" && tokens.get(at + 1).is_some_and(|t| t == "::");
        if root || up >= depth {
            first_names(&tokens[at + if root { 2 } else { 2 * up }..], &mut names);
        }
        at += 1.max(2 * up);
    }
    names
}

/// The first name of a path, or of each path of a group.
fn first_names(rest: &[String], names: &mut Vec<String>) {
    if rest.first().is_none_or(|token| token != "{") {
        names.extend(rest.first().cloned());
        return;
    }
    let mut deep = 0;
    for (at, token) in rest.iter().enumerate() {
        match token.as_str() {
            "{" => deep += 1,
            "}" => deep -= 1,
            _ if deep == 1 && ["{", ","].contains(&rest[at - 1].as_str()) => {
                names.push(token.clone());
            }
            _ => {}
        }
        if deep == 0 {
            return;
        }
    }
}

/// Without the items that only exist in tests.
fn without_tests(tokens: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let attribute = &tokens[at..tokens.len().min(at + 4)];
        if attribute == ["#", "[", "cfg", "("] {
            let end = closing(tokens, at + 1);
            let inside = &tokens[at..end];
            let test = inside.iter().any(|t| t == "test") && !inside.iter().any(|t| t == "not");
            if test {
                at = end_of_item(tokens, end);
                continue;
            }
        }
        kept.push(tokens[at].clone());
        at += 1;
    }
    kept
}

/// Behind the bracket that closes the one at `at`.
fn closing(tokens: &[String], mut at: usize) -> usize {
    let mut deep = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "(" | "[" | "{" => deep += 1,
            ")" | "]" | "}" => deep -= 1,
            _ => {}
        }
        at += 1;
        if deep == 0 {
            break;
        }
    }
    at
}

/// Behind the item that begins at `at`: its `;` or its block.
fn end_of_item(tokens: &[String], mut at: usize) -> usize {
    let import = tokens.get(at).is_some_and(|t| t == "use")
        || tokens.get(at + 1).is_some_and(|t| t == "use");
    while at < tokens.len() {
        match tokens[at].as_str() {
            ";" => return at + 1,
            "{" if !import => return closing(tokens, at),
            "(" | "[" | "{" => at = closing(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Words, `::` and single signs; no comments, strings, characters or lifetimes.
fn tokens(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &text[at..];
        let next = bytes.get(at + 1).copied();
        at += match byte {
            b'/' if next == Some(b'/') => rest.find('\n').unwrap_or(rest.len()),
            b'/' if next == Some(b'*') => rest.find("*/").map_or(rest.len(), |end| end + 2),
            b'"' => string(rest),
            b'r' if rest.starts_with("r\"")
                || rest.starts_with("r#\"")
                || rest.starts_with("r##") =>
            {
                let hashes = rest[1..].bytes().take_while(|b| *b == b'#').count();
                let end = format!("\"{}", "#".repeat(hashes));
                let begin = 2 + hashes;
                rest[begin..]
                    .find(&end)
                    .map_or(rest.len(), |at| begin + at + end.len())
            }
            b'\'' if next == Some(b'\\') => 3 + rest[3..].find('\'').map_or(0, |end| end + 1),
            b'\'' => {
                let mut chars = rest.char_indices().skip(2);
                match chars.next() {
                    Some((end, '\'')) => end + 1,
                    _ => 1 + bytes[at + 1..].iter().take_while(|b| word(b)).count(),
                }
            }
            _ if word(&byte) => {
                let len = bytes[at..].iter().take_while(|b| word(b)).count();
                tokens.push(rest[..len].to_owned());
                len
            }
            b':' if next == Some(b':') => {
                tokens.push("::".to_owned());
                2
            }
            _ => {
                if !byte.is_ascii_whitespace() {
                    tokens.push((byte as char).to_string());
                }
                1
            }
        };
    }
    tokens
}

/// The length of the string literal at the start of `rest`.
fn string(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    rest.len()
}

/// All circles: sets of rooms that reach each other.
fn circles(arrows: &Arrows) -> Vec<Vec<String>> {
    let rooms: BTreeSet<&String> = arrows.keys().flat_map(|(from, to)| [from, to]).collect();
    let reach = |from: &String| {
        let mut reached: BTreeSet<&String> = BTreeSet::new();
        let mut open = vec![from];
        while let Some(room) = open.pop() {
            for (_, to) in arrows.keys().filter(|(from, _)| from == room) {
                if reached.insert(to) {
                    open.push(to);
                }
            }
        }
        reached
    };
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        rooms.iter().map(|room| (*room, reach(room))).collect();
    let mut found = BTreeSet::new();
    for room in rooms {
        let circle: Vec<String> = reach[room]
            .iter()
            .filter(|other| reach[*other].contains(room))
            .map(|other| (*other).clone())
            .collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}
