#!/usr/bin/env python3
"""memory.py: resident memory of the daemon, against its bars.

  memory.py [--inodes 100000,200000] [--read-mib 200] [--soak 180] [--layers 4]

Makes stacks of so many inodes, mounts each with an empty upper, walks all of it with stat, reads so many MiB
of it from start to end and then at random, and prints what the daemon holds after each step. Then it creates, writes, reads and removes files,
and reads lower ones, for --soak seconds on the last mount: the memory must not grow. Bars (exit code 1 when
one is missed): 64 MiB and the configured caches with 100,000 inodes; 2 MiB for each further 10,000 inodes;
in the soak at most 2 MiB between its first third and its end. Raw lines go to RESULTS/memory.jsonl. Needs
root and the release builds of layerfs, bakery (make build) and `workload`."""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BAR_MIB, BAR_PER_10000_MIB, BAR_SOAK_MIB = 64.0, 2.0, 2.0
CACHE_MIB = 64
PER_DIRECTORY = 50
BIG_MIB = 20


def grow(base, layers, inodes, read_mib):
    """Directories base/l1 … that together have about `inodes` objects and `read_mib` MiB of large files."""
    choose = random.Random(7)
    words = [choose.randbytes(64) for _ in range(4096)]
    made = 3  # the root, big, tree
    for number in range(read_mib // BIG_MIB):
        big = os.path.join(base, f"l{1 + number % layers}", "big")
        os.makedirs(big, exist_ok=True)
        with open(os.path.join(big, f"{number}.bin"), "wb") as file:
            for _ in range(BIG_MIB):
                file.write(b"".join(choose.choices(words, k=16384)))
        made += 1
    number = 0
    while made < inodes:
        inside = os.path.join(base, f"l{1 + number % layers}", "tree", f"d{number // 100}", f"d{number}")
        os.makedirs(inside)
        for name in range(PER_DIRECTORY):
            with open(os.path.join(inside, f"file-{name}.conf"), "w", encoding="ascii") as file:
                file.write(f"{number} {name}\n" * (1 + name % 8))
        made += PER_DIRECTORY + 1
        number += 1


class Mount:
    """A stack with a fresh upper on a tmpfs."""

    def __init__(self, options, work, layers):
        self.layerfs = os.path.join(options.programs, "layerfs")
        self.root, self.upper = os.path.join(work, "root"), os.path.join(work, "upper")
        for path in (self.root, self.upper):
            os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", self.upper], check=True)
        try:
            for name in ("upper", "work"):
                os.mkdir(os.path.join(self.upper, name))
            subprocess.run([self.layerfs, "mount", ":".join(reversed(layers)), self.root, "-o",
                            f"upperdir={self.upper}/upper,workdir={self.upper}/work,chunk-cache={CACHE_MIB}M"],
                           check=True, stdout=subprocess.DEVNULL)
        except BaseException:
            subprocess.run(["umount", self.upper], check=False)
            raise

    def __enter__(self):
        self.pid = self.status()["pid"]
        return self

    def __exit__(self, *_):
        subprocess.run([self.layerfs, "umount", self.root], check=False)
        subprocess.run(["umount", self.upper], check=False)

    def status(self):
        said = subprocess.run([self.layerfs, "status", "--json", self.root], check=True, capture_output=True)
        return json.loads(said.stdout)

    def memory(self):
        """Resident MiB: in all, of its own, of mapped files; and the most there ever was."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            found = dict(line.split(":", 1) for line in file if line.startswith(("VmRSS", "VmHWM", "RssAnon", "RssFile")))
        return {name: int(value.split()[0]) / 1024 for name, value in found.items()}


def read_big(root, read_mib):
    left = read_mib << 20
    for folder, _, files in os.walk(os.path.join(root, "big")):
        for name in sorted(files):
            with open(os.path.join(folder, name), "rb", buffering=0) as file:
                while left > 0 and (got := len(file.read(1 << 20))):
                    left -= got
    return read_mib - (left >> 20)


def read_random(root, count):
    """4 KiB at random places with a cold page cache: fills the daemon's cache of decoded chunks."""
    choose, files = random.Random(5), []
    drop_caches()
    for folder, _, names in os.walk(os.path.join(root, "big")):
        files += [os.path.join(folder, name) for name in sorted(names)]
    for _ in range(count):
        with open(choose.choice(files), "rb", buffering=0) as file:
            file.seek(choose.randrange(BIG_MIB << 8) * 4096)
            file.read(4096)


def drop_caches():
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3\n")


def soak(mount, seconds, note):
    """Changes and reads for so long; the resident memory, MiB, every five seconds."""
    choose, end, next_look, found, turn = random.Random(3), time.monotonic() + seconds, 0, [], 0
    folders = [os.path.join(mount.root, "tree", name) for name in sorted(os.listdir(os.path.join(mount.root, "tree")))]
    scratch = os.path.join(mount.root, "scratch")
    while time.monotonic() < end:
        os.mkdir(scratch)
        for number in range(200):
            path = os.path.join(scratch, f"file-{turn}-{number}")
            with open(path, "wb") as file:
                file.write(b"x" * choose.randrange(1, 20_000))
            with open(path, "rb") as file:
                file.read()
        for number in range(200):
            os.unlink(os.path.join(scratch, f"file-{turn}-{number}"))
        os.rmdir(scratch)
        folder = choose.choice(folders)
        for inside, _, files in os.walk(folder):
            for name in files[:5]:
                with open(os.path.join(inside, name), "rb") as file:
                    file.read()
        if turn % 20 == 0:
            drop_caches()
            read_big(mount.root, 40)
        turn += 1
        if time.monotonic() >= next_look:
            found.append(mount.memory()["VmRSS"])
            note(step="soak", turn=turn, **mount.memory())
            next_look = time.monotonic() + 5
    print(f"soak: {turn} turns of 200 files created, read and removed", file=sys.stderr)
    return found


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inodes", default="100000,200000")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--read-mib", type=int, default=200)
    parser.add_argument("--soak", type=int, default=180)
    parser.add_argument("--programs", default=os.path.join(TOP, "target", "release"))
    parser.add_argument("--results", default=os.path.join(TOP, "benches", "results", time.strftime("%Y-%m-%d")))
    return parser.parse_args()


