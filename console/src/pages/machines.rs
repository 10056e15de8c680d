//! The machines: a list with filters, one machine, and the actions on them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use askama::Template;
use axum::Extension;
use axum::extract::{Path, RawQuery};
use fleet::record::{Assignment, Machine, State};
use fleet::store::{Database, Filter, MachineOrGroup, Outcome};
use wire::hello::Step;
use wire::manifest::RevisionName;

use super::Answer;
use super::action::{Action, page};
use super::compare::named;
use super::machine_values::{self, ValuesCard};
use crate::accounts::Role;
use crate::problem::{Problem, Result};
use crate::text::{now, percent, query_text, visible};
use crate::web::{Form, Frame, Visitor, html, with_notice};

/// Machines on one page.
const PAGE_LEN: usize = 200;
/// The UDP port of Wake-on-LAN: discard.
const WAKE_PORT: u16 = 9;

#[derive(Template)]
#[template(path = "machines.html")]
struct MachinesPage {
    s: Frame,
    machines: Vec<MachineLine>,
    count: usize,
    groups: Vec<String>,
    histories: Vec<String>,
    group: String,
    state: String,
    revision: String,
    text: String,
    returned: bool,
    doubtful: bool,
    states: [State; 5],
}

/// A machine in the list. Names and reports come from the network: they are made visible.
struct MachineLine {
    id: String,
    label: String,
    machine: Machine,
    revision: String,
    newest: Option<u64>,
}

fn seconds() -> i64 {
    i64::try_from(now()).unwrap_or(i64::MAX)
}

/// The list with its filters.
pub(crate) async fn machines(
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor
        .work(move |visitor| list(visitor, query.as_deref()))
        .await
}

fn list(visitor: &Visitor, query: Option<&str>) -> Answer {
    let value = |key| query_text(query, key);
    let given = |key| Some(value(key)).filter(|text| !text.is_empty());
    let database = visitor.app.require_database()?;
    let snapshot = visitor.app.snapshot()?;
    let state = State::ALL
        .into_iter()
        .find(|state| state.word() == value("state"));
    let filter = Filter {
        group: given("group"),
        state,
        silent_s: None,
        revision: given("revision").and_then(|text| full(&text)),
    };
    let mut found = database.machines(&filter, seconds())?;
    let (returned, doubtful) = (given("returned").is_some(), given("doubtful").is_some());
    let text = value("text").to_lowercase();
    found.retain(|machine| {
        (!returned || machine.returned.is_some())
            && (!doubtful || machine.is_doubtful())
            && (text.is_empty() || has(machine, &text))
    });
    let newest: BTreeMap<String, u64> = snapshot
        .histories
        .iter()
        .map(|line| (line.name.full(), line.newest))
        .collect();
    let mut groups: Vec<String> = database
        .machines(&Filter::default(), seconds())?
        .into_iter()
        .filter_map(|one| one.group)
        .collect();
    groups.extend(database.groups()?.into_iter().map(|(name, _)| name));
    groups.sort();
    groups.dedup();
    let count = found.len();
    html(&MachinesPage {
        s: visitor.frame(visitor.language.text("Machines")),
        machines: found
            .into_iter()
            .take(PAGE_LEN)
            .map(|machine| line(machine, &newest))
            .collect(),
        count,
        groups,
        histories: snapshot
            .histories
            .iter()
            .map(|line| line.name.to_string())
            .collect(),
        group: value("group"),
        state: value("state"),
        revision: value("revision"),
        text: value("text"),
        returned,
        doubtful,
        states: State::ALL,
    })
}

/// A history or revision as the database spells it.
fn full(text: &str) -> Option<String> {
    let name: RevisionName = text.parse().ok()?;
    let revision = name
        .revision
        .map_or_else(String::new, |number| format!("@{number}"));
    Some(format!("{}{revision}", name.name.full()))
}

fn has(machine: &Machine, text: &str) -> bool {
    let parts = [
        machine.label(),
        &machine.id,
        &machine.note,
        &machine.address,
        &machine.asset,
    ];
    let mut parts = parts
        .into_iter()
        .chain(machine.macs.iter().map(String::as_str));
    parts.any(|part| part.to_lowercase().contains(text))
}

