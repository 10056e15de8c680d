//! The rings of all histories, and the actions on them.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, RawQuery};
use bakery::history::HistoryError;
use bakery::publish::{Publisher, RingReason};
use bakery::ring;
use fleet::rollout::{Facts, Promotion, Quarantine, RingHealth};
use fleet::store::Trial;
use wire::manifest::{DEFAULT_RING, ProfileName, RingAction, RingPolicy, RingRecord};

use super::Answer;
use super::action::{Action, Field, page};
use crate::accounts::Role;
use crate::problem::{Problem, Result};
use crate::text::{now, query_text};
use crate::web::{Form, Frame, Visitor, html, with_notice};

/// Age of the oldest boots that count, seconds.
const COUNTED_S: i64 = 30 * 24 * 3600;
/// Machines on which a revision must fail to be quarantined, in the first record of a history.
const QUARANTINE_AFTER: u64 = 3;

#[derive(Template)]
#[template(path = "rings.html")]
struct RingsPage {
    s: Frame,
    states: Vec<RingsState>,
    without: Vec<ProfileName>,
}

/// The rings of one history.
struct RingsState {
    name: ProfileName,
    newest: u64,
    rings: Vec<(RingRow, RingHealth)>,
    failing: Vec<Quarantine>,
    waiting: Vec<Promotion>,
    quarantined: Vec<u64>,
    log: Vec<RingRecord>,
}

struct RingRow {
    name: String,
    revision: u64,
    is_paused: bool,
    is_first: bool,
    policy: Option<RingPolicy>,
}

/// All rings, or those of one history.
pub(crate) async fn rings(
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor
        .work(move |visitor| {
            let history = visitor.app.history()?;
            let wanted = query_text(query.as_deref(), "name");
            let seconds = i64::try_from(now()).unwrap_or(i64::MAX);
            let trials = match visitor.app.database() {
                Some(database) => database.trials(seconds - COUNTED_S, seconds)?,
                None => Vec::new(),
            };
            let (mut states, mut without) = (Vec::new(), Vec::new());
            for name in history.names()? {
                if !wanted.is_empty() && name.to_string() != wanted && name.full() != wanted {
                    continue;
                }
                match history.rings(&name)? {
                    Some(rings) => {
                        let newest = history.require_head(&name)?.number();
                        let mut log = history.ring_log(&name)?;
                        log.truncate(8);
                        states.push(state(&rings.record, newest, &trials, (seconds, log)));
                    }
                    None => without.push(name),
                }
            }
            html(&RingsPage {
                s: visitor.frame(visitor.language.text("Rings")),
                states,
                without,
            })
        })
        .await
}

fn state(
    record: &RingRecord,
    newest: u64,
    trials: &[Trial],
    (now, log): (i64, Vec<RingRecord>),
) -> RingsState {
    let facts = Facts {
        record,
        newest,
        trials,
        now,
    };
    let lines = record.rings.iter().enumerate().map(|(place, ring)| {
        let line = RingRow {
            name: ring.name.clone(),
            revision: facts.current(ring),
            is_paused: ring.paused,
            is_first: place == 0,
            policy: ring.policy,
        };
        (line, facts.standing(place))
    });
    RingsState {
        name: record.name(),
        newest,
        rings: lines.collect(),
        failing: facts.quarantines(),
        waiting: facts.promotions(),
        quarantined: record.quarantined.clone(),
        log,
    }
}

/// An action on the rings of a history.
struct RingRequest {
    verb: String,
    name: ProfileName,
    ring: String,
    to: Option<u64>,
    before: String,
    policy: [Option<u64>; 3],
}

impl RingRequest {
    fn of(verb: &str, value: impl Fn(&str) -> String) -> Result<RingRequest> {
        let name = value("name");
        let number = |key: &str| value(key).trim_start_matches('@').parse().ok();
        Ok(RingRequest {
            verb: verb.to_owned(),
            name: name
                .parse()
                .map_err(|error| Problem::bad(format!("“{name}”: {error}")))?,
            ring: value("ring"),
            to: number("to"),
            before: Some(value("before"))
                .filter(|text| !text.is_empty())
                .unwrap_or(DEFAULT_RING.into()),
            policy: [number("boots"), number("percent"), number("slower")],
        })
    }

