//! Runs confined programs that read foreign formats, and streams their output.

use std::fs::File;
use std::io::{self, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;

use super::SourceError;
use super::limits::STDERR_LEN_MAX;
use crate::sys::confine::{Confinement, confine};

/// Programs that write a file they are given.
const WRITERS: [&str; 1] = ["qemu-img"];

/// The standard output of a running program. Its end is valid only if the program succeeded.
#[derive(Debug)]
pub struct Output {
    program: &'static str,
    child: Child,
    stderr: Option<JoinHandle<String>>,
    ended: bool,
    said: String,
}

/// Starts `program` on `image`, its standard input (`/proc/self/fd/0` if it needs a path).
/// `package` is the package to install if it is missing.
///
/// # Errors
/// It cannot be started.
pub fn start(
    program: &'static str,
    package: &str,
    arguments: &[&str],
    image: &File,
    name: &str,
) -> Result<Output, SourceError> {
    let stdout = Stdio::piped();
    let mut child = spawn(program, package, arguments, image, stdout, name)?;
    let stderr = child
        .stderr
        .take()
        .map(|pipe| std::thread::spawn(move || collect(pipe)));
    Ok(Output {
        program,
        child,
        stderr,
        ended: false,
        said: String::new(),
    })
}

/// Runs `program` on `image` like [`start`], to its end; it writes `output`, its standard output
/// (`/proc/self/fd/1` if it needs a path).
///
/// # Errors
/// It cannot be started, or fails.
pub(crate) fn run_into(
    program: &'static str,
    package: &str,
    arguments: &[&str],
    image: &File,
    output: &File,
    name: &str,
) -> Result<(), SourceError> {
    let output = output
        .try_clone()
        .map_err(|cause| SourceError::new(name, "cannot duplicate a descriptor").cause(cause))?;
    let child = spawn(program, package, arguments, image, output.into(), name)?;
    let failed = |cause| SourceError::new(name, "cannot read it").cause(cause);
    let done = child.wait_with_output().map_err(failed)?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let said = said.trim().replace('\n', "; ");
    let problem = format!("{program} failed ({}): {said}", done.status);
    Err(failed(io::Error::other(problem)))
}

fn spawn(
    program: &'static str,
    package: &str,
    arguments: &[&str],
    image: &File,
    stdout: Stdio,
    name: &str,
) -> Result<Child, SourceError> {
    let image = image
        .try_clone()
        .map_err(|cause| SourceError::new(name, "cannot duplicate a descriptor").cause(cause))?;
    let writes = WRITERS.contains(&program);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(image)
        .stdout(stdout)
        .stderr(Stdio::piped());
    let confinement = Confinement::default();
    confine(
        &mut command,
        if writes {
            confinement.that_writes()
        } else {
            confinement
        },
    );
    command.spawn().map_err(|cause| {
        let problem = match cause.kind() {
            io::ErrorKind::NotFound => {
                format!("{program} is needed to read it; install the package {package}")
            }
            _ => format!("cannot start {program}"),
        };
        SourceError::new(name, problem).cause(cause)
    })
}

/// Reads all output of a program, storing the beginning.
fn collect(mut pipe: ChildStderr) -> String {
    let mut kept = Vec::new();
    let _ = pipe.by_ref().take(STDERR_LEN_MAX).read_to_end(&mut kept);
    let _ = io::copy(&mut pipe, &mut io::sink());
    String::from_utf8_lossy(&kept).into_owned()
}

impl Output {
    /// Lines of the program's standard error; complete once the output has ended.
    pub fn said(&mut self) -> impl Iterator<Item = &str> {
        self.said
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.ended = true;
        let status = self.child.wait()?;
        if let Some(thread) = self.stderr.take() {
            self.said = thread.join().unwrap_or_default();
        }
        if status.success() {
            return Ok(());
        }
        let said = self.said.trim().replace('\n', "; ");
        let program = self.program;
        Err(io::Error::other(format!(
            "{program} failed ({status}): {said}"
        )))
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let count = match &mut self.child.stdout {
            Some(stdout) => stdout.read(buffer)?,
            None => 0,
        };
        if count == 0 {
            self.finish()?;
        }
        Ok(count)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.ended {
            // Always our own child, which has not been waited for yet.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
