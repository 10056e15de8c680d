//! The programs of the site that run before and after a switch.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::bail;

use crate::commands::programs;

/// Longest run time of one hook.
const HOOK_MAX: Duration = Duration::from_secs(300);

/// The hooks of one switch.
#[derive(Debug)]
pub(super) struct Hooks<'h> {
    programs: Vec<PathBuf>,
    mount: &'h Path,
    from: String,
    to: String,
}

impl<'h> Hooks<'h> {
    /// The programs in `directory` for a switch of `mount`.
    pub(super) fn new(directory: &Path, mount: &'h Path, from: &str, to: &str) -> Hooks<'h> {
        Hooks {
            programs: programs::listed(directory),
            mount,
            from: from.to_owned(),
            to: to.to_owned(),
        }
    }

    /// Runs them before the switch.
    ///
    /// # Errors
    /// One of them fails: there is no switch, and those that ran get `failed`.
    pub(super) fn before(&self) -> anyhow::Result<()> {
        for (number, program) in self.programs.iter().enumerate() {
            if !self.run(program, "before") {
                let ran = self.programs.get(..number).unwrap_or_default();
                for program in ran {
                    let _ = self.run(program, "failed");
                }
                bail!(
                    "{} does not allow the switch to {}; the mount keeps {}",
                    program.display(),
                    self.to,
                    self.from
                );
            }
        }
        Ok(())
    }

    /// Runs them after the switch, or after its failure.
    pub(super) fn after(&self, done: bool) {
        let moment = if done { "after" } else { "failed" };
        for program in &self.programs {
            if !self.run(program, moment) {
                eprintln!("layerfs: {} {moment}: it failed", program.display());
            }
        }
    }

    fn run(&self, program: &Path, moment: &str) -> bool {
        let mut command = Command::new(program);
        command
            .args([moment, &self.from, &self.to])
            .env("LAYERFS_MOUNT", self.mount)
            .stdin(Stdio::null())
            // Standard output may be JSON for a program.
            .stdout(std::io::stderr());
        programs::succeeds(&mut command, HOOK_MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_hook_can_refuse_and_the_others_hear_of_it() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("log");
        let hooks = place.path().join("hooks");
        std::fs::create_dir(&hooks).unwrap();
        let hook = |name: &str, text: &str| {
            let path = hooks.join(name);
            let text = format!(
                "#!/bin/sh\necho {name} $* $LAYERFS_MOUNT >> {}\n{text}",
                log.display()
            );
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        hook("10-first", "");
        let run = || Hooks::new(&hooks, Path::new("/m"), "a@1", "a@2");
        run().before().unwrap();
        run().after(true);
        hook("20-second", "test $1 != before");
        let refused = run().before().unwrap_err().to_string();
        assert!(
            refused.contains("20-second does not allow the switch to a@2"),
            "{refused}"
        );
        let said = std::fs::read_to_string(&log).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines,
            [
                "10-first before a@1 a@2 /m",
                "10-first after a@1 a@2 /m",
                "10-first before a@1 a@2 /m",
                "20-second before a@1 a@2 /m",
                "10-first failed a@1 a@2 /m",
            ]
        );
        let none = Hooks::new(Path::new("/nonexistent"), Path::new("/m"), "a@1", "a@2");
        none.before().unwrap();
    }
}