    fn action(&self) -> Option<(RingAction, String)> {
        let (ring, to) = (&self.ring, self.to);
        let revision = to.map_or_else(String::new, |to| format!(" @{to}"));
        let number = to.map_or_else(String::new, |to| to.to_string());
        Some(match self.verb.as_str() {
            "promote" => (RingAction::Promote, format!("{ring}{revision}")),
            "pause" => (RingAction::Pause, ring.clone()),
            "resume" => (RingAction::Resume, ring.clone()),
            "add" => (
                RingAction::Add,
                format!("{ring} in front of {}", self.before),
            ),
            "remove" => (RingAction::Remove, ring.clone()),
            "quarantine" => (RingAction::Quarantine, number),
            "release" => (RingAction::Release, number),
            "policy" => (RingAction::Policy, ring.clone()),
            _ => return None,
        })
    }

    fn change(
        &self,
        record: &mut RingRecord,
        newest: u64,
    ) -> std::result::Result<(), HistoryError> {
        let number = self.to.unwrap_or_default();
        if record.number == 0 {
            record.quarantine_after = QUARANTINE_AFTER;
        }
        match self.verb.as_str() {
            "promote" => ring::promote(record, &self.ring, self.to, newest).map(drop),
            "pause" => ring::pause(record, &self.ring, newest),
            "resume" => ring::resume(record, &self.ring),
            "add" => ring::add(record, &self.ring, &self.before, newest),
            "remove" => ring::remove(record, &self.ring, newest),
            "quarantine" => {
                let mut older = (1..number)
                    .rev()
                    .filter(|older| !record.is_quarantined(*older));
                let good = older.next().unwrap_or(0);
                ring::quarantine(record, number, good, newest)
            }
            "release" => ring::release(record, number),
            _ => {
                let [boots, percent, slower] = self.policy;
                let conditions = boots.is_some() || percent.is_some();
                let policy = conditions.then_some(RingPolicy {
                    boots,
                    percent,
                    slower,
                    within: 7 * 86_400,
                });
                ring::set_policy(record, &self.ring, policy)
            }
        }
    }

    fn run(&self, publisher: &Publisher, author: &str, why: &str) -> Result<RingRecord> {
        let (action, text) = self
            .action()
            .ok_or_else(|| Problem::absent("there is no such action"))?;
        let message = match why {
            "" => text,
            why => format!("{text}: {why}"),
        };
        let reason = RingReason::new(action, author, &message);
        Ok(
            publisher.change_rings(&self.name, &reason, |record, newest| {
                self.change(record, newest)
            })?,
        )
    }

    fn words(&self) -> String {
        let (_, text) = self.action().unwrap_or((RingAction::Renew, String::new()));
        format!("ring {} {}: {text}", self.verb, self.name)
    }

    fn command(&self) -> String {
        let (name, ring) = (&self.name, &self.ring);
        let at = self.to.map_or_else(String::new, |to| format!("@{to}"));
        match self.verb.as_str() {
            "promote" => format!("bakery ring promote {name}{at} {ring}"),
            "quarantine" | "release" => format!("bakery ring {} {name}{at}", self.verb),
            "add" => format!("bakery ring add {name} {ring} --before {}", self.before),
            verb => format!("bakery ring {verb} {name} {ring}"),
        }
    }
}

/// The page of an action on rings, with its dry run.
pub(crate) async fn ask(
    Extension(visitor): Extension<Visitor>,
    Path(verb): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor
        .work(move |visitor| {
            visitor.require(Role::Operator)?;
            let request = RingRequest::of(&verb, |key| query_text(query.as_deref(), key))?;
            form(visitor, &request)
        })
        .await
}

fn form(visitor: &Visitor, request: &RingRequest) -> Answer {
    let text = |english| visitor.language.text(english);
    let (title, lead) = match request.verb.as_str() {
        "promote" => (
            text("Promote"),
            text("The machines of the ring boot this revision from their next start."),
        ),
        "pause" => (
            text("Pause the ring"),
            text("The ring keeps its revision until it is resumed."),
        ),
        "resume" => (
            text("Resume the ring"),
            text("New revisions and promotions reach the ring again."),
        ),
        "add" => (
            text("Add a ring"),
            text(
                "A ring in front of the first one gets new revisions at once; the former first ring keeps its revision.",
            ),
        ),
        "remove" => (
            text("Remove the ring"),
            text("The machines of the ring belong to the ring all."),
        ),
        "quarantine" => (
            text("Quarantine"),
            text("Every ring that has this revision returns to the newest older one."),
        ),
        "release" => (
            text("Lift the quarantine"),
            text("Rings may have this revision again."),
        ),
        "policy" => (
            text("Conditions of promotion"),
            text(
                "The ring gets the revision of the ring before it after enough good boots there. Without conditions it is promoted by hand.",
            ),
        ),
        _ => return Err(Problem::absent("there is no such action")),
    };
    let back = format!("/rings?name={}", request.name);
    let mut action = Action::new(title, &format!("/rings/{}", request.verb), &back);
    action.again = format!("/rings/{}", request.verb);
    let at = request.to.map_or_else(String::new, |to| format!("@{to}"));
    action.lead = vec![format!("{}{at}", request.name), lead.to_owned()];
    action.command = request.command();
    action.hidden = vec![("name", request.name.to_string())];
    action.is_dangerous = matches!(request.verb.as_str(), "remove" | "quarantine");
    settings(visitor, request, &mut action)?;
    action
        .fields
        .push(Field::text("message", text("Reason"), ""));
    if matches!(request.verb.as_str(), "quarantine" | "release") || !request.ring.is_empty() {
        match rehearse(visitor, request) {
            Ok(lines) => action.lines = lines,
            Err(problem) => action.problem = problem.text,
        }
    }
    page(visitor, action)
}

