//! The store: its size, the garbage collection, verification and mirrors.

use std::collections::BTreeSet;

use askama::Template;
use axum::Extension;
use axum::extract::RawQuery;
use bakery::history::History;
use bakery::scrub::scrub;
use bakery::sweep::{SweepPolicy, Swept, sweep};
use wire::manifest::DEFAULT_PROFILE;

use super::Answer;
use super::action::{Action, Field, page};
use crate::accounts::Role;
use crate::plot;
use crate::problem::{Problem, Result};
use crate::tasks::{Task, TaskResult};
use crate::text::{length, query_text, time};
use crate::web::{Form, Frame, Visitor, html, redirect, with_notice};

/// Maximum number of points of the plot.
const POINTS_MAX: usize = 200;
/// Maximum number of objects that the dry run lists.
const LISTED_MAX: usize = 400;

#[derive(Template)]
#[template(path = "store.html")]
struct StorePage {
    s: Frame,
    location: String,
    plot: String,
    lines: Vec<(String, u64, usize)>,
    total: u64,
}

/// The size over time, and the share of each history.
pub(crate) async fn store(Extension(visitor): Extension<Visitor>) -> Answer {
    visitor
        .work(|visitor| {
            let history = visitor.app.history()?;
            let (mut seen, mut lines, mut steps) = (BTreeSet::new(), Vec::new(), Vec::new());
            let mut names = history.names()?;
            names.sort_by_key(|name| (name.system.clone(), name.profile != DEFAULT_PROFILE));
            for name in names {
                let chain = visitor.app.chains.of(&history, &name)?;
                let mut own = 0;
                for revision in chain.iter().rev() {
                    for layer in &revision.manifest.layers {
                        if seen.insert(layer.digest) {
                            own += layer.len;
                            steps.push((revision.manifest.time, layer.len));
                        }
                    }
                }
                lines.push((name.to_string(), own, chain.len()));
            }
            html(&StorePage {
                s: visitor.frame(visitor.language.text("Store")),
                location: history.store().location().to_owned(),
                plot: growth(steps),
                total: lines.iter().map(|line| line.1).sum(),
                lines,
            })
        })
        .await
}

/// The sum of all layers over time.
fn growth(mut steps: Vec<(u64, u64)>) -> String {
    steps.sort_unstable();
    let mut sum = 0;
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (time, len) in steps {
        sum += len;
        match points.last_mut() {
            Some(last) if last.0 >= time as f64 => last.1 = sum as f64,
            _ => points.push((time as f64, sum as f64)),
        }
    }
    let every = points.len().div_ceil(POINTS_MAX).max(1);
    let last = points.len().saturating_sub(1);
    let thin = points
        .iter()
        .enumerate()
        .filter(|(place, _)| place % every == 0 || *place == last);
    let thin: Vec<(f64, f64)> = thin.map(|(_, point)| *point).collect();
    let day = |seconds: f64| {
        time(seconds as u64)
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    plot::line(&thin, day, |bytes| length(bytes as u64))
}

fn policy(value: impl Fn(&str) -> String, dry_run: bool) -> SweepPolicy {
    let usual = SweepPolicy::default();
    let grace = bakery::human::parse_age(&value("grace"));
    SweepPolicy {
        keep_last: value("keep").parse().unwrap_or(usual.keep_last),
        grace: grace.unwrap_or(usual.grace),
        keep: Vec::new(),
        dry_run,
    }
}

fn swept(history: &History, policy: &SweepPolicy) -> Result<Swept> {
    let swept = sweep(history, policy)?;
    match swept.busy {
        true => Err(Problem::refused(
            "another process publishes or sweeps; nothing was done, try again",
        )),
        false => Ok(swept),
    }
}

/// The garbage collection, with its dry run.
pub(crate) async fn ask(
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor
        .work(move |visitor| {
            visitor.require(Role::Admin)?;
            let text = |english| visitor.language.text(english);
            let policy = policy(|key| query_text(query.as_deref(), key), true);
            let mut action = Action::new(text("Garbage collection"), "/store/gc", "/store");
            action.again = "/store/gc".into();
            action.lead = vec![text("Objects that no retained revision reaches are deleted. The history itself stays.").to_owned()];
            let grace = bakery::human::age(policy.grace.as_secs());
            action.command = format!("bakery gc --keep-last {} --grace {grace}", policy.keep_last);
            action.settings = vec![
                Field::text("keep", text("Revisions of each history to keep"), &policy.keep_last.to_string()),
                Field::text("grace", text("Keep objects younger than"), &grace),
            ];
            action.verb = text("Delete").to_owned();
            action.is_dangerous = true;
            match swept(&visitor.app.history()?, &policy) {
                Ok(swept) => action.lines = listed(visitor, &swept),
                Err(problem) => action.problem = problem.text,
            }
            page(visitor, action)
        })
        .await
}

fn listed(visitor: &Visitor, swept: &Swept) -> Vec<String> {
    let objects = visitor
        .language
        .count(swept.objects.len() as u64, "{} object", "{} objects");
    let mut lines = vec![format!("{objects}, {}", length(swept.bytes))];
    lines.extend(swept.revisions_swept.iter().map(|name| {
        format!(
            "{}: {name}",
            visitor.language.text("can no longer be booted")
        )
    }));
    lines.extend(swept.objects.iter().take(LISTED_MAX).cloned());
    lines
}

/// Deletes what the dry run listed.
pub(crate) async fn gc(Extension(visitor): Extension<Visitor>, form: Form) -> Answer {
    visitor
        .work(move |visitor| {
            let policy = policy(|key| form.get(key).to_owned(), false);
            let what = format!(
                "gc, keep the last {} revisions, grace {}",
                policy.keep_last,
                bakery::human::age(policy.grace.as_secs())
            );
            let swept = visitor.act(Role::Admin, &what, || {
                swept(&visitor.app.history()?, &policy)
            })?;
            let objects =
                visitor
                    .language
                    .count(swept.objects.len() as u64, "{} object", "{} objects");
            let text = format!(
                "{} {objects}, {}",
                visitor.language.text("Deleted:"),
                length(swept.bytes)
            );
            Ok(with_notice("/store", &text))
        })
        .await
}

/// Verifies every record, or every byte.
pub(crate) async fn verify(Extension(visitor): Extension<Visitor>, form: Form) -> Answer {
    visitor
        .work(move |visitor| {
            let all = form.has("all");
            let what = if all { "verify every byte" } else { "verify" };
            let globals = visitor.app.options.globals.clone();
            let sound = visitor.language.text("No defects were found").to_owned();
            let task = visitor.act(Role::Operator, what, || {
                let work = move |task: &Task| -> TaskResult {
                    let history = globals.history().map_err(|error| format!("{error:#}"))?;
                    let found = scrub(&history, all, &|text| task.step(text));
                    let found = found.map_err(|error| bakery::human::causes(&error))?;
                    match found.defects.is_empty() {
                        true => Ok((
                            format!(
                                "{sound}: {} revisions, {} objects",
                                found.revisions, found.objects
                            ),
                            "/store".into(),
                        )),
                        false => Err(found.defects.join("\n")),
                    }
                };
                visitor
                    .app
                    .tasks
                    .start(what, visitor.name(), work)
                    .map_err(Problem::refused)
            })?;
            Ok(redirect(&format!("/tasks/{}", task.id)))
        })
        .await
}
