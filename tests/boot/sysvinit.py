#!/usr/bin/env python3
"""A boot with sysvinit in systemd's place (tests/boot/sysvinit.sh makes the tree): runlevel 2, and ends
by `poweroff` and `reboot` in which the daemon is spared and nothing is forced.

    sysvinit.py --tree DIR [--site DIR]
"""

import argparse
import tempfile

from machine import run_script
from office import Site, report


def up(machine, timeout=300):
    level, when = machine.expect(r"BENCH-MARK runlevel (\w \w)", timeout)
    if level[1] != "N 2":
        machine.fail(f"runlevel is {level[1]}")
    _, first = machine.run("cat /proc/1/comm; findmnt -n -o FSTYPE /; su tester -c 'id -un; su -c \"id -un\"'")
    if first.split() != ["init", "fuse.layerfs", "tester", "root"]:
        machine.fail(f"not the system that was meant: {first}")
    _, omitted = machine.run("for p in $(cat /run/sendsigs.omit.d/layerfs); do tr '\\0' ' ' < /proc/$p/cmdline | cut -d' ' -f1; cat /proc/$p/oom_score_adj; done")
    if omitted.split() != ["@layerfs", "-1000"]:
        machine.fail(f"sendsigs does not spare the daemon: {omitted}")
    machine.run("pgrep -x sshd && echo written > /etc/written && sync")
    return when


def end(site, machine, command, last):
    machine.send(command)
    machine.expect(r"All processes ended within|Killing all remaining processes", 120)
    machine.expect(last, 120)
    if "Killing all remaining processes" in machine.text():
        machine.fail("sendsigs had to kill")
    site.check_end(machine)


def run(site):
    with site.machine("sysvinit", system="sysv", root="sysv", reboots=True) as machine:
        first = up(machine)
        end(site, machine, "reboot", r"reboot: Restarting system")
        machine.rebooted()
        second = up(machine)
        end(site, machine, "poweroff", r"reboot: Power down")
        machine.wait_exit(30)
    report(f"sysvinit: runlevel 2 after {first:.1f} s, rebooted, again at {second:.1f} s, off at {machine.seconds():.1f} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tree", required=True)
    parser.add_argument("--site")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="layerfs-sysvinit.", dir="/var/tmp") as temporary:
        site = Site(given.site or temporary)
        try:
            site.use_tree(given.tree)
            site.make_store("sysv")
            site.start()
            run(site)
        finally:
            site.close()


if __name__ == "__main__":
    run_script(main)
