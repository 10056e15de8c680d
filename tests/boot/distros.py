#!/usr/bin/env python3
"""Today's releases of Debian, each with its own kernel, systemd and initramfs generators, imported with
default options: first boot, push, reboot into what was pushed, soft-reboot, power off; and a boot during which
the server is gone for a minute. Asserted each time: state running, no failed unit, nothing of a first boot, no
emergency, a clean end.

    distros.py --trees DIR [--site DIR] [--only SUITE,… | SUITE:KIND,…]

DIR has one tree of tests/boot/suite.sh for each suite."""

import argparse
import os
import re
import shutil

from machine import BootError, run_script
from loop import Loop
from office import CONSOLE, FIRST_BOOT, KINDS, STATIC, TOP, Verdicts, call, opened, report

SUITES = ("bookworm", "trixie", "sid")
EMERGENCY = r"emergency mode|emergency\.target|Emergency Shell|emergency shell"
VERSIONS = ("uname -r; dpkg-query -W -f '${Package} ${Version}, ' systemd util-linux busybox initramfs-tools dracut-core")
PUSHED = "Printers are on the second floor."


class Release(Loop):
    """A suite's tree in a store, the server, the watcher and the sshd for a push."""

    def __init__(self, directory, suite):
        super().__init__(directory)
        self.suite = suite
        self.changes = 0

    def prepare(self, source):
        """Adds the client to the tree, as in a system that pushes."""
        if not os.path.isdir(self.tree):
            call("cp", "-a", "--reflink=auto", source + "/.", self.tree)
            shutil.copy(STATIC, f"{self.tree}/usr/bin/layerfs")
        if not os.path.isdir(self.ssh):
            os.makedirs(self.ssh)
            for key in ("host", "client"):
                call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", f"{self.ssh}/{key}")
        if not os.path.isdir(self.repository):
            self.make_repository()

    def make_store(self, system="office"):
        if not os.path.exists(os.path.join(self.store, "refs", system)):
            self.bakery("init")
            self.bakery("import", system, self.tree, "--level", "3", "--cmdline", CONSOLE, "-m", self.suite)
            self.bakery("initrd", system, "--drivers", "common", "--initrd-level", "3")

    def check(self, machine, timeout=1800):
        """check_running, without signs of a first boot or an emergency."""
        when = self.check_running(machine, timeout)
        _, failed = machine.run("systemctl --failed --no-legend --plain; journalctl -b --no-pager -o cat 2> /dev/null | "
                                f"grep -E '{FIRST_BOOT}'", check=False)
        if failed.strip():
            machine.fail(f"failed units, or words of a first boot:\n{failed}")
        for pattern in (FIRST_BOOT, EMERGENCY):
            if found := re.search(f".*({pattern}).*", machine.text()):
                machine.fail(f"on the console: {found[0]}")
        return when

    def push(self, machine):
        """Changes a file and pushes it, as an administrator does."""
        self.changes += 1
        with open(f"{self.ssh}/client", encoding="ascii") as key, open(f"{self.ssh}/host.pub", encoding="ascii") as public:
            machine.run(f"umask 077; cat > /run/key <<'E'\n{key.read()}E\n", 60)
            machine.run(f"echo '[10.0.2.2]:{self.ssh_port} {public.read().strip()}' > /run/known")
        machine.run(f"echo '{PUSHED} {self.changes}' >> /etc/motd && rm -f /etc/issue.net")
        _, told = machine.run(f"layerfs push -q --wait -m 'change {self.changes}' --to root@10.0.2.2:office --ssh "
                              f"'ssh -p {self.ssh_port} -i /run/key -o UserKnownHostsFile=/run/known -o BatchMode=yes'", 600)
        return told.splitlines()[-1]

    def pushed(self, machine):
        machine.run(f"grep -q '{PUSHED} {self.changes}' /etc/motd && test ! -e /etc/issue.net")


def life(site, kind):
    """First boot, push, reboot into it, soft-reboot, power off, in one machine."""
    with site.machine(f"{site.suite}-{kind}-life", kind=kind, reboots=True) as machine:
        first = site.check(machine)
        _, versions = machine.run(VERSIONS)
        kernel, packages = versions.splitlines()
        report(f"{site.suite} {kind}: Linux {kernel}, {packages.rstrip(', ')}")
        told = site.push(machine)
        site.reboot(machine)
        second = site.check(machine)
        site.pushed(machine)
        soft = "no soft-reboot in this systemd"
        if machine.run("systemctl --help | grep -q soft-reboot", check=False)[0] == 0:
            machine.run("echo kept > /etc/over-the-soft-reboot")
            machine.send("systemctl --no-block soft-reboot")
            machine.expect(r"Finished layerfs-soft-reboot", 600)
            machine.rebooted()
            third = site.check(machine)
            machine.run("test -e /etc/over-the-soft-reboot && test \"$(systemctl show -P SoftRebootsCount)\" = 1")
            soft = f"soft-reboot at {third:.0f} s"
        site.power_off(machine)
        report(f"{site.suite} {kind}: multi-user after {first:.0f} s, {told}, rebooted at {second:.0f} s, {soft}, off at {machine.seconds():.0f} s")


def outage(site, kind):
    """The server is absent for a minute in the middle of a boot."""
    with site.machine(f"{site.suite}-{kind}-outage", kind=kind) as machine:
        machine.expect(r"Welcome to (?!.*(dracut|[Ii]nitramfs)).*Debian", 600)
        machine.poll(3)
        gone, back = site.lose(machine)
        when = site.check(machine)
        said, _ = machine.expect(r"layerfs: waiting for (.*)", 1)
        site.power_off(machine)
    report(f"{site.suite} {kind}: server gone at {gone:.0f} s, back at {back:.0f} s, multi-user after {when:.0f} s; said: {said[0]}")


def cells(only):
    """(suite, kinds) of --only, or all."""
    wanted = {}
    for word in (only.split(",") if only else SUITES):
        suite, _, kind = word.partition(":")
        if suite not in SUITES or (kind and kind not in KINDS):
            raise BootError(f"--only {word}: SUITE or SUITE:KIND, of {', '.join(SUITES)} and {', '.join(KINDS)}")
        wanted.setdefault(suite, []).extend([kind] if kind else KINDS)
    return wanted.items()


def release(verdicts, given, suite, kinds):
    """All cells of one suite: a cell that fails does not stop the next."""
    parts = {"life": life, "outage": outage}
    with opened(Release, given.site and os.path.join(given.site, suite), suite) as site:
        site.prepare(os.path.join(given.trees, suite))
        site.make_store()
        site.start_all()
        for kind in kinds:
            for part in given.do.split(","):
                verdicts.run(f"{suite} {kind} {part}", parts[part], site, kind)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trees", default=os.path.join(TOP, "lab", "trees"))
    parser.add_argument("--site")
    parser.add_argument("--only")
    parser.add_argument("--do", default="life,outage")
    given = parser.parse_args()
    verdicts = Verdicts()
    for suite, kinds in cells(given.only):
        verdicts.run(suite, release, verdicts, given, suite, kinds)
    verdicts.end()


if __name__ == "__main__":
    run_script(main)
