#!/usr/bin/env python3
"""Boots through iPXE with the default initramfs, on a virtio card and on an e1000e card, with the initramfs of the
machine and with the whole one; each in state running, with a clean power-off. Prints the bytes that the server sent
from the firmware to multi-user.target, and the seconds.

    cards.py --tree DIR [--only virtio,e1000e] [--cached] [--link MBIT:MS --shaper PROGRAM] [--rounds N] [--own-only] [--pack]

--cached: one more boot on each card, whose cache is on a disk, so its initramfs needs the drivers of disks.
--pack: the counted boots have a boot pack, made from the trace of one more boot before.
--link: the server is behind a link of this rate and round trip, which counts the bytes (program: `make bench-programs`).
BAKERY and LAYERFS_STATIC name the programs of another build.
"""

import argparse
import json
import os
import re
import subprocess
import urllib.request

from machine import free_port, run_script
from office import CONSOLE, Site, Verdicts, opened, report

CARDS = {"virtio": "virtio-net-pci", "e1000e": "e1000e"}


class CardSite(Site):
    """A site whose system has the default initramfs."""

    whole = False
    link = shaper = None

    def make_store(self, system="office"):
        self.bakery("init")
        self.bakery("import", system, self.tree, "--level", "3", "--cmdline", CONSOLE, "-m", "the first revision")
        report(self.bakery("initrd", system, timeout=3600).strip())

    def options(self):
        return ["--whole-initramfs"] if self.whole else []

    def shape(self, program, link):
        """From now on machines reach the server through a link."""
        rate, rtt = link.split(":")
        self.link = free_port()
        self.shaper = subprocess.Popen([program, rate, rtt, f"{self.link}:{self.port}"], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
        if self.shaper.stdout.readline().strip() != "ready":
            raise SystemExit("the shaper did not start")

    @property
    def url(self):
        return f"http://10.0.2.2:{self.link or self.port}"

    def sent(self):
        """Bytes that the server has sent, by the kind of request; and all that crossed the link."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as page:
            text = page.read().decode()
        sent = {kind: int(count) for kind, count in re.findall(r'bakery_sent_bytes_total{route="(\w+)"} (\d+)', text)}
        if self.shaper:
            self.shaper.stdin.write("\n")
            self.shaper.stdin.flush()
            sent["link"] = json.loads(self.shaper.stdout.readline())[0]["down"]
        return sent

    def close(self):
        super().close()
        if self.shaper:
            self.shaper.terminate()
            self.shaper.wait()


def boot(site, card, whole, disk=None):
    site.stop()
    site.whole = whole
    site.start()
    before = {kind: count for kind, count in site.sent().items() if kind == "link"}
    name = f"{card}, {'whole' if whole else 'its own'} initramfs{', cache on a disk' if disk else ''}"
    disks = [(disk, "cache")] if disk else ()
    with site.machine(re.sub(r"\W+", "-", name), netboot=True, nic=CARDS[card], disks=disks) as machine:
        _, at = machine.expect(r"BENCH-MARK multi-user", 1800)
        sent = {kind: count - before.get(kind, 0) for kind, count in site.sent().items()}
        site.check_running(machine)
        if disk:
            machine.run("grep -q /run/initramfs/layerfs/cache /proc/mounts")
        site.power_off(machine)
    sent = {kind: count for kind, count in sorted(sent.items()) if count}
    total = sent.pop("link", None) or sum(sent.values())
    report(f"{name}: {total} bytes to multi-user after {at:.1f} s: {sent}")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tree", required=True)
    arguments.add_argument("--only", default=",".join(CARDS))
    arguments.add_argument("--cached", action="store_true")
    arguments.add_argument("--link")
    arguments.add_argument("--shaper")
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--own-only", action="store_true")
    arguments.add_argument("--pack", action="store_true")
    arguments = arguments.parse_args()
    verdicts = Verdicts()
    with opened(CardSite, None) as site:
        site.make_tree(arguments.tree)
        site.make_store()
        site.start()
        if arguments.link:
            site.shape(arguments.shaper, arguments.link)
        if arguments.pack:
            with site.machine("trace") as machine:
                machine.expect(r"BENCH-MARK report-done", 1800)
                # The tree has no client; the daemon is one.
                machine.run("cat /proc/$(pgrep -o -x @layerfs)/exe > /root/layerfs; chmod 755 /root/layerfs; /root/layerfs push-trace /")
                site.power_off(machine)
            site.bakery("pack", "office", "--spool", os.path.join(site.directory, "spool"))
        cards = arguments.only.split(",") * arguments.rounds
        for card in cards:
            for whole in (False,) if arguments.own_only else (False, True):
                verdicts.run(f"{card}, whole {whole}", boot, site, card, whole)
        if arguments.cached:
            site.bakery("set", "office", "--cmdline", f"{CONSOLE} layerfs.cache=LABEL=cache")
            disk = os.path.join(site.directory, "cache.img")
            for card in arguments.only.split(","):
                subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "cache", disk, "512M"], check=True)
                verdicts.run(f"{card}, cached", boot, site, card, False, disk)
    verdicts.end()


if __name__ == "__main__":
    run_script(main)
