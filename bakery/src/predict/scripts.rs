//! The programs that a script starts, as far as its text shows them.

use std::collections::BTreeSet;

use crate::limits::PREDICT_COMMANDS_MAX;

/// Words of the shell before which or after which a command stands.
const KEYWORDS: [&str; 13] = [
    "if", "then", "else", "elif", "while", "until", "do", "!", "exec", "{", "time", "sudo",
    "command",
];
/// Shells, by the names of their programs.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "ksh", "busybox", "openrc-run"];

/// The programs of the `#!` line: the interpreter, and the program that env(1) starts.
pub(super) fn interpreter(text: &str) -> Vec<String> {
    let line = text.strip_prefix("#!").and_then(|text| text.lines().next());
    let mut words = line.unwrap_or_default().split_whitespace();
    let Some(program) = words.next() else {
        return Vec::new();
    };
    let mut programs = vec![program.to_owned()];
    if program.ends_with("/env") {
        let next = words.find(|word| !word.starts_with('-') && !word.contains('='));
        programs.extend(next.map(str::to_owned));
    }
    programs
}

/// True if a shell interprets the script.
pub(super) fn is_shell(text: &str) -> bool {
    interpreter(text)
        .last()
        .and_then(|program| program.rsplit('/').next())
        .is_some_and(|name| SHELLS.contains(&name))
}

/// Words at the places of commands, each once, in order.
pub(super) fn commands(text: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut commands = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with('#') {
            continue;
        }
        for part in line.split(['|', '&', ';', '`', '(', ')']) {
            let word = part
                .split_whitespace()
                .find(|word| !KEYWORDS.contains(word) && !is_assignment(word));
            let Some(word) = word.map(|word| word.trim_matches(['"', '\''])) else {
                continue;
            };
            if commands.len() < PREDICT_COMMANDS_MAX && is_name(word) && seen.insert(word) {
                commands.push(word.to_owned());
            }
        }
    }
    commands
}

/// Files that the script reads with `.` or `source`.
pub(super) fn sourced(text: &str) -> Vec<String> {
    let files = text.lines().filter_map(|line| {
        let mut words = line
            .split([' ', '\t', ';', '&'])
            .filter(|word| !word.is_empty());
        let at = words.position(|word| word == "." || word == "source");
        at.and_then(|_| words.next())
            .map(|word| word.trim_matches(['"', '\'']).to_owned())
            .filter(|word| word.starts_with('/') && is_name(word))
    });
    files.take(PREDICT_COMMANDS_MAX).collect()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && name
                .chars()
                .all(|one| one.is_ascii_alphanumeric() || one == '_')
    })
}

fn is_name(word: &str) -> bool {
    !word.is_empty()
        && word
            .chars()
            .all(|one| one.is_ascii_alphanumeric() || "/._-+@".contains(one))
}