fn settings(visitor: &Visitor, request: &RingRequest, action: &mut Action) -> Result<()> {
    let text = |english| visitor.language.text(english);
    let history = visitor.app.history()?;
    let record = history.rings(&request.name)?.map(|rings| rings.record);
    let names = record
        .iter()
        .flat_map(|record| &record.rings)
        .map(|ring| (ring.name.clone(), ring.name.clone()));
    let mut names: Vec<(String, String)> = names.collect();
    if names.is_empty() {
        names.push((DEFAULT_RING.into(), DEFAULT_RING.into()));
    }
    let to = request.to.map_or_else(String::new, |to| to.to_string());
    match request.verb.as_str() {
        "promote" => {
            action
                .settings
                .push(Field::choice("ring", text("Ring"), &request.ring, names));
            action.settings.push(Field::text(
                "to",
                text("Revision (empty: that of the ring before)"),
                &to,
            ));
        }
        "add" => {
            action
                .settings
                .push(Field::text("ring", text("The new ring"), &request.ring).required());
            action.settings.push(Field::choice(
                "before",
                text("In front of"),
                &request.before,
                names,
            ));
        }
        "policy" => {
            action.hidden.push(("ring", request.ring.clone()));
            let [boots, percent, slower] = request
                .policy
                .map(|one| one.map_or_else(String::new, |one| one.to_string()));
            action
                .settings
                .push(Field::text("boots", text("Good boots"), &boots));
            action.settings.push(Field::text(
                "percent",
                text("Per cent of the machines"),
                &percent,
            ));
            action.settings.push(Field::text(
                "slower",
                text("At most this much slower, per cent"),
                &slower,
            ));
        }
        "quarantine" | "release" => action.hidden.push(("to", to)),
        _ => action.hidden.push(("ring", request.ring.clone())),
    }
    Ok(())
}

/// The rings after the action.
fn rehearse(visitor: &Visitor, request: &RingRequest) -> Result<Vec<String>> {
    let publisher = visitor.app.publisher(true)?;
    let newest = publisher.history().require_head(&request.name)?.number();
    let before = publisher
        .history()
        .rings(&request.name)?
        .map(|rings| rings.record);
    let after = request.run(&publisher, visitor.name(), "")?;
    let mut lines = Vec::new();
    for ring in &after.rings {
        let old = before.as_ref().and_then(|record| {
            record
                .rings
                .iter()
                .find(|old| old.name == ring.name)
                .map(|old| (record, old))
        });
        let old = old.map(|(record, old)| record.current(old, newest));
        let new = after.current(ring, newest);
        let paused = if ring.paused {
            visitor.language.text(", paused")
        } else {
            ""
        };
        lines.push(match old {
            Some(old) if old != new => format!("{}: @{old} → @{new}{paused}", ring.name),
            _ => format!("{}: @{new}{paused}", ring.name),
        });
    }
    Ok(lines)
}

/// Does the action.
pub(crate) async fn act(
    Extension(visitor): Extension<Visitor>,
    Path(verb): Path<String>,
    form: Form,
) -> Answer {
    visitor
        .work(move |visitor| {
            let request = RingRequest::of(&verb, |key| form.get(key).to_owned())?;
            let why = form.get("message");
            let what = match why {
                "" => request.words(),
                why => format!("{}: {why}", request.words()),
            };
            visitor.act(Role::Operator, &what, || {
                request.run(&visitor.app.publisher(false)?, visitor.name(), why)
            })?;
            let place = format!("/rings?name={}", request.name);
            Ok(with_notice(
                &place,
                visitor.language.text("The rings were changed."),
            ))
        })
        .await
}
