#!/usr/bin/env python3
"""GRUB boots machines of a fleet twice: first with the whole initramfs, then with that of the card (docs/FLEET.md, F5.7).

    grub.py --tree DIR --loaders DIR [--only virtio,e1000e]

--loaders is what loaders.sh made. Prints the bytes of kernel and initramfs that the server sent in each boot.
"""

import argparse
import os
import re
import urllib.request

from cards import CARDS
from fleet import FleetSite
from loaders import grub_image
from machine import BootError, Machine, run_script
from office import CONSOLE, Verdicts, opened, report


def boot_bytes(site):
    """Bytes of kernels and initramfs that the server has sent."""
    with urllib.request.urlopen(f"http://127.0.0.1:{site.port}/metrics", timeout=60) as page:
        return int(re.search(r'bakery_sent_bytes_total{route="boot"} (\d+)', page.read().decode())[1])


def boot(site, card, which, loader):
    """One boot to `running` and a clean power-off; the bytes of kernel and initramfs."""
    before = boot_bytes(site)
    uuid = f"4c4c4544-0042-3510-8051-b4c04f56440{list(CARDS).index(card)}"
    log = os.path.join(site.directory, "logs", f"{card}-{which}.log")
    with Machine(**loader, nic=CARDS[card], devices=["-uuid", uuid], log=log) as machine:
        site.check_running(machine)
        site.power_off(machine)
    return boot_bytes(site) - before


def twice(site, card, loader):
    whole, own = (boot(site, card, which, loader) for which in ("whole", "own"))
    report(f"{card}: kernel and initramfs have {whole} bytes in the first boot, {own} in the second")
    if own > 0.75 * whole:
        raise BootError("the second boot got the whole initramfs")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tree", required=True)
    arguments.add_argument("--loaders", required=True)
    arguments.add_argument("--only", default=",".join(CARDS))
    arguments = arguments.parse_args()
    verdicts = Verdicts()
    with opened(FleetSite, None) as site:
        site.make_tree(arguments.tree)
        site.bakery("init")
        site.bakery("import", "office", site.tree, "--level", "3", "--cmdline", CONSOLE, "-m", "the first revision")
        report(site.bakery("initrd", "office", timeout=3600).strip())
        site.start()
        tftp = os.path.join(site.directory, "tftp")
        os.makedirs(tftp)
        start = grub_image(os.path.abspath(arguments.loaders), "trixie", "i386-pc-pxe", tftp, site.port)
        for card in arguments.only.split(","):
            verdicts.run(card, twice, site, card, {"netboot": start, "tftp": tftp})
    verdicts.end()


if __name__ == "__main__":
    run_script(main)