fn line(machine: Machine, newest: &BTreeMap<String, u64>) -> MachineLine {
    let booted: Option<RevisionName> = machine.revision().parse().ok();
    let newer = booted
        .as_ref()
        .and_then(|name| newest.get(&name.name.full()).copied());
    let revision = booted.as_ref().map_or_else(
        || visible(machine.revision().as_bytes()),
        ToString::to_string,
    );
    MachineLine {
        id: percent(machine.id.as_bytes()),
        label: visible(machine.label().as_bytes()),
        revision,
        newest: newer.filter(|newest| Some(*newest) > booted.and_then(|name| name.revision)),
        machine,
    }
}

#[derive(Template)]
#[template(path = "machine.html")]
struct MachinePage {
    s: Frame,
    line: MachineLine,
    effective: Assignment,
    own: Assignment,
    boots: Vec<(Outcome, usize)>,
    failed: Vec<String>,
    histories: Vec<String>,
    steps: usize,
    forms: [(&'static str, String, String); 3],
    card: ValuesCard,
}

/// One machine.
pub(crate) async fn machine(
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Answer {
    visitor
        .work(move |visitor| {
            let database = visitor.app.require_database()?;
            let machine = find(&database, &id)?;
            let snapshot = visitor.app.snapshot()?;
            let newest = snapshot
                .histories
                .iter()
                .map(|line| (line.name.full(), line.newest))
                .collect();
            let place = |step: Step| {
                Step::ALL
                    .iter()
                    .position(|one| *one == step)
                    .map_or(0, |place| place + 1)
            };
            let boots = database.outcomes(&machine.id, seconds())?.into_iter();
            let hello = machine.boot.as_ref().and_then(|boot| boot.hello.as_ref());
            let health = hello.and_then(|hello| hello.health.as_ref());
            let failed = health.map(|health| {
                health
                    .units
                    .iter()
                    .chain(&health.checks)
                    .map(|unit| visible(unit.as_bytes()))
                    .collect()
            });
            html(&MachinePage {
                s: visitor.frame(&visible(machine.label().as_bytes())),
                effective: database.assignment(&machine.id)?,
                own: machine.assignment.clone(),
                boots: boots
                    .map(|outcome| (place(outcome.boot.step), outcome))
                    .map(|(place, outcome)| (outcome, place))
                    .collect(),
                failed: failed.unwrap_or_default(),
                histories: snapshot
                    .histories
                    .iter()
                    .map(|line| line.name.to_string())
                    .collect(),
                forms: [
                    (
                        "name",
                        visitor.language.text("Name").to_owned(),
                        machine.name.clone().unwrap_or_default(),
                    ),
                    (
                        "group",
                        visitor.language.text("Group").to_owned(),
                        machine.group.clone().unwrap_or_default(),
                    ),
                    (
                        "note",
                        visitor.language.text("Note").to_owned(),
                        machine.note.clone(),
                    ),
                ],
                steps: Step::ALL.len(),
                card: ValuesCard::of(&database, &machine)?,
                line: line(machine, &newest),
            })
        })
        .await
}

fn find(database: &Database, id: &str) -> Result<Machine> {
    let found = database.machine(id, seconds());
    found.map_err(|error| Problem::absent(bakery::human::causes(&error)))
}

/// Runs an action on one machine, on the chosen ones, or on a group.
pub(crate) async fn act(Extension(visitor): Extension<Visitor>, form: Form) -> Answer {
    visitor.work(move |visitor| acted(visitor, &form)).await
}

fn acted(visitor: &Visitor, form: &Form) -> Answer {
    let database = visitor.app.require_database()?;
    let (verb, ids, group) = (form.get("do"), form.all("machine"), form.get("group_of"));
    let whose = match (ids.as_slice(), group) {
        ([], "") => {
            return Err(Problem::bad(
                visitor.language.text("Choose a machine first."),
            ));
        }
        ([], group) => format!("group {group}"),
        ([one], _) => one.clone(),
        (many, _) => format!(
            "{} machines ({})",
            many.len(),
            many.join(" ").chars().take(200).collect::<String>()
        ),
    };
    if verb == "forget" && !form.has("sure") {
        return ask_forget(visitor, &database, &ids);
    }
    let what = match verb {
        "assign" => format!("assign {whose}: {}", wanted(form, Assignment::default())?),
        "name" => format!("name {whose}: {}", form.get("value")),
        "group" => format!("group of {whose}: {}", form.get("value")),
        "note" => format!("note of {whose}: {}", form.get("value")),
        // A secret is never in the log.
        verb if is_of_values(verb) => format!("{verb} {whose}: {}", form.get("name")),
        "wake" | "retry" | "forget" | "default" => format!("{verb} {whose}"),
        _ => return Err(Problem::bad("there is no such action")),
    };
    visitor.act(Role::Operator, &what, || {
        if ids.is_empty() {
            return change(
                &database,
                &MachineOrGroup::Group(group.to_owned()),
                verb,
                form,
            );
        }
        // Every name must be valid before the first change.
        let machines: Vec<Machine> = ids
            .iter()
            .map(|id| find(&database, id))
            .collect::<Result<_>>()?;
        if verb == "group" {
            return machine_values::join(visitor, &database, &machines, form);
        }
        if is_of_values(verb) {
            for machine in machines {
                machine_values::change(visitor, &database, &machine.id, verb, form)?;
            }
            return Ok(());
        }
        for machine in machines {
            change(&database, &MachineOrGroup::Machine(machine.id), verb, form)?;
        }
        Ok(())
    })?;
    let back = match (form.get("back"), verb) {
        ("", _) | (_, "forget") => "/machines",
        (back, _) => back,
    };
    Ok(with_notice(back, visitor.language.text("Done.")))
}

fn is_of_values(verb: &str) -> bool {
    matches!(verb, "value" | "value-delete" | "key-accept" | "key-remove")
}

fn ask_forget(visitor: &Visitor, database: &Database, ids: &[String]) -> Answer {
    let text = |english| visitor.language.text(english);
    let mut action = Action::new(text("Forget machines"), "/machines/act", "/machines");
    action.lead = vec![text("The machines and their boots are deleted. The next hello of such a machine makes it a new one.").to_owned()];
    action.hidden = vec![("do", "forget".into()), ("sure", "yes".into())];
    action.is_dangerous = true;
    for id in ids {
        let machine = find(database, id)?;
        action.lines.push(visible(machine.label().as_bytes()));
        action.hidden.push(("machine", machine.id));
    }
    page(visitor, action)
}

fn change(database: &Database, whom: &MachineOrGroup, verb: &str, form: &Form) -> Result<()> {
    let value = Some(form.get("value")).filter(|text| !text.is_empty());
    match (verb, whom) {
        ("assign", _) => {
            let before = database.assigned(whom)?;
            database.assign(whom, &wanted(form, before)?)?;
        }
        ("default", _) => database.assign(whom, &Assignment::default())?,
        ("wake", _) => {
            let cards = database.cards(whom)?;
            let to = SocketAddr::from((Ipv4Addr::BROADCAST, WAKE_PORT));
            fleet::wake::wake(&cards, to)
                .map_err(|error| Problem::failed(format!("cannot send to {to}: {error}")))?;
        }
        ("name", MachineOrGroup::Machine(id)) => database.set_name(id, value)?,
        ("note", MachineOrGroup::Machine(id)) => {
            database.set_note(id, value.unwrap_or_default())?
        }
        ("retry", MachineOrGroup::Machine(id)) => database.retry(id, seconds())?,
        ("forget", MachineOrGroup::Machine(id)) => database.forget(id)?,
        _ => return Err(Problem::bad("this is for machines, not for groups")),
    }
    Ok(())
}

/// The assignment in a form; empty fields change nothing.
fn wanted(form: &Form, mut assignment: Assignment) -> Result<Assignment> {
    let given = |key| Some(form.get(key)).filter(|text| !text.is_empty());
    if let Some(system) = given("system") {
        let system = named(system)?;
        assignment.system = Some(system.name.full());
        assignment.revision = system.revision;
        assignment.localboot = None;
    }
    if let Some(ring) = given("ring") {
        assignment.ring = Some(ring.to_owned());
    }
    if let Some(parameters) = given("parameters") {
        assignment.parameters = Some(parameters.to_owned());
    }
    if form.has("localboot") {
        assignment.localboot = Some(true);
    }
    Ok(assignment)
}
