//! One revision: its record, its changes, and the possible actions.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::Path;
use bakery::boots::Boots;
use bakery::graft::changes;
use bakery::history::{History, HistoryError, Revision};
use wire::manifest::{Manifest, ObjectRef, ProfileName, RevisionName};

use super::Answer;
use super::system::{Row, marks, row};
use crate::chains::{at, numbered};
use crate::problem::{Problem, Result};
use crate::text::percent;
use crate::tree;
use crate::web::{Frame, Visitor, html};

#[derive(Template)]
#[template(path = "revision.html")]
struct RevisionPage {
    s: Frame,
    name: ProfileName,
    row: Row,
    newest: u64,
    message: Vec<String>,
    job: String,
    signer: String,
    cmdline: String,
    base: Option<RevisionName>,
    tree_digest: String,
    objects: Vec<(&'static str, String, u64)>,
    before: Option<RevisionName>,
    changes: Shown,
}

/// Changed paths, or the reason for having none.
pub(crate) struct Shown {
    pub(crate) html: String,
    pub(crate) count: usize,
    pub(crate) is_cut: bool,
    pub(crate) problem: String,
    /// Changed boot files and parameters, as text.
    pub(crate) boot: Vec<String>,
}

/// The page of a revision.
pub(crate) async fn revision(
    Extension(visitor): Extension<Visitor>,
    Path((system, profile, number)): Path<(String, String, u64)>,
) -> Answer {
    visitor
        .work(move |visitor| {
            let name = ProfileName::new(&system, &profile)
                .map_err(|error| Problem::absent(error.to_string()))?;
            page(visitor, &name, number)
        })
        .await
}

fn page(visitor: &Visitor, name: &ProfileName, number: u64) -> Answer {
    let history = visitor.app.history()?;
    let chain = visitor.app.chains.of(&history, name)?;
    let newest = chain.first().map_or(0, |head| head.number());
    let Some(revision) = numbered(&chain, number) else {
        let wanted = at(name, number).to_string();
        return Err(HistoryError::NoRevision { wanted, newest }.into());
    };
    let earlier = numbered(&chain, number.saturating_sub(1)).filter(|one| one.number() < number);
    let before = match earlier {
        Some(earlier) => Some(Arc::clone(earlier)),
        None => base(visitor, &history, revision)?,
    };
    let mut row = row(revision, before.as_ref());
    row.marks = marks(&history, name)?.remove(&number).unwrap_or_default();
    row.is_swept = history.is_swept(&revision.name())?;
    row.boots = Boots::of(&visitor.app.options.spool, name).times(number)?;
    let shown = match &before {
        Some(before) => compared(visitor, &history, before, revision),
        None => nothing(String::new()),
    };
    let manifest = &revision.manifest;
    html(&RevisionPage {
        s: visitor.frame(&revision.name().to_string()),
        row,
        newest,
        message: words(manifest),
        job: manifest
            .trailer()
            .map(|trailer| trailer.job)
            .unwrap_or_default(),
        signer: signer(visitor, name, number),
        cmdline: manifest.cmdline.clone(),
        base: base_name(manifest),
        tree_digest: manifest.tree_digest.to_string(),
        objects: objects(manifest),
        before: before.map(|before| before.name()),
        changes: shown,
        name: name.clone(),
    })
}

/// The message without the lines that `bakery watch` adds: the page shows key and job itself.
fn words(manifest: &Manifest) -> Vec<String> {
    let mut lines: Vec<String> = manifest.message.lines().map(str::to_owned).collect();
    if manifest.trailer().is_some() {
        let is_added = |line: &String| {
            line.is_empty() || line.starts_with("Key: ") || line.starts_with("Job: ")
        };
        while lines.pop_if(|line| is_added(line)).is_some() {}
    }
    lines
}

fn base_name(manifest: &Manifest) -> Option<RevisionName> {
    let base = manifest.base.as_ref()?;
    let on = ProfileName {
        system: manifest.system.clone(),
        profile: base.profile.clone(),
    };
    Some(at(&on, base.revision))
}

/// The base of a profile's first revision.
fn base(
    visitor: &Visitor,
    history: &History,
    revision: &Revision,
) -> Result<Option<Arc<Revision>>> {
    let Some(base) = base_name(&revision.manifest) else {
        return Ok(None);
    };
    let chain = visitor.app.chains.of(history, &base.name)?;
    Ok(numbered(&chain, base.revision.unwrap_or_default()).cloned())
}

/// The key that signed a head, by the name that the keyset gives it.
fn signer(visitor: &Visitor, name: &ProfileName, number: u64) -> String {
    let Ok(history) = visitor.app.history() else {
        return String::new();
    };
    let line = history.signer_line(name, Some(number)).ok().flatten();
    let line = line.unwrap_or_default();
    let known = history.keyset().keys.iter().find(|key| key.key == line);
    known.map_or(line, |key| key.name.clone())
}

fn objects(manifest: &Manifest) -> Vec<(&'static str, String, u64)> {
    let object = |what, object: &ObjectRef| (what, object.digest.to_string(), object.len);
    let named = [
        ("kernel", &manifest.kernel),
        ("initramfs", &manifest.initrd),
        ("boot pack", &manifest.pack),
    ];
    let named = named
        .into_iter()
        .filter_map(|(what, found)| Some(object(what, found.as_ref()?)));
    let layers = manifest.layers.iter().map(|layer| object("layer", layer));
    named.chain(layers).collect()
}

fn nothing(problem: String) -> Shown {
    Shown {
        html: String::new(),
        count: 0,
        is_cut: false,
        problem,
        boot: Vec::new(),
    }
}

/// The changes from one revision to another.
pub(crate) fn compared(
    visitor: &Visitor,
    history: &History,
    from: &Revision,
    to: &Revision,
) -> Shown {
    let found = || -> std::result::Result<_, HistoryError> {
        if from.manifest.tree_digest == to.manifest.tree_digest {
            return Ok(Vec::new());
        }
        changes(
            &history.merged(&from.manifest)?,
            &history.merged(&to.manifest)?,
        )
    };
    let boot = boot_changes(visitor, &from.manifest, &to.manifest);
    let found = match found() {
        Ok(found) => found,
        Err(error) => {
            return Shown {
                boot,
                ..nothing(Problem::from(error).text)
            };
        }
    };
    let content = format!(
        "/compare/file?from={}&to={}&path=",
        percent(from.name().to_string().as_bytes()),
        percent(to.name().to_string().as_bytes())
    );
    Shown {
        html: tree::draw(&found, &content, visitor.language),
        count: found.len(),
        is_cut: found.len() > tree::SHOWN_MAX,
        problem: String::new(),
        boot,
    }
}

/// Differences outside the tree, as text.
fn boot_changes(visitor: &Visitor, from: &Manifest, to: &Manifest) -> Vec<String> {
    let text = |english| visitor.language.text(english);
    let mut lines = Vec::new();
    if from.kernel != to.kernel {
        lines.push(text("another kernel").to_owned());
    }
    if from.initrd != to.initrd {
        lines.push(text("another initramfs").to_owned());
    }
    if from.cmdline != to.cmdline {
        let what = visitor.language.text("kernel parameters");
        lines.push(format!("{what}: “{}” → “{}”", from.cmdline, to.cmdline));
    }
    if from.pack != to.pack {
        lines.push(text("another boot pack").to_owned());
    }
    lines
}
