//! The overview.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use fleet::record::State;

use super::Answer;
use crate::snapshot::{HistoryLine, Snapshot};
use crate::tasks::Task;
use crate::web::{Frame, Visitor, html};

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    s: Frame,
    snapshot: Arc<Snapshot>,
    systems: Vec<System>,
    tasks: Vec<Arc<Task>>,
    disk: Option<(u64, u64)>,
}

/// A system with its histories.
struct System {
    name: String,
    lines: Vec<HistoryLine>,
}

/// Systems, rings, machines, jobs and disk.
pub(crate) async fn overview(Extension(visitor): Extension<Visitor>) -> Answer {
    visitor
        .work(|visitor| {
            let snapshot = visitor.app.snapshot()?;
            let mut systems: Vec<System> = Vec::new();
            for line in &snapshot.histories {
                match systems.last_mut() {
                    Some(system) if system.name == line.name.system => {
                        system.lines.push(line.clone())
                    }
                    _ => systems.push(System {
                        name: line.name.system.clone(),
                        lines: vec![line.clone()],
                    }),
                }
            }
            for system in &mut systems {
                // The main profile is first, independent of the order of its name.
                system
                    .lines
                    .sort_by_key(|line| line.name.profile != wire::manifest::DEFAULT_PROFILE);
            }
            let mut tasks = visitor.app.tasks.list();
            tasks.retain(|task| task.is_running());
            html(&OverviewPage {
                s: visitor.frame(visitor.language.text("Overview")),
                systems,
                tasks,
                disk: disk(visitor),
                snapshot,
            })
        })
        .await
}

/// Used and total bytes of the store's file system.
fn disk(visitor: &Visitor) -> Option<(u64, u64)> {
    let store = visitor.app.options.globals.store().ok()?;
    let found = rustix::fs::statvfs(store).ok()?;
    let (total, free) = (found.f_blocks, found.f_bavail);
    let used = total.saturating_sub(free).saturating_mul(found.f_frsize);
    Some((used, total.saturating_mul(found.f_frsize)))
}

impl OverviewPage {
    /// The number of machines in a state.
    fn count(&self, state: State) -> u64 {
        let states = self.snapshot.states.iter().flatten();
        states
            .filter(|(one, _)| *one == state)
            .map(|(_, count)| count)
            .sum()
    }
}
