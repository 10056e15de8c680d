//! `push --dry-run`: the changes that the server would accept.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::bail;
use indicatif::HumanBytes;
use serde_json::json;

use super::{Push, messages, shown};
use crate::push::{
    Change, ChangeKind, Found, LeftOut, PushAddress, PushError, PushPlan, Survey, Tally, Verb,
    WalkError, survey_upper, write_upper,
};

/// The result of a dry run.
struct Preview {
    /// The base of the comparison; `None` if only the marks in the upper were used.
    compared_with: Option<String>,
    changes: Vec<Change>,
    left_out: Vec<LeftOut>,
    warnings: Vec<String>,
    tally: Tally,
}

/// Shows each change, and sends no contents.
///
/// # Errors
/// The upper cannot be read.
pub(super) fn run(push: &Push<'_>) -> anyhow::Result<ExitCode> {
    let asked = match &push.to {
        None => None,
        Some(to) => match ask(push, to) {
            Ok(answer) => Some((to, answer)),
            // The user's mistake: without a server it would be the same.
            Err(error) if error.downcast_ref::<PushError>().is_none() => return Err(error),
            Err(error) => {
                messages::warn(&format!(
                    "the server cannot be reached ({error:#}): this list follows the marks in {}",
                    push.upper.display()
                ));
                None
            }
        },
    };
    let preview = match asked {
        Some((to, (survey, plan))) => {
            let mut preview = local(push, &plan)?;
            preview.compared_with = Some(format!("{}@{}", to.target, survey.revision));
            preview.changes = survey.changes;
            preview.left_out.extend(survey.excluded);
            preview
        }
        None => local(push, &push.plan(&[])?)?,
    };
    show(push, &preview)
}

/// Asks the server for the changes that the upload would make.
///
/// # Errors
/// It cannot be reached, or the upper not be read.
pub(super) fn ask(push: &Push<'_>, to: &PushAddress) -> anyhow::Result<(Survey, PushPlan)> {
    let mut session = push.open(Verb::Survey, to)?;
    let mut plan = push.plan(session.excludes())?;
    plan.is_listing = true;
    let upload = session.upload()?;
    let sent = match write_upper(&push.upper, &plan, upload, &mut |_| {}) {
        Ok((_, upload)) => upload.finish().map(drop),
        Err(WalkError::Output(error)) => Err(error),
        Err(error) => return Err(error.into()),
    };
    plan.is_listing = false;
    let survey = session.surveyed()?;
    match sent {
        Ok(()) => Ok((survey, plan)),
        Err(error) => Err(error.into()),
    }
}

/// The changes according to the marks in the upper.
fn local(push: &Push<'_>, plan: &PushPlan) -> anyhow::Result<Preview> {
    let (mut changes, mut left_out, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    let tally = survey_upper(&push.upper, plan, &mut |found: &Found<'_>| {
        let path = shown(found.path);
        if let Some(why) = &found.suspicion {
            warnings.push(format!("{path}: {why}"));
        }
        match found.left_out {
            Some(why) => left_out.push(LeftOut {
                path,
                pattern: why.to_owned(),
            }),
            None => changes.push(Change {
                kind: found.kind,
                path,
            }),
        }
    })?;
    Ok(Preview {
        compared_with: None,
        changes,
        left_out,
        warnings,
        tally,
    })
}

fn show(push: &Push<'_>, preview: &Preview) -> anyhow::Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match push.args.json {
        true => write_json(&mut out, preview),
        false => write_text(&mut out, preview),
    };
    for warning in &preview.warnings {
        messages::warn(warning);
    }
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => bail!("cannot write: {error}"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn write_json(out: &mut dyn Write, preview: &Preview) -> io::Result<()> {
    let mut value = messages::summary(&preview.tally);
    if let Some(value) = value.as_object_mut() {
        value.insert("compared_with".into(), json!(preview.compared_with));
        value.insert("changes".into(), json!(preview.changes));
        value.insert("left_out".into(), json!(preview.left_out));
        value.insert("warnings".into(), json!(preview.warnings));
    }
    writeln!(out, "{value}")
}

fn write_text(out: &mut dyn Write, preview: &Preview) -> io::Result<()> {
    for change in &preview.changes {
        writeln!(out, "{:<9} {}", change.kind.word(), change.path)?;
    }
    for LeftOut { path, pattern } in &preview.left_out {
        writeln!(out, "{:<9} {path} ({pattern})", "excluded")?;
    }
    let count = |kind: ChangeKind| {
        let of_kind = preview.changes.iter().filter(|change| change.kind == kind);
        format!("{} {}", of_kind.count(), kind.word())
    };
    writeln!(
        out,
        "{}, {}, {}, {}; {} excluded; {} before compression",
        count(ChangeKind::Added),
        count(ChangeKind::Changed),
        count(ChangeKind::Deleted),
        count(ChangeKind::Metadata),
        preview.left_out.len(),
        HumanBytes(preview.tally.data_len)
    )?;
    match &preview.compared_with {
        Some(revision) => writeln!(out, "compared by the server with {revision}"),
        None => writeln!(
            out,
            "no server was asked: this list follows the marks in the upper"
        ),
    }
}
