//! The actions of `bakery ring` that create a record.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use wire::manifest::{ProfileName, RevisionName, RingAction, RingPolicy, RingRecord};

use super::list::RingsShown;
use super::status::COUNTED_S;
use crate::commands::published::DryRun;
use crate::commands::wording::Wording;
use crate::globals::Globals;
use crate::history::Result;
use crate::human::{self, parse_age};
use crate::output;
use crate::publish::RingReason;

/// Machines on which a revision must fail to be quarantined, in the first record of a history.
pub(super) const QUARANTINE_AFTER: u64 = 3;

/// Options of every action that creates a record.
#[derive(Debug, clap::Args)]
pub(super) struct RingChange {
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    wording: Wording,
}

/// The answer of such an action.
#[derive(Debug, Serialize)]
struct Changed {
    /// The number of the record.
    record: u64,
    /// True if the record was not created.
    dry_run: bool,
    #[serde(flatten)]
    shown: RingsShown,
}

impl RingChange {
    /// Creates the record, or computes it for a dry run, and prints the rings.
    ///
    /// # Errors
    /// `change` refuses, or the record cannot be created.
    pub(super) fn run(
        &self,
        globals: &Globals,
        name: &ProfileName,
        (action, text): (RingAction, &str),
        change: impl FnMut(&mut RingRecord, u64) -> Result<()>,
    ) -> anyhow::Result<ExitCode> {
        let publisher = self.dry_run.publisher(globals)?;
        let message = match self.wording.message.as_str() {
            "" => text.to_owned(),
            words if text.is_empty() => words.to_owned(),
            words => format!("{text}: {words}"),
        };
        let reason = RingReason::new(action, &self.wording.author(), &message);
        let record = publisher.change_rings(name, &reason, change)?;
        let newest = publisher.history().require_head(name)?.number();
        let answer = Changed {
            record: record.number,
            dry_run: self.dry_run.is_wanted(),
            shown: RingsShown::of(&record, newest),
        };
        output::emit(globals, &answer, |out| {
            let verb = if answer.dry_run { "would be " } else { "" };
            writeln!(out, "{verb}record {} of {name}", answer.record)?;
            answer.shown.write(out)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The number of a revision, which must be given.
pub(super) fn numbered(revision: &RevisionName) -> anyhow::Result<(&ProfileName, u64)> {
    let number = revision.revision.with_context(|| {
        let name = &revision.name;
        format!("name the revision: {name}@REV (`bakery log {name}` lists them)")
    })?;
    Ok((&revision.name, number))
}

/// The newest revision before `number` that is not quarantined.
pub(super) fn older(record: &RingRecord, number: u64) -> u64 {
    let older = (1..number).rev();
    let mut good = older.filter(|older| !record.is_quarantined(*older));
    good.next().unwrap_or(0)
}

/// The conditions to set.
#[derive(Debug, clap::Args)]
pub(super) struct PolicyArgs {
    /// The history
    #[arg(value_name = "SYSTEM[/PROFILE]")]
    name: ProfileName,
    /// Promote into this ring when the conditions are met
    #[arg(required_unless_present = "quarantine_after")]
    ring: Option<String>,
    /// Promote after this many good boots on the machines of the rings before
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    boots: Option<u64>,
    /// Promote when this share of the machines of the rings before had a good boot, per cent
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100))]
    percent: Option<u64>,
    /// Promote only if the median boot time is at most this much above that of the ring's present
    /// revision, per cent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    slower: Option<u64>,
    /// Count only boots within this time: 12h, 3d
    #[arg(long, value_name = "AGE", value_parser = parse_age, default_value = "7d")]
    within: Duration,
    /// Promote into the ring by hand only
    #[arg(long, conflicts_with_all = ["boots", "percent", "slower"])]
    by_hand: bool,
    /// Quarantine a revision that fails on this many machines; 0: never
    #[arg(long, value_name = "MACHINES", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    quarantine_after: Option<u64>,
    #[command(flatten)]
    change: RingChange,
}

impl PolicyArgs {
    /// Creates the record.
    ///
    /// # Errors
    /// The ring has no conditions, or the record cannot be created.
    pub(super) fn run(&self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let counts = self.boots.is_some() || self.percent.is_some();
        anyhow::ensure!(
            self.ring.is_none() || counts || self.by_hand,
            "name a condition: --boots COUNT or --percent PERCENT, or --by-hand"
        );
        anyhow::ensure!(
            self.ring.is_some() || !(counts || self.by_hand || self.slower.is_some()),
            "name the ring into which these conditions promote"
        );
        let (within, most) = (self.within.as_secs(), u64::from(COUNTED_S));
        anyhow::ensure!(
            (1..=most).contains(&within),
            "--within is at least 1s and at most {}: older boots do not count",
            human::age(most)
        );
        let policy = (!self.by_hand).then_some(RingPolicy {
            boots: self.boots,
            percent: self.percent,
            slower: self.slower,
            within,
        });
        let text = self.ring.clone().unwrap_or_default();
        let reason = (RingAction::Policy, text.as_str());
        self.change.run(globals, &self.name, reason, |record, _| {
            if record.number == 0 {
                record.quarantine_after = QUARANTINE_AFTER;
            }
            if let Some(machines) = self.quarantine_after {
                record.quarantine_after = machines;
            }
            match &self.ring {
                Some(ring) => crate::ring::set_policy(record, ring, policy),
                None => Ok(()),
            }
        })
    }
}
