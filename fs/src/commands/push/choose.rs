//! `push --interactive`: the user selects the changes to send.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufRead as _, Write as _};

use anyhow::{Context as _, bail};

use super::{Push, preview, shown};
use crate::push::{ChangeKind, Found, PushAddress, PushPlan, Selection, survey_upper};

/// Asks for each change that the server would accept.
///
/// # Errors
/// The server cannot be reached, the upper not be read, or nothing was chosen.
pub(super) fn ask(push: &Push<'_>, to: &PushAddress, plan: &PushPlan) -> anyhow::Result<Selection> {
    let (survey, _) = preview::ask(push, to)?;
    let kinds: HashMap<String, ChangeKind> = survey
        .changes
        .into_iter()
        .map(|change| (change.path, change.kind))
        .collect();
    let mut changes = Vec::new();
    survey_upper(&push.upper, plan, &mut |found: &Found<'_>| {
        let path = shown(found.path);
        if let Some(kind) = kinds.get(&path).filter(|_| found.left_out.is_none()) {
            changes.push((*kind, path, found.path.to_vec(), found.suspicion.clone()));
        }
    })?;
    let mut chosen = BTreeSet::new();
    let mut all = false;
    for (kind, path, bytes, suspicion) in changes {
        if let Some(why) = suspicion {
            super::messages::warn(&format!("{path}: {why}"));
        }
        let answer = match all {
            true => Decision::Yes,
            false => choice(&format!("{:<9} {path}", kind.word()))?,
        };
        match answer {
            Decision::Yes => {
                chosen.insert(bytes);
            }
            Decision::No => {}
            Decision::All => {
                all = true;
                chosen.insert(bytes);
            }
            Decision::Quit => break,
        }
    }
    if chosen.is_empty() {
        bail!("no change was chosen: nothing was sent");
    }
    Ok(Selection::Exactly(chosen))
}

enum Decision {
    Yes,
    No,
    All,
    Quit,
}

fn choice(question: &str) -> anyhow::Result<Decision> {
    loop {
        let answer = line(&format!("{question} [y,n,a,q,?] "))?;
        match answer.as_deref().map(str::trim) {
            Some("y") => return Ok(Decision::Yes),
            Some("n") => return Ok(Decision::No),
            Some("a") => return Ok(Decision::All),
            Some("q") | None => return Ok(Decision::Quit),
            _ => eprint(
                "y: send it; n: skip it; a: send it and all following; q: send the changes chosen so far\n",
            ),
        }
    }
}

/// True if the user answers yes.
///
/// # Errors
/// Standard input cannot be read.
pub(super) fn agrees(question: &str) -> anyhow::Result<bool> {
    let answer = line(&format!("{question} [y/N] "))?;
    Ok(answer.is_some_and(|answer| matches!(answer.trim(), "y" | "Y" | "yes")))
}

/// A line of standard input; none at its end.
fn line(question: &str) -> anyhow::Result<Option<String>> {
    eprint(question);
    let mut line = String::new();
    let count = io::stdin()
        .lock()
        .read_line(&mut line)
        .context("cannot read the answer")?;
    Ok((count > 0).then_some(line))
}

fn eprint(text: &str) {
    let mut errors = io::stderr().lock();
    let _ = errors
        .write_all(text.as_bytes())
        .and_then(|()| errors.flush());
}
