//! A system: the graph of its histories, and the revisions of one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, RawQuery};
use bakery::boots::{BootTimes, Boots};
use bakery::history::{History, Revision};
use bakery::publish::{action_text, pushed_with};
use wire::manifest::{DEFAULT_PROFILE, ProfileName};

use super::Answer;
use crate::chains::{Chain, numbered};
use crate::graph::{self, Lane};
use crate::plot;
use crate::problem::{Problem, Result};
use crate::text::query_text;
use crate::web::{Frame, Visitor, html};

/// Revisions on one page.
const PAGE_LEN: usize = 50;
/// Revisions whose boot times are plotted.
const PLOTTED_MAX: usize = 60;

#[derive(Template)]
#[template(path = "system.html")]
struct SystemPage {
    s: Frame,
    system: String,
    name: ProfileName,
    profiles: Vec<String>,
    graph: String,
    plot: String,
    rows: Vec<Row>,
    older: Option<u64>,
    newest: u64,
    has_rings: bool,
    cmdline: String,
}

impl SystemPage {
    /// True if there are newer revisions than those shown.
    fn is_older(&self) -> bool {
        self.rows
            .first()
            .is_some_and(|row| row.number < self.newest)
    }
}

/// One revision.
pub(crate) struct Row {
    pub(crate) number: u64,
    pub(crate) time: u64,
    pub(crate) action: String,
    pub(crate) author: String,
    pub(crate) key: String,
    pub(crate) subject: String,
    pub(crate) bytes: u64,
    pub(crate) marks: Vec<(&'static str, String)>,
    pub(crate) is_swept: bool,
    pub(crate) boots: Option<BootTimes>,
    /// The difference of the median boot time to the revision before, milliseconds.
    pub(crate) slower_ms: Option<i64>,
}

impl Row {
    /// Seconds with one decimal.
    pub(crate) fn seconds(ms: &u64) -> String {
        format!("{}.{}", ms / 1000, ms % 1000 / 100)
    }

