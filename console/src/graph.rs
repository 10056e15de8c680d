//! The history of a system as a graph: a lane for each profile, revisions from left to right.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use wire::manifest::ProfileName;

use crate::chains::Chain;

/// Maximum number of revisions that are drawn, the newest ones.
const DRAWN_MAX: usize = 60;
/// Distance of two revisions, and of two lanes.
const STEP: (usize, usize) = (32, 62);
/// Place of the first revision.
const START: (usize, usize) = (24, 40);

/// A lane: a history with its marks.
#[derive(Debug)]
pub(crate) struct Lane {
    /// The name of the history.
    pub(crate) name: ProfileName,
    /// The revisions of it.
    pub(crate) chain: Chain,
    /// Rings and tags by revision, each with its class.
    pub(crate) marks: BTreeMap<u64, Vec<(&'static str, String)>>,
}

/// Escapes text for SVG and HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// The graph as SVG; `label` names it for screen readers.
pub(crate) fn draw(lanes: &[Lane], label: &str) -> String {
    let mut all: Vec<(u64, usize, u64)> = Vec::new();
    for (lane, one) in lanes.iter().enumerate() {
        all.extend(
            one.chain
                .iter()
                .map(|revision| (revision.manifest.time, lane, revision.number())),
        );
    }
    all.sort_unstable();
    let surplus = all.len().saturating_sub(DRAWN_MAX);
    let shown = all.get(surplus..).unwrap_or_default();
    let mut places: BTreeMap<(usize, u64), (usize, usize)> = BTreeMap::new();
    for (order, (_, lane, number)) in shown.iter().enumerate() {
        places.insert(
            (*lane, *number),
            (START.0 + order * STEP.0, START.1 + lane * STEP.1),
        );
    }
    // To the right of the newest revision there is room for the name of the lane.
    let width = START.0 + shown.len() * STEP.0 + 130;
    let height = START.1 + lanes.len().saturating_sub(1) * STEP.1 + 32;
    let mut out = format!(
        "<svg class=\"graph\" role=\"group\" aria-label=\"{}\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">",
        escape(label)
    );
    for (lane, one) in lanes.iter().enumerate() {
        edges(&mut out, lanes, (lane, one), &places);
    }
    for (lane, one) in lanes.iter().enumerate() {
        nodes(&mut out, (lane, one), &places);
    }
    out.push_str("</svg>");
    out
}

type Places = BTreeMap<(usize, u64), (usize, usize)>;

fn edges(out: &mut String, lanes: &[Lane], (lane, one): (usize, &Lane), places: &Places) {
    let y = START.1 + lane * STEP.1;
    let color = lane % 6;
    let own: Vec<usize> = places
        .iter()
        .filter(|((of, _), _)| *of == lane)
        .map(|(_, place)| place.0)
        .collect();
    if let (Some(first), Some(last)) = (own.iter().min(), own.iter().max()) {
        let _ = write!(
            out,
            "<text class=\"lane l{color}\" x=\"{}\" y=\"{}\">{}</text>",
            last + 18,
            y + 4,
            escape(&one.name.profile)
        );
        let _ = write!(
            out,
            "<path class=\"edge l{color}\" d=\"M{first} {y}H{last}\"/>"
        );
    }
    for pair in one
        .chain
        .windows(2)
        .chain(one.chain.last().map(std::slice::from_ref))
    {
        let Some(newer) = pair.first() else { continue };
        let older = pair.get(1).and_then(|older| older.manifest.base.as_ref());
        let Some(base) = &newer.manifest.base else {
            continue;
        };
        let moved = older
            .is_none_or(|older| older.revision != base.revision || older.profile != base.profile);
        let on = lanes
            .iter()
            .position(|other| other.name.profile == base.profile);
        let from = on.and_then(|on| places.get(&(on, base.revision)));
        if let (true, Some((x, y)), Some((to_x, to_y))) =
            (moved, from, places.get(&(lane, newer.number())))
        {
            let _ = write!(
                out,
                "<path class=\"edge l{color}\" d=\"M{x} {y}C{} {y} {x} {to_y} {to_x} {to_y}\"/>",
                x + STEP.0
            );
        }
    }
}

fn nodes(out: &mut String, (lane, one): (usize, &Lane), places: &Places) {
    let color = lane % 6;
    let ProfileName { system, profile } = &one.name;
    for revision in one.chain.iter() {
        let number = revision.number();
        let Some((x, y)) = places.get(&(lane, number)) else {
            continue;
        };
        let subject = revision.manifest.message.lines().next().unwrap_or_default();
        let _ = write!(
            out,
            "<a href=\"/systems/{system}/{profile}/{number}\" aria-label=\"{profile}@{number} {}\"><title>{profile}@{number} {0}</title>\
             <circle class=\"node l{color}\" cx=\"{x}\" cy=\"{y}\" r=\"8\"/>\
             <text class=\"number\" x=\"{x}\" y=\"{}\">{number}</text></a>",
            escape(subject),
            y + 24
        );
        for (order, (class, text)) in one
            .marks
            .get(&number)
            .into_iter()
            .flatten()
            .take(3)
            .enumerate()
        {
            let above = (y + 4).saturating_sub(16 + order * 12);
            let _ = write!(
                out,
                "<text class=\"mark {class}\" x=\"{x}\" y=\"{above}\">{}</text>",
                escape(text)
            );
        }
    }
}
