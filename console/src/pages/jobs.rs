//! Jobs: pushes that wait, run, or have ended; approval.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, RawQuery};
use bakery::graft::Resolution;
use bakery::jobs::{Baker, Job, JobRequest, Spool, SpoolState, Target, warnings};
use layerfmt::Options;
use ulid::Ulid;
use wire::push::{Ending, Progress};

use super::Answer;
use crate::accounts::Role;
use crate::problem::{Problem, Result};
use crate::text::query_text;
use crate::tree;
use crate::web::{Form, Frame, Visitor, html, with_notice};

/// Maximum number of ended jobs in the list.
const ENDED_MAX: usize = 100;
/// Maximum number of lines of a list in a report on one page.
const LISTED_MAX: usize = 500;

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    s: Frame,
    jobs: Vec<JobLine>,
    histories: Vec<(String, bool)>,
    spool: String,
}

/// A job in the list.
struct JobLine {
    id: String,
    state: &'static str,
    waits: bool,
    request: Option<JobRequest>,
    percent: Option<u64>,
    result: String,
    warnings: usize,
}

fn line(spool: &Spool, job: &Job) -> JobLine {
    let request = job.request().ok();
    let waits = |request: &JobRequest| spool.waits_for_approval(job, &request.target);
    let ending = job.ending().ok().flatten();
    let progress = job.progress().filter(|_| job.state == SpoolState::Running);
    JobLine {
        id: job.id.to_string(),
        state: job.state.name(),
        waits: request.as_ref().is_some_and(waits),
        percent: progress
            .map(|Progress { done, total, .. }| done.saturating_mul(100) / total.max(1)),
        result: match &ending {
            Some(Ending::Published { revision, .. }) => format!("@{revision}"),
            Some(Ending::Unchanged { revision, .. }) => format!("= @{revision}"),
            Some(Ending::Failed { error }) => error.lines().next().unwrap_or_default().to_owned(),
            None => String::new(),
        },
        warnings: report(ending.as_ref()).map_or(0, |report| warnings(report).len()),
        request,
    }
}

fn report(ending: Option<&Ending>) -> Option<&serde_json::Value> {
    match ending? {
        Ending::Published { report, .. } | Ending::Unchanged { report, .. } => Some(report),
        Ending::Failed { .. } => None,
    }
}

/// The list of jobs.
pub(crate) async fn jobs(Extension(visitor): Extension<Visitor>) -> Answer {
    visitor
        .work(|visitor| {
            let spool = visitor.app.require_spool()?;
            let mut found = Vec::new();
            for state in SpoolState::ALL {
                let mut jobs = spool.jobs(state)?;
                let surplus = jobs.len().saturating_sub(ENDED_MAX);
                if matches!(state, SpoolState::Done | SpoolState::Failed) {
                    jobs.drain(..surplus);
                }
                found.extend(jobs);
            }
            found.sort_by_key(|job| std::cmp::Reverse(job.id));
            let snapshot = visitor.app.snapshot()?;
            let histories = snapshot.histories.iter().filter_map(|line| {
                let target: Target = line.name.to_string().parse().ok()?;
                Some((line.name.to_string(), spool.wants_approval(&target)))
            });
            html(&JobsPage {
                s: visitor.frame(visitor.language.text("Jobs")),
                jobs: found.iter().map(|job| line(&spool, job)).collect(),
                histories: histories.collect(),
                spool: visitor.app.options.spool.display().to_string(),
            })
        })
        .await
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    s: Frame,
    job: JobLine,
    approved: String,
    error: String,
    warnings: Vec<String>,
    excluded: Vec<String>,
    facts: Vec<(String, String)>,
    tree: String,
    changes: usize,
    would: String,
    is_preview: bool,
}

fn find(spool: &Spool, id: &str) -> Result<Job> {
    let id: Ulid = id
        .parse()
        .map_err(|_| Problem::absent("there is no such job"))?;
    spool
        .find(id)?
        .ok_or_else(|| Problem::absent("there is no such job"))
}

/// One job: its report, or the changes that it would make.
pub(crate) async fn job(
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    let previews = !query_text(query.as_deref(), "preview").is_empty();
    visitor
        .work(move |visitor| page(visitor, &id, previews))
        .await
}

