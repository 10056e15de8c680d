//! The virtual machine: QEMU, without a disk, in a network that has only our server.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use super::{RehearseError, RehearseOptions};
use crate::failed::Doing as _;

/// The address of the server in the network of the machine.
pub(super) const SERVER: &str = "10.0.2.100";
/// Account and group of nobody, as which QEMU runs if this program is root.
const NOBODY: u32 = 65534;
const KVM: &str = "/dev/kvm";

/// The emulator and the console of this architecture.
#[cfg(target_arch = "aarch64")]
const QEMU: (&str, &str) = ("qemu-system-aarch64", "virt");
#[cfg(not(target_arch = "aarch64"))]
const QEMU: (&str, &str) = ("qemu-system-x86_64", "pc");
/// Kernel parameters of the console.
#[cfg(target_arch = "aarch64")]
pub(super) const CONSOLE: &str = "console=ttyAMA0";
#[cfg(not(target_arch = "aarch64"))]
pub(super) const CONSOLE: &str = "console=ttyS0 no_timer_check";

/// How a processor runs the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Acceleration {
    /// Directly.
    Kvm,
    /// In emulation, about ten times slower.
    Emulation,
}

/// A machine that is not started yet.
#[derive(Debug)]
pub(super) struct VirtualMachine {
    command: Command,
}

/// A running machine. Dropping it ends it.
#[derive(Debug)]
pub(super) struct RunningMachine(Child);

impl VirtualMachine {
    /// The machine for these options, with the server at `address`.
    pub(super) fn describe(
        options: &RehearseOptions,
        address: SocketAddr,
    ) -> Result<(Self, Acceleration), RehearseError> {
        let name = options
            .qemu
            .clone()
            .unwrap_or_else(|| PathBuf::from(QEMU.0));
        let qemu = find(&name).ok_or_else(|| {
            RehearseError::Missing(format!(
                "no {}: install QEMU (Debian: qemu-system-x86), or name it with --qemu",
                name.display()
            ))
        })?;
        // It ends QEMU if this process is killed.
        let setpriv = find(Path::new("setpriv"))
            .ok_or_else(|| RehearseError::Missing("no setpriv: install util-linux".to_owned()))?;
        let opened = || {
            let mut open = std::fs::OpenOptions::new();
            open.read(true).write(true).open(KVM)
        };
        let kvm = match options.kvm {
            true => opened().ok().and_then(|file| file.metadata().ok()),
            false => None,
        };
        let acceleration = match kvm {
            Some(_) => Acceleration::Kvm,
            None => Acceleration::Emulation,
        };
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL", "--no-new-privs"]);
        let program = std::env::current_exe();
        let program = program.doing(|| "cannot determine the path of this program".into())?;
        if rustix::process::geteuid().is_root() {
            let group = kvm.map_or(NOBODY, |file| file.gid());
            let account = [
                format!("--reuid={NOBODY}"),
                format!("--regid={group}"),
                "--clear-groups".to_owned(),
            ];
            may_execute(command.get_program(), &account, &program)?;
            command.args(account);
        }
        command.arg("--").arg(qemu);
        let processor = match acceleration {
            Acceleration::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Acceleration::Emulation if cfg!(target_arch = "aarch64") => {
                ["-accel", "tcg", "-cpu", "max"]
            }
            // The oldest processor that all distributions of today support.
            Acceleration::Emulation => ["-accel", "tcg,tb-size=256", "-cpu", "Nehalem"],
        };
        command.args(["-machine", QEMU.1]).args(processor);
        command.args(["-smp", "1", "-m", &options.memory.to_string()]);
        command.args("-nodefaults -no-user-config -no-reboot -display none".split(' '));
        command.args(["-serial", "stdio"]);
        // The connections need other programs; setpriv denies new privileges.
        let sandbox = "on,obsolete=deny";
        command.args(["-sandbox", sandbox]);
        let network = network(&program, address)?;
        command.args(["-netdev", &network]);
        command.args(["-device", "virtio-net-pci,netdev=n0,romfile="]);
        command.args(["-object", "rng-random,id=rng,filename=/dev/urandom"]);
        command.args(["-device", "virtio-rng-pci,rng=rng"]);
        Ok((Self { command }, acceleration))
    }

    /// Starts the machine with these files.
    pub(super) fn start(
        mut self,
        kernel: &Path,
        initrd: &Path,
        command_line: &str,
    ) -> Result<RunningMachine, RehearseError> {
        self.command.arg("-kernel").arg(kernel);
        self.command.arg("-initrd").arg(initrd);
        self.command.args(["-append", command_line]);
        self.command.current_dir("/").stdin(Stdio::null());
        self.command.stdout(Stdio::piped());
        let child = self.command.spawn();
        Ok(RunningMachine(
            child.doing(|| "cannot start QEMU by setpriv".into())?,
        ))
    }
}

impl RunningMachine {
    /// The console.
    pub(super) fn output(&mut self) -> Result<ChildStdout, RehearseError> {
        let output = self.0.stdout.take();
        output.ok_or_else(|| RehearseError::Missing("the machine has no console".into()))
    }

    /// The status of a machine that has ended.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>, RehearseError> {
        let status = self.0.try_wait();
        Ok(status.doing(|| "cannot check QEMU".into())?)
    }
}

impl Drop for RunningMachine {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            tracing::warn!("cannot end QEMU: {error}");
        }
    }
}

/// Refuses a program that QEMU's account may not execute: the machine would wait for its server in
/// vain.
fn may_execute(setpriv: &OsStr, account: &[String], program: &Path) -> Result<(), RehearseError> {
    let mut command = Command::new(setpriv);
    // setpriv itself still has the rights of root when it starts a program; a shell has lost them.
    command.args(account).args(["--", "/bin/sh", "-c"]);
    command.arg("exec \"$0\" --version").arg(program);
    command.current_dir("/").stdin(Stdio::null());
    let done = command.output();
    let done = done.doing(|| "cannot start setpriv".into())?;
    if done.status.success() {
        return Ok(());
    }
    Err(RehearseError::Missing(format!(
        "QEMU runs under the account nobody, which may not execute {}: install the bakery in a \
         directory that all may enter",
        program.display()
    )))
}

/// A network without a way out: each connection to [`SERVER`] starts this program, which passes it
/// on to the server; everything else is dropped.
fn network(program: &Path, address: SocketAddr) -> Result<String, RehearseError> {
    let program = program.to_str().filter(|path| !path.contains('\''));
    let program = program.ok_or_else(|| {
        RehearseError::Missing("the path of this program has a quote or is not UTF-8".into())
    })?;
    let program = program.replace(',', ",,");
    Ok(format!(
        "user,id=n0,restrict=on,guestfwd=tcp:{SERVER}:80-cmd:'{program}' rehearse --pipe {address}"
    ))
}

/// Makes the files of the machine readable for its account.
pub(super) fn readable(place: &Path) -> Result<(), RehearseError> {
    let doing = |path: &Path| format!("cannot set the permissions of {}", path.display());
    for (path, mode) in [
        (place.to_owned(), 0o755),
        (place.join("kernel"), 0o644),
        (place.join("initrd"), 0o644),
    ] {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).doing(|| doing(&path))?;
    }
    Ok(())
}

/// The program with this name or path.
fn find(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return name.is_file().then(|| name.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}
