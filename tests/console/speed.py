"""The time of the overview with 200 machines and 1,000 revisions; prints figures, decides nothing.

    speed.py [--revisions 1000] [--browser]

With --browser, Chromium loads the page through the shaper of benches/ at 20 Mbit/s and 20 ms (its program
beside that of bakery, or named by SHAPER).
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time

from room import Room, program


def make(room: Room, count: int) -> None:
    tree = room.tree("office", {b"etc/motd": b"welcome\n"})
    names = ["office", "library", "reception", "lab", "kiosk"]
    for name in names:
        room.bakery("import", name, str(tree), "-m", "import of the live image")
        room.bakery("ring", "add", name, "canary")
    for number in range(count - len(names)):
        room.bakery("set", names[number % len(names)], "--cmdline", f"quiet edition={number}", "-m", f"edition {number} for the rooms of the second floor")
    room.fleet()
    room.machines(200, [(f"{name}/main", count // len(names)) for name in names])


def serve(room: Room):
    console = room.console()
    return console, console.join(console.link(), "ann")


def times(client, path: str, count: int) -> None:
    taken, answer = [], None
    for _ in range(count):
        begun = time.perf_counter()
        answer = client.get(path, Accept_Encoding="gzip")
        taken.append(1000 * (time.perf_counter() - begun))
        assert answer.status == 200
        time.sleep(0.01)
    taken.sort()
    p99 = taken[min(len(taken) - 1, int(len(taken) * 0.99))]
    print(f"{path:28} median {statistics.median(taken):6.1f} ms, p99 {p99:6.1f} ms, most {taken[-1]:6.1f} ms; {len(answer.body) / 1000:.1f} kB compressed")


def memory(room: Room, console) -> None:
    with open(f"/proc/{console.child.pid}/status", encoding="ascii") as status:
        lines = [line for line in status if line.startswith(("VmRSS", "RssAnon"))]
    print("console:", ", ".join(" ".join(line.split()) for line in lines))


def browse(url: str, client) -> None:
    from browser import Browser
    browser = Browser(url, None, "")
    try:
        browser.open("/login")
        for name, value in client.cookies.items():
            browser.driver.add_cookie({"name": name, "value": value})
        for what in ("first", "second", "third"):
            if what == "first":
                browser.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
            browser.open("/")
            entry = browser.driver.execute_script("const n = performance.getEntriesByType('navigation')[0]; const p = performance.getEntriesByName('first-contentful-paint')[0]; return [n.responseEnd, n.domInteractive, n.domContentLoadedEventEnd, n.loadEventEnd, p ? p.startTime : -1, n.transferSize + performance.getEntriesByType('resource').reduce((s, r) => s + r.transferSize, 0)]")
            names = ("HTML", "interactive", "scripts ran", "loaded", "first paint")
            print(f"{what} load:", ", ".join(f"{name} {value:.0f} ms" for name, value in zip(names, entry)), f"{entry[5] / 1000:.0f} kB")
    finally:
        browser.driver.quit()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--revisions", type=int, default=1000)
    parser.add_argument("--browser", action="store_true")
    args = parser.parse_args()
    room = Room()
    try:
        make(room, args.revisions)
        console, client = serve(room)
        for path in ("/", "/machines", "/systems/office", "/systems/office/main/100", "/rings"):
            times(client, path, 300 if path == "/" else 30)
        memory(room, console)
        if args.browser:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            shaper = room.start(os.environ.get("SHAPER") or program("shaper"), "20", "20", f"{port}:{console.port}", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert shaper.stdout.readline().strip() == b"ready"
            browse(f"http://127.0.0.1:{port}", client)
    finally:
        room.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
