//! The threat model names tests that exist.

use std::collections::BTreeSet;

use super::{files, root};

/// docs/SECURITY.md: in tables with a column "cannot", each test in the last column is a test, and each row with a "cannot"
/// names one.
#[test]
fn each_cannot_names_a_test() {
    let text = std::fs::read_to_string(root().join("docs/SECURITY.md")).unwrap();
    let sources: Vec<String> = ["wire", "fs/src", "fleet", "bakery/src", "tests"]
        .iter()
        .flat_map(|dir| files(dir, "rs"))
        .map(|(_, text)| text)
        .collect();
    let tests: BTreeSet<&str> = sources
        .iter()
        .flat_map(|text| text.split("#[test]").skip(1))
        .filter_map(|rest| rest.split("fn ").nth(1)?.split('(').next())
        .collect();
    let mut checked = 0;
    let mut has_cannot = false;
    for line in text.lines() {
        has_cannot &= line.starts_with('|');
        has_cannot |= line.starts_with("| ") && line.contains(" cannot | test |");
        if !has_cannot || !line.starts_with("| ") {
            continue;
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [.., cannot, named] = cells.as_slice() else {
            continue;
        };
        if matches!(*cannot, "an attacker cannot" | "cannot" | "–") {
            continue;
        }
        let words: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        let found = words.iter().any(|word| {
            let name = word.rsplit("::").next().unwrap_or_default();
            tests.contains(name)
        });
        assert!(found, "no test for: {line}");
        for word in words.iter().filter(|word| word.contains('_')) {
            let name = word.rsplit("::").next().unwrap_or_default();
            assert!(tests.contains(name), "there is no test {word}");
        }
        checked += 1;
    }
    assert!(checked > 20, "{checked} rows");
}
