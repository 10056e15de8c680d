#!/usr/bin/env python3
"""Boots with the initramfs of a distribution's own generator and our integration in it, over HTTP from
`bakery serve` to multi-user.target in state running, and a clean end.

    generators.py [--tree DIR] [--site DIR] [--only initramfs-tools,dracut]
"""

import argparse

from machine import run_script
from office import KINDS, Site, Verdicts, opened, report


def boot(site, kind):
    with site.machine(kind, kind=kind) as machine:
        when = site.check_running(machine)
        machine.run("echo written > /etc/written && sync")
        site.power_off(machine)
    report(f"{kind}: multi-user after {when:.1f} s, running, off after {machine.seconds():.1f} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tree")
    parser.add_argument("--site")
    parser.add_argument("--only", default=",".join(KINDS[1:]))
    given = parser.parse_args()
    verdicts = Verdicts()
    with opened(Site, given.site) as site:
        site.make_tree(given.tree)
        site.make_store()
        site.start()
        for kind in given.only.split(","):
            verdicts.run(kind, boot, site, kind)
    verdicts.end()


if __name__ == "__main__":
    run_script(main)
