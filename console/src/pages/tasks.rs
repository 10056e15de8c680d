//! Long operations and running jobs, live.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::extract::Path;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use bakery::jobs::SpoolState;
use futures::stream;

use super::Answer;
use crate::problem::{Problem, Result};
use crate::tasks::{Task, TaskState};
use crate::web::{Frame, Visitor, fragment, html};

/// Time between two looks at an operation.
const LOOK_EVERY: Duration = Duration::from_millis(400);

#[derive(Template)]
#[template(path = "task.html")]
struct TaskPage {
    s: Frame,
    task: Arc<Task>,
    state: TaskState,
}

#[derive(Template)]
#[template(path = "progress.html")]
struct ProgressBar {
    s: Frame,
    percent: Option<u64>,
    text: String,
    amounts: (u64, u64),
}

fn find(visitor: &Visitor, id: &str) -> Result<Arc<Task>> {
    let found = visitor.app.tasks.find(id);
    found.ok_or_else(|| {
        Problem::absent("there is no such operation: a restart of the console forgets them")
    })
}

/// The page of an operation.
pub(crate) async fn task(Extension(visitor): Extension<Visitor>, Path(id): Path<String>) -> Answer {
    let task = find(&visitor, &id)?;
    html(&TaskPage {
        s: visitor.frame(&task.what),
        state: task.state(),
        task,
    })
}

/// The text of an event, and true for the last one.
type Look = (String, bool);

fn events(look: impl Fn() -> Result<Look> + Send + 'static) -> Response {
    let steps = stream::unfold(
        (look, false, String::new()),
        |(look, ended, last)| async move {
            if ended {
                return None;
            }
            let mut last = last;
            // After some minutes without news the stream ends; the browser connects again.
            for _ in 0..600 {
                tokio::time::sleep(LOOK_EVERY).await;
                let (text, ends) = match look() {
                    Ok(look) => look,
                    Err(_) => (String::new(), true),
                };
                if ends {
                    let event = Event::default().event("end").data("end");
                    return Some((Ok::<_, Infallible>(event), (look, true, text)));
                }
                if text != last {
                    last.clone_from(&text);
                    let event = Event::default().event("show").data(text);
                    return Some((Ok(event), (look, false, last)));
                }
            }
            None
        },
    );
    Sse::new(steps)
        .keep_alive(KeepAlive::default())
        .into_response()
}

fn progress(
    visitor: &Visitor,
    percent: Option<u64>,
    text: &str,
    amounts: (u64, u64),
) -> Result<String> {
    fragment(&ProgressBar {
        s: visitor.frame(""),
        percent,
        text: text.to_owned(),
        amounts,
    })
}

/// The progress of an operation, live.
pub(crate) async fn task_events(
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Answer {
    let task = find(&visitor, &id)?;
    Ok(events(move || match task.state() {
        TaskState::Running(step) => Ok((
            progress(&visitor, task.percent(), &step, task.amounts())?,
            false,
        )),
        _ => Ok((String::new(), true)),
    }))
}

/// The progress of a job, live.
pub(crate) async fn job_events(
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Answer {
    let spool = visitor.app.require_spool()?;
    let id = id
        .parse()
        .map_err(|_| Problem::absent("there is no such job"))?;
    Ok(events(move || {
        let Some(job) = spool.find(id)? else {
            return Ok((String::new(), true));
        };
        let found = job.progress().filter(|_| job.state == SpoolState::Running);
        let (done, total) = found
            .as_ref()
            .map_or((0, 0), |found| (found.done, found.total));
        let percent = done.saturating_mul(100).checked_div(total);
        let stage = found.map(|found| found.stage).unwrap_or_default();
        let ended = matches!(job.state, SpoolState::Done | SpoolState::Failed);
        Ok((progress(&visitor, percent, &stage, (done, total))?, ended))
    }))
}
