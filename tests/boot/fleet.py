#!/usr/bin/env python3
"""Rings in real boots: four revisions, three machines (docs/FLEET.md, F8 to F11).

    fleet.py [--tree DIR] [--site DIR]

Machine 1 is the ring canary, machines 2 and 3 are in `all`. All boot through iPXE.

good      goes on to `all` after one good boot
dies      its init ends: machine 1 is back on the good revision at its fourth power-on; the revision is
          quarantined
hangs     a shell before the network; the server has a power cut during the first boot, which does not count
degraded  a check of the site fails

`bakery ring status` tells the story at the end. tests/fleet/story.rs is the same with scripted machines.
"""

import argparse
import io
import json
import os
import re
import subprocess
import tarfile
import time

from machine import BootError, run_script, wait_port
from office import BAKERY, CONSOLE, OUTAGE, Site, call, opened, report

# A boot that may take so long under emulation still counts as running.
BOOT = 1800
# The fleet process must miss this much to know of a power cut.
POWER_CUT = OUTAGE + 40
# Somebody notices a machine that hangs after more than the two minutes within which it restarts by itself.
NOTICED = 130


class FleetSite(Site):
    """A site with the fleet process beside the server."""

    fleet = None

    def __init__(self, directory):
        super().__init__(directory)
        self.before = {}        # the beginning of each machine's last boot at its power-on

    @property
    def spool(self):
        return os.path.join(self.directory, "spool")

    def start(self):
        os.makedirs(self.spool, exist_ok=True)
        with open(os.path.join(self.directory, "logs", "fleet.log"), "ab") as log:
            self.fleet = subprocess.Popen([BAKERY, "--store", self.store, "fleet", "--spool", self.spool],
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        with open(os.path.join(self.directory, "logs", "serve.log"), "ab") as log:
            self.server = subprocess.Popen(
                [BAKERY, "--store", self.store, "serve", "--listen", f"{self.address}:{self.port}", "--fleet",
                 "--spool", self.spool, "--url", self.url, "--menu-timeout", "1"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_port(self.port)

    def kill(self):
        super().kill()
        self.end_fleet()

    def stop(self):
        super().stop()
        self.end_fleet()

    def end_fleet(self):
        if self.fleet:
            self.fleet.kill()
            self.fleet.wait()
            self.fleet = None

    def told(self, *arguments):
        """The JSON answer of a command about the fleet."""
        return json.loads(call(BAKERY, "--json", "--store", self.store, *arguments, env={"BAKERY_SPOOL": self.spool}))

    def advance(self):
        return self.told("ring", "advance", "--hooks", os.path.join(self.directory, "hooks"))

    def rings(self):
        return {ring["name"]: ring["revision"] for ring in self.told("ring", "list", "office")[0]["rings"]}

    def publish(self, more):
        """A revision with more kernel parameters; its number."""
        self.bakery("set", "office", "--cmdline", f"{CONSOLE} {more}")
        return self.newest()

    def put_check(self):
        """A revision with a check of the site that fails."""
        drop = os.path.join(self.spool, "incoming", "office")
        os.makedirs(drop, exist_ok=True)
        plain = os.path.join(self.directory, "check.tar")
        with tarfile.open(plain, "w") as archive:
            for name, mode, data in (("./", 0o755, None), ("etc/", 0o755, None), ("etc/layerfs/", 0o755, None),
                                     ("etc/layerfs/health.d/", 0o755, None),
                                     ("etc/layerfs/health.d/10-printer", 0o755, b"#!/bin/sh\nexit 1\n")):
                entry = tarfile.TarInfo(name)
                entry.mode, entry.type = mode, tarfile.REGTYPE if data else tarfile.DIRTYPE
                entry.size = len(data or b"")
                archive.addfile(entry, io.BytesIO(data) if data else None)
        call("zstd", "-q", "-f", plain, "-o", os.path.join(drop, "check.tar.zst"))
        self.bakery("watch", "--spool", self.spool, "--once", "--settle", "100", "--rescan", "1", "--updates", "0")
        return self.newest()

    def pc(self, number):
        return f"4c4c4544-0042-3510-8051-b4c04f56440{number}"

    def power_on(self, number, name):
        self.before[number] = self.boot(number)["began"]
        return self.machine(f"{name}-{number}", netboot=True, devices=["-uuid", self.pc(number)])

    def boot(self, number):
        """The last boot of a machine; nothing before its first hello."""
        done = subprocess.run([BAKERY, "--json", "--store", self.store, "machine", "--spool", self.spool, "show", self.pc(number)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        return json.loads(done.stdout)["boot"] if done.returncode == 0 else {"step": "", "revision": "", "began": 0}

    def reach(self, machine, number, steps, seconds=BOOT):
        """Waits until the boot since the power-on of a machine has one of the steps; returns the boot."""
        end = time.monotonic() + seconds
        while (boot := self.boot(number))["began"] == self.before[number] or boot["step"] not in steps:
            if time.monotonic() > end:
                machine.fail(f"machine {number} is at {boot['step']!r}, not at {steps}")
            machine.poll(3)
        return boot

    def boots_well(self, number, name, revision):
        with self.power_on(number, name) as machine:
            boot = self.reach(machine, number, ("healthy", "target"))
            if boot["step"] != "healthy" or boot["revision"] != f"office/main@{revision}":
                machine.fail(f"machine {number} is {boot['step']} on {boot['revision']}, not healthy on {revision}: {boot}")
            report(f"{name}: machine {number} is healthy on revision {revision} after {machine.seconds():.0f} s")


def require(found, wanted, what):
    if found != wanted:
        raise BootError(f"{what}: {found}, not {wanted}")


def dies(site, good):
    bad = site.publish("init=/bin/false")
    for attempt in range(3):
        with site.power_on(1, "dies") as machine:
            machine.allowed.add("kernel panic")
            machine.expect(r"Kernel panic", BOOT)
            require(site.boot(1)["revision"], f"office/main@{bad}", "the revision of machine 1")
            report(f"dies: power-on {attempt + 1}: panic after {machine.seconds():.0f} s")
    # F8: the fourth power-on is the last good revision, without any promotion or quarantine.
    site.boots_well(1, "dies", good)
    advanced = site.advance()
    require([(one["action"], one["revision"], one["to"]) for one in advanced], [("quarantined", bad, str(good))], "the quarantine")
    if "boot loop of 3" not in advanced[0]["reason"]:
        raise BootError(f"a boot loop was taken for something else: {advanced[0]['reason']}")
    report(f"dies: {advanced[0]['reason']}")
    return bad


def hangs(site, good):
    bad = site.publish("layerfs.shell=start")
    for attempt in range(3):
        with site.power_on(1, "hangs") as machine:
            site.reach(machine, 1, ("initramfs",))
            if attempt == 0:
                site.kill()
                machine.poll(POWER_CUT)
                site.start()
            machine.poll(NOTICED)
            report(f"hangs: power-on {attempt + 1}: nothing after the initramfs")
        if attempt < 2:
            require(site.advance(), [], "a change while the boots do not count")
    with site.power_on(1, "hangs-last") as machine:
        # Two requests for a menu within two minutes, and nothing between them, are one boot.
        site.reach(machine, 1, ("initramfs", "mounted", "target", "healthy"))
    advanced = site.advance()
    require([(one["action"], one["revision"], one["to"]) for one in advanced], [("quarantined", bad, str(good))], "the quarantine")
    if "initramfs hang" not in advanced[0]["reason"]:
        raise BootError(f"a hang was taken for something else: {advanced[0]['reason']}")
    report(f"hangs: {advanced[0]['reason']}")
    return bad


def degraded(site, good):
    site.publish("")
    bad = site.put_check()
    for _ in range(2):
        with site.power_on(1, "degraded") as machine:
            boot = site.reach(machine, 1, ("target", "healthy"))
            require((boot["step"], boot["revision"]), ("target", f"office/main@{bad}"), "machine 1 with a failed check")
    advanced = site.advance()
    require([(one["action"], one["revision"], one["to"]) for one in advanced], [("quarantined", bad, str(good))], "the quarantine")
    if "degraded (10-printer)" not in advanced[0]["reason"]:
        raise BootError(f"a failed check was taken for something else: {advanced[0]['reason']}")
    report(f"degraded: {advanced[0]['reason']}")
    return bad


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tree")
    arguments.add_argument("--site")
    arguments = arguments.parse_args()
    with opened(FleetSite, arguments.site) as site:
        site.make_tree(arguments.tree)
        site.make_store()
        site.bakery("client", "office")
        first = site.newest()
        site.start()
        for number in (1, 2, 3):
            site.boots_well(number, "first", first)
        site.told("machine", "assign", site.pc(1), "--ring", "canary")
        site.told("ring", "add", "office", "canary")
        site.told("ring", "policy", "office", "all", "--boots", "1", "--quarantine-after", "1")
        good = site.publish("story=good")
        site.boots_well(1, "good", good)
        site.advance()
        require(site.rings(), {"canary": good, "all": good}, "the rings after a good boot")
        bad = [dies(site, good), hangs(site, good), degraded(site, good)]
        require(site.rings(), {"canary": good, "all": good}, "the rings at the end")
        site.boots_well(2, "end", good)
        for number in (2, 3):
            shown = site.told("machine", "show", site.pc(number))
            seen = {boot["revision"] for boot in shown["boots"]}
            if seen & {f"office/main@{one}" for one in bad}:
                raise BootError(f"machine {number} booted a bad revision: {seen}")
        status = call(BAKERY, "--store", site.store, "ring", "status", "office", env={"BAKERY_SPOOL": site.spool})
        print(status)
        print(call(BAKERY, "--store", site.store, "machine", "--spool", site.spool, "show", site.pc(1)))
        for revision in bad:
            if not re.search(rf"quarantine {revision}: ", status):
                raise BootError(f"the log does not tell of {revision}")


if __name__ == "__main__":
    run_script(main)
