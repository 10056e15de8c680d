"""A layerfs site for the boot tests: a store with one real system, a server, the boot files."""

import contextlib
import glob
import json
import os
import re
import subprocess
import tempfile
import time
import traceback

from machine import BootError, Machine, free_port, wait_port

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))


def program(name, variable, *places):
    """A program named by the environment, or built by cargo."""
    found = os.environ.get(variable)
    candidates = [found] if found else [os.path.join(TOP, place) for place in places]
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate
    raise SystemExit(f"no {name}: `make build static` first, or set {variable} (looked for {candidates})")


BAKERY = program("bakery", "BAKERY", "target/release/bakery", "target/debug/bakery")
STATIC = program("static layerfs", "LAYERFS_STATIC", "target/static/layerfs",
                 "target/x86_64-unknown-linux-gnu/initrd/layerfs")

# An emulated processor that other programs share is slow; no test here measures seconds.
PATIENCE = "systemd.default_timeout_start_sec=1800 systemd.default_device_timeout_sec=1800"
CONSOLE = ("console=ttyS0 no_timer_check mitigations=off panic=5 loglevel=5 printk.devkmsg=on "
           "systemd.log_target=kmsg systemd.show_status=yes net.ifnames=0 sysrq_always_enabled=1 bench.marker "
           f"{PATIENCE}")


