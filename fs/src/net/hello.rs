//! The hellos of the mount itself.
//!
//! A successful boot sends one hello, when the root is mounted. A slow or failing boot also reports
//! its step. Only a failed mount waits for its hello, at most two seconds. `docs/FLEET.md` (F3) is
//! the specification.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use wire::hello::{Hello, HelloError, Step, reason};
use wire::paths::route;

use super::error::FetchError;
use super::exchange::Ask;
use super::fetcher::{Fetcher, FetcherShared, STALL_FIRST, post};
use super::status::StatusText;
use crate::hardware;
use crate::secrets::MachineSecrets;

/// The URL path of hellos on a server.
const PATH: &str = route::HELLO;
/// Time after which a mount reports its step.
const SLOW: Duration = Duration::from_secs(5);
/// Longest wait of a failed mount for the answer to its hello.
const LAST_WORD: Duration = Duration::from_secs(2);

/// The progress of a mount.
#[derive(Debug)]
pub(crate) struct BootProgress {
    step: AtomicU8,
    revision: StatusText,
    /// The newest revision of the system that a server has named since the mount; empty: none was
    /// asked for.
    pub(crate) newest: StatusText,
    /// The ring of the machine.
    pub(crate) ring: String,
    /// True if the machine sends hellos.
    pub(crate) reports: bool,
    /// The proofs of the hellos.
    pub(crate) secrets: Arc<MachineSecrets>,
}

impl BootProgress {
    /// Starts at [`Step::Initramfs`]. With `reports`, a task of `fetcher` reports the steps of a
    /// slow mount.
    pub(crate) fn begin(
        fetcher: &Fetcher,
        ring: &str,
        reports: bool,
        secrets: Arc<MachineSecrets>,
    ) -> Arc<BootProgress> {
        let progress = Arc::new(BootProgress {
            step: AtomicU8::new(Step::Initramfs as u8),
            revision: StatusText::new(""),
            newest: StatusText::new(""),
            ring: ring.to_owned(),
            reports,
            secrets,
        });
        if reports {
            let (inner, watched) = (Arc::clone(&fetcher.inner), Arc::clone(&progress));
            fetcher.spawn(async move {
                tokio::select! {
                    () = tell_where_it_stands(&inner, &watched) => {}
                    () = inner.until_closed() => {}
                }
            });
        }
        progress
    }

    /// Records the step and the revision of the mount.
    pub(crate) fn reach(&self, step: Step, revision: &str) {
        self.revision.set(revision);
        self.step.store(step as u8, Ordering::Relaxed);
    }

    fn step(&self) -> Step {
        let step = usize::from(self.step.load(Ordering::Relaxed));
        Step::ALL.get(step).copied().unwrap_or(Step::Initramfs)
    }

    /// Records the step of the mount.
    pub(crate) fn pass(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }

    /// Sends the reason for the failure of the mount.
    pub(crate) fn fail(&self, fetcher: &Fetcher, error: &dyn std::error::Error) {
        if !self.reports {
            return;
        }
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let why = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        let mut hello = hello(self.step(), &self.revision.get());
        hello.why = reason(&why);
        let Ok(ask) = ask(&hello, &self.secrets) else {
            return;
        };
        let inner = Arc::clone(&fetcher.inner);
        let _ = fetcher.run(async move { timeout(LAST_WORD, post(&inner, &ask)).await });
    }
}

/// Reports each new step of a slow mount once, until the root is mounted.
async fn tell_where_it_stands(inner: &FetcherShared, progress: &BootProgress) {
    let mut reported = None;
    loop {
        sleep(SLOW).await;
        let step = progress.step();
        if step >= Step::Mounted {
            return;
        }
        if reported != Some(step)
            && let Ok(ask) = ask(&hello(step, &progress.revision.get()), &progress.secrets)
            && post(inner, &ask).await.is_ok()
        {
            reported = Some(step);
        }
    }
}

/// Builds a hello of this machine at a step.
pub(crate) fn hello(step: Step, revision: &str) -> Hello {
    Hello {
        boot: hardware::boot_id(),
        card: hardware::boot_card(),
        revision: revision.to_owned(),
        uptime_s: crate::sys::process::since_start_ms() / 1000,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Hello::new(hardware::identity(), step)
    }
}

/// Builds the request that sends a hello with its proofs.
pub(crate) fn ask(hello: &Hello, secrets: &MachineSecrets) -> Result<Ask, HelloError> {
    let body = secrets.prove(hello)?;
    Ok(Ask::post(PATH.to_owned(), body.into(), STALL_FIRST))
}

/// True if `ask` is a hello and the server runs without a fleet, which is not a failure.
pub(crate) fn is_unwanted(ask: &Ask, error: &FetchError) -> bool {
    let no_fleet = matches!(
        error,
        FetchError::Status {
            status: 404 | 405,
            ..
        }
    );
    no_fleet && ask.path == PATH
}
