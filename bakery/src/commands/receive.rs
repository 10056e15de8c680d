//! The command `bakery receive`.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::globals::{COULD_NOT, Globals, SPOOL_DEFAULT};
use crate::history::History;
use crate::jobs::{Spool, Target, limits};
use crate::receive::{Receiver, Rights, ServerFailure, StoreQueries};

/// Accept one push: the forced command of an authorized key
///
/// sshd runs this; `bakery authorize` writes the line in authorized_keys. The client's request is
/// in SSH_ORIGINAL_COMMAND.
#[derive(Debug, clap::Args)]
pub struct ReceiveArgs {
    /// The spool for jobs
    #[arg(long, value_name = "DIR", env = "BAKERY_SPOOL", default_value = SPOOL_DEFAULT)]
    spool: PathBuf,
    /// The key's name
    #[arg(long, value_name = "NAME")]
    key: String,
    /// The key's fingerprint, for signed revisions
    #[arg(long, value_name = "SHA256:...")]
    fingerprint: Option<String>,
    /// Systems it may push to: SYSTEM, SYSTEM/PROFILE or *, separated by commas
    #[arg(long, value_name = "LIST")]
    systems: Rights,
    /// Maximum length of an upload, bytes
    #[arg(long, value_name = "BYTES", default_value_t = limits::BODY_LEN_MAX_DEFAULT)]
    body_max: u64,
}

/// Performs the client's request.
///
/// # Errors
/// The spool cannot be opened. Other failures are sent to the client and end in exit code 2.
pub(crate) fn run(args: ReceiveArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let receiver = Receiver {
        spool: Spool::open(&args.spool)?,
        key: args.key,
        fingerprint: args.fingerprint,
        rights: args.systems,
        body_len_max: args.body_max,
    };
    let original = std::env::var("SSH_ORIGINAL_COMMAND").unwrap_or_default();
    let done = receiver.handle(
        &original,
        &mut io::stdin().lock(),
        &mut io::stdout().lock(),
        globals,
    );
    Ok(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::warn!("{error}");
            ExitCode::from(COULD_NOT)
        }
    })
}

impl StoreQueries for Globals {
    /// Reports a typing error at once instead of by a failed job. An unreachable store is not a
    /// reason to refuse an upload.
    fn known(&self, target: &Target) -> Result<(), String> {
        let Ok(store) = self.store() else {
            return Ok(());
        };
        match crate::serve::newest_revision(store, &target.system, &target.profile) {
            Ok(None) => Err(format!(
                "the server has no {target}: see `bakery log` there for its systems, or make it with `bakery import` or `bakery profile add`"
            )),
            Ok(Some(_)) => Ok(()),
            Err(error) => {
                tracing::warn!("cannot read {target} in the store: {error:#}");
                Ok(())
            }
        }
    }

    fn history(&self) -> Result<History, ServerFailure> {
        Ok(Globals::history(self)?)
    }
}
