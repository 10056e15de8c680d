//! Notices of automatic changes: by the programs of a directory, and by sendmail.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Directory of the programs, if it exists.
const HOOKS_DEFAULT: &str = "/etc/layerfs/fleet.d";
/// Longest run time of a program.
const RUN_MAX: Duration = Duration::from_secs(60);
/// Interval of the checks for its end.
const LOOK: Duration = Duration::from_millis(50);

/// The receivers of notices.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Notices {
    /// Run the programs of this directory at each automatic change of the rings
    #[arg(long, value_name = "DIR", env = "BAKERY_HOOKS", default_value = HOOKS_DEFAULT)]
    pub(crate) hooks: PathBuf,
    /// Send mail about quarantines to this address, and to the author of the revision
    #[arg(long, value_name = "ADDRESS", env = "BAKERY_MAIL_TO")]
    pub(crate) mail_to: Option<String>,
    /// The program that sends mail
    #[arg(
        long,
        value_name = "PROGRAM",
        env = "BAKERY_SENDMAIL",
        default_value = "/usr/sbin/sendmail"
    )]
    pub(crate) sendmail: PathBuf,
}

/// One notice.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    /// The arguments of the programs.
    pub(crate) arguments: Vec<String>,
    /// The mail, if there is one.
    pub(crate) mail: Option<Mail>,
}

/// A mail to the operator, and to an author.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    /// The author of the revision, as stated by the sender.
    pub(crate) author: String,
    /// Its subject.
    pub(crate) subject: String,
    /// Its text.
    pub(crate) text: String,
}

impl Notices {
    /// Sends a notice. A failure is a line in the log.
    pub(crate) fn send(&self, notice: &Notice) {
        for program in programs(&self.hooks) {
            let mut command = Command::new(&program);
            command.args(&notice.arguments).stdin(Stdio::null());
            run(&program, command.spawn());
        }
        let (Some(to), Some(mail)) = (&self.mail_to, &notice.mail) else {
            return;
        };
        let mut receivers: Vec<&str> = address(to).into_iter().collect();
        receivers.extend(address(&mail.author));
        if receivers.is_empty() {
            tracing::warn!("{to:?} is not an address: no mail is sent");
            return;
        }
        let mut command = Command::new(&self.sendmail);
        command
            .args(["-i", "--"])
            .args(&receivers)
            .stdin(Stdio::piped());
        let started = command.spawn().map(|mut child| {
            if let Some(mut stdin) = child.stdin.take() {
                let (to, subject) = (receivers.join(", "), line(&mail.subject));
                let text = format!("To: {to}\nSubject: {subject}\n\n{}\n", mail.text);
                // The exit code reports a failure.
                let _ = stdin.write_all(text.as_bytes());
            }
            child
        });
        run(&self.sendmail, started);
    }
}

/// The programs of a directory, in name order.
fn programs(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let is_program = |path: &PathBuf| {
        let meta = std::fs::metadata(path);
        meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut programs: Vec<PathBuf> = paths.filter(is_program).collect();
    programs.sort();
    programs
}

/// Waits for a program; kills it after a minute.
fn run(program: &Path, started: std::io::Result<Child>) {
    let name = program.display();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!("cannot run {name}: {error}");
            return;
        }
    };
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return,
            Ok(Some(status)) => {
                tracing::warn!("{name} failed: {status}");
                return;
            }
            Ok(None) if start.elapsed() < RUN_MAX => std::thread::sleep(LOOK),
            Ok(None) => {
                let _ = child.kill().and_then(|()| child.wait());
                tracing::warn!("killed {name} after a minute");
                return;
            }
            Err(error) => {
                tracing::warn!("cannot wait for {name}: {error}");
                return;
            }
        }
    }
}

/// The mail address in a text such as `Ann <ann@school.org>`.
fn address(text: &str) -> Option<&str> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "@._+-".contains(c);
    let mut words = text.split(|c: char| c.is_whitespace() || "<>(),;".contains(c));
    words.find(|word| {
        let parts: Vec<&str> = word.split('@').collect();
        matches!(parts.as_slice(), [user, host] if !user.is_empty() && !host.is_empty())
            && !word.starts_with('-')
            && word.chars().all(is_allowed)
    })
}

/// One line of ASCII.
fn line(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii() && !c.is_control())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_may_have_an_address() {
        assert_eq!(address("Ann <ann@school.org>"), Some("ann@school.org"));
        assert_eq!(address("ann@desk"), Some("ann@desk"));
        for none in ["ann", "", "@", "a@", "a@b@c", "-oQ/tmp@x", "Ann <ann at x>"] {
            assert_eq!(address(none), None, "{none}");
        }
    }
}