def call(*command, timeout=600, env=None):
    """Runs a program to its end; its output, or a BootError with it."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout, env={**os.environ, **(env or {})}, check=False)
    if done.returncode != 0:
        raise BootError(f"code {done.returncode} from {' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout


# Messages that must not be on the console of a clean power-off. The last is a failed request of the root.
UNCLEAN = (r".*still in use.*", r".*did not end in.*", r".*Failed (to )?unmount.*", r".*Transport endpoint.*",
           r".*[Ff]orcibly.*", r".*Timed out.*", r".*Sending SIGKILL to PID.*", r".*(Input/output error|error -5\b).*",
           r".*fuse: .*(abort|fail|error).*")


# Messages of systemd 252 to 262 at the first boot of an installation.
FIRST_BOOT = r"Detected first boot|Populated /etc with preset|Applying preset policy|preset unit settings"

# Parameters that each kind of initramfs needs in addition to root=.
PARAMETERS = {"own": "", "initramfs-tools": "boot=layerfs", "dracut": "rd.shell=0 rd.emergency=poweroff"}
KINDS = tuple(PARAMETERS)
# Seconds without a server in the tests of a lost server.
OUTAGE = 60


class Site:
    """A directory with tree, store, keys, spool and logs; and the server while it runs."""

    def __init__(self, directory):
        self.directory = os.path.abspath(directory)
        self.store = os.path.join(self.directory, "store")
        self.tree = os.path.join(self.directory, "tree")     # a link, when the tree was made before
        self.port = free_port()
        self.address = "127.0.0.1"
        self.server = None
        self.times = []
        os.makedirs(os.path.join(self.directory, "logs"), exist_ok=True)

    def bakery(self, *arguments, timeout=900):
        return call(BAKERY, "--store", self.store, *arguments, timeout=timeout,
                    env={"LAYERFS_STATIC": STATIC})

    def make_tree(self, source=None):
        """The Debian tree: built, or copied from one that was built before."""
        if not os.path.exists(os.path.join(self.tree, "etc/systemd/system/test-shell.service")):
            if source:
                self.use_tree(source)
            else:
                call(os.path.join(HERE, "tree.sh"), self.tree, timeout=1800)

    def use_tree(self, tree):
        if not os.path.lexists(self.tree):
            os.symlink(os.path.abspath(tree), self.tree)

    def make_store(self, system="office"):
        if not os.path.exists(os.path.join(self.store, "refs", system)):
            self.bakery("init")
            # With defaults, as users do.
            self.bakery("import", system, self.tree, "--level", "3",
                        "--cmdline", CONSOLE, "-m", "the first revision")
            self.bakery("initrd", system, "--drivers", "common", "--initrd-level", "3")

    def manifest(self, profile="main", system="office"):
        """The newest revision of a profile."""
        newest = {"revision": 0}
        for path in glob.glob(os.path.join(self.store, "manifests", "*")):
            with open(path, encoding="utf-8") as file:
                manifest = json.load(file)
            if (manifest["system"], manifest["profile"]) == (system, profile) and manifest["revision"] > newest["revision"]:
                newest = manifest
        return newest

    def newest(self):
        return self.manifest()["revision"]

    def boot_files(self, system="office"):
        """Kernel and initrd of the newest revision, as files of the store."""
        newest = self.manifest(system=system)
        return tuple(os.path.join(self.store, "boot", newest[kind]["digest"]) for kind in ("kernel", "initrd"))

    def initrd(self, kind):
        """The initramfs that a distribution's generator makes in the tree, with our integration; made once."""
        path = os.path.join(self.directory, f"{kind}.initrd")
        if not os.path.exists(path):
            call(os.path.join(HERE, "generators.sh"), kind, self.tree, STATIC, f"{self.store}.keys/allowed_signers", path, timeout=2400)
        return path

    def options(self):
        """Further options of the server."""
        return []

    def start(self):
        log = open(os.path.join(self.directory, "logs", "serve.log"), "ab")
        with log:
            self.server = subprocess.Popen(
                [BAKERY, "--store", self.store, "serve", "--listen", f"{self.address}:{self.port}",
                 "--spool", os.path.join(self.directory, "spool"), "--url", self.url, "--menu-timeout", "1", *self.options()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_port(self.port)

    def stop(self):
        if self.server:
            self.server.terminate()
            try:
                self.server.wait(20)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
            self.server = None

    def kill(self):
        """Kills the server, as in a power cut."""
        self.server.kill()
        self.server.wait()
        self.server = None

    @property
    def url(self):
        """The server as a guest sees it."""
        return f"http://10.0.2.2:{self.port}"

    def lose(self, machine):
        """The server is absent for OUTAGE seconds, in which the machine must not end its boot: (start, end)."""
        self.kill()
        gone = machine.seconds()
        try:
            while machine.seconds() < gone + OUTAGE:
                machine.poll(1)
                if re.search(r"BENCH-MARK multi-user", machine.text()):
                    machine.fail("the boot ended without the server: it was killed too late to say anything")
        finally:
            self.start()
        return gone, machine.seconds()

    def machine(self, name, *, kind="own", netboot=False, system="office", root="office", extra="", **options):
        """A boot of this site: through iPXE from the server, or with the kernel given directly. `kind` is the maker of
        the initramfs. Without `root`, `extra` names it."""
        options.setdefault("log", os.path.join(self.directory, "logs", f"{name}.log"))
        options.setdefault("echo", bool(os.environ.get("ECHO")))
        if netboot:
            return Machine(netboot=f"{self.url}/boot.ipxe", **options)
        kernel, initrd = self.boot_files(system)
        if kind != "own":
            initrd, extra = self.initrd(kind), f"{PARAMETERS[kind]} {extra}"
        return Machine(kernel=kernel, initrd=initrd,
                       append=f"{CONSOLE} {f'root=layerfs:{self.url}/{root}' if root else ''} {extra}", **options)

    def check_running(self, machine, timeout=1800, root="fuse.layerfs"):
        """multi-user.target in state running, on a root of this type, with working set-user-id programs."""
        _, when = machine.expect(r"BENCH-MARK multi-user", timeout)
        machine.expect("BENCH-MARK report-done", 600)
        _, state = machine.run("systemctl is-system-running --wait", 900, check=False)
        if state != "running":
            _, failed = machine.run("systemctl --failed --no-legend --plain; journalctl -b -p err --no-pager | tail -n 20", check=False)
            machine.fail(f"systemd is {state}:\n{failed}")
        _, found = machine.run("findmnt -n -o FSTYPE /")
        if found != root:
            machine.fail(f"the root is {found}, not {root}")
        _, first = machine.run("journalctl -b -o cat --no-pager | grep -E '" + FIRST_BOOT + "'", check=False)
        if first.strip():
            machine.fail(f"this was a first boot:\n{first}")
        _, updates = machine.run("systemctl show --property=ConditionResult --value systemd-journal-catalog-update systemd-update-done")
        if set(updates.split()) != {"no"}:
            machine.fail(f"systemd brought /etc and /var up to date, as at every boot of an image without stamps: {updates}")
        _, user = machine.run("su tester -c 'id -un; su -c \"id -un\"'")
        if user.split() != ["tester", "root"]:
            machine.fail(f"su does not become root: {user}")
        _, daemon = machine.run("for p in $(pgrep -x @layerfs); do tr '\\0' ' ' < /proc/$p/cmdline | cut -d' ' -f1; cat /proc/$p/oom_score_adj; done")
        if daemon.split() != ["@layerfs", "-1000"]:
            machine.fail(f"the daemon is not on root duty: {daemon}")
        return when

    def power_off(self, machine, timeout=600, command="systemctl --no-block poweroff"):
        """A clean end: the root was released by the last program, and QEMU ended by itself."""
        machine.send(command)
        machine.expect(r"layerfs: root released, poweroff", timeout)
        machine.wait_exit(120)
        self.check_end(machine)

    def reboot(self, machine, timeout=600):
        """A clean reboot of the same machine."""
        machine.send("systemctl --no-block reboot")
        machine.expect(r"layerfs: root released, reboot", timeout)
        machine.rebooted()

    def check_end(self, machine):
        """No unmount or kill in the log of a power-off was forced, and no request of the root failed."""
        for pattern in UNCLEAN:
            if found := re.search(pattern, machine.text()):
                machine.fail(f"the end was not clean: {found[0]}")

    def close(self):
        self.stop()


@contextlib.contextmanager
def opened(make, given, *more):
    """The site that `make` builds in the directory `given`, or in a temporary one; closed at the end."""
    with tempfile.TemporaryDirectory(prefix="layerfs-site.", dir="/var/tmp") as temporary:
        site = make(given or temporary, *more)
        try:
            yield site
        finally:
            site.close()


class Verdicts:
    """Runs whose failures are reported at the end, so that one does not hide the others."""

    def __init__(self):
        self.failed = []

    def run(self, name, function, *given):
        try:
            function(*given)
        except BootError as error:
            self.fail(name, error)
        except (OSError, subprocess.SubprocessError, LookupError, ValueError):
            self.fail(name, traceback.format_exc())

    def fail(self, name, reason):
        self.failed.append(name)
        report(f"FAILED {name}: {reason}")

    def end(self):
        if self.failed:
            raise BootError(f"{len(self.failed)} failed: {', '.join(self.failed)}")


def report(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
