//! The console of the virtual machine: its last lines, and the lines that end a boot.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use super::RehearseError;
use super::machine::RunningMachine;
use crate::limits::{CONSOLE_LINE_LEN_MAX, CONSOLE_LINES_MAX};

/// Lines after which no trace comes.
const FAILURES: [&str; 3] = [
    "THE BOOT STOPPED",
    "Kernel panic",
    "System is deadlocked on memory",
];

/// The console so far. A thread reads it, so that the machine never waits.
#[derive(Debug, Clone, Default)]
pub(super) struct Console(Arc<Mutex<ConsoleState>>);

#[derive(Debug, Default)]
struct ConsoleState {
    lines: VecDeque<String>,
    /// Lines that were not passed on yet.
    fresh: usize,
    line: Vec<u8>,
    failure: Option<String>,
}

impl Console {
    /// Begins to read the console of a machine.
    pub(super) fn of(machine: &mut RunningMachine) -> Result<Console, RehearseError> {
        let console = Console::default();
        let reader = console.clone();
        let mut output = machine.output()?;
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut buffer) {
                reader.add(buffer.get(..len).unwrap_or_default());
            }
        });
        Ok(console)
    }

    fn add(&self, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in bytes {
            if *byte == b'\n' || state.line.len() >= CONSOLE_LINE_LEN_MAX {
                let text = String::from_utf8_lossy(&state.line).into_owned();
                let text: String = text.chars().filter(|one| !one.is_control()).collect();
                state.line.clear();
                if FAILURES.iter().any(|failure| text.contains(failure)) {
                    state.failure.get_or_insert_with(|| text.clone());
                }
                if state.lines.len() >= CONSOLE_LINES_MAX {
                    state.lines.pop_front();
                }
                state.lines.push_back(text);
                state.fresh = (state.fresh + 1).min(CONSOLE_LINES_MAX);
            } else {
                state.line.push(*byte);
            }
        }
    }

    /// Passes new lines on.
    pub(super) fn lines(&self, progress: &dyn Fn(&str)) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.lines.len().saturating_sub(state.fresh);
        let lines: Vec<String> = state.lines.iter().skip(known).cloned().collect();
        state.fresh = 0;
        drop(state);
        lines.iter().for_each(|line| progress(line));
    }

    /// The line that says that the boot has failed.
    pub(super) fn failure(&self) -> Option<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failure.clone()
    }

    /// The last lines.
    pub(super) fn end(&self) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
            console.add(format!("line {number}\r\n").as_bytes());
        }
        console.add(&vec![b'x'; 3 * CONSOLE_LINE_LEN_MAX]);
        assert_eq!(console.failure(), None);
        console.add(b"\n\x1b[1mTHE BOOT STOPPED while\nnext");
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
