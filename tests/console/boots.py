"""A newcomer, by clicks alone: from an empty store to two machines that boot the uploaded ISO, then back.

    boots.py --tree DIR [--shots DIR]

The tree is one of tests/boot/tree.sh; the ISO is made of it as live media are. The machines are QEMU, through iPXE.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "boot"))

from browser import Browser, join
from fleet import FleetSite
from machine import run_script
from office import BAKERY, CONSOLE, STATIC, call, opened, report
from room import start_console, until


class ConsoleSite(FleetSite):
    """A site that begins with an empty store, and its console."""

    console = None

    def start_console(self):
        log = open(os.path.join(self.directory, "logs", "console.log"), "ab")
        self.console = start_console(
            Path(self.store), Path(self.spool), Path(self.directory) / "console", stdout=subprocess.PIPE, stderr=log,
            env={**os.environ, "LAYERFS_STATIC": STATIC})
        return self.console

    def close(self):
        if self.console:
            self.console.child.terminate()
            self.console.child.wait(30)
        super().close()

    def iso(self):
        medium = Path(self.directory) / "medium/live"
        medium.mkdir(parents=True)
        call("mksquashfs", os.path.realpath(self.tree), str(medium / "filesystem.squashfs"), "-noappend", "-no-progress", "-quiet", "-comp", "zstd", "-Xcompression-level", "1")
        image = Path(self.directory) / "debian-live.iso"
        call("xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", str(image), str(medium.parent))
        return image


def share(site, browser, image):
    """The ISO becomes a system."""
    browser.link("Import a system")
    browser.one("input[type=file]").send_keys(str(image))
    until(lambda: "/import/image" in browser.driver.current_url, "the upload", 600)
    browser.type("system", "office")
    browser.click("input[name=own_parameters]")
    browser.type("cmdline", CONSOLE)
    browser.shoot("boots-image")
    browser.click("main button.go")
    until(lambda: "Imported office" in browser.text() or browser.driver.find_elements("css selector", ".notice.bad"), "the import", 1800)
    assert "Imported office" in browser.text(), browser.text()
    browser.link("Continue")


def back(site, browser):
    """Other parameters, and back to the revision before."""
    before = site.newest()
    browser.link("Systems")
    browser.link("office")
    browser.link("Kernel parameters")
    browser.type("cmdline", f"{CONSOLE} edition=2")
    browser.click("main form.filters button")
    browser.click("main form.stack button.go")
    until(lambda: "Published" in browser.text(), "the revision")
    browser.open(f"/systems/office/main/{before}")
    browser.link("Roll back to it")
    browser.type("message", "the lab needs the old edition")
    browser.click("main form.stack button.go")
    until(lambda: "Published" in browser.text(), "the rollback")
    newest = json.loads(call(BAKERY, "--json", "--store", site.store, "log", "office", "-n", "1"))[0]
    assert newest["revision"] == before + 2 and newest["author"] == "ann", newest
    return newest["revision"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tree", required=True)
    parser.add_argument("--shots", type=Path)
    parser.add_argument("--site")
    args = parser.parse_args()
    with opened(ConsoleSite, args.site) as site:
        site.use_tree(args.tree)
        site.bakery("init")
        site.start()
        console = site.start_console()
        image = site.iso()
        report(f"an ISO of {image.stat().st_size >> 20} MiB")
        browser = Browser(console.url, args.shots, "")
        try:
            join(browser, console.link())
            assert "The store is empty" in browser.text()
            share(site, browser, image)
            report("shared")
            for number in (1, 2):
                if number == 2:
                    report(f"rolled back, as revision {back(site, browser)}")
                with site.power_on(number, "console") as machine:
                    site.reach(machine, number, ["healthy"])
                    report(f"machine {number} runs the ISO")
                    browser.link("Machines")
                    until(lambda: browser.text().count("good") >= number + 1, "the machine in the console")
                    browser.shoot(f"boots-machines-{number}")
            assert site.boot(2)["revision"].endswith(f"@{site.newest()}"), site.boot(2)
        finally:
            browser.driver.quit()
    report("boots: passed")


if __name__ == "__main__":
    run_script(main)
