"""A virtual machine under QEMU (software emulation, one CPU) for the boot tests.

Everything it starts it ends; every wait is bounded; the console is kept with the seconds at
which each line came. Two serial lines: ttyS0 is the console, ttyS1 a root shell that the test
tree offers (tests/boot/tree.sh puts the unit there).
"""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

FORBIDDEN = [
    (re.compile(r"Kernel panic"), "kernel panic"),
    (re.compile(r"THE BOOT STOPPED"), "the initramfs stopped"),
    (re.compile(r"Oops:|BUG: (?!.*sched)|general protection fault"), "kernel oops"),
    (re.compile(r"blocked for more than \d+ seconds"), "hung task"),
    (re.compile(r"Transport endpoint is not connected"), "the root's daemon died"),
]


class BootError(Exception):
    """A failure, with the end of the console."""


def run_script(main):
    """Runs a whole script: a failed boot prints its reason in the last line. SIGTERM ends it like an exit, so that
    everything it started ends too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except BootError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        sys.exit(1)


class Machine:
    """One boot. Use as a context manager: leaving it ends QEMU."""

    def __init__(self, *, kernel=None, initrd=None, append="", memory=1024, disks=(), netboot=None,
                 forwards=(), log=None, echo=False, nic="virtio-net-pci", nics=1, net="", hub=False, port=None, tftp=None, reboots=False,
                 devices=()):
        self.append = append
        self._log = open(log, "w", encoding="utf-8", buffering=1) if log else None
        self.echo = echo
        self.lines = []          # (seconds since start, text)
        self.allowed = set()     # labels of FORBIDDEN that this boot may show
        self._buffer = b""
        self._shell = None
        self._directory = tempfile.mkdtemp(prefix="layerfs-boot.")
        self.shell_path = os.path.join(self._directory, "shell")
        self.monitor_path = os.path.join(self._directory, "monitor")
        self.port = port        # of port.py, between the first card and the server
        if port:
            port.open(self._directory)
        self.command = self._command_line(kernel, initrd, memory, disks, netboot, forwards, nic, nics, net, hub, tftp)
        self.command += devices
        if reboots:
            self.command.remove("-no-reboot")
        self.first = 0           # the line with which the present boot begins
        self.process = None
        self.started = None

    def _command_line(self, kernel, initrd, memory, disks, netboot, forwards, nic, nics, net, hub, tftp):
        command = [
            "qemu-system-x86_64", "-machine", "pc,graphics=off" if netboot else "pc",
            "-accel", "tcg,tb-size=256", "-cpu", "Nehalem", "-smp", "1", "-m", str(memory),
            "-nodefaults", "-display", "none", "-no-reboot",
            "-serial", "stdio",
            "-chardev", f"socket,id=shell,path={self.shell_path},server=on,wait=off", "-serial", "chardev:shell",
            "-chardev", f"socket,id=monitor,path={self.monitor_path},server=on,wait=off", "-mon", "chardev=monitor",
            "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
        ]
        if hub:     # all cards are in one network, as at one switch
            command += ["-netdev", f"user,id=outside{net}", "-netdev", "hubport,id=hub,hubid=0,netdev=outside"]
        for number in range(nics):
            user = f"hubport,id=n{number},hubid=0" if hub else f"user,id=n{number}"
            if hub:
                pass
            elif number:
                user += ",restrict=on"
            else:
                user += "".join(f",hostfwd=tcp:127.0.0.1:{host}-:{guest}" for host, guest in forwards)
                user += net
                if netboot:
                    user += f",bootfile={netboot}"
                if tftp:
                    user += f",tftp={tftp}"
            device = f"{nic},netdev=n{number},mac=52:54:00:00:00:{number + 1:02x}"
            device += ",bootindex=1" if netboot and number == 0 else ",romfile="
            command += self.port.netdevs("n0", f"user{net}") if self.port and number == 0 else ["-netdev", user]
            command += ["-device", device]
        for number, (path, serial) in enumerate(disks):
            command += ["-drive", f"file={path},format=raw,if=none,id=d{number},cache=writeback",
                        "-device", f"virtio-blk-pci,drive=d{number},serial={serial}"]
        if kernel:
            command += ["-kernel", kernel, "-initrd", initrd, "-append", self.append]
        return command

    def __enter__(self):
        self.started = time.monotonic()
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, bufsize=0)
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._drain(0)
        self.process.stdin.close()
        self.process.stdout.close()
        if self._shell:
            self._shell.close()
        if self._log:
            self._log.close()
        if self.port:
            self.port.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    # -- the console ------------------------------------------------------------------------

    def seconds(self):
        return time.monotonic() - self.started

    def cpu_seconds(self):
        """CPU time of QEMU so far: the cost of the guest under emulation."""
        try:
            with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _drain(self, timeout):
        """Reads the available console output; False at its end."""
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        if not ready:
            return True
        data = os.read(self.process.stdout.fileno(), 65536)
        self._buffer += data
        while b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            self._line(line.decode("utf-8", "replace").strip("\r"))
        if not data and self._buffer:
            self._line(self._buffer.decode("utf-8", "replace"))
            self._buffer = b""
        return bool(data)

    def _line(self, text):
        text = without_escapes(text)
        self.lines.append((self.seconds(), text))
        if self._log:
            self._log.write(f"{self.seconds():9.3f} {text}\n")
        if self.echo:
            print(f"{self.seconds():8.2f} {text}", flush=True)

    def fail(self, message, end=None):
        tail = "\n".join(f"{when:8.2f} {text}" for when, text in self.lines[:end][-40:])
        raise BootError(f"{message}\n--- end of the console ---\n{tail}")

    def monitor(self, command, seconds=1):
        """A command of QEMU's own console, which QEMU opens a moment after its start."""
        while not os.path.exists(self.monitor_path) and self.seconds() < 60:
            self.poll(0.1)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as monitor:
            monitor.connect(self.monitor_path)
            monitor.sendall(f"{command}\n".encode())
            self.poll(seconds)

    def hangs(self, message):
        """Fails, with the kernel's list of its tasks in the log (the command line must allow SysRq)."""
        end = len(self.lines)
        for key in "8wt":      # tasks are told below the console's usual level
            self.monitor(f"sendkey alt-sysrq-{key}", 6)
        self.fail(f"{message}; the log has the tasks", end)

    def _check(self, seen):
        for _, text in self.lines[seen:]:
            for pattern, label in FORBIDDEN:
                if label not in self.allowed and pattern.search(text):
                    self.fail(f"{label}: {text}")
        return len(self.lines)

    def expect(self, pattern, timeout):
        """Waits for a console line; returns (match, seconds). Earlier lines count too."""
        compiled = re.compile(pattern)
        deadline = self.seconds() + timeout
        seen, checked = self.first, 0
        while True:
            checked = self._check(checked)
            while seen < len(self.lines):
                when, text = self.lines[seen]
                seen += 1
                if match := compiled.search(text):
                    return match, when
            left = deadline - self.seconds()
            if left <= 0:
                self.hangs(f"no line like {pattern!r} in {timeout} s")
            if not self._drain(min(left, 0.5)):
                self._check(checked)
                self.fail(f"the machine ended (code {self.process.wait()}) before a line like {pattern!r}")

    def prompt(self, pattern, timeout):
        """Waits until the unfinished last line of the console matches `pattern`; returns the seconds."""
        compiled = re.compile(pattern)
        deadline = self.seconds() + timeout
        while not compiled.search(plain(self._buffer)):
            self._check(0)
            if self.seconds() > deadline:
                self.hangs(f"no prompt like {pattern!r} in {timeout} s, but {plain(self._buffer)!r}")
            if not self._drain(0.5):
                self.fail(f"the machine ended (code {self.process.wait()}) before a prompt like {pattern!r}")
        return self.seconds()

    def type(self, text):
        """Types a line on the console, as a person does."""
        self.process.stdin.write(f"{text}\n".encode())

    def typed(self, command, timeout=600):
        """Types a command at the shell's prompt on the console; returns its output. It must succeed."""
        mark = f"{time.monotonic_ns():x}"
        self.first = len(self.lines)
        # The marks are spelled so that the echo of the command cannot be mistaken for them.
        self.type(f"echo BEG''IN-{mark}; {command}; echo EN''D-{mark} $?")
        code, _ = self.expect(rf"END-{mark} (\d+)", timeout)
        texts = [text for _, text in self.lines[self.first:]]
        begin = next(number for number, text in enumerate(texts) if f"BEGIN-{mark}" in text)
        end = next(number for number, text in enumerate(texts) if f"END-{mark}" in text)
        said = "\n".join(text.strip("\r") for text in texts[begin + 1:end])
        if code[1] != "0":
            self.fail(f"code {code[1]} from: {command}\n{said}")
        return said

    def wait_exit(self, timeout):
        """Waits until the machine has powered itself off."""
        deadline = self.seconds() + timeout
        checked = 0
        while self._drain(0.2):
            checked = self._check(checked)
            if self.seconds() > deadline:
                self.hangs(f"the machine did not end in {timeout} s")
        self._check(checked)
        code = self.process.wait(10)
        if code != 0:
            self.fail(f"QEMU ended with code {code}")
        return self.seconds()

    def text(self):
        return "\n".join(text for _, text in self.lines)

    def poll(self, seconds):
        """Reads the console for a while."""
        stop = self.seconds() + seconds
        while (left := stop - self.seconds()) > 0:
            if not self._drain(left):
                self.fail(f"the machine ended (code {self.process.wait()})")

    def rebooted(self):
        """Later output belongs to the next boot: `expect` and `run` start over."""
        self.first = len(self.lines)
        if self._shell:
            self._shell.close()
            self._shell = None

    # -- the shell --------------------------------------------------------------------------

    def run(self, script, timeout=300, check=True):
        """Runs a script in the machine's root shell; returns (code, output)."""
        if self._shell is None:
            self._open_shell()
        mark = f"{time.monotonic_ns():x}"
        # The marks are spelled so that an echo of the command cannot be mistaken for them.
        self._shell.sendall(
            f"echo BEG''IN-{mark}; ( {script}\n) 2>&1 < /dev/null; echo EN''D-{mark} $?\n".encode())
        deadline = self.seconds() + timeout
        data = b""
        end = re.compile(rf"END-{mark} (\d+)".encode())
        while not (match := end.search(data)):
            if self.seconds() > deadline:
                self.fail(f"no answer in {timeout} s to: {script}\ngot: {data.decode('utf-8', 'replace')}")
            self._drain(0)
            ready, _, _ = select.select([self._shell], [], [], 0.1)
            if ready:
                part = self._shell.recv(65536)
                if not part:
                    self.fail(f"the shell went away during: {script}")
                data += part
        code = int(match[1])
        output = data[:match.start()].split(f"BEGIN-{mark}".encode(), 1)[-1]
        text = output.decode("utf-8", "replace").replace("\r", "").strip("\n")
        if check and code != 0:
            self.fail(f"code {code} from: {script}\n{text}")
        return code, text

    def _open_shell(self):
        self._shell = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._shell.connect(self.shell_path)
        deadline = self.seconds() + 300
        data = b""
        while b"HELLO-SHELL" not in data:
            if self.seconds() > deadline:
                self.fail("the machine's shell on ttyS1 does not answer")
            self._shell.sendall(b"\nstty -echo 2>/dev/null; PS1=; PS2=; echo HELLO''-SHELL\n")
            stop = self.seconds() + 2
            while self.seconds() < stop and b"HELLO-SHELL" not in data:
                self._drain(0)
                ready, _, _ = select.select([self._shell], [], [], 0.1)
                if ready:
                    data += self._shell.recv(65536)
        time.sleep(0.3)
        while select.select([self._shell], [], [], 0.2)[0]:
            self._shell.recv(65536)

    def send(self, script):
        """Sends a command without waiting for an answer (poweroff)."""
        if self._shell is None:
            self._open_shell()
        self._shell.sendall(script.encode() + b"\n")


def without_escapes(text):
    """Removes colors and cursor movements of a terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def plain(data):
    return without_escapes(data.decode("utf-8", "replace"))


def free_port():
    """A TCP port on loopback that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_port(port, timeout=20):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise BootError(f"nothing listens on port {port} after {timeout} s")
