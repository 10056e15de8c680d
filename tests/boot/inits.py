#!/usr/bin/env python3
"""Boots with sysvinit, OpenRC or runit in systemd's place (tests/boot/inits.sh makes the trees): up, a reboot, up
again, off. What was written just before an end, and not flushed by anybody, is there after it; nothing is forced.

    inits.py --trees DIR [--site DIR] [--only sysvinit,openrc,runit]
"""

import argparse
import os

from machine import run_script
from office import Site, Verdicts, call, opened, report

KINDS = ("sysvinit", "openrc", "runit")
# (the first program's name, its reboot command, its power-off command)
WORDS = {"sysvinit": ("init", "reboot", "poweroff"), "openrc": ("init", "reboot", "poweroff"), "runit": ("runit", "init 6", "init 0")}


def up(machine, kind, timeout=600):
    name, when = machine.expect(r"BENCH-MARK up (\S+)", timeout)
    if name[1] != WORDS[kind][0]:
        machine.fail(f"the first program is {name[1]}")
    _, first = machine.run("findmnt -n -o FSTYPE /; su tester -c 'id -un; su -c \"id -un\"'")
    if first.split() != ["fuse.layerfs", "tester", "root"]:
        machine.fail(f"not the system that was meant: {first}")
    _, omitted = machine.run("for p in $(cat /run/sendsigs.omit.d/layerfs); do tr '\\0' ' ' < /proc/$p/cmdline | cut -d' ' -f1; cat /proc/$p/oom_score_adj; done")
    if omitted.split() != ["@layerfs", "-1000"]:
        machine.fail(f"sendsigs does not spare the daemon: {omitted}")
    return when


def end(site, machine, kind, command, last):
    machine.run("echo written > /etc/written && seq 100000 > /var/lib/numbers && echo appended >> /etc/services")
    machine.send(command)
    machine.expect(last, 300)
    if kind == "sysvinit":
        machine.expect(r"All processes ended within", 1)
    if "Killing all remaining processes" in machine.text():
        machine.fail("sendsigs had to kill")
    site.check_end(machine)


def life(site, kind, trees):
    site.use_tree(os.path.join(trees, kind))
    site.make_store(kind)
    site.start()
    disk = os.path.join(site.directory, "disk")
    call("truncate", "-s", "1G", disk)
    call("mkfs.ext4", "-q", "-L", "spare", disk)
    with site.machine(kind, system=kind, root=kind, extra="layerfs.upper=LABEL=spare", disks=[(disk, "spare")], reboots=True) as machine:
        first = up(machine, kind)
        end(site, machine, kind, WORDS[kind][1], r"reboot: Restarting system")
        machine.rebooted()
        second = up(machine, kind)
        machine.run("test \"$(cat /etc/written)\" = written && test \"$(tail -n 1 /etc/services)\" = appended && seq 100000 | cmp - /var/lib/numbers")
        end(site, machine, kind, WORDS[kind][2], r"reboot: Power down")
        machine.wait_exit(30)
    call("e2fsck", "-fn", disk)
    report(f"{kind}: up after {first:.1f} s, rebooted, again at {second:.1f} s, off at {machine.seconds():.1f} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trees", required=True)
    parser.add_argument("--site")
    parser.add_argument("--only", default=",".join(KINDS))
    given = parser.parse_args()
    verdicts = Verdicts()
    for kind in given.only.split(","):
        with opened(Site, given.site and os.path.join(given.site, kind)) as site:
            verdicts.run(kind, life, site, kind, given.trees)
    verdicts.end()


if __name__ == "__main__":
    run_script(main)