def main():
    options = arguments()
    if os.geteuid() != 0:
        sys.exit("memory.py: must be root: it mounts file systems")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that mounts end with it
    os.makedirs(options.results, exist_ok=True)
    work = tempfile.mkdtemp(prefix="layerfs-memory-", dir="/var/tmp")
    raw = open(os.path.join(options.results, "memory.jsonl"), "a", encoding="utf-8")
    # Hundreds of thousands of small files: in memory, so that making them is no test of the disk.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6g", "tmpfs", work], check=True)
    try:
        return measure(options, work, raw)
    finally:
        raw.close()
        subprocess.run(["umount", work], check=False)
        os.rmdir(work)


def measure(options, work, raw):
    peaks, missed, counts = {}, [], [int(count) for count in options.inodes.split(",")]
    print("| inodes | after | resident MiB | its own | mapped files |\n|---|---|---|---|---|")
    for count in counts:
        trees, layers = os.path.join(work, f"trees-{count}"), []
        grow(trees, options.layers, count, options.read_mib)
        for number in range(1, options.layers + 1):
            layers.append(os.path.join(work, f"{count}-{number}.layer"))
            subprocess.run([os.path.join(options.programs, "bakery"), "bake", os.path.join(trees, f"l{number}"), "-o",
                            layers[-1]], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(trees)
        with Mount(options, work, layers) as mount:
            inodes = mount.status()["inodes"]

            def note(**more):
                raw.write(json.dumps({"inodes": inodes, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())} | more)
                          + "\n")
                raw.flush()

            def look(step):
                found = mount.memory()
                note(step=step, **found)
                print(f"| {inodes:,} | {step} | {found['VmRSS']:.1f} | {found['RssAnon']:.1f} | {found['RssFile']:.1f} |",
                      flush=True)
                peaks.setdefault(inodes, []).append(found["VmRSS"])

            look("the mount")
            subprocess.run([os.path.join(options.programs, "workload"), "walk", mount.root], check=True,
                           stdout=subprocess.DEVNULL)
            look("a walk with stat")
            done = read_big(mount.root, options.read_mib)
            look(f"reading {done} MiB")
            read_random(mount.root, 4096)
            look("4,096 random reads")
            if done < options.read_mib:
                missed.append(f"only {done} MiB could be read")
            if count == counts[-1] and options.soak:
                found = soak(mount, options.soak, note)
                look(f"a soak of {options.soak} s")
                growth = max(found[-3:]) - max(found[:max(1, len(found) // 3)])
                print(f"\nsoak: {growth:+.1f} MiB between the first third and the end (bar {BAR_SOAK_MIB:+.1f})")
                if growth > BAR_SOAK_MIB:
                    missed.append(f"the soak grew by {growth:.1f} MiB")
    most = {inodes: max(found[:4]) for inodes, found in peaks.items()}
    first = min(most)
    bar = BAR_MIB + CACHE_MIB + max(0, first - 100_000) / 10_000 * BAR_PER_10000_MIB
    print(f"{first:,} inodes: {most[first]:.1f} MiB (bar {bar:.0f}: {BAR_MIB:.0f} and {CACHE_MIB} of decoded chunks)")
    if most[first] > bar:
        missed.append(f"{most[first]:.1f} MiB with {first:,} inodes")
    last = max(most)
    if last > first:
        # Step by step: a full cache would hide the memory of the inodes.
        each = max(b - a for a, b in zip(peaks[first][:4], peaks[last][:4])) / ((last - first) / 10_000)
        print(f"each further 10,000 inodes: {each:.2f} MiB (bar {BAR_PER_10000_MIB:.0f})")
        if each > BAR_PER_10000_MIB:
            missed.append(f"{each:.2f} MiB for 10,000 further inodes")
    for what in missed:
        print(f"MISSED: {what}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
