//! The log lines of what runs in this process.

use std::io::Write;
use std::sync::{Mutex, Once, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static STARTED: Once = Once::new();

struct Lines;

impl Write for Lines {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        LINES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        Lines
    }
}

/// Collect them from now on.
pub(crate) fn start() {
    STARTED.call_once(|| {
        let lines = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(Lines);
        let _ = lines
            .with_max_level(tracing::level_filters::LevelFilter::WARN)
            .try_init();
    });
}

/// All lines so far.
pub(crate) fn lines() -> String {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&lines).into_owned()
}