fn page(visitor: &Visitor, id: &str, previews: bool) -> Answer {
    let spool = visitor.app.require_spool()?;
    let job = find(&spool, id)?;
    let ending = job.ending().ok().flatten();
    let approval = job.approval().ok().flatten();
    let mut page = JobPage {
        s: visitor.frame(&format!("{} {id}", visitor.language.text("Job"))),
        job: line(&spool, &job),
        approved: approval.map(|approval| approval.by).unwrap_or_default(),
        error: match &ending {
            Some(Ending::Failed { error }) => error.clone(),
            _ => String::new(),
        },
        warnings: Vec::new(),
        excluded: Vec::new(),
        facts: Vec::new(),
        tree: String::new(),
        changes: 0,
        would: String::new(),
        is_preview: false,
    };
    if let Some(report) = report(ending.as_ref()) {
        tell(&mut page, report);
    }
    if previews && job.state == SpoolState::Queued {
        visitor.require(Role::Operator)?;
        preview(visitor, &spool, &job, &mut page)?;
    }
    html(&page)
}

/// Bakes a waiting job without publishing it.
fn preview(visitor: &Visitor, spool: &Spool, job: &Job, page: &mut JobPage) -> Result<()> {
    let publisher = visitor.app.publisher(true)?;
    let baker = Baker {
        spool,
        publisher: &publisher,
        resolution: Resolution::Refuse,
        options: Options::bake(),
    };
    let (report, preview) = baker.preview(job)?;
    tell(
        page,
        &serde_json::to_value(&report).map_err(|error| Problem::failed(error.to_string()))?,
    );
    if let Some(preview) = preview {
        page.tree = tree::plain(&preview.changes, visitor.language);
        page.changes = preview.changes.len();
        page.would = preview.would_publish;
    }
    page.is_preview = true;
    Ok(())
}

/// The parts of a report.
fn tell(page: &mut JobPage, report: &serde_json::Value) {
    let Some(members) = report.as_object() else {
        return;
    };
    page.warnings = warnings(report).into_iter().map(str::to_owned).collect();
    for (key, value) in members {
        match value {
            // The tree shows the changes.
            serde_json::Value::Array(list) if !matches!(key.as_str(), "warnings" | "changes") => {
                let lines = list.iter().take(LISTED_MAX).map(one_line);
                if key.contains("exclude") || key.contains("left_out") {
                    page.excluded.extend(lines);
                } else if !list.is_empty() {
                    page.facts
                        .push((key.clone(), lines.collect::<Vec<_>>().join("\n")));
                }
            }
            serde_json::Value::Object(inner) if key.contains("exclude") => {
                page.excluded.extend(
                    inner
                        .iter()
                        .take(LISTED_MAX)
                        .map(|(key, value)| format!("{key}: {}", one_line(value))),
                );
            }
            serde_json::Value::Null | serde_json::Value::Array(_) => {}
            value => page.facts.push((key.clone(), one_line(value))),
        }
    }
}

fn one_line(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Object(members) => {
            let parts = members
                .iter()
                .map(|(key, value)| format!("{key}: {}", one_line(value)));
            parts.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Approves, rejects or retries a job, or sets if a history needs approvals.
pub(crate) async fn act(Extension(visitor): Extension<Visitor>, form: Form) -> Answer {
    visitor
        .work(move |visitor| {
            let spool = visitor.app.require_spool()?;
            let (verb, id) = (form.get("do"), form.get("job"));
            if let "want" | "unwant" = verb {
                let target: Target = form.parse("name")?;
                let wanted = verb == "want";
                let what = if wanted {
                    "pushes to {} wait for an approval"
                } else {
                    "pushes to {} start at once"
                };
                let what = what.replace("{}", &target.to_string());
                visitor.act(Role::Admin, &what, || {
                    Ok(spool.set_approval(&target, wanted)?)
                })?;
                return Ok(with_notice("/jobs", visitor.language.text("Done.")));
            }
            let job = find(&spool, id)?;
            let reason = form.get("reason");
            match verb {
                "approve" => visitor.act(Role::Operator, &format!("approve job {id}"), || {
                    spool.approve(&job, visitor.name())?;
                    Ok(())
                })?,
                "reject" => visitor.act(
                    Role::Operator,
                    &format!("reject job {id}: {reason}"),
                    || {
                        spool.reject(&job, visitor.name(), reason)?;
                        Ok(())
                    },
                )?,
                "retry" if job.state == SpoolState::Failed => {
                    visitor.act(Role::Operator, &format!("retry job {id}"), || {
                        spool.retry(&job)?;
                        Ok(())
                    })?
                }
                _ => return Err(Problem::bad("this is not possible in the state of the job")),
            }
            Ok(with_notice(
                &format!("/jobs/{id}"),
                visitor.language.text("Done."),
            ))
        })
        .await
}
