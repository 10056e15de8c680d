#!/usr/bin/env python3
"""A live ISO as Debian's live-build makes it (tests/boot/live.sh), from `bakery import` to its login: nothing in it
is changed, every step has its defaults. live-config must find the parameters of the medium's own boot menu, so that
the live user can log in as from the medium.

    live.py --iso FILE [--site DIR]
"""

import argparse
import json
import os
import tempfile

from machine import run_script
from office import BootError, Site, report

# What a machine without a screen needs beside the medium's own parameters: a console, and a root shell for the test.
SERIAL = "console=ttyS0 no_timer_check mitigations=off panic=5 net.ifnames=0 systemd.debug_shell=ttyS1"


def expect(what, got, wanted):
    if got != wanted:
        raise BootError(f"{what}: {got!r}, not {wanted!r}")


def imported(site, iso):
    """The ISO in the store: its parameters as the menu has them, without what is for the medium."""
    site.bakery("init")
    answer = json.loads(site.bakery("import", "classroom", iso, "--json", timeout=1800))
    expect("cmdline", answer["cmdline"], "boot=live components quiet username=visitor hostname=classroom")
    expect("left out", answer["parameters"]["left_out"], [])
    expect("menu", answer["parameters"]["place"], "isolinux/live.cfg")
    expect("layers", len(answer["above"]), 0)
    if not answer["kernel"].startswith("live/vmlinuz"):
        raise BootError(f"the kernel is {answer['kernel']}")
    report(f"{iso}: {answer['report']['entries']} entries, {answer['report']['seconds']['total']:.0f} s")
    site.bakery("initrd", "classroom")
    site.bakery("set", "classroom", "--cmdline", f"{answer['cmdline']} {SERIAL}", "-m", "a serial console")


def run(site, iso):
    # A site that was given may have it from before.
    if not os.path.exists(os.path.join(site.store, "refs", "classroom")):
        imported(site, iso)
    cmdline = site.manifest(system="classroom")["cmdline"]
    site.start()
    with site.machine("live", system="classroom", root="classroom", extra=cmdline) as machine:
        _, when = machine.expect(r"classroom login:", 900)
        _, found = machine.run("findmnt -n -o FSTYPE /; hostname; id -un visitor; systemctl is-active live-config", timeout=300)
        expect("the machine", found.split(), ["fuse.layerfs", "classroom", "visitor", "active"])
        _, state = machine.run("systemctl is-system-running --wait", timeout=600, check=False)
        if state != "running":
            _, failed = machine.run("systemctl --failed --no-legend --plain", check=False)
            machine.fail(f"systemd is {state}: {failed}")
        # The live user's password is live-config's, and sudo asks for none.
        _, who = machine.run("su -l visitor -c 'sudo -n id -un'", timeout=300)
        expect("sudo", who.split(), ["root"])
        _, password = machine.run("getent shadow visitor | cut -d: -f2 | cut -c1-3")
        if not password.startswith("$"):
            machine.fail(f"the live user has no password: {password}")
        machine.send("systemctl --no-block poweroff")
        machine.expect(r"layerfs: root released, poweroff", 300)
        machine.wait_exit(60)
    report(f"live: login after {when:.1f} s, running, off after {machine.seconds():.1f} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--iso", required=True)
    parser.add_argument("--site")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="layerfs-live.", dir="/var/tmp") as temporary:
        site = Site(given.site or temporary)
        try:
            run(site, given.iso)
        finally:
            site.close()


if __name__ == "__main__":
    run_script(main)
