#!/usr/bin/env python3
"""Boots with the initramfs of a distribution's own generator and our integration in it, over HTTP from
`bakery serve` to multi-user.target in state running, and a clean end.

    generators.py [--tree DIR] [--site DIR] [--only initramfs-tools,dracut]
"""

import argparse
import os
import tempfile

from machine import run_script
from office import HERE, STATIC, Site, call, report

PARAMETERS = {"initramfs-tools": "boot=layerfs", "dracut": "rd.shell=0 rd.emergency=poweroff"}


def boot(site, kind):
    initrd = os.path.join(site.directory, f"{kind}.initrd")
    if not os.path.exists(initrd):
        said = call(os.path.join(HERE, "generators.sh"), kind, site.tree, STATIC, f"{site.store}.keys/allowed_signers", initrd,
                    timeout=1200)
        report(f"{kind}: {said.splitlines()[-1]}")
    with site.machine(kind, initrd=initrd, extra=PARAMETERS[kind]) as machine:
        when = site.check_running(machine)
        machine.run("echo written > /etc/written && sync")
        site.power_off(machine)
    report(f"{kind}: multi-user after {when:.1f} s, running, off after {machine.seconds():.1f} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tree")
    parser.add_argument("--site")
    parser.add_argument("--only", default="initramfs-tools,dracut")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="layerfs-generators.", dir="/var/tmp") as temporary:
        site = Site(given.site or temporary)
        try:
            site.make_tree(given.tree)
            site.make_store()
            site.start()
            for kind in given.only.split(","):
                boot(site, kind)
        finally:
            site.close()


if __name__ == "__main__":
    run_script(main)
