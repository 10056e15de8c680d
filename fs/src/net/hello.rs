//! Hellos of the mount itself: it is up, or it stands at a step for long.
//!
//! A boot that goes well costs one hello, when the root is mounted. Only one that is slow, or fails, says at which
//! step. Nobody waits for a hello but a mount that has failed, and that for two seconds at most. `docs/FLEET.md` (F3).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use wire::hello::{Hello, HelloError, Step, reason};
use wire::paths::route;

use super::error::FetchError;
use super::exchange::Ask;
use super::fetcher::{Fetcher, Inner, STALL_FIRST, post};
use super::status::Word;
use crate::hardware;

/// The path at which servers accept hellos.
const PATH: &str = route::HELLO;
/// A mount that takes longer says where it stands.
const SLOW: Duration = Duration::from_secs(5);
/// Longest wait of a failed mount for its last hello.
const LAST_WORD: Duration = Duration::from_secs(2);

/// The progress of a mount.
#[derive(Debug)]
pub(crate) struct Progress {
    step: AtomicU8,
    revision: Word,
    /// The machine sends hellos.
    pub(crate) reports: bool,
}

impl Progress {
    /// An initramfs runs; nothing is known yet. The way to the servers tells when that takes long.
    pub(crate) fn begin(fetcher: &Fetcher, reports: bool) -> Arc<Progress> {
        let progress = Arc::new(Progress {
            step: AtomicU8::new(Step::Initramfs as u8),
            revision: Word::new(""),
            reports,
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

    /// The mount came so far, with this revision.
    pub(crate) fn reach(&self, step: Step, revision: &str) {
        self.revision.set(revision);
        self.step.store(step as u8, Ordering::Relaxed);
    }

    fn step(&self) -> Step {
        let step = usize::from(self.step.load(Ordering::Relaxed));
        Step::ALL.get(step).copied().unwrap_or(Step::Initramfs)
    }

    /// The mount came so far.
    pub(crate) fn pass(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }

    /// Tells why the mount goes no further.
    pub(crate) fn fail(&self, fetcher: &Fetcher, error: &dyn std::error::Error) {
        if !self.reports {
            return;
        }
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let why = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        let mut hello = hello(self.step(), &self.revision.get());
        hello.why = reason(&why);
        let Ok(ask) = ask(&hello) else { return };
        let inner = Arc::clone(&fetcher.inner);
        let _ = fetcher.run(async move { timeout(LAST_WORD, post(&inner, &ask)).await });
    }
}

/// Says each new step of a slow mount once, until it is mounted.
async fn tell_where_it_stands(inner: &Inner, progress: &Progress) {
    let mut told = None;
    loop {
        sleep(SLOW).await;
        let step = progress.step();
        if step >= Step::Mounted {
            return;
        }
        if told != Some(step)
            && let Ok(ask) = ask(&hello(step, &progress.revision.get()))
            && post(inner, &ask).await.is_ok()
        {
            told = Some(step);
        }
    }
}

/// A hello of this machine at this step.
pub(crate) fn hello(step: Step, revision: &str) -> Hello {
    Hello {
        boot: hardware::boot_id(),
        revision: revision.to_owned(),
        uptime_s: crate::sys::process::since_start_ms() / 1000,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Hello::new(hardware::identity(), step)
    }
}

/// A hello as it goes to a server.
pub(crate) fn ask(hello: &Hello) -> Result<Ask, HelloError> {
    let body = hello.encode()?;
    Ok(Ask::post(PATH.to_owned(), body.into(), STALL_FIRST))
}

/// True if `ask` is a hello to a server that keeps no fleet: that is no failure.
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
