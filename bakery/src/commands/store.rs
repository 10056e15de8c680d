//! The command `bakery store`.

use std::process::ExitCode;

use crate::globals::{ANSWER_NO, Globals};
use crate::replica::{self, ReadBack, ReplicaOptions};
use crate::store::{Store, check};
use crate::{human, output, progress};

/// Check or copy a store
#[derive(Debug, clap::Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    verb: StoreVerb,
}

#[derive(Debug, clap::Subcommand)]
enum StoreVerb {
    /// Test the operation on which histories depend: create-if-absent
    Check,
    /// Copy a whole store: backup, restore, or move to a bucket
    ///
    /// Every object is verified during the copy. Existing objects are not copied again, so the same
    /// command resumes or updates a copy. Keys are not copied.
    Copy {
        /// The store to copy: a directory or s3://BUCKET[/PREFIX]
        #[arg(value_name = "SRC")]
        from: String,
        /// The destination; created if missing
        #[arg(value_name = "DST")]
        to: String,
        /// Objects to read back from DST and verify
        #[arg(long, value_enum, default_value_t = ReadBack::New)]
        read_back: ReadBack,
        /// Overwrite heads, ring records and keysets of DST that differ from those of SRC
        #[arg(long)]
        replace: bool,
    },
}

/// Probes or copies.
///
/// # Errors
/// A store cannot be reached or written, or the destination holds something else.
pub(crate) fn run(args: StoreArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    match args.verb {
        StoreVerb::Check => probe(globals),
        StoreVerb::Copy {
            from,
            to,
            read_back,
            replace,
        } => copy(globals, &from, &to, ReplicaOptions { read_back, replace }),
    }
}

fn probe(globals: &Globals) -> anyhow::Result<ExitCode> {
    let findings = check::probe(&Store::attach(globals.store()?)?)?;
    output::emit(globals, &findings, |out| {
        for finding in &findings {
            match &finding.defect {
                None => writeln!(out, "yes  {}", finding.question)?,
                Some(defect) => writeln!(out, "NO   {}: {defect}", finding.question)?,
            }
        }
        Ok(())
    })?;
    let sound = findings.iter().all(|finding| finding.defect.is_none());
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(ANSWER_NO)
    })
}

fn copy(
    globals: &Globals,
    from: &str,
    to: &str,
    options: ReplicaOptions,
) -> anyhow::Result<ExitCode> {
    let from = Store::open(from)?;
    let to = Store::create(to)?;
    let bar = progress::bytes(globals, None, "copying");
    let copied = replica::copy(&from, &to, options, &|len| bar.inc(len))?;
    bar.finish_and_clear();
    output::emit(globals, &copied, |out| {
        for defect in &copied.defects {
            writeln!(out, "{defect}")?;
        }
        let (count, bytes) = (copied.objects, human::length(copied.bytes));
        let (there, records) = (copied.objects_there, copied.records);
        let verdict = match copied.defects.len() {
            0 => "no errors".to_owned(),
            count => format!("{count} DEFECTS"),
        };
        writeln!(
            out,
            "{count} objects copied, {bytes}; {there} existed; {records} heads and keysets: {verdict}"
        )
    })?;
    Ok(if copied.defects.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(ANSWER_NO)
    })
}
