//! Progress bars: drawn on a terminal only, never in a log or a pipe.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::globals::Globals;

/// A bar that counts bytes; a spinner when `total` is not known.
#[must_use]
pub(crate) fn bytes(globals: &Globals, total: Option<u64>, what: &str) -> ProgressBar {
    let template = match total {
        Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        None => "{spinner} {msg} {bytes} {bytes_per_sec}",
    };
    bar(globals, total, what, template)
}

/// A bar that counts things; a spinner when `total` is not known.
#[must_use]
pub(crate) fn items(globals: &Globals, total: Option<u64>, what: &str) -> ProgressBar {
    let template = match total {
        Some(_) => "{msg} {wide_bar} {pos}/{len} {eta}",
        None => "{spinner} {msg} {pos} {per_sec}",
    };
    bar(globals, total, what, template)
}

fn bar(globals: &Globals, total: Option<u64>, what: &str, template: &str) -> ProgressBar {
    if !globals.draws_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(8));
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    if total.is_none() {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}
