//! The command `bakery ring advance`: makes the changes that follow from the boots.

use std::process::ExitCode;

use fleet::rollout::{Facts, Promotion, Quarantine};
use fleet::store::Trial;
use fleet::writer::now;
use serde::Serialize;
use wire::manifest::{ProfileName, RevisionName, RingAction};

use super::status::{StatusArgs, rings};
use crate::globals::Globals;
use crate::history::History;
use crate::notice::{Mail, Notice, Notices};
use crate::output;
use crate::publish::{Publisher, RingReason};
use crate::ring;

/// Author of automatic records.
const AUTHOR: &str = "bakery ring advance";
/// Most records that one run creates for a history.
const RECORDS_MAX: usize = 16;

/// Options of the automatic changes.
#[derive(Debug, clap::Args)]
pub(super) struct AdvanceArgs {
    #[command(flatten)]
    of: StatusArgs,
    /// Change nothing; print the changes
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    notices: Notices,
}

/// One automatic change.
#[derive(Debug, Serialize)]
struct Advance {
    history: String,
    action: &'static str,
    revision: u64,
    /// The ring that is promoted, or the revision to which rings return.
    to: String,
    reason: String,
    /// The number of the record; absent if it was not created.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<u64>,
    /// Of a quarantine: the revision to which rings return.
    #[serde(skip)]
    good: Option<u64>,
}

/// Makes the changes that follow from the boots.
pub(super) fn run(args: &AdvanceArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let history = globals.history()?;
    let trials = args.of.trials(globals)?;
    // Without a key this only prints the changes.
    let publisher = match args.dry_run {
        true => None,
        false => match globals.publisher() {
            Ok(publisher) => Some(publisher),
            Err(error) => {
                let note = format!("nothing is changed, these are only proposals: {error:#}");
                output::note(globals, &note);
                None
            }
        },
    };
    let mut advances = Vec::new();
    let mut failed = Vec::new();
    for name in args.of.names(&history)? {
        let reader = publisher.as_ref().map_or(&history, Publisher::history);
        if let Some(publisher) = &publisher
            && let Err(error) = publisher.renew_rings_in_time(&name, AUTHOR)
        {
            failed.push(format!("{name}: {error}"));
        }
        let done = steps(reader, publisher.as_ref(), &name, &trials, &mut advances);
        if let Err(error) = done {
            failed.push(format!("{name}: {error:#}"));
        }
    }
    for advance in advances.iter().filter(|advance| advance.record.is_some()) {
        args.notices.send(&advance.notice(&history));
    }
    output::emit(globals, &advances, |out| {
        advances
            .iter()
            .try_for_each(|one| writeln!(out, "{}", one.words()))
    })?;
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(ExitCode::SUCCESS)
}

/// Makes every change of one history, quarantines first.
fn steps(
    history: &History,
    publisher: Option<&Publisher>,
    name: &ProfileName,
    trials: &[Trial],
    advances: &mut Vec<Advance>,
) -> anyhow::Result<()> {
    for _ in 0..RECORDS_MAX {
        let (record, newest) = rings(history, name)?;
        let facts = Facts {
            record: &record,
            newest,
            trials,
            now: now(),
        };
        let Some(mut advance) = Advance::next(name, &facts) else {
            return Ok(());
        };
        let Some(publisher) = publisher else {
            // The next change depends on this one.
            advances.push(advance);
            return Ok(());
        };
        advance.publish(publisher, name)?;
        advances.push(advance);
    }
    Ok(())
}

impl Advance {
    /// The change that is due.
    fn next(name: &ProfileName, facts: &Facts<'_>) -> Option<Advance> {
        let mut quarantines = facts.quarantines().into_iter();
        let mut promotions = facts.promotions().into_iter();
        let quarantine = quarantines.find(|one| one.held.is_none() && one.good.is_some());
        match quarantine {
            Some(found) => Some(Advance::quarantine(name, found)),
            None => promotions
                .find(|one| one.unmet.is_empty())
                .map(|found| Advance::promotion(name, found)),
        }
    }

    fn quarantine(name: &ProfileName, found: Quarantine) -> Advance {
        Advance {
            history: name.to_string(),
            action: "quarantined",
            revision: found.revision,
            to: found.good.map_or_else(String::new, |good| good.to_string()),
            reason: found.reason,
            record: None,
            good: found.good,
        }
    }

    fn promotion(name: &ProfileName, found: Promotion) -> Advance {
        Advance {
            history: name.to_string(),
            action: "promoted",
            revision: found.revision,
            to: found.ring,
            reason: found.reason,
            record: None,
            good: None,
        }
    }

    /// Creates the record.
    fn publish(&mut self, publisher: &Publisher, name: &ProfileName) -> anyhow::Result<()> {
        let (revision, to, reason) = (self.revision, &self.to, &self.reason);
        let (action, text) = match self.good {
            Some(_) => (
                RingAction::Quarantine,
                format!("{revision}: {reason}; back to {to}"),
            ),
            None => (RingAction::Promote, format!("{to} {revision}: {reason}")),
        };
        let why = RingReason::new(action, AUTHOR, &text);
        let changed = publisher.change_rings(name, &why, |record, newest| match self.good {
            Some(good) => ring::quarantine(record, revision, good, newest),
            None => ring::promote(record, to, Some(revision), newest).map(drop),
        })?;
        self.record = Some(changed.number);
        match self.good {
            Some(_) => tracing::error!("{}", self.words()),
            None => tracing::warn!("{}", self.words()),
        }
        Ok(())
    }

    fn words(&self) -> String {
        let Advance {
            history,
            action,
            revision,
            to,
            reason,
            ..
        } = self;
        let would = match self.record {
            Some(_) => "",
            None => "would be ",
        };
        match self.good {
            Some(_) => format!(
                "{history}@{revision} {would}{action}: {reason}; the rings that had it return to {to}"
            ),
            None => format!("{history}@{revision} {would}{action} into the ring {to}: {reason}"),
        }
    }

    /// The text for the hooks, and for the mail about a quarantine.
    fn notice(&self, history: &History) -> Notice {
        let revision = || {
            let name = self.history.parse::<ProfileName>().ok()?;
            let revision = Some(self.revision);
            history.walk_to(&RevisionName { name, revision }).ok()
        };
        let author = revision().map_or_else(String::new, |found| found.manifest.author);
        let mut arguments = vec![
            self.action.to_owned(),
            self.history.clone(),
            self.revision.to_string(),
            self.to.clone(),
        ];
        if self.good.is_some() {
            arguments.push(author.clone());
        }
        arguments.push(self.reason.clone());
        let mail = || Mail {
            author,
            subject: format!("{}@{} was {}", self.history, self.revision, self.action),
            text: self.words(),
        };
        Notice {
            arguments,
            mail: self.good.map(|_| mail()),
        }
    }
}
