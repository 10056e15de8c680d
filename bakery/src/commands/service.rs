//! A command that runs as a service: it starts, and stops when it gets SIGTERM or SIGINT.

use std::io;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Reports to systemd that the service is ready, and that it stops. Without systemd this has no
/// effect.
pub(super) fn notify(state: NotifyState<'_>) {
    let _ = sd_notify::notify(&[state]);
}

/// Becomes true when the service must stop. Call it on the runtime of the service.
///
/// # Errors
/// The signals cannot be received.
pub(super) fn stopped() -> io::Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify(NotifyState::Stopping);
        let _ = stop.send(true);
    });
    Ok(stopped)
}
