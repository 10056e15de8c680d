//! The console of the virtual machine: its last lines, and the lines that end a boot.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::RehearseError;
use super::machine::RunningMachine;
use crate::limits::{CONSOLE_LINE_LEN_MAX, CONSOLE_LINES_MAX};

/// Lines after which no trace comes.
const FAILURES: [&str; 4] = [
    "rehearse: FAILED",
    "THE BOOT STOPPED",
    "Kernel panic",
    "System is deadlocked on memory",
];

/// Longest wait for the last lines of a machine that has ended.
const LAST_LINES: Duration = Duration::from_secs(10);

/// The console so far. A thread reads it, so that the machine never waits.
#[derive(Debug, Default)]
pub(super) struct Console {
    state: Arc<Mutex<ConsoleState>>,
    /// Disconnected when the console has ended.
    ended: Option<Receiver<()>>,
}

#[derive(Debug, Default)]
struct ConsoleState {
    lines: VecDeque<String>,
    /// Lines that were not passed on yet.
    fresh: usize,
    line: Vec<u8>,
    failure: Option<String>,
}

impl ConsoleState {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' || self.line.len() >= CONSOLE_LINE_LEN_MAX {
                let text = String::from_utf8_lossy(&self.line).into_owned();
                let text: String = text.chars().filter(|one| !one.is_control()).collect();
                self.line.clear();
                if FAILURES.iter().any(|failure| text.contains(failure)) {
                    self.failure.get_or_insert_with(|| text.clone());
                }
                if self.lines.len() >= CONSOLE_LINES_MAX {
                    self.lines.pop_front();
                }
                self.lines.push_back(text);
                self.fresh = (self.fresh + 1).min(CONSOLE_LINES_MAX);
            } else {
                self.line.push(*byte);
            }
        }
    }
}

impl Console {
    /// Begins to read the console of a machine.
    pub(super) fn of(machine: &mut RunningMachine) -> Result<Console, RehearseError> {
        let (ending, ended) = mpsc::channel();
        let console = Console {
            ended: Some(ended),
            ..Console::default()
        };
        let state = Arc::clone(&console.state);
        let mut output = machine.output()?;
        std::thread::spawn(move || {
            let _ending = ending;
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut buffer) {
                let bytes = buffer.get(..len).unwrap_or_default();
                state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .add(bytes);
            }
        });
        Ok(console)
    }

    fn lock(&self) -> MutexGuard<'_, ConsoleState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes new lines on.
    pub(super) fn lines(&self, progress: &dyn Fn(&str)) {
        let mut state = self.lock();
        let known = state.lines.len().saturating_sub(state.fresh);
        let lines: Vec<String> = state.lines.iter().skip(known).cloned().collect();
        state.fresh = 0;
        drop(state);
        lines.iter().for_each(|line| progress(line));
    }

    /// The line that says that the boot has failed.
    pub(super) fn failure(&self) -> Option<String> {
        let state = self.lock();
        state.failure.clone()
    }

    /// The last lines of a machine that has ended.
    pub(super) fn end(&self) -> String {
        if let Some(ended) = &self.ended {
            // Nothing is ever sent: it is disconnected at the end, or something still holds the console.
            let _ = ended.recv_timeout(LAST_LINES);
        }
        let state = self.lock();
        let skipped = state.lines.len().saturating_sub(25);
        let lines: Vec<&str> = state
            .lines
            .iter()
            .skip(skipped)
            .map(String::as_str)
            .collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_keeps_its_last_lines_and_finds_the_failure() {
        let console = Console::default();
        for number in 0..2 * CONSOLE_LINES_MAX {
            console.lock().add(format!("line {number}\r\n").as_bytes());
        }
        console.lock().add(&vec![b'x'; 3 * CONSOLE_LINE_LEN_MAX]);
        assert_eq!(console.failure(), None);
        console.lock().add(b"\n\x1b[1mTHE BOOT STOPPED while\nnext");
        assert_eq!(console.failure().unwrap(), "[1mTHE BOOT STOPPED while");
        let end = console.end();
        assert_eq!(end.lines().count(), 25);
        assert!(end.ends_with("STOPPED while") && !end.contains("line 0\n"));
        let seen = std::cell::RefCell::new(Vec::new());
        console.lines(&|line| seen.borrow_mut().push(line.to_owned()));
        assert_eq!(seen.borrow().len(), CONSOLE_LINES_MAX);
        console.lines(&|line| panic!("{line} twice"));
    }
}