    /// The difference, with its sign.
    pub(crate) fn difference(ms: &i64) -> String {
        let sign = if *ms < 0 { '−' } else { '+' };
        format!("{sign}{}", Row::seconds(&ms.unsigned_abs()))
    }
}

/// The page of a system.
pub(crate) async fn system(
    Extension(visitor): Extension<Visitor>,
    Path(system): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor
        .work(move |visitor| page(visitor, &system, query.as_deref()))
        .await
}

fn page(visitor: &Visitor, system: &str, query: Option<&str>) -> Answer {
    let app = &visitor.app;
    let history = app.history()?;
    let mut names = history.names()?;
    names.retain(|name| name.system == system);
    names.sort_by_key(|name| name.profile != DEFAULT_PROFILE);
    let wanted = query_text(query, "profile");
    let chosen = match wanted.as_str() {
        "" => names.first(),
        wanted => names.iter().find(|name| name.profile == wanted),
    };
    let Some(name) = chosen.cloned() else {
        return Err(Problem::absent(format!("there is no system {system}")));
    };
    let mut lanes = Vec::new();
    for lane in &names {
        lanes.push(Lane {
            chain: app.chains.of(&history, lane)?,
            marks: marks(&history, lane)?,
            name: lane.clone(),
        });
    }
    let chain = app.chains.of(&history, &name)?;
    let newest = chain.first().map_or(0, |head| head.number());
    let from = query_text(query, "from")
        .parse()
        .unwrap_or(newest)
        .min(newest);
    let rows = rows(visitor, &history, &name, &chain, from)?;
    let older = rows
        .last()
        .map(|row| row.number - 1)
        .filter(|number| *number > 0);
    let label = format!("{} {system}", visitor.language.text("History of"));
    let cmdline = chain
        .first()
        .map_or("", |head| head.manifest.cmdline.as_str());
    html(&SystemPage {
        s: visitor.frame(system),
        system: system.to_owned(),
        profiles: names.iter().map(|name| name.profile.clone()).collect(),
        graph: graph::draw(&lanes, &label),
        plot: boot_plot(visitor, &name, &chain)?,
        rows,
        older,
        newest,
        has_rings: history.rings(&name)?.is_some(),
        cmdline: cmdline.to_owned(),
        name,
    })
}

/// Rings, tags and quarantines of a history, by revision.
pub(crate) fn marks(
    history: &History,
    name: &ProfileName,
) -> Result<BTreeMap<u64, Vec<(&'static str, String)>>> {
    let mut marks: BTreeMap<u64, Vec<(&'static str, String)>> = BTreeMap::new();
    if let Some(rings) = history.rings(name)? {
        let newest = history.newest(name)?.unwrap_or_default();
        for ring in &rings.record.rings {
            let of = marks.entry(rings.record.current(ring, newest)).or_default();
            of.push(("ring", ring.name.clone()));
        }
        for number in &rings.record.quarantined {
            marks
                .entry(*number)
                .or_default()
                .push(("quarantine", "quarantined".into()));
        }
    }
    for tag in history.tags(name)? {
        marks
            .entry(tag.revision)
            .or_default()
            .push(("tag", tag.name));
    }
    Ok(marks)
}

fn rows(
    visitor: &Visitor,
    history: &History,
    name: &ProfileName,
    chain: &Chain,
    from: u64,
) -> Result<Vec<Row>> {
    let marks = marks(history, name)?;
    let boots = Boots::of(&visitor.app.options.spool, name);
    let times = |number| boots.times(number).map_err(Problem::from);
    let mut rows: Vec<Row> = Vec::new();
    for revision in chain
        .iter()
        .skip_while(|one| one.number() > from)
        .take(PAGE_LEN)
    {
        let number = revision.number();
        let before = numbered(chain, number.saturating_sub(1));
        let mut row = row(revision, before);
        row.marks = marks.get(&number).cloned().unwrap_or_default();
        row.is_swept = history.is_swept(&revision.name())?;
        row.boots = times(number)?;
        if let (Some(newer), Some(own)) = (rows.last_mut(), &row.boots) {
            newer.slower_ms = difference(newer.boots.as_ref(), own);
        }
        rows.push(row);
    }
    Ok(rows)
}

fn difference(newer: Option<&BootTimes>, older: &BootTimes) -> Option<i64> {
    let newer = i64::try_from(newer?.median_ms).ok()?;
    Some(newer - i64::try_from(older.median_ms).ok()?)
}

/// A revision as a row, without marks and boots.
pub(crate) fn row(revision: &Revision, before: Option<&Arc<Revision>>) -> Row {
    let manifest = &revision.manifest;
    let known: BTreeSet<_> = before
        .iter()
        .flat_map(|before| &before.manifest.layers)
        .map(|layer| layer.digest)
        .collect();
    let fresh = manifest
        .layers
        .iter()
        .filter(|layer| !known.contains(&layer.digest));
    Row {
        number: revision.number(),
        time: manifest.time,
        action: action_text(manifest.action),
        author: manifest.author.clone(),
        key: pushed_with(manifest)
            .map(|key| key.comment)
            .unwrap_or_default(),
        subject: manifest
            .message
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
        bytes: fresh.map(|layer| layer.len).sum(),
        marks: Vec::new(),
        is_swept: false,
        boots: None,
        slower_ms: None,
    }
}

/// The median boot times as a plot; empty without boots of two revisions.
fn boot_plot(visitor: &Visitor, name: &ProfileName, chain: &Chain) -> Result<String> {
    let boots = Boots::of(&visitor.app.options.spool, name);
    let mut points = Vec::new();
    for revision in chain.iter().take(PLOTTED_MAX).rev() {
        if let Some(times) = boots.times(revision.number())? {
            points.push((revision.number() as f64, times.median_ms as f64 / 1000.0));
        }
    }
    Ok(plot::line(
        &points,
        |x| format!("@{x:.0}"),
        |y| format!("{y:.0} s"),
    ))
}
