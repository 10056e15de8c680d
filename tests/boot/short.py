#!/usr/bin/env python3
"""The short boot test, for CI: a real Debian system from the server to multi-user.target in
state running, and a clean poweroff.

    short.py [--tree DIR] [--site DIR] [--netboot]

--tree names a tree that tests/boot/tree.sh made before; without it one is made. --site keeps the site there; without it a temporary directory is used.
"""

import argparse

from machine import run_script
from office import Site, opened, report


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tree")
    arguments.add_argument("--site")
    arguments.add_argument("--netboot", action="store_true", help="through QEMU's iPXE ROM, with nothing but a DHCP answer")
    arguments = arguments.parse_args()
    with opened(Site, arguments.site) as site:
        site.make_tree(arguments.tree)
        report("tree ready")
        site.make_store()
        report("store ready")
        site.start()
        with site.machine("short", netboot=arguments.netboot) as machine:
            when = site.check_running(machine)
            report(f"multi-user after {when:.1f} s, {machine.cpu_seconds():.1f} CPU seconds in all")
            site.power_off(machine)
            report(f"powered off after {machine.seconds():.1f} s")


if __name__ == "__main__":
    run_script(main)
