#!/usr/bin/env python3
"""The rehearsal test: `bakery rehearse` boots a real Debian system, which has no client, on the server, and the
first boot of a machine then fetches nearly everything with the pack.

    rehearse.py [--tree DIR] [--site DIR]

--tree names a tree that tests/boot/tree.sh made before; without it one is made. A kernel that cannot boot, and a
time that is too short, are errors with the end of the console; the store stays as it is.
"""

import argparse
import json
import re
import urllib.request

from machine import BootError, run_script
from office import Site, opened, report

# Most bytes of layers that the first boot may fetch beside the pack: what differs from boot to boot.
BESIDE_MAX = 2 << 20


def failing(site, what, *arguments, said):
    """A rehearsal that must fail with this message, and publishes nothing."""
    before = site.newest()
    try:
        site.bakery("rehearse", *arguments, timeout=1800)
    except BootError as error:
        if said not in str(error):
            raise BootError(f"{what}: no {said!r} in: {error}") from error
    else:
        raise BootError(f"{what}: no error")
    if site.newest() != before:
        raise BootError(f"{what}: a failed rehearsal published a revision")
    report(f"{what}: refused")


def rehearse(site):
    """The rehearsal of the imported system, and a second one with nothing to do."""
    imported = site.newest()
    answer = json.loads(site.bakery("--json", "rehearse", "office", "--timeout", "3000", "--no-kvm", timeout=3600))
    pack = answer["pack"]
    if pack["origin"] != "traces" or pack["revision"] != imported + 1 or pack["pages"] < 1000:
        raise BootError(f"the rehearsal made no pack: {answer}")
    report(f"rehearsed {answer['booted']} in {answer['seconds']:.1f} s: {pack['pages']} pages, {pack['pack']['len']} bytes")
    said = site.bakery("--json", "rehearse", "office")
    if said.strip() or site.newest() != imported + 1:
        raise BootError(f"a rehearsal that is not needed was made: {said}")


def first_boot(site):
    """A machine boots the revision: the pack has what it reads."""
    site.start()
    with site.machine("first") as machine:
        # Before the checks, which read other programs.
        machine.expect(r"BENCH-MARK multi-user", 1800)
        site_bytes = sent(site)
        when = site.check_running(machine)
        if "rehearse" in machine.text():
            raise BootError("the machine of a client has the programs of a rehearsal")
        site.power_off(machine)
    report(f"the first boot: multi-user after {when:.1f} s, {site_bytes}")
    if not site_bytes.get("pack") or site_bytes.get("layer", 0) > BESIDE_MAX:
        raise BootError(f"the pack did not bring the boot: bytes by route {site_bytes}")


def sent(site):
    """The bytes that the server has sent, by route."""
    with urllib.request.urlopen(f"http://{site.address}:{site.port}/metrics", timeout=60) as page:
        text = page.read().decode()
    return {route: int(count) for route, count in re.findall(r'bakery_sent_bytes_total\{route="(\w+)"\} (\d+)', text)}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tree")
    arguments.add_argument("--site")
    arguments = arguments.parse_args()
    with opened(Site, arguments.site) as site:
        site.make_tree(arguments.tree)
        site.make_store()
        report("store ready")
        failing(site, "a time that is too short", "office", "--timeout", "5", "--no-kvm", said="end of its console")
        failing(site, "an emulator that is not there", "office", "--qemu", "/nonexistent", said="install QEMU")
        rehearse(site)
        first_boot(site)


if __name__ == "__main__":
    run_script(main)
