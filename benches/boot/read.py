#!/usr/bin/env python3
"""read.py SITE: large files read from end to end over a shaped link, no boot pack, nothing cached.

Mounts the bare system of SITE (made by `make lab/site`) from `bakery serve` through the shaper, reads every
file of 4 to 64 MiB, and fetches as many bytes as that took by one curl over the same link: what the link
itself needs. Prints a table of medians; root, release builds (make bench-programs) and curl."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from boot import TOP, Servers

# KiB: the read-ahead of a mount after the boot.
READ_AHEAD = 1024


def source(layerfs, place):
    status = json.loads(subprocess.run([layerfs, "status", "--json", place], check=True, capture_output=True).stdout)
    return status["source"]


def large_files(place, listed):
    """Writes the list that `workload` reads."""
    with open(listed, "w", encoding="utf-8") as file:
        for folder, _, names in sorted(os.walk(place)):
            for path in (os.path.join(folder, name) for name in sorted(names)):
                if not os.path.islink(path) and 4 << 20 <= os.path.getsize(path) <= 64 << 20:
                    file.write(os.path.relpath(path, place) + "\n")


def read(options, system, link, work):
    """One cold run: seconds, requests, stored bytes, and the seconds curl takes for as many bytes."""
    store, layerfs = os.path.join(options.site, "store"), os.path.join(options.programs, "layerfs")
    place, listed = os.path.join(work, "root"), os.path.join(work, "files")
    os.makedirs(place, exist_ok=True)
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with Servers(options, "layerfs", 0, link.split(":")) as servers:
        url = f"http://127.0.0.1:{servers.port}"
        subprocess.run([layerfs, "mount", f"{url}/{system}", place, "--prefetch", "none",
                        "--keys", os.path.join(options.site, "store.keys", "allowed_signers")],
                       check=True, stdin=subprocess.DEVNULL, **quiet)
        try:
            device = subprocess.run(["mountpoint", "-d", place], check=True, capture_output=True, text=True).stdout
            with open(f"/sys/class/bdi/{device.strip()}/read_ahead_kb", "w", encoding="ascii") as file:
                file.write(str(READ_AHEAD))
            large_files(place, listed)
            before = source(layerfs, place)
            done = subprocess.run([os.path.join(options.programs, "workload"), "sequential", place, listed],
                                  check=True, capture_output=True, text=True).stdout
            after = source(layerfs, place)
        finally:
            subprocess.run([layerfs, "umount", place], check=True)
        size = after["bytes"] - before["bytes"]
        layers = os.path.join(store, "layers")
        layer = max(os.listdir(layers), key=lambda name: os.path.getsize(os.path.join(layers, name)))
        began = time.monotonic()
        subprocess.run(["curl", "-sf", "-r", f"0-{size - 1}", f"{url}/layers/{layer}"], check=True, **quiet)
        return float(done.split()[0]), after["requests"] - before["requests"], size, time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site")
    parser.add_argument("--links", default="0:0,100:20,20:20", help="Mbit/s:ms of round trip, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--programs", default=os.path.join(TOP, "target", "release"))
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("read.py: must be root: it mounts file systems")
    with open(os.path.join(options.site, "revisions.json"), encoding="utf-8") as file:
        known = json.load(file)
    system = f"{known['system']}@{known['bare']}"
    print("| link | layerfs, s | curl, s | layerfs / curl | requests | bytes |\n|---|---|---|---|---|---|")
    for link in options.links.split(","):
        with tempfile.TemporaryDirectory() as work:
            rows = [read(options, system, link, work) for _ in range(options.rounds)]
        mine, other = ([row[column] for row in rows] for column in (0, 3))
        ratio = statistics.median(row[0] / row[3] for row in rows)
        print(f"| {link} | {statistics.median(mine):.2f} ({min(mine):.2f}–{max(mine):.2f}) "
              f"| {statistics.median(other):.2f} ({min(other):.2f}–{max(other):.2f}) | **{ratio:.2f}** "
              f"| {rows[0][1]} | {rows[0][2]} |", flush=True)


if __name__ == "__main__":
    main()
