//! The requests of root to a mount, through attributes of its root directory.

use crate::chunks::hot::HotFile;
use crate::chunks::{OnAnswer, Pending, Ready};

/// The attributes that are requests begin so.
const PREFIX: &str = "user.layerfs.";
/// The attribute that takes a boot report.
const BOOT_REPORT: &str = "user.layerfs.boot-report";
/// The attribute that starts a switch.
const SWITCH: &str = "user.layerfs.switch";
/// The attribute that takes a hello.
const HELLO: &str = "user.layerfs.hello";

/// A request for data: root reads an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// A part of the list of the boot pack's pages.
    Pack(usize),
    /// A part of the trace of this boot.
    Trace(usize),
    /// Send the trace to the server, which ends the recording.
    SendTrace,
    /// Store the boot pack's pages in the page cache, before anything uses the mount.
    StorePages,
    /// A part of the report of the last switch, when it has ended.
    SwitchReport(usize),
}

impl Question {
    /// The question in this attribute.
    pub fn parse(attribute: &[u8]) -> Option<Question> {
        let name = attribute.strip_prefix(PREFIX.as_bytes())?;
        let name = std::str::from_utf8(name).ok()?;
        let number = |prefix| name.strip_prefix(prefix)?.parse().ok();
        match name {
            "push-trace" => Some(Question::SendTrace),
            "store" => Some(Question::StorePages),
            _ => number("pack.")
                .map(Question::Pack)
                .or_else(|| number("trace.").map(Question::Trace))
                .or_else(|| number("switch.").map(Question::SwitchReport)),
        }
    }

    /// The attribute of this question.
    pub fn attribute(self) -> String {
        match self {
            Question::Pack(part) => format!("{PREFIX}pack.{part}"),
            Question::Trace(part) => format!("{PREFIX}trace.{part}"),
            Question::SendTrace => format!("{PREFIX}push-trace"),
            Question::StorePages => format!("{PREFIX}store"),
            Question::SwitchReport(part) => format!("{PREFIX}switch.{part}"),
        }
    }
}

/// Data for the server: root sets an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Send this report of the boot.
    BootReport(Vec<u8>),
    /// Send this hello.
    Hello(Vec<u8>),
    /// Switch to another revision (a `SwitchRequest` as JSON).
    Switch(Vec<u8>),
    /// The mount is up: send its own hello. The mount itself says so.
    Mounted,
}

impl Command {
    /// The attribute of boot reports.
    pub(crate) const BOOT_REPORT: &str = BOOT_REPORT;
    /// The attribute of hellos.
    pub const HELLO: &str = HELLO;

    /// The attribute of switches.
    pub(crate) const SWITCH: &str = SWITCH;

    /// The command in the new value of this attribute.
    pub fn parse(attribute: &[u8], value: &[u8]) -> Option<Command> {
        if attribute == BOOT_REPORT.as_bytes() {
            Some(Command::BootReport(value.to_vec()))
        } else if attribute == HELLO.as_bytes() {
            Some(Command::Hello(value.to_vec()))
        } else if attribute == SWITCH.as_bytes() {
            Some(Command::Switch(value.to_vec()))
        } else {
            None
        }
    }
}

/// The control side of a stack. Nothing here waits for the network.
pub trait Control: Send + Sync + std::fmt::Debug {
    /// Calls `then` with the answer, or `None`.
    fn ask(&self, question: Question, then: OnAnswer) -> Box<dyn Pending>;

    /// Executes a command; `then` is called with empty data on success, else with `None`.
    fn command(&self, command: Command, then: OnAnswer) -> Box<dyn Pending>;

    /// The contents of the boot pack by file, in the order of their arrival.
    fn hot(&self) -> Vec<HotFile>;

    /// Nothing is being read: memory held for later reads may be reclaimed.
    fn idle(&self);

    /// The `source` part of `layerfs status`, if any.
    fn status(&self) -> Option<serde_json::Value>;
}

/// The control side of local layers: it answers nothing.
#[derive(Debug)]
pub(crate) struct Local;

impl Control for Local {
    fn ask(&self, _question: Question, then: OnAnswer) -> Box<dyn Pending> {
        then(None);
        Box::new(Ready)
    }

    fn command(&self, _command: Command, then: OnAnswer) -> Box<dyn Pending> {
        then(None);
        Box::new(Ready)
    }

    fn hot(&self) -> Vec<HotFile> {
        Vec::new()
    }

    fn idle(&self) {}

    fn status(&self) -> Option<serde_json::Value> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_attributes_are_one_to_one() {
        let all = [
            Question::Pack(0),
            Question::Pack(17),
            Question::Trace(3),
            Question::SendTrace,
            Question::StorePages,
            Question::SwitchReport(2),
        ];
        for question in all {
            let attribute = question.attribute();
            assert_eq!(Question::parse(attribute.as_bytes()), Some(question));
        }
        for other in [
            "user.layerfs.status",
            "user.layerfs.pack.x",
            "user.pack.1",
            "",
        ] {
            assert_eq!(Question::parse(other.as_bytes()), None, "{other}");
        }
        let report = Command::parse(Command::BOOT_REPORT.as_bytes(), b"x");
        assert_eq!(report, Some(Command::BootReport(b"x".to_vec())));
        assert_eq!(Command::parse(b"user.layerfs.other", b"x"), None);
    }
}
