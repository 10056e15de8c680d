"""A newcomer, by clicks or by Alterator's messages: from an empty store to two machines that boot an ISO, then back.

    boots.py --tree DIR [--shots DIR]
    boots.py --tree DIR --messages

The tree is one of tests/boot/tree.sh; the ISO is made of it as live media are. The machines are QEMU, through iPXE.
"""

import argparse
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "boot"))

from alterator import Module, pairs
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


def by_clicks(site, shots):
    console = site.start_console()
    image = site.iso()
    report(f"an ISO of {image.stat().st_size >> 20} MiB")
    browser = Browser(console.url, shots, "")
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
    finally:
        browser.driver.quit()


def fetched(module, image):
    """The ISO comes by its address, with its checksum."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *a: http.server.SimpleHTTPRequestHandler(*a, directory=str(image.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    url = f"http://127.0.0.1:{server.server_address[1]}/{image.name}"
    answer = module.send("write", "fetch", image=image.name, url=url, sha256=digest)
    server.shutdown()
    assert answer == [], answer


def by_messages(site):
    place = Path(site.directory) / "alterator"
    (place / "images").mkdir(parents=True)
    (place / "layerfs-static").symlink_to(STATIC)
    image = site.iso()
    module = Module(SimpleNamespace(
        place=place, store=Path(site.store), spool=Path(site.spool),
        start=lambda *command, **how: subprocess.Popen(command, **how)))
    assert module.names("systems") == []
    fetched(module, image)
    assert module.send("write", "share", image=image.name, system="office") == []
    until(lambda: pairs(module.send("read"))["import_state"] in ("done", "failed"), "the import", 1800)
    found = pairs(module.send("read"))
    assert found["import_state"] == "done", found
    assert module.send("write", "parameters", system="office", parameters=CONSOLE) == []
    report("shared")
    before = site.newest()
    for number in (1, 2):
        if number == 2:
            assert module.send("write", "parameters", system="office", parameters=f"{CONSOLE} edition=2") == []
            assert module.send("write", "rollback", revision=f"office@{before}") == []
            assert site.newest() == before + 2
            report(f"rolled back, as revision {site.newest()}")
        with site.power_on(number, "console") as machine:
            site.reach(machine, number, ["healthy"])
            report(f"machine {number} runs the ISO")
            until(lambda: len(module.names("machines")) == number, "the machine in Alterator")
    states = [pairs(row)["state"] for row in module.send("list", "machines")]
    assert states == ["исправна"] * 2, states
    module.child.stdin.close()
    assert module.child.wait(20) == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tree", required=True)
    parser.add_argument("--shots", type=Path)
    parser.add_argument("--messages", action="store_true", help="by Alterator's messages instead of clicks")
    parser.add_argument("--site")
    args = parser.parse_args()
    with opened(ConsoleSite, args.site) as site:
        site.use_tree(args.tree)
        site.bakery("init")
        site.start()
        if args.messages:
            by_messages(site)
        else:
            by_clicks(site, args.shots)
        assert site.boot(2)["revision"].endswith(f"@{site.newest()}"), site.boot(2)
    report("boots: passed")


if __name__ == "__main__":
    run_script(main)
