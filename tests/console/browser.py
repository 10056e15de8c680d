"""A real browser on a real bakery: 30 revisions, 5 profiles, 200 machines, jobs.

Drives headless Chromium by Debian's python3-selenium. Each page at three widths, light and dark: no sideways
overflow, no console error, and (with axe-core) no serious violation of accessibility. Then a newcomer's way by
clicks alone. Screenshots go to the directory SHOTS.

    browser.py [--short] [--shots DIR] [--axe axe.min.js]
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from room import Room, until

WIDTHS = {"phone": (390, 844), "tablet": (820, 1100), "desktop": (1366, 900)}
PAGES = {
    "overview": "/", "system": "/systems/office", "profile": "/systems/office?profile=lab-2",
    "revision": "/systems/office/main/12", "first": "/systems/office/main/1", "compare": "/compare?from=office@3&to=office@20",
    "file": "/compare/file?from=office@3&to=office@20&path=etc/cups/cupsd.conf", "machines": "/machines",
    "machine": "/machines/52-54-00-00-00-17", "rings": "/rings", "promote": "/rings/promote?name=office&ring=all",
    "rollback": "/do/rollback?to=office@12", "cherry-pick": "/do/cherry-pick?to=office/lab-1@2&onto=office/library",
    "jobs": "/jobs", "job": "/jobs/{job}?preview=1", "import": "/import", "menu": "/menu", "store": "/store",
    "gc": "/store/gc?keep=3&grace=0s", "keys": "/keys", "accounts": "/accounts", "audit": "/audit",
}
SHORT = ["overview", "system", "revision", "compare", "machines", "rings", "rollback", "job", "import", "store"]


def make(room: Room) -> str:
    """The bakery; returns a job that waits for an approval."""
    base = {b"etc/motd": b"welcome\n", b"etc/cups/cupsd.conf": b"Listen 631\nBrowsing off\n", b"usr/lib/big": bytes(range(256)) * 4000}
    room.bakery("import", "office", str(room.tree("office", base)), "-m", "import of the live image", "--author", "ann")
    watch = ("watch", "--spool", str(room.spool), "--once", "--updates", "0")
    for number in range(2, 26):
        files = {"etc/motd": f"welcome, edition {number}\n".encode(), f"usr/share/app/{number:02}.conf": b"value=%d\n" % number * number * 40}
        if number == 12:
            files["etc/cups/cupsd.conf"] = b"Listen 631\nBrowsing on\nDefaultAuthType Basic\n"
        message = ["security updates", "a new browser", "printers of the second floor", "fonts", "a fix of the login screen"][number % 5]
        room.push("office", files, message, ["ann", "boris", "chen"][number % 3])
    room.bakery(*watch)
    for name in ("lab-1", "lab-2", "library", "reception"):
        room.bakery("profile", "add", f"office/{name}", "--from", "office@18", "-m", f"for {name}")
    room.bakery("cherry-pick", "office@20", "--onto", "office/lab-2", "--theirs")
    room.push("office/lab-1", {"etc/lab": b"1\n"}, "the name of the lab")
    room.bakery(*watch)
    for name, tag in (("office@5", "school-year"), ("office@18", "exam")):
        room.bakery("tag", name, tag)
    room.bakery("ring", "add", "office", "early")
    room.bakery("ring", "add", "office", "canary", "--before", "early")
    room.bakery("ring", "promote", "office@23", "early")
    room.bakery("ring", "promote", "office@21", "all")
    room.bakery("ring", "policy", "office", "all", "--boots", "20", "--slower", "25")
    room.fleet()
    room.machines(200, [("office/main", 25), ("office/main", 25), ("office/lab-2", 2), ("office/library", 1)])
    for revision in range(18, 26):
        reports(room, "office/main", revision, 9000 + (2500 if revision == 22 else 40 * revision))
    done = room.push("office", {"etc/motd": b"from room 3\n"}, "a motd from room 3")
    room.bakery(*watch)
    assert (room.spool / "done" / done).exists()
    room.push("nowhere", {"etc/motd": b"x\n"}, "to a system that is not there")
    room.bakery(*watch)
    room.bakery("jobs", "--spool", str(room.spool), "--want-approval", "office")
    return room.push("office", {"etc/motd": b"wait\n", "etc/cups/cupsd.conf": b"Listen 631\n", "srv/new/file": b"1\n"}, "printers, please look", "chen")


def reports(room: Room, history: str, revision: int, target: int) -> None:
    directory = room.spool / "boots" / history / str(revision)
    directory.mkdir(parents=True)
    for number in range(9):
        times = {"clock": "systemd", "unit": "graphical.target", "target_ms": target + number * 70, "counted_ms": target + number * 70}
        (directory / f"{number}.json").write_text(json.dumps({"format": 1, "revision": f"{history}@{revision}", "times": times, "counts": {
            "bytes": 41_000_000, **dict.fromkeys(("requests", "retries", "corrupt", "demanded", "prefetched", "pack_chunks", "rebuilt", "cache_hits", "backup_hits", "waited_s"), 0)},
            "offline": False, "pack": "", "memory_kib": 0, "daemon_kib": 0, "kernel": "6.12", "version": "0.1.0"}))


class Browser:
    """Chromium, and what the tests ask of a page."""

    def __init__(self, url: str, shots: Path | None, axe: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb"):
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.driver.set_page_load_timeout(120)
        self.url, self.shots, self.axe = url, shots, axe
        self.problems: list[str] = []
        self.width("desktop")

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    def width(self, name: str) -> None:
        width, height = WIDTHS[name]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": name == "phone"})

    def scheme(self, name: str) -> None:
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": name}]})

    def check(self, what: str, with_axe: bool) -> None:
        """Overflow, console errors, and accessibility with contrast."""
        wide = self.driver.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 1:
            self.problems.append(f"{what}: {wide} px wider than the screen")
        for entry in self.driver.get_log("browser"):
            if entry["level"] in ("SEVERE", "WARNING") and "favicon" not in entry["message"]:
                self.problems.append(f"{what}: {entry['message'][:300]}")
        if self.axe and with_axe:
            self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": self.axe})
            found = self.driver.execute_async_script(
                "const done = arguments[0]; axe.run({resultTypes: ['violations']}).then(r => done(r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.target.join(' ') + ' ' + n.failureSummary).slice(0, 3)])))")
            for impact, name, nodes in found:
                if impact in ("serious", "critical"):
                    self.problems.append(f"{what}: {name} ({impact}): {nodes}")

    def shoot(self, name: str) -> None:
        if not self.shots:
            return
        self.shots.mkdir(parents=True, exist_ok=True)
        self.driver.execute_script("scrollTo(0, 0)")
        height = min(4000, self.driver.execute_script("return document.documentElement.scrollHeight"))
        size = self.driver.execute_script("return [innerWidth, innerHeight]")
        found = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "width": size[0], "height": height, "scale": 1}})
        import base64
        (self.shots / f"{name}.png").write_bytes(base64.b64decode(found["data"]))

    def one(self, selector: str):
        return until(lambda: (self.driver.find_elements(By.CSS_SELECTOR, selector) or [None])[0], f"{selector} on {self.driver.current_url}", 30)

    def text(self) -> str:
        # Between two pages there is no body.
        return self.driver.execute_script("return document.body ? document.body.innerText : ''")

    def click(self, selector: str) -> None:
        # A click of a person: scrolled to, and on the thing itself.
        found = self.one(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        found.click()

    def link(self, text: str) -> None:
        def follow() -> bool:
            found = self.driver.find_elements(By.PARTIAL_LINK_TEXT, text)
            if found:
                try:
                    self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found[0])
                    found[0].click()
                except StaleElementReferenceException:
                    # The page changed between the look and the click.
                    return False
            return bool(found)
        until(follow, f"the link {text} on {self.driver.current_url}: {self.text()[:500]}", 30)

    def type(self, name: str, value: str) -> None:
        field = self.one(f"[name={name}]")
        field.clear()
        field.send_keys(value)


def join(browser: Browser, link: str) -> None:
    browser.open(link)
    browser.type("name", "ann")
    browser.type("password", "correct horse")
    browser.type("again", "correct horse")
    browser.click("main button.go")
    until(lambda: "Overview" in browser.driver.title or "Обзор" in browser.driver.title, "the overview")


def look(browser: Browser, job: str, names: list[str]) -> None:
    """Every page at every width."""
    for name in names:
        path = PAGES[name].format(job=job)
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                if scheme == "dark" and width == "tablet":
                    continue
                browser.width(width)
                browser.scheme(scheme)
                browser.open(path)
                assert "Not found" not in browser.driver.title and "failed" not in browser.driver.title, (path, browser.text()[:300])
                browser.check(f"{name} {width} {scheme}", with_axe=width != "tablet")
                if scheme == "light" or width == "desktop":
                    browser.shoot(f"{name}-{width}" + ("-dark" if scheme == "dark" else ""))
    browser.width("desktop")
    browser.scheme("light")


def russian(browser: Browser) -> None:
    browser.open("/machines")
    browser.click("details.me summary")
    browser.click("button[value=ru]")
    until(lambda: "Машины" in browser.driver.title, "Russian")
    for name in ("overview", "machines", "system", "rollback"):
        browser.open(PAGES[name])
        browser.check(f"{name} ru", with_axe=True)
        browser.shoot(f"{name}-ru")
    browser.click("details.me summary")
    browser.click("button[value=en]")


def live(browser: Browser) -> None:
    """The filter of machines, menus by keyboard, changed lines."""
    browser.open("/machines")
    before = len(browser.driver.find_elements(By.CSS_SELECTOR, "#list tbody tr"))
    Select(browser.one("select[name=state]")).select_by_value("degraded")
    until(lambda: 0 < len(browser.driver.find_elements(By.CSS_SELECTOR, "#list tbody tr")) < before, "the filter")
    assert "state=degraded" in browser.driver.current_url
    browser.open("/systems/office/main/12")
    browser.link("cupsd.conf")
    assert "Browsing on" in browser.text() and "Browsing off" in browser.text()
    browser.check("lines", with_axe=False)


def newcomer(room: Room, shots: Path | None, axe: str) -> None:
    """From an empty store to machines that get the uploaded system, then back, by clicks alone."""
    console = room.console()
    browser = Browser(console.url, shots, axe)
    try:
        join(browser, console.link())
        assert "The store is empty" in browser.text()
        browser.shoot("newcomer-empty")
        image = room.place / "classroom.tar"
        subprocess.run(["tar", "-C", str(room.tree("classroom", {b"etc/motd": b"one\n"})), "-cf", str(image), "."], check=True)
        browser.link("Import a system")
        browser.one("input[type=file]").send_keys(str(image))
        until(lambda: "/import/image" in browser.driver.current_url, "the upload")
        browser.click("input[name=client]")
        browser.click("input[name=initramfs]")
        browser.shoot("newcomer-image")
        browser.click("main button.go")
        until(lambda: "Imported classroom" in browser.text(), "the import", 120)
        browser.link("Continue")
        assert "@1" in browser.text()
        # Two machines come; the newcomer gives them the system.
        room.fleet()
        room.machines(2, [("classroom/main", 1)])
        browser.link("Machines")
        browser.click("input[data-all]")
        browser.click("#change summary")
        browser.type("system", "classroom")
        browser.click("button[value=assign]")
        until(lambda: browser.text().count("classroom/main") >= 2, "the assignment")
        # A change of the parameters, and back.
        browser.link("Systems")
        browser.link("classroom")
        browser.link("Kernel parameters")
        browser.type("cmdline", "quiet splash")
        browser.click("main form.filters button")
        until(lambda: "would publish" in browser.text() or "Dry run" in browser.text(), "the dry run")
        browser.click("main form.stack button.go")
        until(lambda: "Published" in browser.text(), "the revision")
        browser.link("@1")
        browser.link("Roll back to it")
        browser.type("message", "the splash hides errors")
        browser.shoot("newcomer-rollback")
        browser.click("main form.stack button.go")
        until(lambda: "Published" in browser.text(), "the rollback")
        newest = json.loads(room.bakery("log", "classroom", "--json", "-n", "1"))[0]
        assert newest["author"] == "ann" and newest["message"].startswith("the splash hides errors"), newest
        browser.check("newcomer", with_axe=False)
        assert not browser.problems, "\n".join(browser.problems)
    finally:
        browser.driver.quit()
    print("newcomer: passed")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--shots", type=Path)
    parser.add_argument("--axe", type=Path)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    axe = args.axe.read_text() if args.axe else ""
    room = Room()
    try:
        newcomer(room, args.shots, axe)
    finally:
        room.end()
    room = Room()
    try:
        begun = time.monotonic()
        job = make(room)
        console = room.console()
        print(f"the bakery took {time.monotonic() - begun:.0f} s")
        browser = Browser(console.url, args.shots, axe)
        try:
            join(browser, console.link())
            names = args.only.split(",") if args.only else SHORT if args.short else list(PAGES)
            look(browser, job, names)
            if not args.only:
                live(browser)
                russian(browser)
        finally:
            browser.driver.quit()
        assert not browser.problems, f"{len(browser.problems)} problems:\n" + "\n".join(dict.fromkeys(browser.problems))
    finally:
        room.end()
    print("browser: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
